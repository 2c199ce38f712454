"""PURE. Events -> what the bounds of a chain count and its margin stands on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ckptrun.words import Save

SAVES_REMEMBERED = 10
Event = dict[str, Any]


class LastStart(NamedTuple):
    """The chain's last start, and when it ended (Unix seconds): None where it died without a word."""

    link: int
    attempt: int
    ended_at: float | None = None


class ChainSoFar(NamedTuple):
    """What the bounds and the margin stand on.

    `starts`, `running_s`, `stalled`, `short`, `unsaved`, `retries` and `taken_away` count anew after a person has gone on with the
    chain; a start that the cluster took away is in the last one only;
    `best_step`, `seen_whole`, the last ten `saves` and the `last` start belong to the whole chain.
    """

    starts: int = 0
    running_s: float = 0.0
    stalled: int = 0
    short: int = 0
    unsaved: int = 0
    retries: int = 0
    best_step: int | None = None
    seen_whole: bool = False
    saves: tuple[Save, ...] = ()
    starts_in_all: int = 0
    taken_away: int = 0
    last: LastStart | None = None


def so_far(events: Sequence[Event]) -> ChainSoFar:
    """Return what the events of a chain add up to. Events of unknown kinds count nothing."""
    sums = _Sums()
    for event in events:
        take = _TAKE.get(event.get("event", ""))
        if take is not None:
            take(sums, event)
    return sums.found()


class _Sums:
    """The sums while they are made: a chain of thousands of links has more events than a value should be copied for."""

    def __init__(self) -> None:
        self.anew()
        self.best_step: int | None = None
        self.seen_whole = False
        self.saves: list[Save] = []
        self.starts_in_all = 0
        self.last: LastStart | None = None

    def anew(self) -> None:
        """A person has gone on with the chain."""
        self.starts = self.stalled = self.short = self.unsaved = self.retries = self.taken_away = 0
        self.running_s = 0.0

    def found(self) -> ChainSoFar:
        """Return the sums as a value."""
        saves = tuple(self.saves[-SAVES_REMEMBERED:])
        return ChainSoFar(**{name: value for name, value in vars(self).items() if name != "saves"}, saves=saves)


def _joined(sums: _Sums, _event: Event) -> None:
    sums.anew()


def _started(sums: _Sums, event: Event) -> None:
    sums.last = LastStart(int(event.get("link") or 0), int(event.get("attempt") or 1))
    sums.starts += 1
    sums.starts_in_all += 1
    _seen(sums, event)


def _saved(sums: _Sums, event: Event) -> None:
    sums.saves.append(Save(float(event.get("seconds") or 0.0), bool(event.get("asked")), bool(event.get("cut"))))
    _seen(sums, event)


def _seen(sums: _Sums, event: Event) -> None:
    if event.get("checkpoint") or (event.get("event") in ("saved", "appeared") and event.get("path")):
        sums.seen_whole = True
    step = event.get("step")
    if isinstance(step, int) and (sums.best_step is None or step > sums.best_step):
        sums.best_step = step


def _ended(sums: _Sums, event: Event) -> None:
    last, at = sums.last, event.get("ended_at")
    # A link that ended before its training started is none.
    if last is not None and isinstance(at, (int, float)) and last[:2] == (event.get("link"), event.get("attempt")):
        sums.last = last._replace(ended_at=float(at))
    _seen(sums, event)
    sums.running_s += float(event.get("seconds") or 0.0)
    if event.get("taken_away"):
        sums.starts = max(sums.starts - 1, 0)
        sums.taken_away += 1
        return
    progress = event.get("progress")
    sums.stalled = sums.stalled + 1 if event.get("reached_ask") and progress is False else 0
    sums.retries = 0 if progress else sums.retries + bool(event.get("retried"))
    sums.short = sums.short + 1 if event.get("short") else 0
    sums.unsaved = sums.unsaved + 1 if event.get("unsaved") else 0


_TAKE = {"joined": _joined, "started": _started, "appeared": _seen, "saved": _saved, "ended": _ended}
