"""What a link inside a Slurm job has beside its training: who asks the controller and hands the chain over, as the loop sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ckptrun.link import child, events
from ckptrun.link.times import Times
from ckptrun.words import Reason


class Desk(Protocol):
    """What a link inside a Slurm job has besides: who asks the controller, and hands the chain over."""

    def pids(self) -> frozenset[int]:
        """Return the pids of Slurm's commands under way: they are no part of the training."""

    def descriptors(self) -> list[int]:
        """Return what to wait on."""

    def due_at(self) -> float | None:
        """Return the monotonic time at which `attend` has something to do."""

    def attend(self) -> tuple[events.Event, ...]:
        """Go on with what was answered; return what has happened."""

    def reaped(self, reaped: child.Reaped) -> bool:
        """Take the end of a process; return whether it was a command of ours."""

    def note_term(self) -> None:
        """Publish that a SIGTERM arrived."""

    def inquire(self, learned: Callable[[Reason, bool], None]) -> None:
        """Find out what the SIGTERM means, and whether the job runs on."""

    def read_end_time(self, changed: Callable[[Times], None], lost: Callable[[], None]) -> None:
        """Read the job's end time again; say when it has changed, or when the job is not ours any more."""

    def changed_times(self) -> Times | None:
        """Return the times of the link where they have become others since this was last asked: a service window was announced."""

    def hand_over(self) -> None:
        """Submit the successor, unless none may follow."""

    def take_back(self) -> None:
        """Cancel the successor."""

    def told_to_stop(self) -> Reason | None:
        """Return why a person has stopped the chain, None where nobody has. One stat."""

    def job(self) -> int | None:
        """Return the bare number of our job, whose steps belong to our tree; None where it has none that concern us."""

    def signal_step(self, address: str) -> None:
        """Send TERM to the tasks of a step through the controller: srun itself would kill them."""

    def all_hear(self) -> bool:
        """Return whether a signal to a task reaches all of its processes, not its first alone."""


class LeafDesk:
    """A desk where nothing is asked of a controller and nothing is handed over."""

    def pids(self) -> frozenset[int]:
        """Return none: no commands are run."""
        return frozenset()

    def descriptors(self) -> list[int]:
        """Return none."""
        return []

    def due_at(self) -> float | None:
        """Return that nothing is due."""
        return None

    def attend(self) -> tuple[events.Event, ...]:
        """Return that nothing has happened."""
        return ()

    def reaped(self, reaped: child.Reaped) -> bool:
        """Return that it was no command of ours."""
        return False

    def note_term(self) -> None:
        """Publish nothing."""

    def inquire(self, learned: Callable[[Reason, bool], None]) -> None:
        """Ask nobody."""

    def read_end_time(self, changed: Callable[[Times], None], lost: Callable[[], None]) -> None:
        """Read nothing."""

    def changed_times(self) -> Times | None:
        """Return that nothing changes them."""
        return None

    def hand_over(self) -> None:
        """Submit nothing."""

    def take_back(self) -> None:
        """Cancel nothing."""

    def told_to_stop(self) -> Reason | None:
        """Return that nobody has said so here."""
        return None

    def job(self) -> int | None:
        """Return None."""
        return None

    def signal_step(self, address: str) -> None:
        """Send nothing."""

    def all_hear(self) -> bool:
        """Return False."""
        return False
