"""The exception tree. Each class carries the exit code that its kind of mistake ends with.

    CkptrunError                 125   our own failure before the training starts
    ├── UsageError                 2   the command line, a variable or a file says something that has no meaning
    ├── Refused                  125   what was asked for would break a promise: a second live chain, a lost checkpoint
    ├── StateUnusable            125   there is no place to keep the ledger
    ├── Stranded                  75   the chain should go on and this link cannot take its turn
    ├── TurnTaken                 75   another process took the turn: this one has been replaced
    ├── CommandNotRunnable       126   the training command exists and cannot be run
    └── CommandNotFound          127   the training command does not exist

A message is one or a few sentences: what, which object, what to do. It is printed after `ckptrun: `, without a traceback,
in one place: `ckptrun.__main__`.
"""

from __future__ import annotations


class CkptrunError(Exception):
    """Our own failure before the training starts."""

    exit_code = 125


class UsageError(CkptrunError):
    """What the user wrote has no meaning. `mistakes` holds every mistake found, not only the first."""

    exit_code = 2

    def __init__(self, *mistakes: str) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class Refused(CkptrunError):
    """What was asked for would break a promise."""


class StateUnusable(CkptrunError):
    """There is no place to keep the ledger."""


class Stranded(CkptrunError):
    """The chain should go on and this link cannot take its turn."""

    exit_code = 75


class TurnTaken(CkptrunError):
    """Another process took the turn."""

    exit_code = 75


class CommandNotRunnable(CkptrunError):
    """The training command exists and cannot be run."""

    exit_code = 126


class CommandNotFound(CkptrunError):
    """The training command does not exist."""

    exit_code = 127
