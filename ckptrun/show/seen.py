"""PURE. The values of a chain in front of people: what was found out about it, and the chain as everything draws it.

Where nobody knows, a value is None or the state says `unknown` or `lost`: nothing is called running because it once was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ckptrun.slurm.parse import Remembered

Event = dict[str, Any]
# The states in which a chain is over.
ENDED = ("complete", "failed", "cancelled", "stopped", "stranded", "lost", "replaced")
STATES = ("running", "pending", "unknown", "new", *ENDED)


class Life(NamedTuple):
    """What of a chain lives: `word` is running, pending or unknown; `sentence` says it for people.

    `why` is Slurm's pending reason. `next_job` is the successor that waits behind a running job. Times are Unix seconds.
    """

    word: str
    sentence: str
    job: str | None = None
    node: str | None = None
    why: str | None = None
    starts_at: float | None = None
    ends_at: float | None = None
    next_job: str | None = None


class Told(NamedTuple):
    """The newest words of the training itself, from the mailbox: how far it is, of how much, and when it said so."""

    step: int | None = None
    total: int | None = None
    at: float | None = None
    saved_at: float | None = None


class Known(NamedTuple):
    """Everything that was found out about one chain.

    `facts` is chain.json; `ended_as` the outcome that its last turn ended the chain with, None where it has not ended or no turn
    can be read; `submitted_at` is when link 1 was submitted; `stopped` whether `chain stop` was said and nobody went on since;
    `ready` is the command that a stranded link has left.
    """

    facts: Mapping[str, Any]
    events: Sequence[Event]
    oddities: tuple[str, ...] = ()
    ended_as: str | None = None
    life: Life | None = None
    remembered: Mapping[str, Remembered] = {}
    told: Told = Told()
    submitted_at: float | None = None
    stopped: bool = False
    ready: str | None = None


class SeenSave(NamedTuple):
    """One measured save: when it was whole (Unix seconds), how long it took, whether it was asked for, whether it was cut."""

    at: float | None
    seconds: float
    asked: bool
    cut: bool


class SeenLink(NamedTuple):
    """One start of one link; what is not known is None. Times are Unix seconds.

    `seconds` is how long it ran; where nobody knows, it was heard of for `at_least_s`. `waited_s` is the wait since the link before
    was over (for link 1: since it was submitted). `lost_s` is the running time whose work no later start could go on from.
    `window_at` to `window_until` is the service window that its end had to come before.
    `exit_code` is the training's, `exits` ckptrun's own. `ended_by` says where the end was learned: ledger, accounting, or "".
    """

    number: int
    attempt: int = 1
    job: str | None = None
    node: str | None = None
    queued_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    seconds: float | None = None
    at_least_s: float = 0.0
    waited_s: float | None = None
    outcome: str | None = None
    reason: str | None = None
    taken_away: bool = False
    retried: bool = False
    exit_code: int | None = None
    exits: int | None = None
    resumed_from: str | None = None
    resumed_at: float | None = None
    step_before: int | None = None
    checkpoint: str | None = None
    checkpoint_at: float | None = None
    step: int | None = None
    size: int | None = None
    lost_s: float | None = None
    limit_s: float | None = None
    ends_at: float | None = None
    ask_at: float | None = None
    asked: str | None = None
    margin_s: float | None = None
    margin_why: str | None = None
    saves: tuple[SeenSave, ...] = ()
    set_aside: tuple[str, ...] = ()
    log: str | None = None
    error_log: str | None = None
    submitted: str | None = None
    ended_by: str = ""
    window_at: float | None = None
    window_until: float | None = None


class Totals(NamedTuple):
    """Seconds: `used` of running, `lost` of that, `waited` in the queue between links. The chain stood still for `idle_s`."""

    used_s: float
    lost_s: float
    waited_s: float
    idle_s: float

    @property
    def useful_s(self) -> float:
        """Return the running time whose work was kept."""
        return max(self.used_s - self.lost_s, 0.0)


class Progress(NamedTuple):
    """How far the chain is, and what is left: `running_s` of training, over about `links` more links, done at `done_at` (Unix)."""

    step: int | None = None
    total: int | None = None
    running_s: float | None = None
    links: int | None = None
    done_at: float | None = None


class SeenChain(NamedTuple):
    """One chain as everything draws it. `starts` is how many it has had: a list keeps only the newest of its `links`.

    `state` is running, pending, unknown, new, or how it ended; `reason` says why in a sentence. `bound` is how many starts it may
    have, of which `counted` are used since a person last went on; `max_time_s` bounds the running time, of which `counted_s` is
    used.
    """

    id: str
    state: str
    reason: str | None
    directory: str
    command: tuple[str, ...]
    created: float
    starts: int
    links: tuple[SeenLink, ...]
    totals: Totals
    progress: Progress
    bound: int
    counted: int
    counted_s: float
    max_time_s: float | None
    checkpoint_at: float | None
    heard_at: float | None
    life: Life | None
    stopped: bool
    ready: str | None
    in_jobs: bool
    options: dict[str, Any]
    oddities: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Return the running time of all links."""
        return self.totals.used_s

    @property
    def last(self) -> SeenLink | None:
        """Return the newest start, None before the first."""
        return self.links[-1] if self.links else None
