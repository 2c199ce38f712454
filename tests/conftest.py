"""Fixtures of all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.harness import Ckptrun


@pytest.fixture
def ckptrun(tmp_path: Path) -> Ckptrun:
    """ckptrun in a folder of its own."""
    return Ckptrun(tmp_path)
