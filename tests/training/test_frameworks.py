"""The adapters of frameworks that are too large for every run: installed into folders of their own, and run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkpoints.foreign import PACKAGES
from tests.end_to_end.harness import PROGRAMS, Ckptrun

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the folders with Lightning and transformers."""
    folders = {name: str(tmp_path_factory.mktemp(name)) for name in ("lightning", "transformers")}
    for name, folder in folders.items():
        for words in PACKAGES[name]:
            subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", folder, *words], check=True)
    return folders


def cases(name: str, folder: Path, packages: str) -> dict[str, bool]:
    """Run one framework's cases; return which are the same, to the bit, as without an interruption."""
    environment = {**os.environ, "PYTHONPATH": f"{packages}:{ROOT}"}
    command = [sys.executable, "-m", f"tests.training.{name}_cases", str(folder)]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, bool] = json.loads(done.stdout.rpartition("CASES")[2])
    return found


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_lightning(packages: dict[str, str], tmp_path: Path) -> None:
    """With ResumableLoader the place in the epoch and the random states are restored, without it they are not.

    In a job neither SIGTERM nor SIGUSR1 is caught: Lightning's own requeue is off.
    """
    found = cases("lightning", tmp_path, packages["lightning"])
    assert found == {"resumable": True, "without ResumableLoader": False, "handlers": True}


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_hugging_face(packages: dict[str, str], tmp_path: Path) -> None:
    """Model, optimizer, scheduler, random states and the place in the epoch, as the Trainer saves and restores them.

    It reads a batch ahead of the step: what a batch draws when it is read has been drawn before the states are saved.
    """
    assert cases("huggingface", tmp_path, packages["transformers"]) == {"plain": True, "augmented": False}


# Lightning starts its second process by itself; the Trainer is started by torchrun.
STARTS = {
    "lightning": (sys.executable,),
    "transformers": (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
}


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "program"), [("lightning", "lightning_ranks.py"), ("transformers", "huggingface_ranks.py")], ids=STARTS
)
def test_a_chain_of_two_ranks(ckptrun: Ckptrun, packages: dict[str, str], name: str, program: str) -> None:
    """Asked twice: both ranks stop at one step, with one checkpoint, and end with the weights of an uninterrupted run, to the bit.

    Each rank drops out others.
    """
    own = {"PYTHONPATH": f"{packages[name]}:{ROOT}", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    ckptrun.environment = {**ckptrun.environment, **own, "CKPTRUN_HOME": str(ckptrun.home)}
    command = [*STARTS[name], str(PROGRAMS / program)]
    subprocess.run([*command, "alone", "60", "0"], cwd=ckptrun.folder, env={**os.environ, **own}, check=True)
    running = ckptrun.start("--time-limit", "280s", "--checkpoint", "ck", "--", *command, "ck", "60", "0.2")
    for first in ("0", "[1-9]"):
        for _ in range(2):
            running.until(rf"^rank \d from step {first}")
        running.send(signal.SIGUSR1)
        for _ in range(2):
            running.until(r"stopped at step")
    output = running.end(code=0)
    assert ckptrun.outcomes() == ["continued", "continued", "complete"], output
    stops = re.findall(r"^rank (\d) stopped at step (\d+)$", output, re.MULTILINE)
    assert sorted(rank for rank, _ in stops) == ["0", "0", "1", "1"]
    assert [stops[0][1], stops[2][1]] == [stops[1][1], stops[3][1]] and int(stops[0][1]) < int(stops[2][1]) < 60, stops
    assert len([path for path in (ckptrun.folder / "ck").iterdir() if re.search(r"-\d+", path.name)]) == 2
    assert (ckptrun.folder / "ck.final").read_text() == (ckptrun.folder / "alone.final").read_text()
