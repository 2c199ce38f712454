"""What the parts of a chain are called in front of people: short words for tables, sizes, names, and clocks in their own zone."""

from __future__ import annotations

import os.path
import time
from functools import lru_cache

from ckptrun import durations
from ckptrun.show.seen import SeenChain, SeenLink

_UNITS = ("B", "kB", "MB", "GB", "TB")
# What begins a reason -> what the table calls it.
_BECAUSE = (
    ("the time limit is near", "time limit"),
    ("no further save fits", "time limit"),
    ("the job's time limit", "time limit"),
    ("a service window", "service window"),
    ("the job is preempted", "preempted"),
    ("the job ended as PREEMPTED", "preempted"),
    ("the job ended as NODE_FAIL", "node failure"),
    ("the training failed", "failed, retried"),
    ("the training said with exit code", "wants to go on"),
    ("exit code 0, and", "not done yet"),
    ("a person sent", "a person's signal"),
    ("a signal arrived", "a signal"),
)
_STOPPED = (
    ("--max-links", "link bound reached"),
    ("the chain has run for", "time bound reached"),
    ("the stop file", "stop file"),
    ("`ckptrun chain stop`", "stopped by a person"),
    ("its successor was cancelled", "successor cancelled"),
)


def because(link: SeenLink) -> str:
    """Return in two or three words why a link ended."""
    return _because(link.outcome, link.reason or "", link.taken_away)


@lru_cache(maxsize=1000)
def _because(outcome: str | None, reason: str, taken_away: bool) -> str:
    if outcome is None:
        return "runs"
    if outcome == "complete":
        return "finished"
    if outcome == "continued":
        if "service window" in reason:
            return "service window"
        found = next((words for beginning, words in _BECAUSE if reason.startswith(beginning)), None)
        return found or ("a signal" if " arrived: save" in reason else "went on")
    if outcome == "lost":
        return "node failure" if "NODE_FAIL" in reason or ("node" in reason and taken_away) else "died without a word"
    if outcome == "stopped":
        return next((words for beginning, words in _STOPPED if reason.startswith(beginning)), "stopped")
    if outcome == "failed":
        return "out of memory" if reason.startswith("out of memory") else "failed"
    return {"stranded": "could not go on", "replaced": "replaced by another"}.get(outcome, outcome)


def size(count: int | None) -> str:
    """Return a size for people."""
    if count is None:
        return "-"
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 9.95 else f"{value:.1f} {_UNITS[unit]}"


def seconds(value: float | None) -> str:
    """Return a duration, `-` where it is not known."""
    return "-" if value is None else durations.show(value)


def ran(link: SeenLink) -> str:
    """Return how long a link ran, where nobody knows for how long at least it was heard of."""
    if link.seconds is None and link.at_least_s >= 1:
        return f"> {durations.show(link.at_least_s)}"
    return seconds(link.seconds)


def about(value: float | None) -> str:
    """Return a duration of which parts of a second tell nothing."""
    return seconds(value if value is None or value >= 1 else 0.0).replace("0 ms", "0 s")


def clock(at: float | None, now: float) -> str:
    """Return a time of day, with the day where it is not today's."""
    if at is None:
        return "-"
    then = time.localtime(at)
    return time.strftime("%H:%M:%S" if then[:3] == _today(now, time.tzname)[:3] else "%d %b %H:%M", then)


@lru_cache(maxsize=1)
def _today(now: float, _zone: tuple[str, str]) -> time.struct_time:
    return time.localtime(now)


def moment(at: float) -> str:
    """Return a time of day to come or gone, with its day and without its seconds."""
    return time.strftime("%a %d %b %H:%M", time.localtime(at))


def name(path: str | None) -> str:
    """Return a checkpoint's name without its folder."""
    return "nothing" if path is None else os.path.basename(path.rstrip("/")) or path


def span(link: SeenLink) -> str:
    """Return what a link began and ended with: steps where they are known, else the names of checkpoints."""
    reached = link.step
    if reached is not None or link.step_before is not None:
        before = link.step_before if link.resumed_from is not None else 0
        return f"{_step(before)} -> {_step(reached)}"
    if link.checkpoint is None and link.resumed_from is None:
        return "-"
    return f"{name(link.resumed_from)} -> {name(link.checkpoint)}"


def _step(number: int | None) -> str:
    return "?" if number is None else str(number)


def number(link: SeenLink) -> str:
    """Return a link's number, with its attempt from the second on: `3`, `3.2`."""
    return str(link.number) if link.attempt == 1 else f"{link.number}.{link.attempt}"


def steps(chain: SeenChain) -> str:
    """Return how far a chain is."""
    done, total = chain.progress.step, chain.progress.total
    if done is None:
        return "-"
    return f"{done}/{total}" if total else f"step {done}"


def budget(chain: SeenChain) -> str:
    """Return the running time that was used, of that which may be."""
    used = durations.show(chain.seconds)
    return f"{used} of {durations.show(chain.max_time_s)}" if chain.max_time_s else used


def plural(count: int, word: str) -> str:
    """Return a count with its word."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def clean(text: str) -> str:
    """Return a text without what would move a terminal's cursor or change its colours: names and words of others may hold that."""
    return text if text.isprintable() else "".join(one if one.isprintable() else "?" for one in text)
