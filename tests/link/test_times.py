"""The formulas of the times, each with numbers worked out by hand."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptrun.link.times import (
    decisive_from,
    least_needed,
    longest_interval,
    look_every,
    look_for_last_save,
    measurable,
    next_save_fits,
    slowest,
    times,
)
from ckptrun.words import Save

HOUR = 3600.0


@pytest.mark.parametrize(
    ("limit_s", "margin_s"),
    [(12 * HOUR, 600.0), (HOUR, 360.0), (60.0, 6.0), (30.0, 5.0), (12.0, 4.0), (6.0, 2.0)],
)
def test_margin_with_nothing_measured(limit_s: float, margin_s: float) -> None:
    """Ten per cent of the limit, at most 600 s, at least min(5 s, a third)."""
    assert times(0.0, limit_s, ()).margin_s == pytest.approx(margin_s)


def test_margin_from_a_measured_asked_save() -> None:
    """Twice the slowest asked save and the reserve replace the guess, in both directions."""
    assert times(0.0, 12 * HOUR, (Save(41.0, asked=True),)).margin_s == pytest.approx(2 * 41 + 30)
    assert times(0.0, 12 * HOUR, (Save(400.0, asked=True),)).margin_s == pytest.approx(830)


def test_margin_is_not_under_the_guess_until_an_asked_save_was_measured() -> None:
    """Periodic saves alone do not make the margin smaller than the guess."""
    assert times(0.0, 12 * HOUR, (Save(1.0, asked=False),)).margin_s == pytest.approx(600)
    assert times(0.0, 12 * HOUR, (Save(400.0, asked=False),)).margin_s == pytest.approx(830)


def test_a_cut_save_counts_twice() -> None:
    """A save that was cut counts as twice the time that it had, until one that was asked for after it has been measured."""
    cut = Save(5.0, asked=True, cut=True)
    assert slowest((Save(8.0, asked=True), cut)) == slowest((cut, Save(8.0, asked=False))) == 10.0
    assert slowest((cut, Save(8.0, asked=True))) == 8.0
    assert slowest((cut, Save(2.0, asked=True))) == 5.0, "it is known to have taken longer than it had"
    assert times(0.0, 60.0, (Save(5.7, asked=True, cut=True),)).margin_s == pytest.approx(2 * 11.4 + 3)


def test_how_long_a_save_takes_at_the_least() -> None:
    """The fastest that was asked for is known to be possible: one slow save forbids no ask. One that was cut since then does."""
    slow, fast, seen, cut = Save(40.0, asked=True), Save(2.0, asked=True), Save(1.0, asked=False), Save(30.0, asked=True, cut=True)
    assert [least_needed(saves) for saves in ((), (seen,), (slow,), (slow, seen), (slow, fast))] == [0.0, 1.0, 40.0, 40.0, 2.0]
    assert [least_needed(saves) for saves in ((fast, cut), (cut, fast), (cut,), (seen, cut))] == [30.0, 2.0, 30.0, 30.0]


def test_margin_is_at_most_half_and_says_which_limit_would_do() -> None:
    """A save that does not fit into half of the limit: half is taken, and the limit that would do is named."""
    found = times(0.0, 60.0, (Save(40.0, asked=True),))
    assert found.margin_s == 30.0
    assert found.needed_limit_s is not None
    assert times(0.0, found.needed_limit_s + 0.01, (Save(40.0, asked=True),)).needed_limit_s is None
    assert times(0.0, found.needed_limit_s - 1, (Save(40.0, asked=True),)).needed_limit_s is not None


def test_only_the_last_ten_saves_count() -> None:
    """One slow save long ago does not cost the chain its time for ever."""
    saves = (Save(100.0, asked=True),) + (Save(1.0, asked=True),) * 10
    assert slowest(saves) == 1.0


@pytest.mark.parametrize(
    ("limit_s", "saves", "why"),
    [
        (60.0, (), "10% of the limit, no save measured yet"),
        (12 * HOUR, (), "10% of the limit, at most 10 min, no save measured yet"),
        (12.0, (), "at least 4 s, no save measured yet"),
        (60.0, (Save(0.2, asked=False),), "10% of the limit, no save that was asked for measured yet"),
        (60.0, (Save(12.0, asked=True),), "2 x 12 s, the only save measured, + 3 s"),
        (12 * HOUR, (Save(12.0, asked=True), Save(40.0, asked=False)), "2 x 40 s, the slowest of the last 2 saves, + 30 s"),
        (60.0, (Save(8.0, asked=True), Save(5.0, asked=True, cut=True)), "2 x 10 s, twice what a save had that was cut, + 3 s"),
        (60.0, (Save(5.0, asked=True, cut=True), Save(2.0, asked=True)), "2 x 5 s, what a save had that was cut, + 3 s"),
        (60.0, (Save(40.0, asked=True),), "half of the limit, the most there is; 2 x 40 s, the only save measured, + 3 s is more"),
    ],
)
def test_the_margin_says_where_it_comes_from(limit_s: float, saves: tuple[Save, ...], why: str) -> None:
    """Whoever reads the line at the start can work the margin out."""
    assert times(0.0, limit_s, saves).why == why


@given(
    limit_s=st.floats(0.5, 1e6),
    saves=st.lists(st.builds(Save, st.floats(0, 1e5), st.booleans(), st.booleans()), max_size=12),
    share=st.one_of(st.none(), st.floats(0.001, 0.999)),
)
def test_order_of_the_times(limit_s: float, saves: list[Save], share: float | None) -> None:
    """Start < ask <= TERM <= KILL <= end, whatever was measured or named."""
    found = times(10.0, 10.0 + limit_s, tuple(saves), None if share is None else share * limit_s)
    assert 10.0 <= found.ask_at <= found.term_at <= found.kill_at <= found.end_at
    assert found.margin_s <= max(limit_s / 2, (share or 0) * limit_s) + 1e-9


def test_next_save_fits() -> None:
    """Last save + 1.2 x the longest of the last three intervals + the slowest save must lie before TERM."""
    written = (100.0, 110.0, 150.0, 160.0, 170.0)
    assert longest_interval(written, 0.0) == 40.0
    assert next_save_fits(written, 0.0, 2.0, 170 + 48 + 2 + 0.1)
    assert not next_save_fits(written, 0.0, 2.0, 170 + 48 + 2)
    assert longest_interval((30.0,), 10.0) == 20.0
    assert not next_save_fits((), 0.0, 0.0, 1e9)


def test_looks_are_rare_while_nothing_depends_on_them() -> None:
    """One look in min(10 s, L/100), at most four a second."""
    assert (look_every(12 * HOUR), look_every(100.0), look_every(10.0), look_every(None)) == (10.0, 1.0, 0.25, 10.0)


@given(
    gaps=st.lists(st.floats(0.1, 1e4), max_size=8),
    slowest_s=st.floats(0, 1e3),
    left_s=st.floats(1, 1e5),
    wait_s=st.floats(0, 1e5),
)
def test_from_when_on_a_save_would_be_the_last(gaps: list[float], slowest_s: float, left_s: float, wait_s: float) -> None:
    """No save that comes earlier is the last that fits: until then looks may be rare."""
    written = tuple(itertools.accumulate(gaps))
    term_at, now = sum(gaps) + left_s, sum(gaps) + wait_s
    if now < decisive_from(written, 0.0, slowest_s, term_at) - 1e-6:
        assert next_save_fits((*written, now), 0.0, slowest_s, term_at)


def test_the_last_save_is_found_within_a_hundredth_of_the_interval() -> None:
    """Saves every 200 s: a look in 2 s; no look comes more often than four times a second."""
    assert look_for_last_save((200.0, 400.0), 0.0, 450.0) == 2.0
    assert look_for_last_save((200.0, 400.0), 0.0, 900.0) == 5.0
    assert look_for_last_save((), 0.0, 10.0) == 0.25


def test_a_save_is_waited_for_once_the_cadence_is_known() -> None:
    """After two saves, and for three of them; then it is too fast to be seen."""
    assert measurable((100.0,)) is None
    assert measurable((100.0, 200.0)) == (290.0, 320.0)
    assert measurable((100.0, 200.0, 300.0, 400.0, 500.0)) is None
    assert measurable((3600.0, 7200.0)) == (7200.0 + 3540, 7200.0 + 3720)
