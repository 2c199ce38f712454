"""A kill before each call of ckptrun that changes the world, from the ask to the end: outside Slurm all of them, on Slurm a sample.

Between two such calls nothing outside changes, so these are all the states that a kill can leave behind (`tests/children/kills`).
"""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.end_to_end import trials
from tests.end_to_end.harness import CHILDREN, Ckptrun
from tests.end_to_end.test_kills import await_end

STEPS = 12
OPTIONS = ["--time-limit", "3s", "--checkpoint", "ck", "--chain", "killed", "--"]
COMMAND = [sys.executable, str(CHILDREN / "counter.py"), "ck", str(STEPS), "0.05", "--hear", "USR1", "--tell"]
SLICES = 6
# On Slurm there are about sixty calls; far beyond them, so that a new one is not missed.
MOST = 200


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
    running = ckptrun.start(*OPTIONS, *COMMAND)
    running.until("step 6")  # a link of less than a tenth of its limit is followed by a pause
    running.send(signal.SIGUSR1)
    code = running.process.wait()  # the training may live on, and with it its end of the pipe
    killed = notes(ckptrun.folder)
    if not killed:
        running.end(0)
        trials.check_steps(running.lines, STEPS)
        return False
    assert code == -signal.SIGKILL, killed
    lines = _go_on(ckptrun, str(killed))
    running.end()
    trials.check_steps(running.lines + lines, STEPS)
    assert ckptrun.outcomes()[-1] == "complete"
    return True


def _go_on(ckptrun: Ckptrun, story: str) -> list[str]:
    """Type the same command until the chain is complete; what outlived the killed one is named, and ended first."""
    for survivors in range(4):
        done = ckptrun.run(*OPTIONS, *COMMAND)
        assert "Traceback" not in done.stderr, f"{story}\n{done.stderr}"
        if done.returncode == 0:
            return done.stdout.splitlines()
        found = re.search(r"process (\d+)", done.stderr)
        assert done.returncode == 125 and found and not survivors, f"{story}: {done.returncode}\n{done.stderr}"
        os.kill(int(found[1]), signal.SIGKILL)
        await_end(int(found[1]))
    raise AssertionError(f"{story}: not complete\n{done.stderr}")
