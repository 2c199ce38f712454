"""Durations: every form of Slurm's, units, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptrun import durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("1.5h", 5400),
        ("2d", 172800),
        ("1h30m", 5400),
        ("1:30", 90),
        ("12:00:00", 43200),
        ("1-06", 108000),
        ("1-06:30", 109800),
        ("1-06:30:15", 109815),
        (" 10M ", 600),
    ],
)
def test_forms(text: str, seconds: float) -> None:
    """Units, Slurm's forms with a colon or a day."""
    assert durations.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "5 parsecs", "1:2:3:4", "-5s", "0s", "s", "1-", "nan", "inf", "5,5h", "٣s-", "0"])
def test_what_is_no_duration(text: str) -> None:
    """Everything else is refused with a sentence."""
    with pytest.raises(ValueError, match="duration"):
        durations.parse(text)


def test_a_bare_number_is_refused_with_what_to_write() -> None:
    """Slurm would read minutes, most people seconds: neither is guessed."""
    with pytest.raises(ValueError, match="300: write 300s or 5m"):
        durations.parse("300")


@pytest.mark.parametrize("text", ["UNLIMITED", "infinite", "99999999d", "9" * 400 + "d", "100000000:00:00"])
def test_no_limit_is_said_by_leaving_it_out(text: str) -> None:
    """Slurm's words for none, and what no clock can hold."""
    with pytest.raises(ValueError, match="leave the option out"):
        durations.parse(text)


@given(st.floats(0.001, 1e7))
def test_shown_durations_are_short_and_never_fail(seconds: float) -> None:
    """At most two units, and within 5% of the truth where it is read back."""
    text = durations.show(seconds)
    words = text.split()
    assert len(words) in (2, 4)
    unit = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}
    back = sum(float(number) * unit[name] for number, name in zip(words[::2], words[1::2], strict=True))
    assert abs(back - seconds) <= 0.05 * seconds + 0.06
