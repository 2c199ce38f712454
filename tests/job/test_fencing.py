"""What an earlier start has left on this node: waited for, ended when its time is over. Real processes, a ledger of one start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ckptrun.chain.home import ChainFolder
from ckptrun.chain.liveness import me, process_started
from ckptrun.chain.turns import Turns
from ckptrun.job import fencing
from ckptrun.job.succession import FENCING_S
from ckptrun.link.errands import Pause

SLEEPER = [sys.executable, "-c", "import sys; print('ready', flush=True); sys.stdin.read()"]


@pytest.fixture
def folder(tmp_path: Path) -> ChainFolder:
    """A chain's folder."""
    found = ChainFolder(str(tmp_path / "chains/c"))
    os.makedirs(found.turns)
    return found


@pytest.fixture
def old(folder: ChainFolder) -> Iterator[subprocess.Popen[str]]:
    """A training of that chain, whose ckptrun is gone."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment = os.environ | {"CKPTRUN_MAILBOX": folder.mailbox}
    process: subprocess.Popen[str] = subprocess.Popen(SLEEPER, env=environment, text=True, **pipes)  # type: ignore[call-overload]
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


def began(folder: ChainFolder, node: str, pid: int) -> None:
    """Take the turn of a start on a node of this machine."""
    boot_id = me()[1]
    facts = {"link": 1, "node": node, "boot_id": boot_id, "pid": pid, "pid_started": process_started(pid)}
    Turns(folder.turns).take("start", facts, after=0)


def test_the_training_and_its_ckptrun_are_found_on_their_node_alone(folder: ChainFolder, old: subprocess.Popen[str]) -> None:
    """The training by its environment, whether or not its ckptrun lives; on another node's word nobody is looked for."""
    began(folder, "n1", old.pid)
    assert set(fencing.left_here(folder, 2, "n1")) == {old.pid}
    assert fencing.left_here(folder, 2, "n2") == ()


def test_a_start_that_has_ended_left_nothing(folder: ChainFolder, old: subprocess.Popen[str]) -> None:
    """After its own end turn it has stopped what was its own: what a complete training left in the background is let be."""
    began(folder, "n1", old.pid)
    Turns(folder.turns).take("end", {"link": 1, "outcome": "continued"}, after=1)
    assert fencing.left_here(folder, 3, "n1") == ()


def test_it_is_waited_for_and_ended_when_the_fencing_time_is_over(folder: ChainFolder, old: subprocess.Popen[str]) -> None:
    """One look a second; after the fencing time it gets SIGKILL, and when it is gone the link may train."""
    began(folder, "n1", old.pid)
    procedure = fencing.wait_for_those_here(folder, 2, "n1")
    paused_s = 0.0
    while paused_s < FENCING_S:
        step = next(procedure)
        assert isinstance(step, Pause)
        paused_s += step.seconds
        assert old.poll() is None
    next(procedure)
    assert old.wait(60) == -9
    with pytest.raises(StopIteration):
        next(procedure)


def test_where_nothing_is_left_nothing_is_waited_for(folder: ChainFolder) -> None:
    """A chain's first start, and one whose predecessor is gone."""
    with pytest.raises(StopIteration):
        next(fencing.wait_for_those_here(folder, 1, "n1"))
