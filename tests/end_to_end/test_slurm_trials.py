"""Randomised trials on a real Slurm: somebody dies at a random moment around the hand-over, and no chain forks and none is lost.

Twenty in CI, three hundred with `-m long`. CKPTRUN_TEST_SEED=S replays a run, and with CKPTRUN_TEST_TRIAL=N that trial alone;
seed and number are printed with every failure. What is killed and what held: docs/explanation/trials.md.
"""

from __future__ import annotations

import os
import random
import select
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cluster import lab as labs
from tests.end_to_end import trials
from tests.end_to_end.jobs import Jobs

SEED = int(os.environ.get("CKPTRUN_TEST_SEED", "20261125"))
ONLY = [int(number) for number in os.environ.get("CKPTRUN_TEST_TRIAL", "").split(",") if number]
PRIVATE_IN_CI, PRIVATE_IN_ALL = 17, 252
# Each of these kills daemons on a lab of its own, under three chains at once.
LABS_IN_CI, LABS_IN_ALL, CHAINS_OF_A_LAB = 1, 16, 3
FORGETFUL_IN_CI, FORGETFUL_IN_ALL = 1, 8
STEPS = 20
# Events of the ledger, and how many of them: around the hand-over from link 1 to link 2.
MOMENTS = (("asked", 1), ("saved", 1), ("child_exited", 1), ("submitted", 1), ("ended", 1), ("started", 2), ("child_started", 2))


class Trial(NamedTuple):
    """One trial: who dies, after which event, how long after it; how the script starts ckptrun, and whether its training is slow.

    A daemon comes back after `back_s`; a hundredth of it is how long sbatch may live.
    """

    victim: str
    event: str
    count: int
    delay_s: float
    execute: str
    slow: bool
    back_s: float = 0.0


def draw(number: int, victims: tuple[str, ...]) -> Trial:
    """Return a trial: the same for the same seed and number."""
    dice = random.Random(f"{SEED}-{number}")
    event, count = dice.choice(MOMENTS)
    slow = dice.random() < 0.15
    delay_s = dice.choice([0.0, dice.uniform(0, 0.3), dice.uniform(0, 2.0), dice.uniform(8, 14) if slow else 0.0])
    execute = dice.choice(["exec ", "exec ", "exec ", ""])
    return Trial(dice.choice(victims), event, count, delay_s, execute, slow, dice.uniform(0.2, 6.0))


def start(jobs: Jobs, trial: Trial) -> str:
    """Submit the chain; return its first job."""
    words, options = "--hear USR1 --tell", "--time-limit 6s --margin 2s"
    if trial.slow:  # it saves for eleven seconds when it is asked, so that the first look at the successor falls into its life
        words, options = f"{words} --only-asked --save 11", "--time-limit 18s --margin 15s"
    before = ""
    if trial.victim == "sbatch":
        jobs.run("mkdir", "-p", "bin")
        jobs.run("tee", "bin/sbatch", input=_SBATCH.format(folder=jobs.folder, seconds=trial.back_s / 100))
        jobs.run("chmod", "+x", "bin/sbatch")
        before = f"PATH={jobs.folder}/bin:$PATH\n"
    line = jobs.counter(STEPS, 0.3, words, options=options, execute=trial.execute)
    return jobs.submit(jobs.script(line, "--open-mode=append", before=before))


# The first sbatch is killed after some milliseconds: before, while, or after the controller takes the job. Later ones live.
_SBATCH = """#!/bin/bash
if mkdir {folder}/killed 2> /dev/null; then
    exec timeout -s KILL {seconds:.4f} /usr/bin/sbatch "$@"
fi
exec /usr/bin/sbatch "$@"
"""


def wait_s(seconds: float) -> None:
    """Let a drawn time pass: it is the trial's moment, nothing is waited for."""
    select.select([], [], [], seconds)


