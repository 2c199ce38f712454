"""Who is asked: trees in, targets out."""

from __future__ import annotations

import pytest

from ckptrun.link.target import INT, TERM, USR1, USR2, Hearing, audience, told_by_file
from ckptrun.words import Process


def process(pid: int, ppid: int, argv: str, *caught: int) -> Process:
    """Return one process of a tree."""
    return Process(pid, ppid, tuple(argv.split()), frozenset(caught), frozenset())


TREES = [
    ("direct", [process(1, 0, "python t.py", INT, USR1)], {1: USR1}, Hearing.HEARS),
    ("first of several", [process(1, 0, "python t.py", INT, TERM, USR2)], {1: USR2}, Hearing.HEARS),
    ("only INT", [process(1, 0, "python t.py", INT)], {1: INT}, Hearing.ONLY_INT),
    ("nothing", [process(1, 0, "./a.out")], {}, Hearing.DEAF),
    (
        "behind a shell",
        [process(1, 0, "bash -c x", INT), process(2, 1, "python t.py", INT, USR1)],
        {2: USR1},
        Hearing.HEARS,
    ),
    (
        "behind env, timeout and sh",
        [process(1, 0, "/usr/bin/timeout 9 x", TERM), process(2, 1, "sh t.sh"), process(3, 2, "python t.py", TERM)],
        {3: TERM},
        Hearing.HEARS,
    ),
    (
        "helpers are left alone",
        [process(1, 0, "python t.py", USR1), process(2, 1, "python t.py", USR1), process(3, 2, "wandb-core", USR1)],
        {1: USR1},
        Hearing.HEARS,
    ),
    (
        "two branches",
        [process(1, 0, "bash", INT), process(2, 1, "python a.py", USR1), process(3, 1, "python b.py", TERM)],
        {2: USR1, 3: TERM},
        Hearing.HEARS,
    ),
    (
        "a shell script with a trap",
        [process(1, 0, "bash t.sh", USR1), process(2, 1, "sleep 1")],
        {1: USR1},
        Hearing.HEARS,
    ),
    ("an orphan of the tree", [process(1, 0, "sh t.sh"), process(7, 0, "python t.py", USR2)], {7: USR2}, Hearing.HEARS),
    ("a login shell", [process(1, 0, "-bash", INT), process(2, 1, "python t.py", USR1)], {2: USR1}, Hearing.HEARS),
]


@pytest.mark.parametrize(("tree", "asked", "hearing"), [row[1:] for row in TREES], ids=[row[0] for row in TREES])
def test_auto(tree: list[Process], asked: dict[int, int], hearing: Hearing) -> None:
    """The first process on each branch that is no launcher, with the first signal that it catches."""
    found = audience(tuple(tree), 1, None)
    assert {target.pid: target.signal for target in found.targets} == asked
    assert found.hearing is hearing


def test_a_named_signal_is_sent_only_to_one_that_catches_it() -> None:
    """A signal that nobody catches would kill: it is not sent."""
    deaf = (process(1, 0, "python t.py", INT),)
    assert audience(deaf, 1, USR1).targets == ()
    assert audience(deaf, 1, INT).hearing is Hearing.HEARS


def test_the_next_candidate_is_another_signal_that_is_caught() -> None:
    """The second try uses the next of USR1, USR2, TERM, and INT never follows one that was heard."""
    tree = (process(1, 0, "python t.py", INT, USR1, TERM),)
    assert [target.signal for target in audience(tree, 1, None, candidate=1).targets] == [TERM]
    assert audience((process(1, 0, "python t.py", INT, USR1),), 1, None, candidate=1).targets == ()


def test_one_that_is_told_by_file_is_spared_int() -> None:
    """A training that looks for asks hears, whatever it catches; a signal that asks is sent all the same, INT is not."""
    for caught, asked in (((), []), ((INT,), []), ((INT, USR1), [USR1])):
        found = told_by_file(audience((process(1, 0, "python t.py", *caught),), 1, None))
        assert ([target.signal for target in found.targets], found.hearing, found.trainings) == (asked, Hearing.HEARS, (1,))
