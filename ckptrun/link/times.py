"""PURE. When to ask, to send TERM and to KILL (spec of the times: docs/reference/times.md).

All times are monotonic seconds. L is the length of the link: from ckptrun's own start to the end time.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from ckptrun import durations
from ckptrun.words import Save

LARGEST_GUESS_S = 600.0
SAVES_REMEMBERED = 10
# How often the checkpoints are looked at: never more often, nor more rarely, and so often that a save is seen to begin.
AT_MOST_EVERY_S, MOST_RARELY_S, CLOSE_S = 0.25, 10.0, 0.5


class Times(NamedTuple):
    """When the link acts, and because what is `near`.

    `needed_limit_s` is the limit that would do, where the saves are too slow for this one.
    """

    start_at: float
    end_at: float
    ask_at: float
    term_at: float
    kill_at: float
    margin_s: float
    why: str
    needed_limit_s: float | None = None
    near: str = "the time limit is near"

    @property
    def limit_s(self) -> float:
        """Return L."""
        return self.end_at - self.start_at


def times(start_at: float, end_at: float, saves: tuple[Save, ...], margin_s: float | None = None) -> Times:
    """Return when to ask, to send TERM and to KILL in a link that must be over at `end_at`.

    `saves` are the chain's measured saves, oldest first; `margin_s` is what the user named, which wins.
    """
    limit_s = end_at - start_at
    margin, why, needed = (margin_s, "as told", None) if margin_s is not None else _margin(limit_s, saves)
    margin = min(margin, limit_s)
    # A margin shorter than the usual reserve would put TERM before the ask.
    reserve_s = min(10.0, 0.05 * limit_s, margin / 2)
    return Times(start_at, end_at, end_at - margin, end_at - reserve_s, end_at - reserve_s / 2, margin, why, needed)


def _margin(limit_s: float, saves: tuple[Save, ...]) -> tuple[float, str, float | None]:
    guess_s = max(min(0.1 * limit_s, LARGEST_GUESS_S), min(5.0, limit_s / 3))
    guessed = _why_guessed(guess_s, limit_s)
    if not saves:
        return guess_s, f"{guessed}, no save measured yet", None
    slowest_s = slowest(saves)
    reserve_s = min(30.0, 0.05 * limit_s)
    wanted_s = 2 * slowest_s + reserve_s
    if wanted_s < guess_s and not any(save.asked for save in saves[-SAVES_REMEMBERED:]):
        return guess_s, f"{guessed}, no save that was asked for measured yet", None
    why = f"2 x {durations.show(slowest_s)}, {_which(saves)}, + {durations.show(reserve_s)}"
    if wanted_s <= limit_s / 2:
        return wanted_s, why, None
    # Half of L is the most: m = 2 s + 5% L <= L/2 gives L >= 2 s / 0.45, and with the full 30 s L >= 4 s + 60.
    needed_s = min(2 * slowest_s / 0.45, 4 * slowest_s + 60)
    return limit_s / 2, f"half of the limit, the most there is; {why} is more", needed_s


def _why_guessed(guess_s: float, limit_s: float) -> str:
    if guess_s >= LARGEST_GUESS_S:
        return f"10% of the limit, at most {durations.show(LARGEST_GUESS_S)}"
    return "10% of the limit" if guess_s <= 0.1 * limit_s else f"at least {durations.show(guess_s)}"


def _which(saves: tuple[Save, ...]) -> str:
    """Return which save counts as the slowest, in words."""
    last = saves[-SAVES_REMEMBERED:]
    counted = _counted(saves)
    slowest_one = last[counted.index(max(counted))]
    if slowest_one.cut:
        return f"{'twice ' if max(counted) > slowest_one.seconds else ''}what a save had that was cut"
    return "the only save measured" if len(last) == 1 else f"the slowest of the last {len(last)} saves"


def slowest(saves: tuple[Save, ...]) -> float:
    """Return the slowest of the last ten saves in seconds, 0 without any.

    One that was cut counts as twice the time it had, until one that was asked for later has been measured: then that is known, and
    of the one that was cut that it took longer than it had.
    """
    return max(_counted(saves), default=0.0)


def _counted(saves: tuple[Save, ...]) -> list[float]:
    last = saves[-SAVES_REMEMBERED:]
    measured = _last_measured(last)
    return [save.seconds * (2 if save.cut and number > measured else 1) for number, save in enumerate(last)]


def _last_measured(last: tuple[Save, ...]) -> int:
    """Return the number of the last save that was asked for and measured, -1 without any."""
    return max((number for number, save in enumerate(last) if save.asked and not save.cut), default=-1)


def least_needed(saves: tuple[Save, ...]) -> float:
    """Return how long a save takes at the least, in seconds, 0 where nothing is known: the fastest of the last ten.

    Those that were asked for count, without any the others. What one that was cut since then had is known not to be enough.
    """
    last = saves[-SAVES_REMEMBERED:]
    measured = _last_measured(last)
    whole = [save.seconds for save in last if not save.cut and (save.asked or measured < 0)]
    cut = [save.seconds for save in last[measured + 1 :] if save.cut]
    return max([min(whole, default=0.0), *cut])


def longest_interval(written_at: tuple[float, ...], start_at: float) -> float | None:
    """Return the longest of the last three intervals between saves; None before the first save.

    With fewer than two saves the interval is the time from the start to the save.
    """
    if not written_at:
        return None
    if len(written_at) == 1:
        return max(written_at[0] - start_at, 0.0)
    last = written_at[-4:]
    return max(later - earlier for earlier, later in itertools.pairwise(last))


def next_save_fits(written_at: tuple[float, ...], start_at: float, slowest_s: float, term_at: float) -> bool:
    """Return whether the save after the last one will be whole before TERM. False before the first save."""
    interval_s = longest_interval(written_at, start_at)
    return interval_s is not None and written_at[-1] + 1.2 * interval_s + slowest_s < term_at


def look_every(limit_s: float | None) -> float:
    """Return the seconds between two looks at the checkpoints while nothing depends on what they show."""
    return MOST_RARELY_S if limit_s is None else max(AT_MOST_EVERY_S, min(MOST_RARELY_S, limit_s / 100))


def decisive_from(written_at: tuple[float, ...], start_at: float, slowest_s: float, term_at: float) -> float:
    """Return from when on a save would be the last that fits, where none comes before.

    Its interval is the longest of the last three, or the time since the last save, whichever is longer then.
    """
    last_at = written_at[-1] if written_at else start_at
    by_interval = term_at - slowest_s - 1.2 * (longest_interval(written_at, start_at) or 0.0)
    by_silence = (term_at - slowest_s + 1.2 * last_at) / 2.2
    return min(by_interval, by_silence)


def look_for_last_save(written_at: tuple[float, ...], start_at: float, now: float) -> float:
    """Return in how many seconds to look for a save that would be the last that fits.

    A training that cannot be told is stopped after it: a look in a hundredth of the interval costs no more than that.
    """
    since_s = now - (written_at[-1] if written_at else start_at)
    return max(AT_MOST_EVERY_S, max(longest_interval(written_at, start_at) or 0.0, since_s) / 100)


def measurable(written_at: tuple[float, ...]) -> tuple[float, float] | None:
    """Return from when until when the next save is to be expected; None where there is no telling.

    The cadence is known after two saves. Three are waited for, each for some minutes at most: what has not been seen to begin then
    is too fast, or comes too irregularly, to be measured.
    """
    if not 2 <= len(written_at) <= 4:
        return None
    intervals = [later - earlier for earlier, later in itertools.pairwise(written_at)]
    shortest, longest = min(intervals), max(intervals)
    return written_at[-1] + max(0.9 * shortest, shortest - 60), written_at[-1] + min(1.2 * longest, shortest + 120)
