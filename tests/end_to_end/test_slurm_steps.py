"""`srun`: its tasks are asked and nobody else, on one node and on several, with relays and without."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.end_to_end.harness import CHILDREN, PROGRAMS
from tests.end_to_end.jobs import Jobs
from tests.end_to_end.programs import EXPORT_UNBUFFERED
from tests.end_to_end.test_slurm_guide import over_jobs

LONG = "--time-limit 4m"
TWO_NODES = ("--nodes=2", "--ntasks=2", "--ntasks-per-node=1")


def ranked(variable: str, steps: int | str, seconds: float, *words: str, hear: str = "USR1") -> str:
    """Return the command line of a training that counts in the folder `ck-<task>`."""
    return f"python {CHILDREN}/ranked.py {variable} ck {steps} {seconds} --hear {hear} {' '.join(words)}".rstrip()


def checkpoints(tasks: int) -> str:
    """Return the options that name the folders of so many tasks."""
    return " ".join(f"--checkpoint ck-{task}" for task in range(tasks))


def three_links(jobs: Jobs, command: str, tasks: int, *options: str) -> None:
    """Run tasks that count to `@goal` in three jobs; the first two are told when all tasks hear, however long that takes.

    Each task counts each step once, and all of the jobs are COMPLETED.
    """
    jobs.run("tee", "goal", input="100000")
    job = jobs.submit(jobs.script(command, *options))
    for link in (1, 2):
        jobs.until(lambda link=link: len(re.findall(r"^from \d+ with", jobs.log(), re.MULTILINE)) == link * tasks or None)
        jobs.until_line("^step ")
        goal = max(jobs.steps()) + 20
        jobs.run("tee", "goal", input=str(goal if link == 2 else 100_000))
        job = jobs.go_on(job)
    assert complete(jobs) == 3
    counted = Counter(jobs.steps())  # some may have come further than the goal before they were told
    assert all(counted[step] == tasks for step in range(1, goal + 1)) and max(counted.values()) == tasks, counted


def complete(jobs: Jobs, least: int = 3) -> int:
    """Wait for the end of a chain that must be complete after at least so many jobs, all of them COMPLETED; return how many."""
    outcomes = jobs.until_over()
    assert outcomes == ["continued"] * (len(outcomes) - 1) + ["complete"], jobs.story()
    assert len(outcomes) >= least, jobs.story()
    assert [jobs.state_of(job) for job in jobs.jobs()] == ["COMPLETED"] * len(outcomes), jobs.story()
    assert len(list((jobs.state / "chains").iterdir())) == 1
    return len(outcomes)


def asked(jobs: Jobs) -> list[list[object]]:
    """Return whom each ask of the leaders was delivered to: one that meets a training on its way out is delivered to nobody."""
    return [event["delivered"] for event in jobs.events("asked") if event["delivered"]]


def test_pickle_program_behind_srun(jobs: Jobs) -> None:
    """The guide's counter, which saves on INT only, behind a bare srun: each number once, over three jobs.

    In eleven seconds one save of its own fits, after five of them, and no second: as many are left for the save that is asked for.
    """
    shutil.copy(PROGRAMS / "guide_pickle.py", jobs.lab.home / "guide_pickle.py")
    command = f"srun python {jobs.lab.home}/guide_pickle.py"
    jobs.submit(jobs.script(f"exec ckptrun --time-limit 11s --checkpoint checkpoint.pkl --max-links 3 {command}"))
    assert jobs.until_over() == ["continued", "continued", "stopped"]
    numbers = [int(number) for number in re.findall(r"Current counter value: (\d+)", jobs.log())]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 3


@pytest.mark.framework(1)
def test_one_that_cannot_be_told_on_two_nodes(jobs: Jobs) -> None:
    """The guide's PyTorch program on two nodes: ended right after a save, by INT through srun; nothing is skipped."""
    training = f"mkdir -p $SLURM_PROCID && cd $SLURM_PROCID && exec python {PROGRAMS}/guide_pytorch.py"
    before = f"{EXPORT_UNBUFFERED}export PYTHONPATH={PROGRAMS}/stand_in STAND_IN_SECONDS_AN_ITEM=0.0004 OMP_NUM_THREADS=1\n"
    folders = "--checkpoint 0/checkpoints --checkpoint 1/checkpoints"
    found = over_jobs(jobs, 3, 20.0, f"srun bash -c '{training}'", before, folders, TWO_NODES)
    epochs = [int(number) for number in re.findall(r"Epoch (\d+):", found.log())]
    assert set(epochs) == set(range(20)), "skipped"
    # Two trainings that save on their own do not save at the same moment: what one was in the middle of is done again.
    assert len(epochs) <= 40 + len(found.jobs()), f"repeated: {epochs}"


