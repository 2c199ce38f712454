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
    found = ChainSoFar()
    for event in events:
        kind = event.get("event")
        if kind == "joined":
            found = found._replace(starts=0, running_s=0.0, stalled=0, short=0, unsaved=0, retries=0, taken_away=0)
        elif kind == "started":
            last = LastStart(int(event.get("link") or 0), int(event.get("attempt") or 1))
            found = found._replace(starts=found.starts + 1, starts_in_all=found.starts_in_all + 1, last=last)
            found = _seen(found, event)
        elif kind == "appeared":
            found = _seen(found, event)
        elif kind == "saved":
            save = Save(float(event.get("seconds") or 0.0), bool(event.get("asked")), bool(event.get("cut")))
            found = _seen(found, event)._replace(saves=(found.saves + (save,))[-SAVES_REMEMBERED:])
        elif kind == "ended":
            found = _ended(_seen(_last_ended(found, event), event), event)
    return found


def _last_ended(found: ChainSoFar, event: Event) -> ChainSoFar:
    """Take in when the last start ended. A link that ended before its training started is none."""
    last, at = found.last, event.get("ended_at")
    if last is None or (last.link, last.attempt) != (event.get("link"), event.get("attempt")) or not isinstance(at, (int, float)):
        return found
    return found._replace(last=last._replace(ended_at=float(at)))


def _seen(found: ChainSoFar, event: Event) -> ChainSoFar:
    if event.get("checkpoint") or (event.get("event") in ("saved", "appeared") and event.get("path")):
        found = found._replace(seen_whole=True)
    step = event.get("step")
    if isinstance(step, int) and (found.best_step is None or step > found.best_step):
        found = found._replace(best_step=step)
    return found


def _ended(found: ChainSoFar, event: Event) -> ChainSoFar:
    progress = event.get("progress")
    stalled = found.stalled + 1 if event.get("reached_ask") and progress is False else 0
    retries = 0 if progress else found.retries + bool(event.get("retried"))
    if event.get("taken_away"):
        running_s = found.running_s + float(event.get("seconds") or 0.0)
        return found._replace(starts=max(found.starts - 1, 0), taken_away=found.taken_away + 1, running_s=running_s)
    return found._replace(
        running_s=found.running_s + float(event.get("seconds") or 0.0),
        stalled=stalled,
        short=found.short + 1 if event.get("short") else 0,
        unsaved=found.unsaved + 1 if event.get("unsaved") else 0,
        retries=retries,
    )
