"""What is kept in tests/checkpoints/real/ is what the libraries write: installed, run, and verified anew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ckptrun.words import Verdict
from tests.checkpoints.cases import FILES, FOREIGN, SEVERAL, look
from tests.checkpoints.foreign import PACKAGES

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", FOREIGN)
def test_the_library_itself(name: str, tmp_path: Path) -> None:
    """Install the library into a folder of its own, let it save, and find its checkpoints whole, in their formats, and cut."""
    packages = tmp_path / "packages"
    for words in PACKAGES[name]:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", str(packages), *words], check=True)
    environment = os.environ | {"CKPTRUN_FOREIGN_PACKAGES": str(packages), "CUDA_VISIBLE_DEVICES": ""}
    made = tmp_path / name
    subprocess.run([sys.executable, "-m", "tests.checkpoints.foreign", name, str(made)], cwd=ROOT, env=environment, check=True)
    cases = [case for case in (*FILES, *SEVERAL) if case.path.startswith(f"{name}/")]
    assert cases
    for case in cases:
        path = tmp_path / case.path
        for full in (False, True):
            found = look(path, full)
            assert (found.verdict, found.form) == (Verdict.WHOLE, case.form), found.why
        largest = max(found.parts, key=os.path.getsize)
        os.truncate(largest, os.path.getsize(largest) - 1)
        assert look(path).verdict is Verdict.TRUNCATED
