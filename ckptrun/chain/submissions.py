"""submissions/<id>: what `ckptrun sbatch` was told - the script, the words as typed, and the job that came of it.

Rule: a job finds its submission by its own script's path, which the controller shows, or, where a script went as it was, by a
variable; then only where the job that was noted is this one. Values of variables are not kept.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from ckptrun.chain.home import valid_chain_id

# Slurm hands on variables with this beginning whatever --export says.
VARIABLE = "SLURM_CKPTRUN_SUBMISSION"


class Typed(NamedTuple):
    """A submission as it was typed: the words after `sbatch`, and the script's absolute path, None where there is no such file."""

    words: tuple[str, ...]
    script: str | None


class Submission:
    """The paths of one submission. `job_script` is called as the original was: Slurm names the job after it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.id = os.path.basename(path)
        self.script = os.path.join(path, "script")
        self._record = os.path.join(path, "record.json")
        self._job = os.path.join(path, "id")

    def job_script(self, name: str) -> str:
        """Return where the job script of this name stands."""
        return os.path.join(self.path, "job", name)

    def write_job_script(self, name: str, text: str) -> str:
        """Write what is submitted in place of the script; return its path. Raises OSError."""
        os.mkdir(os.path.join(self.path, "job"), 0o700)
        _write(self.job_script(name), text)
        return self.job_script(name)

    def note_job(self, job: str) -> None:
        """Note the job that came of it. A note that cannot be written costs the job what was typed, and nothing else."""
        try:
            _write(f"{self._job}.new", job)
            os.replace(f"{self._job}.new", self._job)
        except OSError:
            return

    @property
    def job(self) -> str | None:
        """Return the job that was noted."""
        try:
            with open(self._job, encoding="ascii") as file:
                return file.read() or None
        except (OSError, UnicodeDecodeError):
            return None

    def typed(self) -> Typed | None:
        """Return what was typed, None where it cannot be read."""
        try:
            with open(self._record, encoding="ascii") as file:
                found: Any = json.load(file)
        except (OSError, ValueError, RecursionError):
            return None
        words, script = (found.get("typed"), found.get("script")) if isinstance(found, dict) else (None, None)
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            return None
        return Typed(tuple(words), script if isinstance(script, str) else None)

    def remove(self) -> None:
        """Take everything away: no job came of it."""
        shutil.rmtree(self.path, ignore_errors=True)


def create(home: str, typed: Typed, script: str) -> Submission:
    """Keep a script and what was typed below the state folder. Raises OSError."""
    room = os.path.join(home, "submissions")
    os.makedirs(room, mode=0o700, exist_ok=True)
    made = Submission(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=room))
    _write(made.script, script, 0o700)  # as Slurm's own copy: a script may start itself
    record = {"v": 1, "at": round(time.time(), 3), "typed": typed.words, "script": typed.script, "directory": os.getcwd()}
    _write(os.path.join(made.path, "record.json"), json.dumps(record, indent=1))
    return made


def find(home: str, command: str, job: int, environment: Mapping[str, str]) -> Typed | None:
    """Return how a job was submitted by `ckptrun sbatch`, None where it was not: `command` is what the controller shows of it."""
    found = re.match(re.escape(os.path.join(home, "submissions")) + r"/([A-Za-z0-9._-]{1,64})/job/", command)
    name = found[1] if found else environment.get(VARIABLE, "")
    if not valid_chain_id(name):
        return None
    submission = Submission(os.path.join(home, "submissions", name))
    # A job that starts at once is there before its note is. A script's path is proof enough then, a variable, inherited, is none.
    if submission.job != str(job) and (found is None or submission.job is not None):
        return None
    return submission.typed()


def _write(path: str, text: str, mode: int = 0o600) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))
