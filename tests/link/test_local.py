"""A chain without Slurm: who may go on with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckptrun.chain import home
from ckptrun.chain.turns import Turns
from ckptrun.early import Handlers
from ckptrun.errors import TurnTaken
from ckptrun.link.local import LocalChain
from ckptrun.plan import Plan


def test_a_join_that_judged_by_older_turns_is_too_late(tmp_path: Path) -> None:
    """Another has joined and started since it was found that nothing lives: no turn is taken behind his."""
    (tmp_path / "chains").mkdir()
    folder = home.create_chain(str(tmp_path), "one", {})
    turns = Turns(folder.turns)
    for after, kind in enumerate(("start", "end", "resume", "start")):
        turns.take(kind, {"link": 1 + after // 2}, after=after)
    handlers = Handlers()
    try:
        with pytest.raises(TurnTaken):
            LocalChain(Plan(("true",)), folder, handlers, 0.0).join(2, after=2)
    finally:
        handlers.restore()
    assert [turn.kind for turn in turns.read()] == ["start", "end", "resume", "start"]