def moment(jobs: Jobs, trial: Trial, limit_s: float = 300.0) -> None:
    """Wait for the trial's moment."""
    jobs.until_event(trial.event, trial.count, limit_s)
    wait_s(trial.delay_s)


def kill_private(jobs: Jobs, trial: Trial) -> bool:
    """Kill ckptrun or the training of the newest link; return whether the chain must need nobody after that.

    It needs nobody where the victim was gone already, and where it was the ckptrun of a link whose successor was on record.
    """
    link, pid = [(turn.facts["link"], turn.facts["pid"]) for turn in trials.turns(jobs) if turn.kind == "start"][-1]
    handed_over = trial.victim == "ckptrun" and any(event["link"] == link for event in jobs.events("submitted"))
    if trial.victim == "training":
        pid = jobs.events("child_started")[-1]["pid"]
    lived = jobs.lab.admin("sh", "-c", f"kill -9 {pid} && echo killed", check=False) == "killed\n"
    print(f"link {link}, process {pid}, lived: {lived}, handed over: {handed_over}")
    return handed_over or not lived


def one_private(jobs: Jobs, number: int) -> None:
    """Run one trial whose victim is the chain's own."""
    trial = draw(number, ("ckptrun", "ckptrun", "training", "sbatch"))
    print(f"CKPTRUN_TEST_SEED={SEED} CKPTRUN_TEST_TRIAL={number}: {trial}")
    start(jobs, trial)
    alone = True
    if trial.victim != "sbatch":
        moment(jobs, trial)
        alone = kill_private(jobs, trial)
    resumes = trials.lead_on(jobs, 0 if alone else 1)
    trials.check(jobs, STEPS)
    print(f"held; resumed: {resumes}, links: {len(jobs.events('started'))}")


def numbers(first: int, after: int) -> list[int]:
    """Return the numbers of these trials, or of those among them that are to be replayed."""
    return [number for number in range(first, after) if not ONLY or number in ONLY]


@pytest.mark.parametrize("number", numbers(0, PRIVATE_IN_CI))
def test_somebody_dies_at_a_random_moment(jobs: Jobs, number: int) -> None:
    """ckptrun, its training or its sbatch: the chain goes on by itself, or one resume leads on, and every step is done once."""
    one_private(jobs, number)


@pytest.mark.long
@pytest.mark.parametrize("number", numbers(PRIVATE_IN_CI, PRIVATE_IN_ALL))
def test_somebody_dies_at_many_random_moments(jobs: Jobs, number: int) -> None:
    """The same, more often."""
    one_private(jobs, number)


# --- daemons


def kill_daemon(jobs: Jobs, trial: Trial, one_at_a_time: threading.Lock, old: Path) -> None:
    """Kill the controller, or the slurmd under the newest link, with SIGKILL, and start it again some time later.

    With the older state the controller has forgotten what it took since then, and gives the next job an id that was given before.
    """
    if trial.victim in ("ckptrun", "training"):
        kill_private(jobs, trial)
        return
    node = next(turn.facts["node"] for turn in reversed(trials.turns(jobs)) if turn.kind == "start")
    name = f"slurmd-{node}" if trial.victim == "slurmd" else "slurmctld"
    with one_at_a_time:
        jobs.lab.kill_daemon(name)
        wait_s(trial.back_s)
        if trial.victim == "older state" and old.exists():
            state = jobs.lab.root / "state"
            jobs.lab.admin("sh", "-c", f"rm -rf {state} && cp -a {old} {state}")
        jobs.lab.restart_daemon(name)
        if trial.victim == "older state":
            jobs.run("sbatch", "--parsable", "--output=other.log", "--wrap", "true", check=False)


