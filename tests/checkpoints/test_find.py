"""What is a checkpoint, and which one is the newest."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptrun.checkpoints.find import Entry, arrange, find, step_of


def entry(path: str, at: float = 1.0, size: int = 10) -> Entry:
    """Return a file that exists only here."""
    return Entry(path, SimpleNamespace(st_size=size, st_mtime_ns=int(at * 1e9), st_ino=1))


def order(*files: Entry) -> list[str]:
    """Return the names of the checkpoints, newest first."""
    return [os.path.basename(one.path) for one in arrange(list(files), frozenset())]


def test_what_is_no_checkpoint() -> None:
    """Logs, configuration, temporaries, hidden files, state files."""
    names = [
        "train.log",
        "config.yaml",
        "config.json",
        "events.out.tfevents.1",
        "a.pt.tmp",
        ".a.pt.swp",
        "checkpoint",
        "tmpabc",
        "x.py",
    ]
    assert order(*(entry(f"/ck/{name}") for name in names)) == []


def test_newest_by_step_where_names_say_it() -> None:
    """The number decides, also above nine, and also where two were written at the same time."""
    assert order(entry("/ck/9.pt", 1), entry("/ck/10.pt", 1), entry("/ck/2.pt", 0)) == ["10.pt", "9.pt", "2.pt"]


def test_a_slots_number_is_no_step() -> None:
    """`ckpt-0` and `ckpt-1` in turn: the number falls while time rises, so time decides."""
    assert order(entry("/ck/ckpt-0.pt", 30), entry("/ck/ckpt-1.pt", 20)) == ["ckpt-0.pt", "ckpt-1.pt"]


def test_names_without_a_step_go_by_time() -> None:
    """One name without a number: time decides for all."""
    assert order(entry("/ck/best.pt", 3), entry("/ck/7.pt", 2), entry("/ck/8.pt", 1)) == ["best.pt", "7.pt", "8.pt"]


def test_shards_without_an_index_are_not_yet_a_checkpoint() -> None:
    """TensorFlow writes the index last."""
    assert order(entry("/ck/3.ckpt.data-00000-of-00001")) == []
    assert order(entry("/ck/3.ckpt.data-00000-of-00001"), entry("/ck/3.ckpt.index")) == ["3.ckpt"]


@pytest.mark.parametrize(
    ("name", "step"),
    [("ckpt-0012.pt", 12), ("model.pt", None), ("7.ckpt", 7), ("epoch3-step400.pt", 400), ("loss0.25-3.pth", 3), ("v2_model", 2)],
)
def test_step_of_a_name(name: str, step: int | None) -> None:
    """The last number in the name, without its ending; a fraction is no step."""
    assert step_of(f"/x1/{name}") == step


def test_paths_that_do_not_exist_hold_nothing(tmp_path: Path) -> None:
    """A missing folder, an empty one, a named file that is missing, one that exists whatever its name."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "state.log").write_text("x")
    assert find([str(tmp_path / "missing"), str(tmp_path / "empty"), str(tmp_path / "none.pkl")]) == ()
    assert [one.path for one in find([str(tmp_path / "state.log")])] == [str(tmp_path / "state.log")]


NUMBERED = st.dictionaries(st.integers(0, 50), st.integers(0, 1000), min_size=1, max_size=8)


@given(NUMBERED)
def test_the_newest_equals_its_specification(files: dict[int, int]) -> None:
    """For one naming pattern: by step if steps and times agree, else by time and then by step."""
    found = order(*(entry(f"/ck/step-{step}.pt", at) for step, at in files.items()))
    by_time = sorted(files, key=lambda step: (files[step], step))
    agree = by_time == sorted(files)
    expected = sorted(files) if agree else by_time
    assert found[0] == f"step-{expected[-1]}.pt"
