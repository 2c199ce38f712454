"""The judgement of a rehearsal, from evidence alone."""

from __future__ import annotations

import pytest

from ckptrun.link.rehearsal import First, Kept, Second, Told, judge
from ckptrun.link.target import Hearing
from ckptrun.words import Status

DONE, FAILED, BY_INT = Status(0, None), Status(2, None), Status(None, 2)
KEPT = Kept("ck/step-40.pt", "ck/step-40.pt (whole, 1.1 GB)", 40)
USR1 = Told(7, "SIGUSR1", "python catches it")
INT = Told(7, "SIGINT", "python catches it")
FIRST = First(DONE, 31.0, 30.0, told=(USR1,), hearing=Hearing.HEARS, ended_s=0.5, kept=KEPT, on_ask=True, save_s=0.4, margin_s=31.0)
FIRST = FIRST._replace(steps=(10, 20, 30, 40), saves=4)
SECOND = Second(KEPT, DONE, 31.0, True, (KEPT.name,), (50, 60), 2)


def goods(first: First, second: Second | None = SECOND) -> list[bool]:
    """Return which answers are good."""
    return [line.good for line in judge(first, second)]


def resumed(first: First = FIRST, second: Second = SECOND) -> tuple[bool, str]:
    """Return the third answer: whether it is good, and as it is printed."""
    line = judge(first, second)[2]
    return line.good, line.sentence


def test_all_good() -> None:
    """Who heard what, which file and how long it took, the margin that follows, how far it went on. Nothing to do next."""
    assert [line.sentence for line in judge(FIRST, SECOND)] == [
        "heard: yes, SIGUSR1 to 7 (python catches it); it ended 0.5 s after the ask (exit code 0)",
        "saved: yes, ck/step-40.pt (whole, 1.1 GB), 0.4 s after the ask; a margin of 31 s follows from that",
        "resumed: yes, its second start opened ck/step-40.pt and went on to step 60",
    ]


def test_what_is_not_good_says_what_to_do() -> None:
    """Every answer that is not good has advice, except for a start that was not tried, whose cause is in the line before."""
    bad = [
        FIRST._replace(asked=False, status=FAILED),
        FIRST._replace(asked=False),
        FIRST._replace(stopped=True, on_ask=False, kept=None),
        FIRST._replace(on_ask=False),
        FIRST._replace(hearing=Hearing.ONLY_INT, told=(INT,), on_ask=False, kept=None),
        FIRST._replace(hearing=Hearing.DEAF, told=(), on_ask=False, kept=None, stopped=True),
        FIRST._replace(sees=False, kept=None, on_ask=False),
        FIRST._replace(sees=False, kept=None, on_ask=False, hearing=Hearing.ONLY_INT, told=(INT,)),
        FIRST._replace(truncated=("ck/step-50.pt", "empty")),
        FIRST._replace(truncated=("ck/step-50.pt", "empty"), stopped=True, on_ask=False),
        FIRST._replace(begun="ck/step-50.pt.tmp", stopped=True, on_ask=False),
    ]
    for first in bad:
        lines = judge(first)
        assert not all(line.good for line in lines)
        for line in lines:
            assert line.good or line.answer == "not tried" or line.advice, line.sentence


@pytest.mark.parametrize(
    ("first", "heard_and_saved"),
    [
        (FIRST, [True, True]),
        # It saved and went on: the ask was heard, and the link is ended by us.
        (FIRST._replace(stopped=True), [True, True]),
        # Neither ended nor saved: that handler is for something else.
        (FIRST._replace(stopped=True, on_ask=False), [False, False]),
        # It ended on the signal without saving: what came after the last save is lost.
        (FIRST._replace(on_ask=False), [True, False]),
        # The guide's pickle program, its PyTorch program, a busy loop.
        (FIRST._replace(hearing=Hearing.ONLY_INT, told=(INT,)), [True, True]),
        (FIRST._replace(hearing=Hearing.ONLY_INT, told=(INT,), on_ask=False, status=BY_INT), [True, True]),
        (FIRST._replace(hearing=Hearing.ONLY_INT, told=(INT,), on_ask=False, kept=None, status=BY_INT), [False, False]),
        # It cannot be told, and saves by itself, or never.
        (FIRST._replace(hearing=Hearing.DEAF, told=(), on_ask=False, stopped=True), [True, True]),
        (FIRST._replace(hearing=Hearing.DEAF, told=(), on_ask=False, stopped=True, kept=None), [False, False]),
        # Its save was cut by the end of its time, and was not.
        (FIRST._replace(stopped=True, on_ask=False, begun="ck/x.tmp"), [True, False]),
        (FIRST._replace(truncated=("ck/step-50.pt", "empty")), [True, False]),
        # A temporary that is left beside a whole checkpoint is no fault.
        (FIRST._replace(begun="ck/x.tmp"), [True, True]),
        # Nobody can see.
        (FIRST._replace(sees=False, kept=None, on_ask=False), [True, False]),
    ],
)
def test_heard_and_saved(first: First, heard_and_saved: list[bool]) -> None:
    """Heard: a signal reached it and it ended or saved, or it needs none. Saved: what was asked for stands, whole."""
    assert goods(first)[:2] == heard_and_saved


