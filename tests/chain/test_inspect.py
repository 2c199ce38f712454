"""Which chain a word of a person names."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckptrun.chain import inspect, jobs
from ckptrun.errors import UsageError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a state folder with the chains of an array of two tasks, as batch scripts leave them, and of one job."""
    monkeypatch.setenv("CKPTRUN_HOME", str(tmp_path))
    for chain, job in (("sweep-70_1", "70_1"), ("sweep-70_2", "70_2"), ("mnist-71", "71")):
        folder = tmp_path / "chains" / chain
        folder.mkdir(parents=True)
        (folder / "chain.json").write_text("{}")
        jobs.step_folder(str(tmp_path), "here", job, "0.None")
        assert jobs.enter(str(tmp_path), "here", job, jobs.Entry(chain, 1, 1.0, 0, "job.sh", "/"))
    return tmp_path


@pytest.mark.parametrize(("word", "chain"), [("70_2", "sweep-70_2"), ("71", "mnist-71"), ("mnist", "mnist-71")])
def test_a_job_or_a_beginning_names_a_chain(home: Path, word: str, chain: str) -> None:
    """The id of a job, of a task of an array, or the beginning of the chain's id."""
    assert inspect.find_chain(word).id == chain


@pytest.mark.parametrize("word", ["70", "sweep", ""])
def test_a_word_that_names_several_says_which(home: Path, word: str) -> None:
    """An array's id, and a beginning that several have: one sentence that names them, and quotes what was typed."""
    with pytest.raises(UsageError, match=f"^'{word}' names [23] chains: .*sweep-70_1.*: say which"):
        inspect.find_chain(word)
