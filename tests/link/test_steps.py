"""The tasks of srun in the tree: who stands for whom, and what can be handed on without killing anybody."""

from __future__ import annotations

from ckptrun.link.steps import INT, TERM, USR1, USR2, Seen, Step, graft
from ckptrun.link.target import Hearing, audience
from ckptrun.words import Process

TREE = ((1, 0, "srun -N2 x"), (2, 1, "srun -N2 x"))


def process(pid: int, ppid: int, argv: str, *caught: int) -> Process:
    """Return one process."""
    return Process(pid, ppid, tuple(argv.split()), frozenset(caught), frozenset())


def step(*tasks: Process, whole: bool = False, port: int | None = 7, number: int = 0) -> Step:
    """Return one step of job 5 on this node."""
    return Step(f"5.{number}", whole, port, tasks)


def seen(*steps: Step, wanted: int | None = None, all_hear: bool = False, ports: tuple[int, ...] = (7,)) -> Seen:
    """Return the tree of one srun with these steps; its inner process holds the sockets."""
    processes = [process(*one) for one in TREE]
    return graft(processes, steps, {2: frozenset(ports)}, wanted, all_hear=all_hear)


def asked(found: Seen, wanted: int | None = None) -> list[tuple[int, int]]:
    """Return who is asked with what."""
    return [(target.pid, target.signal) for target in audience(found.processes, 1, wanted).targets]


def test_a_step_on_this_node_is_asked_directly() -> None:
    """The trainings below its tasks, past launchers; srun stands for nobody, and no TERM may reach it."""
    tasks = (process(10, 9, "bash -c x", INT), process(11, 10, "python t.py", INT, USR1), process(12, 11, "python t.py", USR1))
    found = seen(step(*tasks, whole=True))
    assert asked(found) == [(11, USR1)]
    assert (found.through, found.sruns, found.local) == ({}, {1, 2}, {10, 11, 12})


def test_tasks_on_other_nodes_are_told_through_srun() -> None:
    """The first of USR1, USR2, TERM that this node's tasks catch, else INT: to the outer srun."""
    for caught, number in (((INT, USR1, TERM), USR1), ((INT, USR2), USR2), ((INT, TERM), TERM), ((INT,), INT)):
        found = seen(step(process(10, 9, "python t.py", *caught)))
        assert asked(found) == [(1, number)]
        assert found.through == {1: "5.0"}


def test_nothing_is_handed_on_that_could_kill_a_task() -> None:
    """A launcher at the head of a task, one task of two that does not catch it, or a helper where all processes hear."""
    launcher = step(process(10, 9, "bash -c x", USR1), process(11, 10, "python t.py", USR1))
    half = step(process(10, 9, "python t.py", USR1), process(11, 9, "python t.py"))
    assert asked(seen(launcher)) == []
    assert asked(seen(half)) == []
    helper = step(process(10, 9, "python t.py", USR1), process(11, 10, "sleep 9"))
    assert asked(seen(helper)) == [(1, USR1)]
    assert asked(seen(helper, all_hear=True)) == []
    assert seen(launcher).through == {1: "5.0"}, "TERM still reaches it through the controller"


def test_an_srun_about_whose_tasks_nothing_is_known() -> None:
    """It is signalled only with what the user named, and never with TERM, at which it would kill them."""
    assert asked(seen()) == []
    assert asked(seen(wanted=USR2), USR2) == [(1, USR2)]
    assert asked(seen(wanted=TERM), TERM) == []
    assert audience(seen().processes, 1, None).hearing is Hearing.DEAF


def test_a_step_of_another_srun_is_left_alone() -> None:
    """A person who looks into the job with an srun of his own is no part of our tree, not even when the time is over."""
    own = step(process(10, 9, "python t.py", USR1), whole=True)
    persons = step(process(20, 19, "bash -l", USR1, TERM), whole=True, port=99, number=1)
    found = seen(own, persons)
    assert asked(found) == [(10, USR1)]
    assert found.local == {10}


def test_two_steps_side_by_side() -> None:
    """Each belongs to the srun that listens where its tasks were told to report."""
    processes = [process(1, 0, "bash job"), process(2, 1, "srun a"), process(3, 1, "srun b")]
    steps = [step(process(10, 9, "python a.py", USR1), port=7), step(process(20, 19, "python b.py", USR2), port=8, number=1)]
    found = graft(processes, steps, {2: frozenset({7}), 3: frozenset({8})}, None, all_hear=False)
    assert sorted(asked(found)) == [(2, USR1), (3, USR2)]
    assert found.through == {2: "5.0", 3: "5.1"}


def test_without_ports_the_only_srun_has_the_step() -> None:
    """An old Slurm does not say where srun listens: with one srun there is no doubt, with two nobody is asked."""
    one = step(process(10, 9, "python a.py", USR1), port=None)
    assert asked(seen(one, ports=())) == [(1, USR1)]
    two = [process(1, 0, "bash job"), process(2, 1, "srun a"), process(3, 1, "srun b")]
    assert graft(two, [one], {}, None, all_hear=False).through == {}
