"""Inside a Slurm job: which chain this start belongs to, and whether it leads, relays, or must not run at all."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from typing import Any

from ckptrun.chain.history import History, read_events
from ckptrun.chain.home import ChainFolder
from ckptrun.chain.ledger import Turn
from ckptrun.chain.links import LinkFiles
from ckptrun.chain.turns import Turns
from ckptrun.early import Handlers
from ckptrun.errors import CkptrunError, Refused, Stranded, TurnTaken
from ckptrun.job import new_script, same_job, succession
from ckptrun.job.asking import Asking, EndedBySignal
from ckptrun.job.batch import BatchLink
from ckptrun.job.beginning import Beginning, enter
from ckptrun.job.job_desk import JobDesk
from ckptrun.job.protocol import Verdict
from ckptrun.job.same_job import SameJob
from ckptrun.job.succession import Place
from ckptrun.link import messages, relay
from ckptrun.link.crew import Crew, exit_code, lead_of
from ckptrun.link.dry_run import InJob, describe_in_job
from ckptrun.link.errands import Errands
from ckptrun.link.one_link import Where
from ckptrun.plan import Plan, from_json, overridden
from ckptrun.slurm import environment, fidelity
from ckptrun.slurm.job import Here, has_clients
from ckptrun.slurm.parse import JobRecord, Settings
from ckptrun.words import Outcome

# How often a start is judged, five seconds apart: another node's turn may stay unseen as long as NFS keeps a listing, a minute.
_JUDGEMENTS = 13


class Inside:
    """One ckptrun inside a job, from its start to its exit."""

    def __init__(self, plan: Plan, handlers: Handlers, here: Here, state_home: str, started_at: float) -> None:
        self._plan, self._handlers, self._here, self._home = plan, handlers, here, state_home
        self._started_at = started_at
        self._errands = Errands()
        self._asking = Asking(self._errands, handlers)
        self._beginning = Beginning(plan, here, state_home, self._asking)
        self._crew: Crew | None = None
        self._outcome: Outcome | None = None

    def run(self) -> int:
        """Find our place and run the link; return our exit code. Raises Refused where this ckptrun must not run."""
        if self._is_relay():
            return self._relay()
        crew = Crew(self._home, self._here, os.environ)
        if not crew.size:
            return self._until_a_signal(self._lead)
        if not crew.lead():
            return self._follow(crew)
        self._crew = crew
        code = CkptrunError.exit_code
        try:
            code = self._until_a_signal(self._lead)
        except CkptrunError as error:
            code = error.exit_code
            raise
        finally:
            crew.over(code, self._outcome)
        return code

    def _relay(self) -> int:
        lead = relay.lead_of(os.environ)
        assert lead is not None
        relay.speak_as_relay()
        ignored = [
            name for name, value in (("--checkpoint", self._plan.checkpoints), ("--time-limit", self._plan.limit_s)) if value
        ]
        if ignored:
            messages.say(f"this is a relay: the leader of chain {lead.chain} decides; ignored: {', '.join(ignored)}")
        return relay.run_relay(self._plan.command, lead, dict(os.environ), self._handlers).exit_code

    def _follow(self, crew: Crew) -> int:
        """Run beside the task of our step that leads: start when it does, end when it has ended."""
        relay.speak_as_relay()
        try:
            begun: Turn | None = self._asking.ask(crew.wait_for("begin"))
        except EndedBySignal as ended:
            return 128 + ended.number
        if begun is None or begun.kind == "over":
            return int(begun.facts["code"]) if begun is not None else Stranded.exit_code
        command = self._plan.command + tuple(begun.facts["appended"])
        environment = dict(os.environ) | begun.facts["variables"]
        environment.pop("SLURM_CKPTRUN_BASE", None)
        own = relay.run_relay(command, lead_of(begun), environment, self._handlers)
        # No signal hurries this: the leader has heard it, too.
        over = self._errands.wait_for(crew.wait_for("over"), self._handlers, lambda _number: None)
        return exit_code(own, over)

    def rehearse(self, seconds: float) -> int:
        """Rehearse in this job, asking after so many seconds; return our exit code. Raises Refused where it must not."""
        if self._is_relay():  # the variable that told the leader to rehearse tells its relays, too
            return self._relay()
        return self._until_a_signal(lambda: self._rehearse(seconds))

    def _until_a_signal(self, act: Callable[[], int]) -> int:
        if not has_clients():
            raise Refused(
                f"inside job {self._here.job}, but scontrol and sbatch are not on PATH (a container?). Put ckptrun in front of the "
                "container's command, outside of it: ckptrun singularity exec ... python train.py"
            )
        try:
            return act()
        except EndedBySignal as ended:
            self._errands.abandon()
            return 128 + ended.number

    def _rehearse(self, seconds: float) -> int:
        from ckptrun.link.rehearsing import Around, Rehearsal

        found = self._asking.ask(succession.find_place(self._here, self._home, messages.say))
        if isinstance(found, str):
            raise Refused(found)
        record: JobRecord = found.record
        where = Where(self._here.node, str(self._here.job), record.restarts, self._here.batch_shell)
        left_s = record.end_at - time.time() if record.end_at is not None else None
        settings = self._asking.settings()
        desk = JobDesk(self._here, self._errands, settings.proctrack)
        around = Around(where, self._beginning.is_live, desk, left_s, record.limit_s)
        return Rehearsal(self._plan, self._handlers, self._home, seconds, around).run()

    def dry_run(self) -> list[str]:
        """Return the lines that tell what `run` would do now; nothing is written."""
        if self._is_relay():
            return [f"a relay of chain {os.environ.get('CKPTRUN_CHAIN')}: it would ask on its own branch and decide nothing"]
        found = self._asking.ask(succession.find_place(self._here, self._home, messages.say))
        if isinstance(found, str):
            raise Refused(found)
        place: Place = found
        record = place.record
        if place.folder is None:
            events: tuple[dict[str, Any], ...] = ()
            chain, plan = f"a new one, {self._beginning.id(record)}", self._plan
        else:
            events = tuple(read_events(place.folder.events)[0])
            chain = f"{place.folder.id}; this job is its link {place.link}"
            plan = _plan_of(place.folder)._replace(command=self._plan.command)
        script = self._asking.script(self._here.job).out if record.batch else ""
        if place.folder is None:
            typed = self._beginning.typed(record)
            same = self._asking.ask(same_job.find_out(self._here, record, script, plan.command, typed)).same
        else:
            known = (place.folder.facts() or {}).get("slurm") or {}
            same = fidelity.from_json(known.get("same") or {}, os.getcwd())
        successor = [
            f"the next job, learned from {same.source}: the same script, with",
            *(f"  {option} ({where})" for option, where in same.learned),
        ]
        successor += [f"  arguments: {shlex.join(same.arguments)}"] if same.arguments else []
        job = InJob(chain, place.link, events, record.end_at, (*successor, *same.doubts))
        return describe_in_job(plan, job)

    def _is_relay(self) -> bool:
        """Return whether we run below the leader of this job: its marker names the last start of this very job."""
        mailbox = os.environ.get("CKPTRUN_MAILBOX", "")
        folder = ChainFolder(os.path.dirname(mailbox)) if mailbox else None
        if folder is None or folder.id != os.environ.get("CKPTRUN_CHAIN"):
            return False
        starts = [turn for turn in Turns(folder.turns).read() if turn.kind == "start"]
        facts = starts[-1].facts if starts else {}
        marker = (os.environ.get("CKPTRUN_LINK"), os.environ.get("CKPTRUN_ATTEMPT"), str(self._here.job))
        return marker == (str(facts.get("link")), str(facts.get("attempt")), facts.get("job"))

    def _lead(self) -> int:
        found = self._asking.ask(succession.find_place(self._here, self._home, messages.say))
        if isinstance(found, str):
            raise Refused(found)
        place: Place = found
        if place.folder is None:
            return self._begin(place)
        base = environment.base_of(os.environ) or self._noted_base(place.folder, place.link)
        for _ in range(_JUDGEMENTS):
            verdict: Verdict = self._asking.ask(succession.judge(place, self._here, base))
            self._tell_of_predecessor(place, verdict)
            if not verdict.go:
                messages.say(verdict.why)
                return verdict.exit_code
            self._try_to_enter(place.folder, place)
            facts = place.folder.facts() or {}
            # Options as link 1 resolved them hold for the chain; the command is always this job's own.
            plan = _plan_of(place.folder)._replace(command=self._plan.command, chain=None)
            code = self._run(plan, place, place.folder, verdict, facts)
            if code is not None:
                return code
            # A turn came meanwhile: a last word of one that is over, or one that this node does not see yet.
            self._asking.pause()
        return self._taken_over(place.folder)

    def _begin(self, place: Place) -> int:
        begun = self._beginning.begin(place)
        if begun is None:
            return 0
        plan, place, folder, verdict, same = begun
        code = self._run(plan, place, folder, verdict, folder.facts() or {}, same)
        return code if code is not None else self._taken_over(folder)

    @staticmethod
    def _taken_over(folder: ChainFolder) -> int:
        messages.say(messages.taken_over(folder.id))
        return TurnTaken.exit_code

    def _try_to_enter(self, folder: ChainFolder, place: Place) -> None:
        try:
            enter(self._home, self._here, folder, place)
        except OSError:  # it only helps people to name the chain by this job; whether there is room the turn will tell
            messages.detail(f"job {self._here.job} cannot be entered in {self._home}")

    def _noted_base(self, folder: ChainFolder, link: int) -> int:
        """Return the base of a job that its submitter has noted: with `--export-file` no variable of ours arrives."""
        files = LinkFiles(folder, link)
        return files.turn if files.job == str(self._here.job) else 0

    def _run(
        self,
        plan: Plan,
        place: Place,
        folder: ChainFolder,
        verdict: Verdict,
        facts: dict[str, Any],
        same: SameJob | None = None,
    ) -> int | None:
        slurm = facts.get("slurm") or {}
        if same is None:
            same = same_job.of_link(fidelity.from_json(slurm.get("same") or {}, os.getcwd()), slurm.get("array") or {})
        settings = Settings(**slurm["settings"]) if slurm.get("settings") else Settings()
        link = BatchLink(
            *(plan, folder, self._handlers, self._here, place.record, place.link),
            *(verdict, same, new_script.of_link(folder, place.link), settings, self._errands, self._started_at),
            crew=self._crew,
        )
        try:
            return link.run()
        finally:
            self._outcome = link.outcome

    def _tell_of_predecessor(self, place: Place, verdict: Verdict) -> None:
        """Record how the predecessor ended, where it could not do so itself.

        One that was cancelled between its end as continued and its exit has its end on record: then this link tells what the chain
        came to.
        """
        if verdict.predecessor is None or place.folder is None:
            return
        link, outcome, why, taken_away = verdict.predecessor
        history = History(place.folder.events, messages.say)
        ended = {event["link"] for event in history.events if event.get("event") == "ended"}
        if link not in ended:
            history.record("ended", link, 1, outcome=outcome, reason=why, taken_away=taken_away)
        elif not verdict.go and place.link not in ended:
            history.record("ended", place.link, 1, outcome=outcome, reason=f"link {link} ended, and {why}")
        if not verdict.go:
            self._run_on_end(place.folder, history, outcome, why, verdict.exit_code)

    def _run_on_end(self, folder: ChainFolder, history: History, outcome: str, why: str, exit_code: int) -> None:
        """Run the chain's command for an end that the link before could not tell itself."""
        plan = from_json((folder.facts() or {}).get("plan") or {})
        newest = next(Turns(folder.turns).newest_first(), None)
        if plan.on_end is None or newest is None:
            return
        from ckptrun.link import on_end

        def record(event: str, **facts: object) -> None:
            history.record(event, int(newest.facts.get("link", 0)), 1, **facts)

        told = on_end.facts(history.events, outcome, why, exit_code, str(self._here.job))
        on_end.run(plan, folder, newest.number, told, self._handlers, record)


def _plan_of(folder: ChainFolder) -> Plan:
    """Return the chain's options as they hold now."""
    turns = Turns(folder.turns).read()
    return from_json(overridden((folder.facts() or {}).get("plan") or {}, (turn.facts for turn in turns)))
