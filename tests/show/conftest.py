"""A ledger of the tutorial, and a clock in UTC."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.chains import stand_ins
from tests.show import tutorial


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The state folder with the tutorial's chains, seen where squeue and sacct answer and know nothing, in UTC."""
    home = tmp_path / "home"
    tutorial.write(home)
    monkeypatch.setenv("PATH", stand_ins(tmp_path)["PATH"])
    monkeypatch.setenv("CKPTRUN_HOME", str(home))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield home
    os.environ.pop("TZ", None)
    monkeypatch.undo()
    time.tzset()
