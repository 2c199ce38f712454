"""The real checkpoints, written once for all workers of a run."""

from __future__ import annotations

import fcntl
import os
import random
import zlib
from pathlib import Path

import pytest

from tests.checkpoints import cases


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the real checkpoints. Never write into it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "real-checkpoints"
    with (folder.parent / "real-checkpoints.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            folder.mkdir(exist_ok=True)
            cases.make(folder)
            (folder / "complete").touch()
    return folder


@pytest.fixture
def dice(request: pytest.FixtureRequest) -> random.Random:
    """Return dice that fall the same way in each run of a test; CKPTRUN_SEED makes them fall another way."""
    seed = int(os.environ.get("CKPTRUN_SEED") or zlib.crc32(request.node.nodeid.encode()))
    print(f"CKPTRUN_SEED={seed}")
    return random.Random(seed)
