"""Trainings that requeue their job or submit it again by themselves, as Lightning and submitit do: the chain does not fork."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkpoints.foreign import PACKAGES
from tests.end_to_end.harness import CHILDREN, PROGRAMS
from tests.end_to_end.jobs import Jobs

REAL_SBATCH = "/usr/bin/sbatch"
PROGRAM = CHILDREN / "goes_on_itself.py"


def start(jobs: Jobs, how: str, before: str = "", options: str = "--checkpoint ck") -> str:
    """Submit a training that goes on by itself."""
    jobs.provide(PROGRAM)
    command = f"exec ckptrun {options} --time-limit 10s --margin 4s python {jobs.lab.home}/{PROGRAM.name} ck 26 0.3 {how}"
    return jobs.submit(jobs.script(command, before=before))


def is_one_chain(jobs: Jobs) -> None:
    """All steps in order, never two at once, and at most one job of each link."""
    steps = jobs.steps()  # one that trains on after it has saved may be ended within a step, which the next one does again
    assert steps == sorted(steps) and set(steps) == set(range(1, 27)), jobs.story()
    assert "TWO AT ONCE" not in jobs.log()
    assert jobs.queue() == []
    lines = jobs.run("squeue", "--me", "-h", "-t", "all", "-o", "%o").splitlines()
    scripts = [line for line in lines if str(jobs.state) in line]
    assert len(scripts) == len(set(scripts)), scripts
    assert len(list((jobs.state / "chains").iterdir())) == 1


def test_a_training_that_requeues_before_the_submission(jobs: Jobs) -> None:
    """Requeued while sbatch is under way: Slurm goes on with this job, the successor waits for it, and it is said."""
    jobs.run("mkdir", "bin")
    wait = 'case "$*" in *--test-only*) ;; *) until [ -e requeued ]; do sleep 0.05; done ;; esac'
    jobs.run("tee", "bin/sbatch", input=f'#!/bin/bash\ncd {jobs.folder}\n{wait}\nexec {REAL_SBATCH} "$@"\n')
    jobs.run("chmod", "+x", "bin/sbatch")
    job = start(jobs, "requeue", before=f"PATH={jobs.folder}/bin:$PATH\n")
    jobs.until_event("ended")
    assert jobs.outcomes() == ["requeued"], jobs.story()
    jobs.start_requeued(job)
    assert jobs.until_over()[-1] == "complete"
    assert jobs.jobs()[:2] == [job, job]
    assert "auto_requeue=False" in jobs.log()
    is_one_chain(jobs)


def test_a_training_that_requeues_too_late(jobs: Jobs) -> None:
    """The successor is queued, this job has given up its right to come back: the requeue is refused, and the chain goes on."""
    start(jobs, "requeue-late")
    outcomes = jobs.until_over()
    assert outcomes == ["continued"] * (len(outcomes) - 1) + ["complete"]
    assert "scontrol requeue: 1 Requested operation is presently disabled" in jobs.log()
    is_one_chain(jobs)


def test_a_training_that_submits_its_script_again(jobs: Jobs) -> None:
    """Its job is refused before it trains, whichever options the chain has, and the chain goes on by itself."""
    start(jobs, "sbatch", options="--max-links 9")
    outcomes = jobs.until_over()
    assert outcomes == ["continued"] * (len(outcomes) - 1) + ["complete"]
    again = re.findall(r"^sbatch --parsable: 0 (\d+)$", jobs.log(), re.MULTILINE)
    assert len(again) == 1
    assert jobs.state_of(again[0]) == "FAILED"
    assert "has submitted its own script again" in Path(jobs.folder / f"again-{again[0]}.out").read_text()
    is_one_chain(jobs)


@pytest.mark.long
@pytest.mark.framework(1)
@pytest.mark.timeout(600)
def test_lightning(jobs: Jobs) -> None:
    """Lightning with its auto-requeue: asked with USR1 it saves and requeues its job, or is refused; each way one chain goes on."""
    jobs.provide(PROGRAMS / "lightning_counter.py")
    packages = jobs.folder / "packages"
    for words in PACKAGES["lightning"]:
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", packages, *words], check=True)
    command = f"exec ckptrun --checkpoint ck --time-limit 90s --margin 20s python {jobs.lab.home}/lightning_counter.py ck 700"
    job = jobs.submit("--ntasks=1", jobs.script(command, before=f"export PYTHONPATH={packages}\n"))
    jobs.until_event("ended", limit_s=200)
    print(jobs.story())
    if jobs.outcomes() == ["requeued"]:
        jobs.start_requeued(job)
    assert jobs.until_over(300)[-1] == "complete"
    assert jobs.outcomes()[0] in ("requeued", "continued")
    assert sorted(set(jobs.steps())) == list(range(1, 701))
    assert len(jobs.steps()) - 700 < 200, "it went on from what it had saved"
    assert jobs.queue() == []
    assert len(list((jobs.state / "chains").iterdir())) == 1
