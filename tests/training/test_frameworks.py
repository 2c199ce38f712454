"""The adapters of frameworks that are too large for every run: installed into folders of their own, and run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkpoints.foreign import PACKAGES

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
    """Model, optimizer, scheduler, random states and the place in the epoch, as the Trainer saves and restores them."""
    assert cases("huggingface", tmp_path, packages["transformers"]) == {"all": True}
