"""The adapter for plain data: pickle and JSON, the program's own file, replaced whole."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

import ckptrun
from ckptrun import mailbox
from ckptrun.training.plain import Checkpoint
from tests.test_mailbox import Clock, training

WRITERS: dict[str, Any] = {"data.pkl": pickle, "data.json": json}


@pytest.mark.parametrize("name", WRITERS)
def test_the_file_is_the_programs_own(tmp_path: Path, name: str) -> None:
    """What a program wrote before is read, what is saved is read by it, and without a file the data is fresh."""
    path = tmp_path / name
    assert Checkpoint(str(path)).load({"counter": 0}) == {"counter": 0}
    path.write_bytes(pickle.dumps({"counter": 3}) if name.endswith("pkl") else b'{"counter": 3}')
    checkpoint = Checkpoint(str(path))
    data = checkpoint.load({"counter": 0})
    assert data == {"counter": 3}
    checkpoint.save({"counter": 4})
    assert WRITERS[name].loads(path.read_bytes()) == {"counter": 4}
    assert [one.name for one in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", WRITERS)
def test_resumed_is_as_uninterrupted(tmp_path: Path, name: str) -> None:
    """A walk whose random numbers are part of its data: interrupted after each step, it goes the same way."""
    import random

    def walk(path: Path, starts: int) -> list[float]:
        random.seed(7)
        for _ in range(starts):
            checkpoint = Checkpoint(str(path))
            data = checkpoint.load({"way": [0.0], "random": None})
            if data["random"] is not None:
                version, numbers, gauss = data["random"]  # JSON has lists only
                random.setstate((version, tuple(numbers), gauss))
            for _ in range(12 // starts):
                data["way"].append(data["way"][-1] + random.gauss(0, 1))
                data["random"] = random.getstate()
            checkpoint.save(data)
            random.seed()
        return list(Checkpoint(str(path)).load(None)["way"])

    assert walk(tmp_path / f"whole-{name}", 1) == walk(tmp_path / f"parts-{name}", 12)


def test_saved_when_asked_and_each_so_many_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each third step, and at the step after the ask, which stops it; both are told."""
    clock, folder = Clock(), tmp_path / "mailbox"
    folder.mkdir()
    monkeypatch.setattr(ckptrun, "_current", training(folder, clock))
    checkpoint = Checkpoint(str(tmp_path / "data.json"), every=3)
    stood: list[int | None] = []
    for step in range(1, 6):
        clock.now += 2.0
        if step == 5:
            mailbox.ask(str(folder), 2, 1, stop=True, reason="r")
        stopped = checkpoint.step(step, step, 9)
        stood.append(Checkpoint(str(tmp_path / "data.json")).load(None))
    assert (stood, stopped) == ([None, None, 3, 3, 5], True)
    facts = {word.kind: word.facts for word in mailbox.words(str(folder), 2, 1)}
    assert facts["saved"] == {"path": str(tmp_path / "data.json"), "step": 5}


def test_a_damaged_file_is_no_fresh_start(tmp_path: Path) -> None:
    """What cannot be read is an error: a training does not begin anew unseen."""
    (tmp_path / "data.json").write_text('{"counter": ')
    with pytest.raises(ValueError, match="Expecting value"):
        Checkpoint(str(tmp_path / "data.json")).load({})
