"""PURE. The one parser and printer of times.

Accepted: `30s`, `5m`, `1.5h`, `2d`, several together (`1h30m`), and Slurm's forms with a colon or a day: `MM:SS`, `HH:MM:SS`,
`D-HH`, `D-HH:MM`, `D-HH:MM:SS` (man sbatch, --time). A bare number is refused: Slurm would read minutes, most people seconds.
"""

from __future__ import annotations

import re

_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
# Patterns are texts, compiled when they are first used: the start does without them.
_PARTS = r"(\d+(?:\.\d+)?|\.\d+)([smhd])"
# Beyond that clocks and select() overflow.
_LONGEST_S = 100 * 365 * 86400.0
_SLURM = r"(?:(\d{1,9})-)?(\d{1,9})(?::(\d{1,9}))?(?::(\d{1,9}))?"


def parse(text: str) -> float:
    """Return seconds, above 0. Raise ValueError with a sentence that says what to write instead."""
    words = text.strip().lower()
    if words in ("unlimited", "infinite"):
        raise ValueError(f"{text}: without a limit, leave the option out")
    if re.fullmatch(r"\d{1,20}(\.\d+)?", words) and float(words) > 0:
        raise ValueError(f"{text}: write {words}s or {_minutes(words)}")
    seconds = _with_units(words) if words[-1:] in _UNIT_S else _slurm_form(words)
    if seconds is None:
        raise ValueError(f"{text!r} is no duration: write for instance 30s, 5m, 1.5h, 2d, 12:00:00 or 1-06")
    if seconds <= 0:
        raise ValueError(f"{text}: a duration must be longer than nothing")
    if seconds > _LONGEST_S:
        raise ValueError(f"{text[:40]}: more than 100 years: without a limit, leave the option out")
    return seconds


def _minutes(number: str) -> str:
    """Return the same number of seconds in minutes where that is even, else the number read as minutes."""
    seconds = float(number)
    return f"{seconds / 60:g}m" if seconds >= 60 and seconds % 60 == 0 else f"{number}m"


def _with_units(words: str) -> float | None:
    if not re.fullmatch(rf"(?:{_PARTS})+", words):
        return None
    return sum(float(number) * _UNIT_S[unit] for number, unit in re.findall(_PARTS, words))


def _slurm_form(words: str) -> float | None:
    match = re.fullmatch(_SLURM, words)
    if not match:
        return None
    days, *rest = match.groups()
    numbers = [int(number) for number in rest if number is not None]
    if days is not None:  # D-HH[:MM[:SS]]
        hours, minutes, seconds = (numbers + [0, 0])[:3]
        return int(days) * 86400.0 + hours * 3600 + minutes * 60 + seconds
    if len(numbers) == 2:  # MM:SS
        return numbers[0] * 60.0 + numbers[1]
    return numbers[0] * 3600.0 + numbers[1] * 60 + numbers[2] if len(numbers) == 3 else None


def show(seconds: float) -> str:
    """Return a duration for people, in two units at most: `20 ms`, `4.2 s`, `95 s`, `10 min`, `1 h 20 min`, `2 d 3 h`."""
    if seconds < 0:
        return "-" + show(-seconds)
    if seconds < 0.095:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    if seconds < 119.5:
        return f"{round(seconds)} s"
    if seconds < 600:
        return _two(round(seconds), 60, "min", 1, "s")
    if seconds < 86400:
        return _two(round(seconds / 60) * 60, 3600, "h", 60, "min")
    return _two(round(seconds / 3600) * 3600, 86400, "d", 3600, "h")


def _two(seconds: int, large_s: int, large: str, small_s: int, small: str) -> str:
    first, second = seconds // large_s, seconds % large_s // small_s
    return " ".join(f"{number} {unit}" for number, unit in ((first, large), (second, small)) if number)
