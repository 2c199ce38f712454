"""Where the launchers are that the tests start, and what to do where one is missing."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import install

# Launchers that were installed with the test extra stand beside the interpreter, whether or not that folder is on PATH.
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
_REQUIRED = "CKPTRUN_REQUIRE_SLURM"
# The guide's programs do not flush what they print, and a signal that they do not catch ends them with it.
UNBUFFERED = {"PYTHONUNBUFFERED": "1"}
EXPORT_UNBUFFERED = "export PYTHONUNBUFFERED=1\n"


def path_of(program: str) -> str:
    """Return the path of a launcher that the test extra or the system brings; without it the test fails."""
    found = shutil.which(program, path=PATH)
    assert found is not None, f"{program} is not installed; `pip install -e '.[test]'` brings it"
    return found


def bubblewrap() -> str:
    """Return the path of `bwrap`, installed where we may; where it cannot run the test is left out, or fails where all must run."""
    why_not = install.install_one("bwrap", "bubblewrap")
    if why_not is None:
        tried = subprocess.run(["bwrap", "--unshare-pid", "--bind", "/", "/", "true"], capture_output=True, text=True)
        why_not = tried.stderr.strip() if tried.returncode else None
    if why_not is not None:
        if os.environ.get(_REQUIRED):
            pytest.fail(f"bwrap is required here: {why_not}")
        pytest.skip(f"no bwrap: {why_not}")
    return path_of("bwrap")


def each_saved_once(said: str, text: str, first: int) -> list[int]:
    """Return what is wrong with the epochs that a program of the guide speaks of just before it saves each: nothing, at best.

    From the first one on, in order, to the last; none twice, but one whose save had not begun when the link was stopped: then the
    next link goes on from the one before it. `said` is the program's line, `text` has ckptrun's lines, too.
    """
    epochs = [int(number) for number in re.findall(said, text)]
    resumed = {int(number) for number in re.findall(r"resuming from checkpoints/(\d+)\.", text)}
    once = list(dict.fromkeys(epochs))
    twice = [epoch for epoch, again in itertools.pairwise(epochs) if epoch == again]
    if once != list(range(first, first + len(once))) or len(epochs) != len(once) + len(twice):
        return epochs
    return [epoch for epoch in twice if epoch - 1 not in resumed]


def newest_saved(folder: Path) -> int:
    """Return the number of the newest checkpoint that stands in a folder, as a framework names them; -1 without one."""
    named = (re.fullmatch(r"(?:step-)?(\d+)\.(?:pt|npz|ckpt\.index)", path.name) for path in folder.glob("*"))
    return max((int(found[1]) for found in named if found), default=-1)
