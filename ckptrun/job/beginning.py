"""Link 1 of a chain on Slurm: a job that belongs to no chain yet begins one, joins the one that it names, or is refused."""

from __future__ import annotations

import os
import re
import time
from typing import Any, NamedTuple

from ckptrun import __version__
from ckptrun.chain import claims, home, jobs, submissions
from ckptrun.chain.history import History
from ckptrun.chain.home import ChainFolder
from ckptrun.chain.ledger import final_outcome, highest_link
from ckptrun.chain.state import why_live
from ckptrun.chain.turns import Turns
from ckptrun.errors import CkptrunError, Refused, TurnTaken
from ckptrun.job import protocol, same_job
from ckptrun.job.asking import Asking
from ckptrun.job.people import live_job
from ckptrun.job.protocol import Evidence, Verdict
from ckptrun.job.same_job import SameJob
from ckptrun.job.succession import Place
from ckptrun.link import messages
from ckptrun.plan import Plan, to_json
from ckptrun.slurm import sbatch_options
from ckptrun.slurm.job import Here
from ckptrun.slurm.parse import JobRecord


class Begun(NamedTuple):
    """A link that may run: in which chain, by which options, after which turn. `same` is None where the chain knows it already."""

    plan: Plan
    place: Place
    folder: ChainFolder
    verdict: Verdict
    same: SameJob | None


class Beginning:
    """One start inside a job of which no chain knows."""

    def __init__(self, plan: Plan, here: Here, state_home: str, asking: Asking) -> None:
        self._plan, self._here, self._home, self._asking = plan, here, state_home, asking

    def begin(self, place: Place) -> Begun | None:
        """Return the link to run, None where the chain is complete. Raises Refused where this job must begin none."""
        self._refuse_what_cannot_go_on(place)
        script = self._script(place)
        joined = self._known_chain()
        if joined is not None and final_outcome(Turns(joined.turns).read()) == "complete":
            messages.say(f"chain {joined.id} is complete; nothing is started. Another --chain NAME begins a new one")
            return None
        self._refuse_a_training_that_submits_itself(place.record)
        same = self._asking.ask(same_job.find_out(self._here, place.record, script, self._plan.command, self.typed(place.record)))
        self._keep_throttle(place.record, same)
        settings = self._asking.settings()
        slurm: dict[str, Any] = {"same": same.same._asdict(), "array": same.array, "settings": settings._asdict()}
        slurm |= {"cluster": self._here.cluster, "job": str(self._here.job)}
        if joined is not None:
            return self._join(joined, place)
        self._tell_of_its_like(place.record)
        folder = self._create(place, script, slurm)
        claims.remember_command(self._home, self._key(place.record), folder.id)
        place = Place(place.record, folder, 1)
        if not enter(self._home, self._here, folder, place):
            home.remove_unborn(folder)
            raise Refused(
                f"another ckptrun leads job {self._here.job}. Put the second training into a job of its own, or start it below the "
                "first one's command"
            )
        return Begun(self._plan, place, folder, Verdict(True), same)

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

    def typed(self, record: JobRecord) -> tuple[str, ...] | None:
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
        said = self._asking.script(self._here.job)
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

    def id(self, record: JobRecord) -> str:
        """Return the id of a chain that this job begins."""
        return self._named() or _id(f"{record.fields.get('JobName', 'job')}-{self._here.job}")

    def _named(self) -> str | None:
        name = self._plan.chain
        return f"{name[:53]}_{self._here.job.task}" if name and self._here.job.task is not None else name

    def _join(self, folder: ChainFolder, place: Place) -> Begun:
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
        enter(self._home, self._here, folder, place)
        known = Evidence(folder.id, link, str(self._here.job), place.record.restarts, self._here.node, resumed.number, turns)
        verdict = Verdict(True, after=resumed.number, fence=protocol.fence(known))
        return Begun(self._plan, place, folder, verdict, None)

    def _create(self, place: Place, script: str, slurm: dict[str, Any]) -> ChainFolder:
        facts = {"created": time.time(), "directory": os.getcwd(), "node": self._here.node, "plan": to_json(self._plan)}
        try:
            folder = home.create_chain(self._home, self.id(place.record), {"version": __version__, **facts, "slurm": slurm}, script)
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
            claimed = claims.claim(self._home, path, folder.id, self.is_live)
            if claimed.previous is not None:
                messages.say(f"{os.path.relpath(path)} was chain {claimed.previous}'s, of which nothing lives: taken over")

    def is_live(self, chain: str) -> str | None:
        """Return in words what of a chain lives, None where nothing does."""
        known = home.open_chain(self._home, chain)
        return self._why_live(known) if known is not None else None

    def _why_live(self, folder: ChainFolder) -> str | None:
        """Return in words what of a chain lives: one of its jobs in the queue, or, for a chain without Slurm, a process."""
        if not (folder.facts() or {}).get("slurm"):
            return why_live(folder)
        return live_job(folder, self._asking.queue())


def enter(state_home: str, here: Here, folder: ChainFolder, place: Place) -> bool:
    """Enter this job as its link; return False where another process of the job was first."""
    record = place.record
    entry = jobs.Entry(folder.id, place.link, record.submitted_at, record.restarts, record.command, record.directory)
    return jobs.enter(state_home, here.cluster, str(here.job), entry)


def _id(text: str) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]", "-", text).lstrip(".-") or "job"
    return name if len(name) <= 64 else name[: 64 - 22].rstrip("-") + name[-22:]


def _at_a_terminal() -> bool:
    return os.isatty(0) or os.isatty(2)
