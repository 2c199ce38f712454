"""A kill before each call by which a start repairs its checkpoints: the next start finds all, and resumes from the newest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.harness import CHILDREN

# History -> how many calls it has at the least.
HISTORIES = {
    "tensorflow": 7,
    "deepspeed": 6,
    "ranks": 8,
    "through_a_link": 3,
    "in_place": 12,
    "copied": 10,
    "copied_in_a_folder": 10,
}


@pytest.mark.parametrize("history", list(HISTORIES))
def test_a_kill_before_each_call(real: Path, tmp_path: Path, history: str) -> None:
    """Set aside, state files mended, copies made and brought back: nothing is lost, nothing of ours is left in the way."""
    command = [sys.executable, str(CHILDREN / "dies_at_each_call.py"), history, str(tmp_path / "work"), str(real)]
    environment = os.environ | {"PYTHONPATH": str(CHILDREN.parents[1])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "WRONG" not in done.stdout, done.stdout
    found = re.search(r"^calls: (\d+)$", done.stdout, re.MULTILINE)
    assert found and int(found[1]) >= HISTORIES[history], done.stdout
