"""The adapter for plain data: pickle and JSON, the program's own file, replaced whole."""

from __future__ import annotations

import json
import pickle
import tracemalloc
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


@pytest.mark.parametrize("name", WRITERS)
def test_what_cannot_be_saved_leaves_the_old_file(tmp_path: Path, name: str) -> None:
    """Data that neither format can hold, wherever in it that comes: the error is the writer's, and nothing else lies there."""
    checkpoint = Checkpoint(str(tmp_path / name))
    checkpoint.save({"counter": 1})
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        checkpoint.save({"counter": 2, "data": list(range(100000)), "function": lambda: None})
    assert checkpoint.load(None) == {"counter": 1}
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_two_in_one_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each saves once for one ask, although the first one's save has answered it."""
    clock, folder = Clock(), tmp_path / "mailbox"
    folder.mkdir()
    monkeypatch.setattr(ckptrun, "_current", training(folder, clock))
    one, other = Checkpoint(str(tmp_path / "one.json")), Checkpoint(str(tmp_path / "other.pkl"))
    for step in range(1, 5):
        clock.now += 2.0
        if step in (2, 4):
            mailbox.ask(str(folder), 2, 1, stop=step == 4, reason="r")
        stops = [one.step(step, step), other.step(-step, step)]
        assert stops == [step == 4] * 2
        assert (one.load(0), other.load(0)) == {1: (0, 0), 2: (2, -2), 3: (2, -2), 4: (4, -4)}[step]


def test_names_of_all_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Path, the home folder, and a folder that stands where the file should be."""
    monkeypatch.setenv("HOME", str(tmp_path))
    Checkpoint("~/new/data.json").save([1])
    assert (tmp_path / "new" / "data.json").read_text() == "[1]"
    (tmp_path / "folder.pkl").mkdir()
    checkpoint = Checkpoint(tmp_path / "folder.pkl")
    with pytest.raises(IsADirectoryError):
        checkpoint.load({})
    with pytest.raises(IsADirectoryError):
        checkpoint.save({})
    assert list((tmp_path / "folder.pkl").iterdir()) == []
    assert sorted(one.name for one in tmp_path.iterdir()) == ["folder.pkl", "new"]


def test_large_data_is_not_copied(tmp_path: Path) -> None:
    """A pickle goes to the file as it is made: it does not lie in memory beside the data."""
    checkpoint, data = Checkpoint(str(tmp_path / "data.pkl")), {"array": bytes(32 << 20)}
    tracemalloc.start()
    checkpoint.save(data)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 8 << 20, most
    assert checkpoint.load(None) == data
