"""The desk of a link inside a job: Slurm's commands run beside the loop, and the tasks of the job's steps can be reached."""

from __future__ import annotations

import os

from ckptrun.link import child, events
from ckptrun.link.desk import LeafDesk
from ckptrun.link.errands import Errands, Procedure
from ckptrun.slurm import commands
from ckptrun.slurm.job import Here
from ckptrun.slurm.parse import job_id


class JobDesk(LeafDesk):
    """What a link inside a job can do without deciding anything. `proctrack` is how the cluster keeps track of processes."""

    def __init__(self, here: Here, errands: Errands, proctrack: str) -> None:
        self._here, self._errands, self._proctrack = here, errands, proctrack

    def pids(self) -> frozenset[int]:
        """Return the pids of Slurm's commands under way."""
        return self._errands.pids()

    def descriptors(self) -> list[int]:
        """Return what to wait on."""
        return self._errands.descriptors()

    def due_at(self) -> float | None:
        """Return when a pause or a time-out is over."""
        return self._errands.due_at()

    def attend(self) -> tuple[events.Event, ...]:
        """Go on with what was answered."""
        self._errands.attend()
        return ()

    def reaped(self, reaped: child.Reaped) -> bool:
        """Take the end of a process; return whether it was a command of ours."""
        return self._errands.reaped(reaped)

    def job(self) -> int | None:
        """Return the bare number of our job, whose steps are in our tree; those beside whom we stand in our own step are not."""
        bare = job_id(os.environ.get("SLURM_JOB_ID", ""))
        return bare.number if bare is not None and self._here.step is None else None

    def all_hear(self) -> bool:
        """Return whether this cluster signals all processes of a task."""
        return not self._proctrack.endswith("cgroup")

    def signal_step(self, address: str) -> None:
        """Send TERM to a step's tasks through the controller."""
        self._errands.begin(_signal(address), lambda _: None)


def _signal(address: str) -> Procedure[None]:
    yield commands.signal_step(address)
