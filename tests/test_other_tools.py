"""What is said of other tools is what their newest releases do, as far as their sources show it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "explanation" / "other-tools.md").read_text()


def source(folder: Path, path: str) -> str:
    """Return the text of an installed module."""
    return (folder / path).read_text()


@pytest.mark.long
def test_submitit(tmp_path: Path) -> None:
    """Told 90 s before the end, requeued, three time-outs unless told otherwise."""
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", tmp_path, "submitit"], check=True)
    text = source(tmp_path, "submitit/slurm/slurm.py")
    assert re.search(r"signal_delay_s: int = 90\b", text) and "90 s before the end unless told otherwise" in PAGE
    assert re.search(r"max_num_timeout: int = 3\b", text) and "three time-outs unless told otherwise" in PAGE
    assert re.search(r'"scontrol", "requeue"', text)


@pytest.mark.long
def test_lightning(tmp_path: Path) -> None:
    """Saved and requeued when Slurm signals; nothing counts how often."""
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", tmp_path, "lightning"], check=True)
    text = source(tmp_path, "lightning/pytorch/trainer/connectors/signal_connector.py")
    assert text.index("save_checkpoint(") < text.index('"scontrol", "requeue"')
    assert not re.search(r"max_\w*(requeue|restart)|SLURM_RESTART_COUNT", text)
