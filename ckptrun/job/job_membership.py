"""Inside a Slurm job: which chain this start belongs to, and whether it leads, relays, or must not run at all."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Callable
from typing import Any

from ckptrun import __version__
from ckptrun.chain import claims, home, jobs, submissions
from ckptrun.chain.history import History, read_events
from ckptrun.chain.home import ChainFolder
from ckptrun.chain.ledger import Turn, final_outcome, highest_link
from ckptrun.chain.links import LinkFiles
from ckptrun.chain.state import why_live
from ckptrun.chain.turns import Turns
from ckptrun.early import HUP, INT, TERM, Handlers
from ckptrun.errors import CkptrunError, Refused, Stranded, TurnTaken
from ckptrun.job import new_script, protocol, same_job, succession
from ckptrun.job.batch import BatchLink
from ckptrun.job.job_desk import JobDesk
from ckptrun.job.people import live_job
from ckptrun.job.protocol import Evidence, Verdict
from ckptrun.job.same_job import SameJob
from ckptrun.job.succession import Place
from ckptrun.link import messages, relay
from ckptrun.link.crew import Crew, exit_code, lead_of
from ckptrun.link.dry_run import InJob, describe_in_job
from ckptrun.link.errands import Errands, Pause, Procedure
from ckptrun.link.one_link import Where
from ckptrun.plan import Plan, from_json, overridden, to_json
from ckptrun.slurm import commands, environment, fidelity, parse, sbatch_options
from ckptrun.slurm.job import Here, has_clients
from ckptrun.slurm.parse import JobRecord, Queued, Settings
from ckptrun.words import Outcome

# How often a start is judged, five seconds apart: another node's turn may stay unseen as long as NFS keeps a listing, a minute.
_JUDGEMENTS = 13


class _EndedBySignal(Exception):
    """A signal ended us before the training existed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Inside:
    """One ckptrun inside a job, from its start to its exit."""

    def __init__(self, plan: Plan, handlers: Handlers, here: Here, state_home: str, started_at: float) -> None:
        self._plan, self._handlers, self._here, self._home = plan, handlers, here, state_home
        self._started_at = started_at
        self._errands = Errands()
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
            begun: Turn | None = self._ask(crew.wait_for("begin"))
        except _EndedBySignal as ended:
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
        except _EndedBySignal as ended:
            self._errands.abandon()
            return 128 + ended.number

    def _rehearse(self, seconds: float) -> int:
        from ckptrun.link.rehearsing import Around, Rehearsal

        found = self._ask(succession.find_place(self._here, self._home, messages.say))
        if isinstance(found, str):
            raise Refused(found)
        record: JobRecord = found.record
        where = Where(self._here.node, str(self._here.job), record.restarts, self._here.batch_shell)
        left_s = record.end_at - time.time() if record.end_at is not None else None
        settings: Settings = self._ask(_settings())
        desk = JobDesk(self._here, self._errands, settings.proctrack)
        around = Around(where, self._is_live, desk, left_s, record.limit_s)
        return Rehearsal(self._plan, self._handlers, self._home, seconds, around).run()

    def dry_run(self) -> list[str]:
        """Return the lines that tell what `run` would do now; nothing is written."""
        if self._is_relay():
            return [f"a relay of chain {os.environ.get('CKPTRUN_CHAIN')}: it would ask on its own branch and decide nothing"]
        found = self._ask(succession.find_place(self._here, self._home, messages.say))
        if isinstance(found, str):
            raise Refused(found)
        place: Place = found
        record = place.record
        if place.folder is None:
            events: tuple[dict[str, Any], ...] = ()
            name = self._named() or _id(f"{record.fields.get('JobName', 'job')}-{self._here.job}")
            chain, plan = f"a new one, {name}", self._plan
        else:
            events = tuple(read_events(place.folder.events)[0])
            chain = f"{place.folder.id}; this job is its link {place.link}"
            plan = _plan_of(place.folder)._replace(command=self._plan.command)
        script = self._ask(_once(commands.batch_script(self._here.job))).out if record.batch else ""
        if place.folder is None:
            same = self._ask(same_job.find_out(self._here, record, script, plan.command, self._typed(record))).same
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
        found = self._ask(succession.find_place(self._here, self._home, messages.say))
        if isinstance(found, str):
            raise Refused(found)
        place: Place = found
        if place.folder is None:
            return self._begin(place)
        base = environment.base_of(os.environ) or self._noted_base(place.folder, place.link)
        for _ in range(_JUDGEMENTS):
            verdict: Verdict = self._ask(succession.judge(place, self._here, base))
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
            self._ask(_pause())
        return self._taken_over(place.folder)

    @staticmethod
    def _taken_over(folder: ChainFolder) -> int:
        messages.say(messages.taken_over(folder.id))
        return TurnTaken.exit_code

    def _try_to_enter(self, folder: ChainFolder, place: Place) -> None:
        try:
            self._enter(folder, place)
        except OSError:  # it only helps people to name the chain by this job; whether there is room the turn will tell
            messages.detail(f"job {self._here.job} cannot be entered in {self._home}")

    def _noted_base(self, folder: ChainFolder, link: int) -> int:
        """Return the base of a job that its submitter has noted: with `--export-file` no variable of ours arrives."""
        files = LinkFiles(folder, link)
        return files.turn if files.job == str(self._here.job) else 0

    def _ask(self, procedure: Procedure[Any]) -> Any:
        return self._errands.wait_for(procedure, self._handlers, self._heard)

    @staticmethod
    def _heard(number: int) -> None:
        if number in (HUP, INT, TERM):
            raise _EndedBySignal(number)

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

    # --- link 1

    def _begin(self, place: Place) -> int:
        self._refuse_what_cannot_go_on(place)
        script = self._script(place)
        joined = self._known_chain()
        if joined is not None and final_outcome(Turns(joined.turns).read()) == "complete":
            messages.say(f"chain {joined.id} is complete; nothing is started. Another --chain NAME begins a new one")
            return 0
        self._refuse_a_training_that_submits_itself(place.record)
        same: SameJob = self._ask(
            same_job.find_out(self._here, place.record, script, self._plan.command, self._typed(place.record))
        )
        self._keep_throttle(place.record, same)
        settings: Settings = self._ask(_settings())
        slurm: dict[str, Any] = {"same": same.same._asdict(), "array": same.array, "settings": settings._asdict()}
        slurm |= {"cluster": self._here.cluster, "job": str(self._here.job)}
        if joined is not None:
            return self._join(joined, place, script)
        self._tell_of_its_like(place.record)
        folder = self._create(place, script, slurm)
        claims.remember_command(self._home, self._key(place.record), folder.id)
        place = Place(place.record, folder, 1)
        if not self._enter(folder, place):
            home.remove_unborn(folder)
            raise Refused(
                f"another ckptrun leads job {self._here.job}. Put the second training into a job of its own, or start it below the "
                "first one's command"
            )
        code = self._run(self._plan, place, folder, Verdict(True), folder.facts() or {}, same)
        return code if code is not None else self._taken_over(folder)

    def _refuse_a_training_that_submits_itself(self, record: JobRecord) -> None:
        """Refuse the script of a chain that lives when its own training has submitted it: the chain would go on twice.

        The variables of a training alone prove nothing: one that submits another script begins another chain.
        """
        folder = ChainFolder(os.path.dirname(os.environ.get("CKPTRUN_MAILBOX", "")))
        if folder.id != os.environ.get("CKPTRUN_CHAIN") or claims.recall_command(self._home, self._key(record)) != folder.id:
            return
        known = home.open_chain(self._home, folder.id)
        if known is not None and final_outcome(Turns(known.turns).read()) is None and (living := self._why_live(known)) is not None:
            raise Refused(
                f"the training of chain {known.id} has submitted its own script again, and that chain goes on by itself: {living}. "
                "Take the sbatch out of the training"
            )

    def _tell_of_its_like(self, record: JobRecord) -> None:
        """Name a living chain of the same script, arguments and folder, where no checkpoint path tells the two apart."""
        if self._plan.checkpoints:
            return
        name = claims.recall_command(self._home, self._key(record))
        known = home.open_chain(self._home, name) if name else None
        if known is not None and final_outcome(Turns(known.turns).read()) is None and (living := self._why_live(known)) is not None:
            messages.say(f"chain {known.id} of the same script lives: {living}. This is another chain beside it")

    def _key(self, record: JobRecord) -> str:
        """Return what tells the same script, arguments and folder from others."""
        found = submissions.find(self._home, record.command, self._here.job.number, os.environ)
        line = sbatch_options.read(found.words) if found is not None else None
        if found is None or found.script is None or line is None:
            return f"{record.command}\n{record.directory}"
        return f"{' '.join([found.script, *line.rest[1:]])}\n{record.directory}"

    def _typed(self, record: JobRecord) -> tuple[str, ...] | None:
        """Return the words that `ckptrun sbatch` kept of this job's submission."""
        found = submissions.find(self._home, record.command, self._here.job.number, os.environ)
        return found.words if found is not None else None

    def _refuse_what_cannot_go_on(self, place: Place) -> None:
        if self._plan.max_links == 1:
            return
        if not place.record.batch:
            raise Refused(
                f"job {self._here.job} has no batch script: nothing could be resubmitted. Submit a script whose last line is "
                "`exec ckptrun ...` with sbatch, or say --max-links 1 to run one link here"
            )
        if "HetJobId" in place.record.fields:
            raise Refused(
                f"job {self._here.job} is heterogeneous (`#SBATCH hetjob`, or `:` on sbatch's command line): its parts cannot be "
                "submitted again as they were. Make it one job with one set of options, or say --max-links 1 to run one link here"
            )

    def _keep_throttle(self, record: JobRecord, same: SameJob) -> None:
        """Let `auto` mean requeue for a task of an array with a throttle: what is submitted anew is no part of the array."""
        throttle = record.fields.get("ArrayTaskThrottle", "0")
        if throttle in ("0", "") or self._plan.continue_with == "requeue":
            return
        if self._plan.continue_with == "auto" and record.requeue:
            self._plan = self._plan._replace(continue_with="requeue")
            return
        why = "--continue-with resubmit" if self._plan.continue_with == "resubmit" else "--no-requeue"
        same.doubt(f"with {why} the array's throttle %{throttle} does not hold for the next jobs: each is an array of its own")

    def _script(self, place: Place) -> str:
        if not place.record.batch:
            return ""
        said = self._ask(_once(commands.batch_script(self._here.job)))
        script: str = said.out if said.code == 0 else ""
        if not script:
            raise Refused(f"the script of job {self._here.job} cannot be read ({said.err.strip()}): nothing could be resubmitted")
        if "ckptrun" not in script and _at_a_terminal() and self._plan.max_links != 1:
            raise Refused(
                f"the script of job {self._here.job} does not mention ckptrun: resubmitted, it would not start this training. "
                "Put `exec ckptrun ...` into the script, or say --max-links 1 to run one link here"
            )
        return script

    def _known_chain(self) -> ChainFolder | None:
        name = self._named()
        return home.open_chain(self._home, name) if name else None

    def _named(self) -> str | None:
        name = self._plan.chain
        return f"{name[:53]}_{self._here.job.task}" if name and self._here.job.task is not None else name

    def _join(self, folder: ChainFolder, place: Place, script: str) -> int:
        """Go on with the unfinished chain that --chain names: a resume, and then our own start on it."""
        # Read before it is asked who lives: a turn that comes later is somebody's who was first.
        turns = Turns(folder.turns).read()
        if (living := self._why_live(folder)) is not None:
            raise Refused(f"chain {folder.id} lives, and it is not doubled: {living}")
        link = highest_link(turns) + 1
        try:
            resumed = Turns(folder.turns).take("resume", {"link": link}, after=turns[-1].number if turns else 0)
        except TurnTaken:
            raise Refused(f"chain {folder.id} was resumed by another in this moment") from None
        History(folder.events, messages.say).record("joined", link, 1)
        messages.say(f"going on with chain {folder.id}, which is not finished: this is its link {link}")
        self._claim(folder)
        place = Place(place.record, folder, link)
        self._enter(folder, place)
        known = Evidence(folder.id, link, str(self._here.job), place.record.restarts, self._here.node, resumed.number, turns)
        verdict = Verdict(True, after=resumed.number, fence=protocol.fence(known))
        code = self._run(self._plan, place, folder, verdict, folder.facts() or {})
        return code if code is not None else self._taken_over(folder)

    def _enter(self, folder: ChainFolder, place: Place) -> bool:
        """Enter this job as its link; return False where another process of the job was first."""
        record = place.record
        entry = jobs.Entry(folder.id, place.link, record.submitted_at, record.restarts, record.command, record.directory)
        return jobs.enter(self._home, self._here.cluster, str(self._here.job), entry)

    def _create(self, place: Place, script: str, slurm: dict[str, Any]) -> ChainFolder:
        name = place.record.fields.get("JobName", "job")
        wanted = self._named() or _id(f"{name}-{self._here.job}")
        facts = {"created": time.time(), "directory": os.getcwd(), "node": self._here.node, "plan": to_json(self._plan)}
        try:
            folder = home.create_chain(self._home, wanted, {"version": __version__, **facts, "slurm": slurm}, script)
        except OSError as error:
            raise CkptrunError(
                f"no chain can be created in {self._home} ({error.strerror}). Set CKPTRUN_HOME to a folder with room that is yours"
            ) from None
        try:
            self._claim(folder)
        except Refused:
            home.remove_unborn(folder)
            raise
        return folder

    def _claim(self, folder: ChainFolder) -> None:
        for path in self._plan.checkpoints:
            claimed = claims.claim(self._home, path, folder.id, self._is_live)
            if claimed.previous is not None:
                messages.say(f"{os.path.relpath(path)} was chain {claimed.previous}'s, of which nothing lives: taken over")

    def _is_live(self, chain: str) -> str | None:
        known = home.open_chain(self._home, chain)
        return self._why_live(known) if known is not None else None

    def _why_live(self, folder: ChainFolder) -> str | None:
        """Return in words what of a chain lives: one of its jobs in the queue, or, for a chain without Slurm, a process."""
        if not (folder.facts() or {}).get("slurm"):
            return why_live(folder)
        while (queue := self._ask(_queue())) is None:
            self._ask(_pause())
        return live_job(folder, queue)


def _plan_of(folder: ChainFolder) -> Plan:
    """Return the chain's options as they hold now."""
    turns = Turns(folder.turns).read()
    return from_json(overridden((folder.facts() or {}).get("plan") or {}, (turn.facts for turn in turns)))


def _once(call: commands.Call) -> Procedure[commands.Said]:
    said = yield call
    assert said is not None
    return said


def _pause() -> Procedure[None]:
    yield Pause(5.0)


def _queue() -> Procedure[tuple[Queued, ...] | None]:
    said = yield commands.queue_of_user()
    assert said is not None
    return parse.queue(said.out) if said.code == 0 else None


def _settings() -> Procedure[Settings]:
    said = yield commands.show_config()
    assert said is not None
    return parse.settings(said.out)


def _id(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]", "-", text).lstrip(".-") or "job"
    return name if len(name) <= 64 else name[: 64 - 22].rstrip("-") + name[-22:]


def _at_a_terminal() -> bool:
    return os.isatty(0) or os.isatty(2)
