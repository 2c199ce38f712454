"""ruff and mypy are part of the test command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy", "--cache-dir=/dev/null")],
    ids=["ruff check", "ruff format", "mypy --strict"],
)
def test_clean(command: tuple[str, ...]) -> None:
    """No finding, no file that would be formatted otherwise, no type error."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
