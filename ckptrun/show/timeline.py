"""PURE. A chain on an axis of time, as every picture of it needs it: bars of waiting, running and lost, steps reached, saves.

Positions are fractions of the whole span, from 0 to 1. Drawing is somebody else's.
"""

from __future__ import annotations

from typing import NamedTuple

from ckptrun.show.seen import SeenChain, SeenLink


class Bar(NamedTuple):
    """One stretch of one link: `kind` is waited, ran, lost or window. Times are Unix seconds."""

    link: str
    kind: str
    begins_at: float
    ends_at: float


class Point(NamedTuple):
    """A step that was reached, and when."""

    at: float
    step: int
    link: str


class SaveAndMargin(NamedTuple):
    """One start's slowest save beside the margin that it had, in seconds; what is not known is None."""

    link: str
    slowest_s: float | None
    margin_s: float | None


class Timeline(NamedTuple):
    """All of it. `begins_at` and `ends_at` span everything; `total` is how many steps there are, where that was said."""

    begins_at: float
    ends_at: float
    bars: tuple[Bar, ...]
    points: tuple[Point, ...]
    saves: tuple[SaveAndMargin, ...]
    total: int | None

    def place(self, at: float) -> float:
        """Return where a time is on the axis, from 0 to 1."""
        return min(max((at - self.begins_at) / max(self.ends_at - self.begins_at, 1e-9), 0.0), 1.0)


def of(chain: SeenChain) -> Timeline | None:
    """Return the timeline of a chain, None where no start has a time."""
    bars = tuple(bar for link in chain.links for bar in _bars(link))
    if not bars:
        return None
    points = tuple(point for link in chain.links for point in _points(link))
    saves = tuple(
        SaveAndMargin(name_of(link), max((save.seconds for save in link.saves), default=None), link.margin_s)
        for link in chain.links
    )
    begins_at, ends_at = min(bar.begins_at for bar in bars), max(bar.ends_at for bar in bars)
    return Timeline(begins_at, ends_at, bars, points, saves, chain.progress.total)


def name_of(link: SeenLink) -> str:
    """Return a start's name: `3`, or `3.2` from its second attempt on."""
    return str(link.number) if link.attempt == 1 else f"{link.number}.{link.attempt}"


def _bars(link: SeenLink) -> list[Bar]:
    if link.started_at is None:
        return []
    name, ran_s = name_of(link), link.at_least_s if link.seconds is None else link.seconds
    ended_at = link.started_at + ran_s
    kept_at = ended_at - (link.lost_s or 0.0)
    found = []
    if link.waited_s is not None and link.waited_s > 0:
        found.append(Bar(name, "waited", link.started_at - link.waited_s, link.started_at))
    found.append(Bar(name, "ran", link.started_at, kept_at))
    if kept_at < ended_at:
        found.append(Bar(name, "lost", kept_at, ended_at))
    if link.window_at is not None and link.window_until is not None and link.window_until > link.window_at:
        found.append(Bar(name, "window", link.window_at, link.window_until))
    return found


def _points(link: SeenLink) -> list[Point]:
    found = []
    name = name_of(link)
    before = link.step_before if link.resumed_from is not None else 0
    if link.started_at is not None and before is not None and link.step is not None:
        found.append(Point(link.started_at, before, name))
    if link.checkpoint_at is not None and link.step is not None and link.checkpoint_at >= (link.started_at or 0.0):
        found.append(Point(link.checkpoint_at, link.step, name))
    return found