def test_tasks_on_two_nodes_are_told_through_srun(jobs: Jobs) -> None:
    """USR1 to srun reaches every task on both nodes, each step is counted once, and no task is killed."""
    training = ranked("SLURM_PROCID", "@goal", 0.1)
    three_links(jobs, f"exec ckptrun {checkpoints(2)} {LONG} srun {training}", 2, *TWO_NODES)
    assert jobs.log().count("heard 10") == 4
    assert len(asked(jobs)) == 2 and all("handed on to the tasks of step" in str(targets) for targets in asked(jobs))


def test_term_reaches_tasks_on_two_nodes_through_the_controller(jobs: Jobs) -> None:
    """A training that waits for TERM alone: srun would kill its tasks at one, so the controller delivers it.

    It is sent once a link. On a busy machine Slurm's daemons are seen to deliver it to a task twice.
    """
    training = ranked("SLURM_PROCID", "@goal", 0.1, hear="TERM")
    three_links(jobs, f"exec ckptrun {checkpoints(2)} {LONG} srun {training}", 2, *TWO_NODES)
    assert 4 <= jobs.log().count("heard 15") <= 8
    assert len(asked(jobs)) == 2


def test_two_steps_side_by_side(jobs: Jobs) -> None:
    """Both trainings are asked; a step in which a person looks into the same job is not, and lives on."""
    first, second = (ranked("TASK", "@goal", 0.1, "--only-asked", "--save", "2") for _ in range(2))
    jobs.run("tee", "goal", input="100000")
    small = "srun -n1 --exact --mem=500"
    steps = f"TASK=0 {small} {first} & first=$!; TASK=1 {small} {second} & wait $first && wait $!"
    job = jobs.submit(jobs.script(f"exec ckptrun {checkpoints(2)} {LONG} bash -c '{steps}'", "--ntasks=2"))
    jobs.run("mkfifo", "pipe")
    jobs.until_line(r"^step 2$(.|\n)*^step 2$")
    look = "trap 'echo signalled' USR1 USR2 TERM INT; exec 3<>pipe; touch looking; read -r word <&3; echo looked, $word"
    words = ("srun", "-Q", f"--jobid={job}", "--overlap", "-n1", "--mem=100", "bash", "-c", look)
    with ThreadPoolExecutor(1) as beside:
        looking = beside.submit(jobs.run, *words, check=False)
        jobs.until(lambda: (jobs.folder / "looking").exists() or None)
        jobs.run("scancel", "-b", "-s", "USR1", job)
        jobs.until_line("heard 10(.|\n)*heard 10")  # the saves take two seconds more
        goal = max(jobs.steps()) + 5
        jobs.run("tee", "goal", input=str(goal))
        jobs.run("tee", "pipe", input="over\n")
        assert looking.result() == "looked, over\n"
    complete(jobs, least=2)
    assert sorted(jobs.steps()) == sorted([*range(1, goal + 1)] * 2)


def test_relays_on_two_nodes(jobs: Jobs) -> None:
    """`srun ckptrun ...` on two nodes behind a shell that would die of a signal: each relay asks on its own node."""
    training = f"bash -c '{ranked('SLURM_PROCID', '@goal', 0.1)}; exit $?'"
    three_links(jobs, f"exec ckptrun {checkpoints(2)} {LONG} srun ckptrun {training}", 2, *TWO_NODES)
    assert jobs.log().count("heard 10") == 4
    assert "task 1 on n2: " in jobs.log()


