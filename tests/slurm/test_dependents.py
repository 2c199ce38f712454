"""Who waits for a link, in the words of Slurm 22.05.8's `%E`, and what he is to wait for then."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptrun.slurm import dependents, parse
from ckptrun.slurm.dependents import Move, Ours
from ckptrun.slurm.parse import JobId

JOB = Ours(JobId(100), 100)
TASK = Ours(JobId(77, 3), 94)
NEXT, NEXT_TASK = JobId(200), JobId(200, 3)
CHAIN = "/home/state/chains/c/links"


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("afterok:100(unfulfilled)", "afterok:200"),
        ("afternotok:100(unfulfilled)", "afternotok:200"),
        ("afterany:100(unfulfilled)", "afterany:200"),
        ("aftercorr:100(unfulfilled)", "aftercorr:200"),
        ("afterok:100(unfulfilled),afterok:101(unfulfilled)", "afterok:200,afterok:101"),
        ("afterok:100:101", "afterok:200,afterok:101"),
        ("afterany:101(unfulfilled),afterok:100(unfulfilled)", "afterany:101,afterok:200"),
        ("afterok:100(unfulfilled)?afterany:101(unfulfilled)", "afterok:200?afterany:101"),
        ("afterok:100(unfulfilled),after:371+5(unfulfilled)", "afterok:200,after:371+5"),
        ("afterok:100(unfulfilled),after:100+5(unfulfilled)", "afterok:200,after:100+5"),
        ("singleton(unfulfilled),afterok:100(unfulfilled)", "singleton,afterok:200"),
        ("afterok:373_*(unfulfilled),afterok:100(unfulfilled)", "afterok:373_*,afterok:200"),
        ("afterany:373_2(unfulfilled),afterok:100(unfulfilled)", "afterany:373_2,afterok:200"),
        ("afterok:100(unfulfilled),afterok:200(unfulfilled)", "afterok:200"),
        # Its other reasons to wait have come true or cannot any more, and an update would make a failed one that is forgotten true.
        ("afterok:100(failed)", "afterok:200"),
        ("afterok:99(failed)?afterok:100(unfulfilled)", "afterok:200"),
        ("afterok:99(failed),afterok:100(unfulfilled)", None),
        # Whole numbers, and only conditions on an end.
        ("afterok:1001(unfulfilled)", None),
        ("afterok:10(unfulfilled)", None),
        ("afterok:100_1(unfulfilled)", None),
        ("afterok:100_*(unfulfilled)", None),
        ("after:100(unfulfilled)", None),
        ("expand:100", None),
        ("singleton(unfulfilled)", None),
        ("something:new=100", None),
        ("(null)", None),
        ("", None),
    ],
)
def test_who_waits_for_a_job(shown: str, expected: str | None) -> None:
    """Its id is replaced by the successor's; every other term goes back as it was; whoever does not wait for it is left alone."""
    move = dependents.moved("7", shown, JOB, NEXT)
    assert (move.expression if move else None) == expected


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("afterok:77_3(unfulfilled)", "afterok:200_3"),
        ("afterok:94(unfulfilled)", "afterok:200_3"),
        ("afterok:77_*(unfulfilled)", "afterok:77_*,afterok:200_3"),
        ("afterany:77_*(unfulfilled),afterok:5(unfulfilled)", "afterany:77_*,afterany:200_3,afterok:5"),
        ("afterok:77_*(unfulfilled),afterok:201_1(unfulfilled)", "afterok:77_*,afterok:200_3,afterok:201_1"),
        ("afterok:77_*(unfulfilled),afterok:200_3(unfulfilled)", None),
        ("afterok:201_1(unfulfilled),afterok:200_3(unfulfilled),afterok:77_*(unfulfilled)", None),
        ("afterok:77_33(unfulfilled)", None),
        ("afterok:77_1(unfulfilled)", None),
        ("after:77_*(unfulfilled)", None),
    ],
)
def test_who_waits_for_an_array_task(shown: str, expected: str | None) -> None:
    """Named as a task or by its own id it is replaced; the whole array stays, and its successor is added, once."""
    move = dependents.moved("7", shown, TASK, NEXT_TASK)
    assert (move.expression if move else None) == expected


@pytest.mark.parametrize("shown", ["afterok:77_*(unfulfilled)?afterok:5(unfulfilled)", "aftercorr:77_*(unfulfilled)"])
def test_what_slurm_has_no_words_for(shown: str) -> None:
    """`(the array and the successor) or another`, and `each task after the same one`: said, with the reason, and not attempted."""
    move = dependents.moved("7", shown, TASK, NEXT_TASK)
    assert move is not None and not move.expression and move.why
    said = dependents.left_behind(move, TASK.job, NEXT_TASK)
    assert said.endswith("type: scontrol update JobId=7 Dependency=afterok:200_3")


