"""Errands: what a link does with Slurm's commands while it goes on hearing signals and watching the training.

A procedure is a generator: it yields a `Call` and is sent what the command said, or yields a `Pause` and is sent None; what it
returns is its result. So a protocol reads from top to bottom, never blocks the loop, and can be played in a test, or by a model,
with answers that no real controller would give on demand.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Generator, Iterable
from typing import Any, NamedTuple, TypeVar

from ckptrun.early import CHLD, HUP, INT, TERM, Handlers
from ckptrun.link import child
from ckptrun.slurm.commands import Call, Said

T = TypeVar("T")


class Pause(NamedTuple):
    """Go on after so many seconds."""

    seconds: float


Step = Call | Pause
Procedure = Generator[Step, Said | None, T]
# What would change the answers of Slurm's commands: a format of the user's own, a filter, another clock than the parser's.
_PERSONAL = ("SQUEUE_", "SACCT_", "SCANCEL_", "SBATCH_", "SLURM_TIME_FORMAT", "SLURM_BITSTR_LEN")


class _Running:
    """One procedure under way: the command it waits for, or the time at which its pause is over."""

    def __init__(self, procedure: Procedure[Any], done: Callable[[Any], None]) -> None:
        self.procedure, self.done = procedure, done
        self.apart: child.Apart | None = None
        self.until = 0.0
        self.texts: dict[int, bytearray] = {}
        self.code: int | None = None
        self.ended = False

    @property
    def open(self) -> list[int]:
        return list(self.texts) if self.apart is not None else []


class Errands:
    """The procedures of one link."""

    def __init__(self) -> None:
        self._running: list[_Running] = []

    # --- starting and ending

    def begin(self, procedure: Procedure[T], done: Callable[[T], None]) -> None:
        """Start a procedure; `done` is called with its result."""
        errand = _Running(procedure, done)
        self._running.append(errand)
        self._advance(errand, None)

    def wait_for(self, procedure: Procedure[T], handlers: Handlers, on_signal: Callable[[int], None]) -> T:
        """Run a procedure to its end while nothing else is supervised; signals that arrive meanwhile go to `on_signal`."""
        found: list[T] = []
        self.begin(procedure, found.append)
        self.wait_until(lambda: bool(found), handlers, on_signal)
        return found[0]

    def wait_until(
        self, over: Callable[[], bool], handlers: Handlers, on_signal: Callable[[int], None], until: float | None = None
    ) -> None:
        """Attend to all procedures until `over`, or until a monotonic time."""
        while not over():
            now = time.monotonic()
            if until is not None and now >= until:
                return
            times = [at for at in (self.due_at(), until) if at is not None]
            left_s = max(min(times) - now, 0.0) if times else None
            select.select([handlers.reader, *self.descriptors()], [], [], left_s)
            numbers = handlers.arrived()
            for number in dict.fromkeys(numbers):
                if number != CHLD:
                    on_signal(number)
            if CHLD in numbers:
                for reaped in child.reap():
                    self.reaped(reaped)
            self.attend()

    def abandon(self) -> None:
        """Forget all procedures; their commands are ended."""
        for errand in self._running:
            if errand.apart is not None:
                child.end_apart(errand.apart.pid)
                _close(errand)
            errand.procedure.close()
        self._running.clear()

    # --- what the loop needs

    @property
    def busy(self) -> bool:
        """Return whether a procedure is under way."""
        return bool(self._running)

    def pids(self) -> frozenset[int]:
        """Return the pids of our own commands: they are no part of the training."""
        return frozenset(errand.apart.pid for errand in self._running if errand.apart is not None)

    def descriptors(self) -> list[int]:
        """Return what to wait on."""
        return [descriptor for errand in self._running for descriptor in errand.open if descriptor >= 0]

    def due_at(self) -> float | None:
        """Return the monotonic time of the next pause or time-out that is over."""
        return min((errand.until for errand in self._running), default=None)

    def reaped(self, reaped: child.Reaped) -> bool:
        """Take the status of one of our commands; return whether it was one."""
        for errand in self._running:
            if errand.apart is not None and errand.apart.pid == reaped.pid:
                status = reaped.status
                errand.code = status.code if status.code is not None else -(status.signal or 0)
                errand.ended = True
                return True
        return False

    def attend(self) -> None:
        """Read what was said, and let those procedures go on whose answer is whole or whose time is over."""
        now = time.monotonic()
        for errand in list(self._running):
            if errand.apart is None:
                if now >= errand.until:
                    self._advance(errand, None)
                continue
            for descriptor in list(errand.texts):
                self._read(errand, descriptor)
            if errand.ended:
                self._answer(errand, errand.code)
            elif now >= errand.until:
                child.end_apart(errand.apart.pid)
                self._answer(errand, None)

    def _read(self, errand: _Running, descriptor: int) -> None:
        if descriptor < 0:
            return
        try:
            while data := os.read(descriptor, 65536):
                errand.texts[descriptor] += data
        except BlockingIOError:
            return
        # The end of the pipe: nothing more to wait on here; the text stays until the command's status is known.
        os.close(descriptor)
        errand.texts = {(-other - 1 if other == descriptor else other): text for other, text in errand.texts.items()}

    def _answer(self, errand: _Running, code: int | None) -> None:
        out, err = (bytes(text).decode("utf-8", "surrogateescape") for text in errand.texts.values())
        _close(errand)
        errand.apart = None
        self._advance(errand, Said(code, out, err))

    def _advance(self, errand: _Running, said: Said | None) -> None:
        try:
            step = errand.procedure.send(said)
        except StopIteration as end:
            self._running.remove(errand)
            errand.done(end.value)
            return
        if isinstance(step, Pause):
            errand.until = time.monotonic() + step.seconds
            return
        environment = step.environment if step.environment is not None else _readers_environment(os.environ.items())
        # Found with our own PATH: the command's environment may be the submission's, before the script loaded Slurm's module.
        program = child.find(step.argv[0]) or step.argv[0]
        errand.apart = child.start_apart((program, *step.argv[1:]), environment, step.directory)
        errand.texts = {errand.apart.out: bytearray(), errand.apart.err: bytearray()}
        errand.ended, errand.code = False, None
        errand.until = time.monotonic() + step.timeout_s


def carry_out(procedure: Procedure[T]) -> T:
    """Carry out a procedure for a person who waits for it. Raises KeyboardInterrupt where he ends it."""
    errands = Errands()
    handlers = Handlers()

    def heard(number: int) -> None:
        if number in (HUP, INT, TERM):
            errands.abandon()
            raise KeyboardInterrupt

    try:
        return errands.wait_for(procedure, handlers, heard)
    finally:
        handlers.restore()


def _close(errand: _Running) -> None:
    for descriptor in errand.texts:
        if descriptor >= 0:  # below zero stands one that is closed already
            os.close(descriptor)


def _readers_environment(own: Iterable[tuple[str, str]]) -> dict[str, str]:
    kept = {name: value for name, value in own if not name.startswith(_PERSONAL)}
    return kept | {"TZ": "UTC0", "SLURM_TIME_FORMAT": "standard", "LC_ALL": "C"}