def test_the_end_before_the_ask_is_the_only_answer() -> None:
    """Its own failure is to be mended first; one that was over needs a shorter rehearsal."""
    (failed,) = judge(FIRST._replace(asked=False, status=FAILED, seconds=2.0))
    assert "ended by itself after 2 s with exit code 2, before the ask" in failed.sentence
    (over,) = judge(FIRST._replace(asked=False))
    assert over.advice == "rehearse for less than it runs"


def test_many_processes_are_counted_not_listed() -> None:
    """Eight ranks: three are named."""
    told = tuple(Told(pid, "SIGUSR1", "python catches it") for pid in range(8))
    assert "SIGUSR1 to 2 (python catches it) and 5 more" in judge(FIRST._replace(told=told), SECOND)[0].text


NO_STEP = Kept("model.pt", "model.pt (whole, 1 B)")


@pytest.mark.parametrize(
    ("first", "second", "good", "words"),
    [
        (FIRST, SECOND._replace(opened=()), False, "never opened ck/step-40.pt"),
        # A name that grows with the clock is no proof: it never opened the file.
        (FIRST, SECOND._replace(opened=(), steps=(203015,)), False, "never opened"),
        (FIRST, SECOND._replace(steps=(10, 20)), False, "its next checkpoint is step 10, after step 40: it began anew"),
        (FIRST, SECOND._replace(steps=()), True, "how far it was then, only its own output tells"),
        # The same step again: the epoch in which it was asked, or a start from the beginning that has only this one.
        (FIRST, SECOND._replace(steps=(40, 50)), True, "went on to step 50"),
        (FIRST._replace(steps=(40,), saves=1), SECOND._replace(steps=(40,), saves=1), False, "saved step 40 again"),
        (FIRST._replace(steps=(40,), saves=1, from_step=20), SECOND._replace(steps=(40,), saves=1), True, "step 40"),
        # One save a start: a start from the beginning comes about as far in the same time, one that resumes twice as far.
        (FIRST._replace(steps=(40,), saves=1), SECOND._replace(steps=(43,), saves=1), False, "from step 40 to step 43 only"),
        (FIRST._replace(steps=(40,), saves=1), SECOND._replace(steps=(79,), saves=1), True, "went on to step 79"),
        (FIRST, SECOND._replace(steps=(43,), saves=1), True, "went on to step 43"),
        # Numbers that are no steps: slots, a file that is overwritten, none.
        (FIRST._replace(slots=True), SECOND._replace(steps=(10,)), True, "opened"),
        (FIRST, SECOND._replace(steps=(10,), slots=True), True, "opened"),
        (FIRST._replace(fixed=True, steps=(40,)), SECOND._replace(steps=(40,)), True, "opened"),
        (FIRST._replace(kept=NO_STEP, steps=()), Second(NO_STEP, DONE, 1.0, True, ("model.pt",)), True, "opened model.pt"),
        # It opened another one: say so, and the steps decide.
        (FIRST, SECOND._replace(opened=("ck/last.pt",)), True, "opened ck/last.pt (the newest is ck/step-40.pt)"),
        # Not to be seen here: steps may tell.
        (FIRST, SECOND._replace(opened=None), True, "was given ck/step-40.pt and went on to step 60"),
        (FIRST, SECOND._replace(opened=None, steps=()), False, "cannot be seen here"),
        # It failed by itself, whatever it opened; it ended by itself with 0; it was killed by our TERM.
        (FIRST, SECOND._replace(asked=False, status=FAILED), False, "failed by itself after 31 s with exit code 2"),
        (FIRST, SECOND._replace(asked=False), True, "went on"),
        (FIRST, SECOND._replace(status=Status(None, 15)), True, "went on"),
    ],
)
def test_resumed(first: First, second: Second, good: bool, words: str) -> None:
    """It opened the checkpoint, and where names have steps its next one is later."""
    found, text = resumed(first, second)
    assert found is good, text
    assert words in text


def test_nothing_is_tried_where_nothing_stands() -> None:
    """Without a second start the third answer is not good."""
    assert goods(FIRST._replace(kept=None, on_ask=False), None)[2] is False
