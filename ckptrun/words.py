"""PURE. The words that every room uses, as values.

Values are named tuples: they compare, print and unpack, and cost the start nothing that `dataclasses` would (16 ms).
`*_s` are seconds, `*_at` are instants: monotonic seconds inside a running link, Unix seconds in everything that is written down.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Outcome(str, Enum):
    """How a link ended, in one word."""

    COMPLETE = "complete"
    CONTINUED = "continued"
    REQUEUED = "requeued"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    STRANDED = "stranded"
    REPLACED = "replaced"
    LOST = "lost"


class Course(str, Enum):
    """What an ask means for the chain: the last column of the signal table."""

    GO_ON = "go on"
    REQUEUE = "requeue"
    CANCEL = "cancel"
    STOP = "stop"
    UNKNOWN = "unknown"


class Hearing(str, Enum):
    """What the training can be told."""

    HEARS = "hears"
    ONLY_INT = "only INT"
    DEAF = "cannot be told"


class Verdict(str, Enum):
    """What verification says of a checkpoint."""

    WHOLE = "whole"
    TRUNCATED = "truncated"
    NOT_CHECKED = "not-checked"


class Reason(NamedTuple):
    """Why the training is asked or stopped: the chain's course and a sentence for people.

    `taken_away`: the cluster needed the nodes, or lost them. That is no start that the bounds of a chain should count.
    """

    course: Course
    sentence: str
    taken_away: bool = False


class Status(NamedTuple):
    """How a process ended: exactly one of `code` (0 to 255) and `signal` (1 to 64) is not None."""

    code: int | None
    signal: int | None

    @property
    def exit_code(self) -> int:
        """Return what a shell would report: the code, or 128 + the signal."""
        return self.code if self.code is not None else 128 + (self.signal or 0)


class LinkRef(NamedTuple):
    """One start of one link: enough to say later whether it is still this one that lives.

    `node` is the host name, `boot_id` the kernel's id of this boot, `pid` and `pid_started` (clock ticks since boot)
    name the ckptrun process. Outside Slurm `job` is None and `attempt` counts the starts of this link, from 1.
    """

    chain: str
    number: int
    attempt: int
    job: str | None
    node: str
    boot_id: str
    pid: int
    pid_started: int


class Checkpoint(NamedTuple):
    """A checkpoint on disk.

    `path` is what a training would be given (for TensorFlow the prefix, without `.index`); `parts` are all files that
    belong to it, `path` included where it is one. `step` is None where the name says none. `at` is the newest
    modification time of the parts (Unix seconds); `size` their sum in bytes. `verdict` is None until it was verified;
    `why` then says what was found, for people. `form` is its format: known from the names for one of several files, else
    from verification; empty where it is not known.
    """

    path: str
    parts: tuple[str, ...]
    step: int | None
    at: float
    size: int
    verdict: Verdict | None = None
    why: str = ""
    form: str = ""


class Save(NamedTuple):
    """One measured save: `seconds` from the ask (`asked`) or from the first byte to the whole checkpoint.

    A save that was `cut` had `seconds` and was not whole then; it took longer than that.
    """

    seconds: float
    asked: bool
    cut: bool = False


class Sight(NamedTuple):
    """What one look at the checkpoint paths shows.

    `newest` is the newest whole (or, in a format that is not checked, no longer growing) checkpoint; `new` says whether
    it was written since the link's start. `writing`: a checkpoint is being written now. `written_at` are the Unix times
    at which the link's saves became whole, oldest first. `saves` are the periodic saves that were watched from first
    byte to whole since the last look. `became` are the checkpoints that became whole since then, oldest first: by its
    name the newest may be another, where a training begins anew beside what it had.
    """

    newest: Checkpoint | None = None
    new: bool = False
    writing: bool = False
    written_at: tuple[float, ...] = ()
    saves: tuple[Save, ...] = ()
    became: tuple[Checkpoint, ...] = ()


class Process(NamedTuple):
    """One process of the tree: who it is, which signals it catches and ignores, and when it started (Unix seconds).

    `stands_for` says for whom an `srun` stands that hands signals on to tasks on other nodes: `caught` is then what they catch.
    """

    pid: int
    ppid: int
    argv: tuple[str, ...]
    caught: frozenset[int]
    ignored: frozenset[int]
    started: float = 0.0
    stands_for: str = ""


def one_line(text: str) -> str:
    """Return a name as one line that does nothing to a terminal: control characters as Python writes them, `\\n`, `\\x1b`.

    What is no valid text, a surrogate, is left as it is: whoever writes the line knows how.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or "\ud800" <= one <= "\udfff" else repr(one)[1:-1] for one in text)