def test_a_step_that_ends_early_on_one_node(jobs: Jobs) -> None:
    """One task has nothing to do and ends with 0: the chain goes on until the other one is done."""
    training = f"sh -c 'test $SLURM_PROCID = 1 && exit 0; exec {ranked('SLURM_PROCID', '@goal', 0.1)}'"
    three_links(jobs, f"exec ckptrun --checkpoint ck-0 {LONG} srun ckptrun {training}", 1, *TWO_NODES)


def test_six_tasks_that_are_all_ckptrun(jobs: Jobs) -> None:
    """`srun -n6 ckptrun ...` without an outer one: one leads, five relay, and none ends before it is decided what follows."""
    roomy = "--time-limit 54s --margin 40s"  # twelve Pythons are to start in it, on a machine that has other things to do
    command = f"srun -n6 ckptrun {checkpoints(6)} {roomy} --resume-flag --again {ranked('SLURM_PROCID', 24, 1.2)}"
    jobs.submit(jobs.script(command, "--nodes=2", "--ntasks=6"))
    complete(jobs)
    assert sorted(jobs.steps()) == sorted([*range(1, 25)] * 6)
    assert jobs.log().count("heard 10") >= 6  # the first time all of them; later some may have ended by themselves
    words = re.findall(r"^from \d+ with (.*)$", jobs.log(), re.MULTILINE)
    assert 1 <= words.count("[]") <= 6, "the tasks of the first link start without the flag"
    assert words.count("['--again']") == len(words) - words.count("[]") >= 6, "and each later one that came to say so has it"


def test_the_leader_stands_on_another_node_than_the_script(jobs: Jobs) -> None:
    """A task on the second node leads: the job is its own as long as the script runs where it ran when it began."""
    where = "srun --nodes=1 --ntasks=1 --relative=1"
    command = f"{where} ckptrun --checkpoint ck-0 --time-limit 34s --margin 26s {ranked('SLURM_PROCID', 20, 1.0)}"
    jobs.submit(jobs.script(command, *TWO_NODES))
    complete(jobs, 2)
    assert jobs.steps() == list(range(1, 21))
    hosts = {one: jobs.run("sacct", "-n", "-P", "-j", f"{one}.batch", "-o", "NodeList").strip() for one in jobs.jobs()}
    assert all(event["node"] != hosts[event["job"]] for event in jobs.events("started"))


def test_the_worst_status_of_a_step_counts(jobs: Jobs) -> None:
    """One of three tasks fails: the chain has failed with its status, after the others have ended."""
    training = f"sh -c '{ranked('SLURM_PROCID', 3, 0.2)}; test $SLURM_PROCID != 2 || exit 7'"
    jobs.submit(jobs.script(f"srun -n3 ckptrun {checkpoints(3)} --time-limit 60s {training}", "--ntasks=3"))
    assert jobs.until_over() == ["failed"]
    assert jobs.events("ended")[0]["exit_code"] == 7
    assert sorted(jobs.steps()) == sorted([1, 2, 3] * 3)


@pytest.mark.framework(2)
def test_torchrun_behind_srun_on_one_node(jobs: Jobs) -> None:
    """Its two workers are asked directly; torchrun, which a signal would end, hears nothing."""
    training = f"torchrun --standalone --nproc-per-node 2 {CHILDREN}/ranked.py RANK ck 90 0.3 --hear USR1"
    found = over_jobs(jobs, 3, 16.0, f"srun {training}", "export OMP_NUM_THREADS=1\n", f"{checkpoints(2)} --margin 4s")
    assert sorted(found.steps()) == sorted([*range(1, 91)] * 2)
    assert asked(found) and all("behind srun, torchrun" in str(targets) for targets in asked(found))


@pytest.mark.framework(1)
def test_torchrun_behind_relays_on_two_nodes(jobs: Jobs) -> None:
    """`srun ckptrun torchrun ...`: on each node the relay asks its own worker."""
    where = "--nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint 127.0.0.1:29511 --rdzv-id $SLURM_JOB_ID"
    training = f"torchrun {where} {CHILDREN}/ranked.py RANK ck 90 0.3 --hear USR1"
    found = over_jobs(
        jobs, 3, 16.0, f"srun ckptrun {training}", "export OMP_NUM_THREADS=1\n", f"{checkpoints(2)} --margin 4s", TWO_NODES
    )
    assert sorted(found.steps()) == sorted([*range(1, 91)] * 2)
