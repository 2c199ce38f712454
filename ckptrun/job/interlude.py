"""Waiting while no training runs, before it starts and after it has ended: signals are noted, and the job's end is the bound."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from ckptrun.early import TERM, USR1, USR2, Handlers
from ckptrun.link.errands import Errands, Procedure
from ckptrun.link.one_link import OneLink

T = TypeVar("T")

# What is left before Slurm's own end for writing the end turn.
LAST_S = 2.0
WITHOUT_END_S = 600.0


class Interlude:
    """What has arrived while nobody else listened, and how long one may wait.

    `late` are the signals that nobody has acted upon; `job_ends_at` is monotonic, None where it is not known; `on_term` is called
    with each SIGTERM.
    """

    def __init__(
        self, link: OneLink, errands: Errands, handlers: Handlers, kill_wait_s: float, on_term: Callable[[], None]
    ) -> None:
        self._link, self._errands, self._handlers = link, errands, handlers
        self._kill_wait_s, self._on_term = kill_wait_s, on_term
        self.job_ends_at: float | None = None
        self.late: list[int] = []

    @property
    def termed(self) -> bool:
        """Return whether a SIGTERM came that nobody has acted upon."""
        return TERM in self.late

    def note(self, number: int) -> None:
        """Take in a signal."""
        self._link.record("signal_received", signal=number)
        if number in (TERM, USR1, USR2):
            self.late.append(number)
        if number == TERM:
            self._on_term()

    def a_moment(self) -> float:
        """Return until when, monotonic, one may wait even after the job's end: half of what Slurm gives before its SIGKILL."""
        return time.monotonic() + min(10.0, self._kill_wait_s / 2)

    def wait_for(self, procedure: Procedure[T], *, in_spite_of_term: bool = False) -> T | None:
        """Run a procedure; None where our time was over, or a SIGTERM came, before it ended."""
        found: list[T] = []
        self._errands.begin(procedure, found.append)
        self.wait_until(lambda: bool(found), in_spite_of_term=in_spite_of_term)
        return found[0] if found else None

    def wait_until(self, over: Callable[[], bool], *, in_spite_of_term: bool = False) -> None:
        """Wait until `over`, until our time is over, or until a SIGTERM."""
        ends_at = self.job_ends_at if self.job_ends_at is not None else time.monotonic() + WITHOUT_END_S
        # Slurm enforces a limit late, and then gives KillWait: some seconds are left even after the end time.
        until = max(ends_at - LAST_S, self.a_moment())
        self.wait_whatever_comes(lambda: over() or (self.termed and not in_spite_of_term), until)

    def wait_whatever_comes(self, over: Callable[[], bool], until: float | None = None) -> None:
        """Wait until `over`, or until a monotonic time; signals are only noted."""
        self._errands.wait_until(over, self._handlers, self.note, until)
