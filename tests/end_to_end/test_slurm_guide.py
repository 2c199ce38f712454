"""The guide's three programs and a bit-exact training, as chains of jobs on a real Slurm."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.harness import PROGRAMS
from tests.end_to_end.jobs import Jobs
from tests.end_to_end.limits import TRIES, Seconds
from tests.end_to_end.programs import EXPORT_UNBUFFERED, each_saved_once, newest_saved


def over_jobs(
    jobs: Jobs,
    least: int,
    limit_s: float,
    command: str,
    before: str = "",
    checkpoints: str = "--checkpoint checkpoints",
    options: tuple[str, ...] = (),
) -> Jobs:
    """Run a training as chains until one needed so many jobs; return that one.

    The limit shrinks until the training needs so many jobs, and grows where a job is too short for it to save at all.
    """
    outcomes: list[str] = []
    limit = Seconds(limit_s)
    for attempt in range(TRIES):
        tried = Jobs(jobs.lab, f"{jobs.folder.name}/try-{attempt}")
        line = f"exec ckptrun {checkpoints} --time-limit {limit.now:.1f}s {command}"
        tried.submit(tried.script(line, "--mem=4000", *options, before=before))
        outcomes = tried.until_over(limit_s=600)
        if outcomes[-1] == "stopped":
            limit.was_too_short()
        elif len(outcomes) >= least:
            assert outcomes == ["continued"] * (len(outcomes) - 1) + ["complete"]
            assert [tried.state_of(job) for job in tried.jobs()] == ["COMPLETED"] * len(outcomes)
            return tried
        else:
            limit.was_too_long()
    raise AssertionError(f"never {least} jobs: {outcomes} at last, and next would be a limit of {limit.now} s\n{tried.story()}")


def over_asks(jobs: Jobs, asks: tuple[int, ...], command: str, before: str = "") -> Jobs:
    """Run a training as a chain of jobs, which is told to save and go on when the checkpoint of each of these numbers stands.

    However slow this machine is, each ask comes in mid-training. The limit of 100 s is met only where it is very slow.
    """
    checkpoints = jobs.folder / "checkpoints"
    jobs.submit(jobs.script(f"exec ckptrun --checkpoint checkpoints --time-limit 100s {command}", "--mem=4000", before=before))
    for number in asks:
        jobs.until(lambda number=number: newest_saved(checkpoints) >= number or None)
        count = len(jobs.jobs())
        jobs.run("scancel", "-b", "-s", "USR1", jobs.jobs()[-1], check=False)
        jobs.until_event("started", count + 1)
    outcomes = jobs.until_over(limit_s=600)
    assert outcomes == ["continued"] * (len(outcomes) - 1) + ["complete"] and len(outcomes) > len(asks), jobs.story()
    assert [jobs.state_of(job) for job in jobs.jobs()] == ["COMPLETED"] * len(outcomes)
    return jobs


# In front of a job's training, once there is something to resume from: what a writer that died would have left.
PLANT = f"python {PROGRAMS}/plant.py checkpoints\n"


def was_set_aside(jobs: Jobs, ending: str) -> None:
    """Check that what was planted between two jobs was noticed, moved and not used."""
    planted = (jobs.folder / "checkpoints.planted").read_text()
    assert re.search(rf"checkpoints/{planted}\.\w+ is truncated .*: set aside to checkpoints\.set-aside/link-\d", jobs.log())
    assert "left behind by a save that never ended" in jobs.log()
    assert list(jobs.folder.glob(f"checkpoints.set-aside/link-*/{planted}{ending}"))


def test_pickle(jobs: Jobs) -> None:
    """The guide's counter saves on Ctrl-C only: each number once, over four jobs.

    In eleven seconds one save of its own fits, after five of them, and no second: as many are left for the save that is asked for.
    """
    shutil.copy(PROGRAMS / "guide_pickle.py", jobs.lab.home / "guide_pickle.py")
    program = f"python {jobs.lab.home}/guide_pickle.py"
    jobs.submit(jobs.script(f"exec ckptrun --time-limit 11s --checkpoint checkpoint.pkl --max-links 4 {program}"))
    outcomes = jobs.until_over()
    numbers = [int(number) for number in re.findall(r"Current counter value: (\d+)", jobs.log())]
    assert outcomes == ["continued", "continued", "continued", "stopped"]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 4


@pytest.mark.framework(1)
def test_pytorch(jobs: Jobs) -> None:
    """The guide's PyTorch program, stopped right after a save each time, and a newer file that is cut planted: each epoch once."""
    before = f"{EXPORT_UNBUFFERED}export PYTHONPATH={PROGRAMS}/stand_in STAND_IN_SECONDS_AN_ITEM=0.0015\n{PLANT}"
    over_asks(jobs, (3, 8, 13), f"python {PROGRAMS}/guide_pytorch.py", before)
    was_set_aside(jobs, ".pt")
    assert not each_saved_once(r"Epoch (\d+):", jobs.log(), 0) and "Epoch 19:" in jobs.log()


