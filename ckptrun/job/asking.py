"""Asking the controller before a training exists: each answer is waited for, and a signal ends the waiting."""

from __future__ import annotations

from typing import TypeVar

from ckptrun.early import HUP, INT, TERM, Handlers
from ckptrun.link.errands import Errands, Pause, Procedure
from ckptrun.slurm import commands, parse
from ckptrun.slurm.parse import JobId, Queued, Settings

T = TypeVar("T")


class EndedBySignal(Exception):
    """A signal ended us before the training existed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Asking:
    """What a start asks, one thing after the other. Every method raises EndedBySignal on HUP, INT and TERM."""

    def __init__(self, errands: Errands, handlers: Handlers) -> None:
        self._errands, self._handlers = errands, handlers

    def ask(self, procedure: Procedure[T]) -> T:
        """Return what a procedure comes to."""
        return self._errands.wait_for(procedure, self._handlers, self._heard)

    def once(self, call: commands.Call) -> commands.Said:
        """Return what one command says."""
        return self.ask(_once(call))

    def script(self, job: JobId) -> commands.Said:
        """Return the batch script of a job, as the controller has it."""
        return self.once(commands.batch_script(job))

    def settings(self) -> Settings:
        """Return the cluster's settings."""
        return parse.settings(self.once(commands.show_config()).out)

    def queue(self) -> tuple[Queued, ...]:
        """Return the user's jobs in the queue, as soon as the controller answers."""
        while (said := self.once(commands.queue_of_user())).code != 0:
            self.pause()
        return parse.queue(said.out)

    def pause(self) -> None:
        """Wait for five seconds."""
        self.ask(_pause())

    @staticmethod
    def _heard(number: int) -> None:
        if number in (HUP, INT, TERM):
            raise EndedBySignal(number)


def _once(call: commands.Call) -> Procedure[commands.Said]:
    said = yield call
    assert said is not None
    return said


def _pause() -> Procedure[None]:
    yield Pause(5.0)
