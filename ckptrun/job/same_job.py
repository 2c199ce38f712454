"""How this job's like is submitted: the evidence is gathered at link 1, and accounting is asked for the command line.

Accounting learns of a job some seconds after its submission. About one that started at once it may know nothing yet, and is asked a
second time when those seconds are over, and before a successor is submitted earlier than that. What is learned then is written into
`chain.json` in place of what the record alone could tell.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping

from ckptrun.chain.home import ChainFolder
from ckptrun.link.errands import Pause, Procedure
from ckptrun.slurm import commands, fidelity, parse
from ckptrun.slurm import environment as environments
from ckptrun.slurm.fidelity import Evidence, Same
from ckptrun.slurm.job import Here, batch_shell
from ckptrun.slurm.parse import JobRecord
from ckptrun.slurm.read_back import Shown

# Measured: a submission is in the database within 6 s; slurmctld hands it on every few seconds.
KNOWN_AFTER_S = 20.0
_SILENT = "accounting does not answer"


class SameJob:
    """How the same job is submitted again, as far as it is known now."""

    def __init__(self, same: Same, environment: Mapping[str, str], array: Mapping[str, str]) -> None:
        self.same, self.environment = same, environment
        # As link 1 saw it: an array task that was submitted again is an array of one.
        self.array = dict(array)
        # Lists of folders that the script has lengthened again, because its environment came from a job where it had done so.
        self.lists: dict[str, str] = {}
        self._evidence: Evidence | None = None
        self._here: Here | None = None
        self._folder: ChainFolder | None = None
        self._ask_at = 0.0
        self._more: list[str] = []
        self._said = False
        self._doubtful: Callable[[str], None] = _nobody

    def is_open(self) -> bool:
        """Return whether accounting is still to be asked."""
        return self._evidence is not None

    def wait_for_line(self, evidence: Evidence, here: Here, ask_at: float) -> None:
        """Let accounting be asked at `ask_at` (Unix time)."""
        self._evidence, self._here, self._ask_at = evidence, here, ask_at

    def doubt(self, text: str) -> None:
        """Add what cannot be kept to what is said at the start."""
        self._more.append(text)

    def begin(self, folder: ChainFolder, say: Callable[[str], None]) -> Procedure[None]:
        """Say what cannot be known, and ask accounting when it can know; for link 1, while the training runs."""
        self._folder, self._doubtful = folder, say
        if not self.is_open():
            self._say_doubts()
            return
        yield Pause(max(self._ask_at - time.time(), 0.0))
        yield from self.ask()

    def ask(self) -> Procedure[None]:
        """Ask accounting, if it is still to be asked; too early, and it knows nothing, it is asked again when its time has come."""
        evidence, here = self._evidence, self._here
        if evidence is None or here is None:
            return
        self._evidence = None
        said = yield commands.submit_line(here.job)
        assert said is not None
        line = parse.submit_line(said.out, here.job) if said.code == 0 else None
        if line is not None:
            self.same = fidelity.same_job(evidence._replace(line=line))
            self._keep()
        elif said.code == 0 and time.time() < self._ask_at:
            self._evidence = evidence
        self._say_doubts()

    def leave_reservation(self, over_at: float, say: Callable[[str], None]) -> Procedure[None]:
        """Leave a reservation that ends before this job is over (`over_at`, Unix time).

        A successor in it would be held for ever when the reservation is deleted.
        """
        name = fidelity.reservation_of(self.same)
        if name is None:
            return
        said = yield commands.show_reservation(name)
        assert said is not None
        ends_at = parse.reservation_ends_at(said.code, said.out, said.err)
        if ends_at is not None and ends_at <= over_at:
            say(f"reservation {name} is over before the next job could start: it is submitted without it")
            self.same = fidelity.without_reservation(self.same)

    def _say_doubts(self) -> None:
        if not self._said:
            self._said = True
            for doubt in (*self.same.doubts, *self._more):
                self._doubtful(doubt)

    def _keep(self) -> None:
        """Write what is known now into `chain.json`. What cannot be written stays as it was at the start."""
        folder = self._folder
        facts = folder.facts() if folder is not None else None
        if folder is None or facts is None:
            return
        facts["slurm"] = {**facts.get("slurm", {}), "same": self.same._asdict()}
        temporary = f"{folder.json}.{os.getpid()}"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(facts, file, indent=1)
            os.replace(temporary, folder.json)
        except OSError:
            return


def _nobody(_text: str) -> None:
    return


def of_link(same: Same, array: Mapping[str, str]) -> SameJob:
    """Return what a later link knows: how link 1 found it, its array, and the environment of its own submission."""
    found = SameJob(same._replace(doubts=()), _submission_environment(), array)
    found.lists = environments.shortened(os.environ)
    return found


def _submission_environment() -> Mapping[str, str]:
    shell = batch_shell(os.environ)
    return shell.environment if shell is not None else dict(os.environ)


def find_out(
    here: Here, record: JobRecord, script: str, argv: tuple[str, ...], typed: tuple[str, ...] | None
) -> Procedure[SameJob]:
    """Return how the job around us is submitted again. About a job that accounting cannot know yet it is asked once more, later.

    `typed` are the words after `sbatch`, where they were kept.
    """
    said = yield commands.names(here.job)
    assert said is not None
    output, error, stdin, wckey = parse.names(said.out if said.code == 0 else "")
    shell = batch_shell(os.environ)
    environment = shell.environment if shell is not None else dict(os.environ)
    evidence = Evidence(
        script,
        record,
        Shown(record.fields, environment, (output, error, stdin), wckey, record.directory),
        argv,
        shell.words if shell is not None else None,
        tuple(path for path in fidelity.script_beginnings(record.command) if os.path.isfile(path)),
        typed=typed,
    )
    if evidence.typed is None:
        said = yield commands.submit_line(here.job)
        assert said is not None
        line = parse.submit_line(said.out, here.job) if said.code == 0 else None
        evidence = evidence._replace(line=line, silence=evidence.silence if said.code == 0 else _SILENT)
    found = SameJob(fidelity.same_job(evidence), environment, environments.of_the_array(os.environ))
    known_at = (record.submitted_at or 0.0) + KNOWN_AFTER_S
    if evidence.typed is None and line is None and said.code == 0 and time.time() < known_at:
        found.wait_for_line(evidence, here, known_at)
    return found
