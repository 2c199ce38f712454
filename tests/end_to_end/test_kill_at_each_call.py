"""A kill before each call of ckptrun that changes the world, from the ask to the end: outside Slurm all of them, on Slurm a sample.

Between two such calls nothing outside changes, so these are all the states that a kill can leave behind (`tests/children/kills`).
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.end_to_end import trials
from tests.end_to_end.harness import CHILDREN, Ckptrun
from tests.end_to_end.jobs import Jobs
from tests.end_to_end.test_kills import end

# A link of less than a tenth of its limit is followed by a pause: it is asked after its twenty-second step, at 1.1 s. The first one
# counts until the signal comes, however late that is; those after it to the goal.
STEPS, ASKED_AFTER = 60, 22
OPTIONS = ["--time-limit", "10s", "--margin", "1s", "--checkpoint", "ck", "--chain", "killed", "--"]
COMMAND = [sys.executable, str(CHILDREN / "counter.py"), "ck", "@goal", "0.05", "--hear", "USR1", "--tell"]
SLICES = 6
# On Slurm there are thirty-two calls; beyond them, so that a new one is not missed.
MOST, ON_SLURM, IN_CI, TWICE = 200, 45, 5, 20
SEED = int(os.environ.get("CKPTRUN_TEST_SEED", "20261125"))


def notes(folder: Path) -> list[str]:
    """Return what the killed ones were about to do."""
    return [path.read_text() for path in sorted(folder.glob("killed-*"))]


@pytest.mark.parametrize("part", range(SLICES))
def test_outside_slurm_at_every_call(tmp_path: Path, part: int) -> None:
    """Each of the calls: the same command goes on, each step once but for what was not saved, never two at once, one end."""
    number = part + 1
    while number <= MOST and _killed_before(tmp_path, number):
        number += SLICES
    assert part + 1 + SLICES < number <= MOST, f"there is no call {number}"


def _killed_before(tmp_path: Path, number: int) -> bool:
    """Kill before call `number` and go on; return whether there is such a call."""
    (tmp_path / str(number)).mkdir()
    ckptrun = Ckptrun(tmp_path / str(number))
    ckptrun.environment |= {"CKPTRUN_TEST_KILL": f"{ckptrun.folder}:{number}", "PYTHONPATH": str(trials.KILLS)}
    goal = ckptrun.folder / "goal"
    goal.write_text("100000")
    running = ckptrun.start(*OPTIONS, *COMMAND)
    running.until(f"step {ASKED_AFTER}")
    goal.with_name("new").write_text(str(STEPS))
    goal.with_name("new").replace(goal)
    running.send(signal.SIGUSR1)
    code = running.process.wait()  # the training may live on, and with it its end of the pipe
    killed = notes(ckptrun.folder)
    if not killed:
        running.end(0)
        trials.check_steps(running.lines, _last(running.lines))
        return False
    assert code == -signal.SIGKILL, killed
    lines = _go_on(ckptrun, str(killed))
    running.end()
    trials.check_steps(running.lines + lines, _last(running.lines + lines))
    assert ckptrun.outcomes()[-1] == "complete"
    return True


def _last(lines: list[str]) -> int:
    """Return the last step that there must be: the first training may have come further than the goal of the others."""
    return max([STEPS, *(int(line.removeprefix("step ")) for line in lines if re.fullmatch(r"step \d+", line))])


def _go_on(ckptrun: Ckptrun, story: str) -> list[str]:
    """Type the same command until the chain is complete; what outlived the killed one is named, and ended first."""
    for survivors in range(4):
        done = ckptrun.run(*OPTIONS, *COMMAND)
        assert "Traceback" not in done.stderr, f"{story}\n{done.stderr}"
        if done.returncode == 0:
            return done.stdout.splitlines()
        found = re.search(r"process (\d+)", done.stderr)
        assert done.returncode == 125 and found and not survivors, f"{story}: {done.returncode}\n{done.stderr}"
        end(int(found[1]))
    raise AssertionError(f"{story}: not complete\n{done.stderr}")


def _on_slurm(jobs: Jobs, *numbers: int) -> None:
    """Kill the first ckptrun that asks before its call `number`, the next one before the next; one resume for each leads on."""
    jobs.run("mkdir", "-p", "kills")
    print(f"before call {numbers}")
    before = f"export PYTHONPATH={trials.KILLS} CKPTRUN_TEST_KILL={jobs.folder}/kills:{':'.join(map(str, numbers))}\n"
    line = jobs.counter(16, 0.3, "--hear USR1 --tell", options="--time-limit 6s --margin 2s")
    jobs.submit(jobs.script(line, before=before))
    resumes = trials.lead_on(jobs, len(numbers))
    trials.check(jobs, 16)
    print(f"held; killed before {notes(jobs.folder / 'kills')}, resumed: {resumes}")


@pytest.mark.parametrize("number", sorted(random.Random(SEED).sample(range(1, 33), IN_CI)))
def test_on_slurm_at_some_calls(jobs: Jobs, number: int) -> None:
    """A sample of the calls between the ask and the exit of a job."""
    _on_slurm(jobs, number)


@pytest.mark.long
@pytest.mark.parametrize("number", range(1, ON_SLURM))
def test_on_slurm_at_every_call(jobs: Jobs, number: int) -> None:
    """All of them: where a link has fewer, nobody is killed."""
    _on_slurm(jobs, number)


@pytest.mark.long
@pytest.mark.parametrize("place", range(TWICE))
def test_on_slurm_twice(jobs: Jobs, place: int) -> None:
    """Two links of one chain, each at a call of its own."""
    dice = random.Random(f"{SEED}-{place}")
    _on_slurm(jobs, dice.randrange(1, 33), dice.randrange(1, 33))
