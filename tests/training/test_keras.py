"""The Keras adapter: stopped at batches everywhere, it ends as an uninterrupted training does, with Keras 2 and 3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def cases(folder: Path, *words: str, packages: str = "") -> dict[str, bool]:
    """Run the cases in a process of their own, TensorFlow being as large as it is; return which were as they should."""
    environment = {**os.environ, "PYTHONPATH": f"{packages}:{ROOT}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.training.keras_cases", str(folder), *words]
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, bool] = json.loads(done.stdout.rpartition("CASES")[2])
    return found


@pytest.mark.framework(2)
def test_keras_2(tmp_path: Path) -> None:
    """Weights, optimizer, layers' states, random states, and the place in the epoch: to the bit.

    The order of arrays is the adapter's, that of a dataset its own; dropout is restored with TensorFlow's generators.
    """
    found = cases(tmp_path)
    assert found == dict.fromkeys(("dataset", "arrays, dropout, scaled", "another model", "as a callback"), True)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_keras_2_in_full(tmp_path: Path) -> None:
    """All sources of data; the dropout that Keras 2 has by default keeps a state that nobody can read: it is not restored."""
    found = cases(tmp_path, "all")
    assert not found.pop("dropout of Keras 2"), "it is restored now: say so in the table"
    assert len(found) == 6 and all(found.values()), found


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_keras_3(tmp_path: Path) -> None:
    """TensorFlow 2.21 with its Keras 3, installed into a folder of its own: all of it, dropout without any switch."""
    packages = str(tmp_path / "packages")
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", packages, "tensorflow-cpu==2.21.0"], check=True)
    found = cases(tmp_path, "all", packages=packages)
    assert len(found) == 6 and all(found.values()), found