@pytest.mark.framework(2)
def test_pytorch_in_jobs_of_a_minute(jobs: Jobs) -> None:
    """The limit of Slurm itself, and nothing said but where the checkpoints are: the guide's program needs more than a minute."""
    before = f"{EXPORT_UNBUFFERED}export PYTHONPATH={PROGRAMS}/stand_in STAND_IN_SECONDS_AN_ITEM=0.002 OMP_NUM_THREADS=1\n"
    command = f"exec ckptrun --checkpoint checkpoints python {PROGRAMS}/guide_pytorch.py"
    jobs.submit(jobs.script(command, "--time=1", "--mem=4000", before=before))
    outcomes = jobs.until_over(limit_s=400)
    assert outcomes == ["continued"] * (len(outcomes) - 1) + ["complete"]
    assert len(outcomes) >= 2
    assert [jobs.state_of(job) for job in jobs.jobs()] == ["COMPLETED"] * len(outcomes)
    assert not each_saved_once(r"Epoch (\d+):", jobs.log(), 0) and "Epoch 19:" in jobs.log()


@pytest.mark.framework(2)
def test_tensorflow(jobs: Jobs) -> None:
    """The guide's Keras program, a newer checkpoint that is cut planted, and named the newest: each epoch that was saved once."""
    before = f"{EXPORT_UNBUFFERED}export PYTHONPATH={PROGRAMS}/stand_in TF_CPP_MIN_LOG_LEVEL=3\n{PLANT}"
    found = over_jobs(jobs, 4, 15.0, f"python {PROGRAMS}/guide_tensorflow.py", before)
    was_set_aside(found, ".ckpt.index")
    assert not each_saved_once(r"Epoch (\d+): saving model to", found.log(), 1) and "Epoch 20: saving" in found.log()


@pytest.mark.framework(1)
def test_bit_exact(jobs: Jobs, tmp_path: Path) -> None:
    """Model, optimizer, generators and data order over jobs: the same weights, to the bit, as without an interruption."""
    program = PROGRAMS / "exact_pytorch.py"
    subprocess.run([sys.executable, program, tmp_path / "alone", "300", "0"], check=True, capture_output=True)
    found = over_jobs(jobs, 4, 11.0, f"python {program} checkpoints 300 0.06")
    starts = [int(step) for step in re.findall(r"from step (\d+)", found.log())]
    # One that is stopped on its way out is followed by one that has nothing left.
    on_the_way = [step for step in starts if step < 300]
    assert starts == sorted(starts) and on_the_way == sorted(set(on_the_way)), "each start goes on where the last one stopped"
    assert 3 <= len(starts) <= len(found.outcomes()), "a job that is over before its framework is loaded says nothing"
    assert (found.folder / "checkpoints.final").read_text() == (tmp_path / "alone.final").read_text()