def test_a_command_that_is_to_be_typed_is_quoted() -> None:
    """A shell that reads it leaves brackets and question marks as they are."""
    said = dependents.left_behind(Move("9_[1-2]", "afterok:200?afterany:5", "denied"), JOB.job, NEXT)
    assert said.endswith("type: scontrol update 'JobId=9_[1-2]' 'Dependency=afterok:200?afterany:5'")


def test_who_of_the_queue_is_moved() -> None:
    """Waiting jobs of any kind; not our own chain's, not those that run or are over; arrays by their waiting tasks."""
    lines = parse.queue(
        "100|RUNNING|None||/home/job.sh\n"
        f"200|PENDING|Dependency|afterany:100(unfulfilled)|{CHAIN}/2/script 1\n"
        "201|PENDING|Dependency|afterok:100(unfulfilled)|/home/report.sh a|b\n"
        "202|PENDING|Dependency|afterok:100(unfulfilled)|(null)\n"
        f"203|PENDING|JobHeldUser|afterok:100(unfulfilled)|{CHAIN}x/2/script\n"
        "204_[1-4,9%2]|PENDING|Dependency|afterok:100(unfulfilled)|/home/a.sh\n"
        "205_[1-4,...]|PENDING|Dependency|afterok:100(unfulfilled)|/home/a.sh\n"
        "206_[7]|PENDING|Dependency|afterok:100(unfulfilled)|/home/a.sh\n"
        "207|CANCELLED|Dependency|afterok:100(unfulfilled)|/home/a.sh\n"
        "208|PENDING|DependencyNeverSatisfied|afterok:100(failed)|/home/a.sh\n"
        "209|PENDING|Dependency|afterok:99(unfulfilled)|/home/a.sh\n"
    )
    found = dependents.moves(lines, JOB, NEXT, CHAIN)
    assert [move.job for move in found] == ["201", "202", "203", "204_[1-4,9]", "205", "206_7", "208"]
    assert {move.expression for move in found} == {"afterok:200"}


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("afterok:200(unfulfilled)", ("7",)),
        ("afterany:5(unfulfilled),afternotok:200(unfulfilled)", ("7",)),
        ("afterok:200(unfulfilled)?afterok:5(failed)", ("7",)),
        ("afterok:200(unfulfilled),afterok:5(failed)", ()),
        ("after:200(unfulfilled)", ()),
        ("afterok:100(unfulfilled)", ()),
    ],
)
def test_who_waits_for_a_successor(shown: str, expected: tuple[str, ...]) -> None:
    """Somebody who may still start once it has ended; that is what it must not be cancelled for."""
    lines = parse.queue(f"7|PENDING|Dependency|{shown}|/home/a.sh\n8|PENDING|Dependency|{shown}|{CHAIN}/3/script\n")
    assert dependents.waited_for(lines, NEXT, CHAIN) == expected


JOBS = st.integers(300, 999_999).map(str)
IDS = st.one_of(JOBS, JOBS.map(lambda job: f"{job}_*"), st.builds(lambda job, task: f"{job}_{task}", JOBS, st.integers(0, 99)))
KINDS = st.sampled_from(["afterok", "afternotok", "afterany", "aftercorr", "afterburstbuffer", "expand"])
OTHERS = st.one_of(
    st.builds(lambda kind, job: f"{kind}:{job}", KINDS, IDS),
    st.builds(lambda job, minutes: f"after:{job}+{minutes}", IDS, st.integers(1, 99)),
    st.just("singleton"),
)


@given(others=st.lists(OTHERS, unique=True, max_size=6), place=st.integers(0, 6), separator=st.sampled_from(",?"))
def test_what_does_not_concern_us_comes_back(others: list[str], place: int, separator: str) -> None:
    """Whatever else a job waits for, in whichever order, is handed back as it was; without us nothing is changed at all."""
    assert dependents.moved("7", separator.join(f"{one}(unfulfilled)" for one in others), JOB, NEXT) is None
    words = [*others[:place], "afterok:100", *others[place:]]
    move = dependents.moved("7", separator.join(f"{one}(unfulfilled)" for one in words), JOB, NEXT)
    assert move is not None
    assert move.expression == separator.join([*others[:place], "afterok:200", *others[place:]])
    assert dependents.moved("7", move.expression, JOB, NEXT) is None
