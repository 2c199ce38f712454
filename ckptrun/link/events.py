"""PURE. What can happen in a link, and what can be done: the phases, events and actions of the state machine in `supervision`.

Events are past participles and carry the monotonic instant `at` at which they happened; actions are imperatives.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from ckptrun.words import Hearing, Reason, Sight, Status


class Phase(str, Enum):
    """Where a link stands."""

    START = "start"
    RUNNING = "running"
    ASKED = "asked"
    STOPPING = "stopping"
    ENDED = "ended"


class ChildStarted(NamedTuple):
    """The training command runs."""

    at: float


class ChildExited(NamedTuple):
    """The training command has ended.

    `left`: somebody who was asked, or sent TERM, still lives, or one whom the training left behind writes a checkpoint. `sight` is
    a last look at the checkpoints, if there are any.
    """

    at: float
    status: Status
    left: bool = False
    sight: Sight | None = None


class TreeEnded(NamedTuple):
    """The last one for whom the link waits is gone, or has written its checkpoint; `sight` as in ChildExited."""

    at: float
    sight: Sight | None = None


class SignalReceived(NamedTuple):
    """A signal arrived at us; `shared`: the terminal sent it to the whole foreground group, the training has it already.

    `reason` is set where it is known without asking: `ckptrun chain stop` says it in a file instead of a signal.
    """

    at: float
    signal: int
    shared: bool = False
    reason: Reason | None = None


class Looked(NamedTuple):
    """The checkpoint paths and the mailbox were looked at.

    `ready`: the training says that it can be told by file. `heard`: it says that it has seen the ask.
    """

    at: float
    sight: Sight
    ready: bool = False
    heard: bool = False


class Listened(NamedTuple):
    """The process tree and the mailbox were read: what the training can be told now; `sight` is a look made in that moment."""

    at: float
    hearing: Hearing
    sight: Sight | None = None


class Delivered(NamedTuple):
    """The ask was carried out: whether a signal, or the file, reached anybody."""

    at: float
    reached: bool


class AskDue(NamedTuple):
    """The checkpoint time has come."""

    at: float


class NextCandidateDue(NamedTuple):
    """Half of the time after the ask is over. `silent`: nobody has written anything since that may be a save, wherever it goes."""

    at: float
    silent: bool = False


class TermDue(NamedTuple):
    """The time for TERM has come."""

    at: float


class KillDue(NamedTuple):
    """The time for KILL has come."""

    at: float


class Replaced(NamedTuple):
    """Another start has taken over the chain."""

    at: float


class ReasonLearned(NamedTuple):
    """The controller has said what a SIGTERM means; `runs_on`: the job is not on its way out, the signal alone was sent."""

    at: float
    reason: Reason
    runs_on: bool = False


class TimesChanged(NamedTuple):
    """The end time of the job is another than before: the policy has new times."""

    at: float


Event = (
    ChildStarted
    | ChildExited
    | TreeEnded
    | SignalReceived
    | Looked
    | Listened
    | Delivered
    | AskDue
    | NextCandidateDue
    | TermDue
    | KillDue
    | Replaced
    | ReasonLearned
    | TimesChanged
)


class Listen(NamedTuple):
    """Read the process tree and the mailbox, and look at the checkpoints; answer with Listened."""


class SignalTraining(NamedTuple):
    """Ask the training, by signal and by file; answer with Delivered.

    `pass_on` is a signal to be handed on as it came, `noted` sends none.
    """

    reason: Reason
    candidate: int = 0
    pass_on: int | None = None
    noted: bool = False


class Terminate(NamedTuple):
    """Send TERM to all that is left of the tree."""

    why: str


class Kill(NamedTuple):
    """Send KILL to all that is left of the tree."""

    why: str


class Say(NamedTuple):
    """Tell the user something that he should know."""

    text: str


class NoteTerm(NamedTuple):
    """Publish that a SIGTERM arrived, before anything else is done about it."""


class Inquire(NamedTuple):
    """Ask the controller what the SIGTERM means; answer with ReasonLearned."""


class HandOver(NamedTuple):
    """Submit the successor, unless a bound says that none may follow."""


class TakeBack(NamedTuple):
    """Cancel the successor that waits."""


Action = Listen | SignalTraining | Terminate | Kill | Say | NoteTerm | Inquire | HandOver | TakeBack
