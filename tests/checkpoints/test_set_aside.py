"""Set aside and brought back: nothing is deleted, nothing foreign is left in the folder."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from ckptrun.checkpoints.find import find, newest_whole
from ckptrun.checkpoints.in_place import bring_back, forget_copy, keep_copy
from ckptrun.checkpoints.set_aside import set_all_aside, set_aside


def test_with_its_parts_and_the_state_file_mended(tmp_path: Path) -> None:
    """A TensorFlow checkpoint leaves with index and shards; the `checkpoint` file does not name it any more."""
    folder = tmp_path / "ck"
    folder.mkdir()
    for name in ("2.ckpt.index", "2.ckpt.data-00000-of-00001", "checkpoint", "notes.txt"):
        (folder / name).write_text('model_checkpoint_path: "2.ckpt"\n')
    (found,) = find([str(folder)])
    place = set_aside(found, str(folder), 3)
    assert place == str(tmp_path / "ck.set-aside" / "link-3" / "2.ckpt")
    assert sorted(os.listdir(folder)) == ["notes.txt"]
    assert sorted(os.listdir(os.path.dirname(place))) == ["2.ckpt.data-00000-of-00001", "2.ckpt.index"]


def test_the_last_one_takes_the_folder_with_it(tmp_path: Path) -> None:
    """Some programs fail on an empty folder: it goes, but never the working directory."""
    folder = tmp_path / "ck"
    folder.mkdir()
    (folder / "1.pt").write_bytes(b"PK")
    (found,) = find([str(folder)])
    place = set_aside(found, str(folder), 1)
    assert not folder.exists()
    assert os.path.exists(place)


def test_the_working_directory_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--checkpoint .` only the checkpoint moves."""
    folder = tmp_path / "ck"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "1.pt").write_bytes(b"PK")
    (found,) = find([str(folder)])
    set_aside(found, str(folder), 1)
    assert folder.exists()
    assert os.listdir(folder) == []


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    """The same link sets the same name aside twice: both are kept."""
    file = tmp_path / "state.pkl"
    for _ in range(2):
        file.write_bytes(b"\x80\x04")
        set_aside(find([str(file)])[0], str(file), 1)
    assert sorted(os.listdir(tmp_path / "state.pkl.set-aside" / "link-1")) == ["state.pkl", "state.pkl.2"]


def test_fresh(tmp_path: Path) -> None:
    """Everything under the paths moves; what does not exist is no error."""
    (tmp_path / "ck").mkdir()
    (tmp_path / "ck" / "1.pt").write_text("x")
    (place,) = set_all_aside([str(tmp_path / "ck"), str(tmp_path / "none")], "before-x")
    assert os.path.exists(os.path.join(place, "ck", "1.pt"))
    assert not (tmp_path / "ck").exists()


@pytest.mark.parametrize("root", ["state.pkl", "folder"])
def test_the_copy_of_one_that_is_overwritten(tmp_path: Path, root: str) -> None:
    """Copied when whole, outside the folder, never when it is cut, and brought back where it was."""
    path = tmp_path / root
    file = path if root.endswith(".pkl") else path / "state.pkl"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(pickle.dumps({"n": 1}))
    assert keep_copy(str(path), "mine").path is not None
    file.write_bytes(pickle.dumps({"n": 2})[:-3])
    assert keep_copy(str(path), "mine").path is None, "a cut one never replaces the copy"
    set_aside(newest_whole([str(path)])[1][0], str(path), 2)
    back = bring_back(str(path), "other", missing=False)
    assert back is not None
    assert pickle.loads(file.read_bytes()) == {"n": 1}
    assert os.listdir(path) == ["state.pkl"] if path.is_dir() else True


def test_a_missing_file_is_brought_back_only_to_its_own_chain(tmp_path: Path) -> None:
    """A user who removed the file to begin anew, in another chain, is not given it back."""
    file = tmp_path / "state.pkl"
    file.write_bytes(pickle.dumps({"n": 1}))
    keep_copy(str(file), "mine")
    file.unlink()
    assert bring_back(str(file), "other", missing=True) is None
    assert bring_back(str(file), "mine", missing=True) is not None


def test_what_is_kept_in_generations_is_not_copied(tmp_path: Path) -> None:
    """A folder with several checkpoints, or with a step in the name, is not overwritten in place."""
    for name in ("1.pkl", "2.pkl"):
        (tmp_path / name).write_bytes(pickle.dumps(1))
    assert keep_copy(str(tmp_path), "mine").path is None


@pytest.mark.parametrize("named", [True, False], ids=["a file", "a folder"])
def test_a_copy_is_forgotten_only_where_it_is_not_needed(tmp_path: Path, named: bool) -> None:
    """The chain that made the copy removes it when the checkpoint is whole; not another's, and not beside a cut one."""
    folder = tmp_path / "ck"
    folder.mkdir()
    file = folder / "model.json"
    file.write_text('{"step": 1}')
    root = str(file if named else folder)
    before = sorted(tmp_path.rglob("*"))
    copy = keep_copy(root, "mine").path
    forget_copy(root, "other")
    assert copy is not None and os.path.exists(copy)
    file.write_text('{"step":')
    forget_copy(root, "mine")
    assert os.path.exists(copy)
    file.write_text('{"step": 1}')
    forget_copy(root, "mine")
    assert sorted(tmp_path.rglob("*")) == before
