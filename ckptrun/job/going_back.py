"""The last resort of a link that cannot submit its successor: this job again, under its own id. That needs no room in the queue.

Rules of this file. A requeued job begins its logs anew, so they are moved away first, and back where the requeue was refused. A job
that has given up its right to come back, because its successor was queued, takes it back first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from ckptrun.job.protocol import Handed, Result
from ckptrun.link.errands import Procedure
from ckptrun.slurm import commands, parse
from ckptrun.slurm.parse import JobId, JobRecord


def why_not(record: JobRecord, continue_with: str) -> str | None:
    """Return why a job cannot be requeued, None where it can."""
    if continue_with == "resubmit":
        return "--continue-with resubmit rules out a requeue"
    if not record.batch:
        return "a job without a batch script cannot be requeued"
    if not record.requeue:
        return "this job cannot be requeued: its record says Requeue=0 (--no-requeue, or JobRequeue=0 of the cluster)"
    return None


def requeue(job: JobId, *, given_up: bool) -> Procedure[Result]:
    """Start this job again under its own id; it waits two minutes before it runs. `given_up`: it had said that it would not."""
    if given_up:
        yield commands.let_requeue(job)
    said = yield commands.requeue(job)
    assert said is not None
    if said.code == 0:
        return Result(Handed.QUEUED, job)
    return Result(Handed.REFUSED, said=parse.said(said.err) or "no answer")


class Logs(NamedTuple):
    """The logs of this start: each one's name, and the one that it was given."""

    moved: tuple[tuple[str, str], ...] = ()

    def back(self) -> None:
        """Give them their own names again: the job goes on writing into them."""
        for path, kept in self.moved:
            _rename(kept, path)

    def __str__(self) -> str:
        """Return where they are, for people."""
        return f"; its log so far is {' and '.join(kept for _, kept in self.moved)}" if self.moved else ""


def log_is_appended() -> bool:
    """Return whether this job adds to its logs, so that a requeue empties none."""
    return os.environ.get("SLURM_OPEN_MODE") == "a"


def move_logs_away(fields: Mapping[str, str], attempt: int, *, appended: bool) -> Logs:
    """Give the logs of this start other names. `appended`: the job adds to what is there, and they stay."""
    if appended:
        return Logs()
    paths = dict.fromkeys(path for path in (fields.get("StdOut", ""), fields.get("StdErr", "")) if os.path.isfile(path))
    named = ((path, f"{path}.attempt-{attempt}") for path in paths)
    return Logs(tuple((path, kept) for path, kept in named if _rename(path, kept)))


def _rename(old: str, new: str) -> bool:
    try:
        os.rename(old, new)
    except OSError:
        return False
    return True