def one_of_a_lab(
    jobs: Jobs, number: int, victims: tuple[str, ...], one_at_a_time: threading.Lock, lives: threading.Barrier
) -> None:
    """Run one trial that kills a daemon under its own chain and all others of the lab."""
    trial = draw(number, victims)
    print(f"CKPTRUN_TEST_SEED={SEED}, trial {number}: {trial}")
    start(jobs, trial)
    old = jobs.lab.root / f"state-{number}"
    try:
        if trial.victim == "older state":
            jobs.until_line(r"^step 4$", 60.0)  # link 1 runs, its successor is still to come
            jobs.lab.admin("cp", "-a", jobs.lab.root / "state", old)
        moment(jobs, trial, limit_s=60.0)
    except AssertionError:
        print(f"trial {number}: another one's daemon took the moment away; it is killed now")
    kill_daemon(jobs, trial, one_at_a_time, old)
    lives.wait(600)
    # Each daemon that dies may cost each chain one job.
    resumes = trials.lead_on(jobs, CHAINS_OF_A_LAB, drained=True)
    trials.check(jobs, STEPS)
    print(f"trial {number} held; resumed: {resumes}, links: {len(jobs.events('started'))}")


def three_chains(lab: labs.Lab, first: int, victims: tuple[str, ...] = ("slurmctld", "slurmctld", "slurmd")) -> None:
    """Run the trials of one lab side by side. Raises what the first that failed raised."""
    one_at_a_time, lives = threading.Lock(), threading.Barrier(CHAINS_OF_A_LAB)
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            one_of_a_lab(Jobs(lab, f"trial-{number}"), number, victims, one_at_a_time, lives)
        except BaseException as error:  # told by the thread that the test runs in
            lives.abort()
            failures.append(error)

    threads = [threading.Thread(target=run, args=(first + place,)) for place in range(CHAINS_OF_A_LAB)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first_failures = [error for error in failures if not isinstance(error, threading.BrokenBarrierError)]
    if failures:
        raise (first_failures or failures)[0]


@pytest.mark.parametrize("place", numbers(PRIVATE_IN_ALL, PRIVATE_IN_ALL + LABS_IN_CI))
def test_a_daemon_dies_at_a_random_moment(own_lab: labs.Lab, place: int) -> None:
    """slurmctld or a slurmd, under three chains at once, and comes back: no chain forks, none is lost."""
    three_chains(own_lab, first_of(place))


@pytest.mark.long
@pytest.mark.parametrize("place", numbers(PRIVATE_IN_ALL + LABS_IN_CI, PRIVATE_IN_ALL + LABS_IN_ALL))
def test_a_daemon_dies_at_many_random_moments(own_lab: labs.Lab, place: int) -> None:
    """The same, more often."""
    three_chains(own_lab, first_of(place))


def first_of(place: int) -> int:
    """Return the number of a lab's first trial."""
    return PRIVATE_IN_ALL + (place - PRIVATE_IN_ALL) * CHAINS_OF_A_LAB


# --- a controller that forgets, and a cluster without accounting


@pytest.fixture
def forgetful_lab() -> Iterator[labs.Lab]:
    """A Slurm without accounting, whose controller forgets jobs five seconds after their end."""
    found = labs.start(owner=os.getpid(), slurmd_timeout_s=10, min_job_age_s=5, accounting=False)
    yield found
    labs.stop(found)


FORGETFUL = 1000
VICTIMS = ("older state", "older state", "slurmctld", "slurmd", "ckptrun")


@pytest.mark.parametrize("place", numbers(FORGETFUL, FORGETFUL + FORGETFUL_IN_CI))
def test_a_controller_forgets(forgetful_lab: labs.Lab, place: int) -> None:
    """No accounting, MinJobAge of 5 s, and a controller that comes back with a state from before the submission."""
    three_chains(forgetful_lab, place * CHAINS_OF_A_LAB, VICTIMS)


@pytest.mark.long
@pytest.mark.parametrize("place", numbers(FORGETFUL + FORGETFUL_IN_CI, FORGETFUL + FORGETFUL_IN_ALL))
def test_a_controller_forgets_often(forgetful_lab: labs.Lab, place: int) -> None:
    """The same, more often."""
    three_chains(forgetful_lab, place * CHAINS_OF_A_LAB, VICTIMS)
