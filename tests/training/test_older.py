"""The PyTorch adapter with the PyTorch of containers that are some years old: all of its tests in an environment of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
# What the tests themselves need; that PyTorch comes with CUDA's libraries, and runs without a GPU.
TESTING = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis")
NEEDED = ("torch==2.5.1", "numpy<2.3", "click", "psutil", "pyyaml", "rich", *TESTING)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_pytorch_2_5(tmp_path: Path) -> None:
    """One process, and ranks with DDP; its FSDP does not run without a GPU."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", *NEEDED], check=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    tests = ("tests/training/test_pytorch.py", "tests/training/test_ranks.py")
    # Its deprecations are not ours.
    words = (python, "-m", "pytest", "-n", "0", "-q", "-W", "default", "-p", "no:cacheprovider", "-k", "not fsdp", *tests)
    done = subprocess.run(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    subprocess.run(["rm", "-rf", tmp_path / "venv"], check=True)  # gigabytes
    assert done.returncode == 0, done.stdout
