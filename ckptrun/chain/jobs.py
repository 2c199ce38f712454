"""jobs/<cluster>/<job id>: which chain and link a job is. A cluster hands ids out again: an entry names the submission too."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from ckptrun.chain.turns import Turns
from ckptrun.errors import TurnTaken


class Entry(NamedTuple):
    """One job's place: chain and link, when it was submitted (Unix time), its restart count, script and folder at that time."""

    chain: str
    link: int
    submitted_at: float | None
    restart: int
    command: str
    directory: str

    def is_same_job(self, submitted_at: float | None, restart: int, command: str, directory: str) -> bool:
        """Return whether a job of this id is the one that was entered: a requeue changes its submit time, not its script."""
        if self.submitted_at == submitted_at:
            return True
        return restart > self.restart and (command, directory) == (self.command, self.directory)


def find(home: str, cluster: str, job: str) -> Entry | None:
    """Return the newest entry of a job id, None where it has none."""
    turns = Turns(_folder(home, cluster, job)).read()
    if not turns:
        return None
    facts = turns[-1].facts
    values = {name: facts.get(name) for name in Entry._fields}
    try:
        return Entry(**values)  # type: ignore[arg-type]
    except TypeError:
        return None


def enter(home: str, cluster: str, job: str, entry: Entry) -> bool:
    """Enter a job; return False where another process of it was first."""
    folder = _folder(home, cluster, job)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    turns = Turns(folder)
    known = turns.read()
    if known and Entry(**{name: known[-1].facts.get(name) for name in Entry._fields}).is_same_job(*entry[2:]):  # type: ignore[arg-type]
        return False
    try:
        turns.take("job", entry._asdict(), after=len(known))
    except TurnTaken:
        return False
    return True


def all_of(home: str, job: str) -> list[str]:
    """Return the chains that a job id names, on any cluster: one job, or for an array's id all its tasks."""
    found = []
    try:
        clusters = os.listdir(os.path.join(home, "jobs"))
    except OSError:
        return []
    for cluster in clusters:
        for name in _names(os.path.join(home, "jobs", cluster)):
            # Beside each job stand the turns of its steps, `<job>.step-...`: they are no jobs.
            if name == job or re.fullmatch(rf"{re.escape(job)}_\d{{1,10}}", name):
                entry = find(home, cluster, name)
                if entry is not None:
                    found.append(entry.chain)
    return list(dict.fromkeys(found))


def forget(home: str, cluster: str, job: str) -> None:
    """Remove the entry of a job whose chain is removed, with the turns of its steps."""
    import shutil

    folder = _folder(home, cluster, job)
    room, name = os.path.split(folder)
    for one in _names(room):
        if one == name or one.startswith(f"{name}.step-"):
            shutil.rmtree(os.path.join(room, one), ignore_errors=True)


def step_folder(home: str, cluster: str, job: str, step: str) -> str:
    """Return the folder of the turns that the tasks of one step take; it is made where it is missing. Raises OSError."""
    if not re.fullmatch(r"\d{1,10}\.(\d{1,10}|None)", step):
        raise ValueError(f"{step!r} is no step")
    folder = f"{_folder(home, cluster, job)}.step-{step}"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return folder


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _folder(home: str, cluster: str, job: str) -> str:
    if not re.fullmatch(r"\d{1,10}(_\d{1,10})?", job):
        raise ValueError(f"{job!r} is no job id")
    return os.path.join(home, "jobs", re.sub(r"[^A-Za-z0-9._-]", "-", cluster).lstrip(".") or "cluster", job)
