"""Set aside and brought back: nothing is deleted, nothing foreign is left in the folder."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from ckptrun.checkpoints.find import find, newest_whole
from ckptrun.checkpoints.in_place import bring_back, forget_copy, keep_copy
from ckptrun.checkpoints.set_aside import set_all_aside, set_aside, set_leftovers_aside


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


def test_a_path_that_is_a_link_stays_one(tmp_path: Path) -> None:
    """A folder on another disk: what is set aside stays there, beside it, and the link leads to the folder still."""
    (tmp_path / "scratch").mkdir()
    (tmp_path / "scratch/files").mkdir()
    (tmp_path / "ck").symlink_to("scratch/files")
    root = str(tmp_path / "ck")
    for name in ("1.pt", "2.pt.tmp"):
        (tmp_path / "ck" / name).write_bytes(b"PK")
    assert set_leftovers_aside(root, 1, older_than_unix=float("inf")) == ["2.pt.tmp"]
    place = set_aside(find([root])[0], root, 1)
    assert place == str(tmp_path / "scratch/files.set-aside/link-1/1.pt") and os.path.exists(place)
    assert (tmp_path / "ck").is_symlink() and os.listdir(root) == []
    (tmp_path / "ck" / "3.pt").write_bytes(b"PK")
    set_all_aside([root], "before-x")
    assert (tmp_path / "scratch/files.set-aside/before-x/files/3.pt").exists()
    assert (tmp_path / "ck").is_symlink() and os.listdir(root) == []


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


def test_a_copy_for_which_there_is_no_room_leaves_nothing(tmp_path: Path) -> None:
    """A file-size limit stands for a quota that is reached: no half of a copy is left to take the room of the next save."""
    file = tmp_path / "state.pkl"
    file.write_bytes(pickle.dumps(bytes(300_000)))
    program = (
        "import resource, sys\nfrom ckptrun.checkpoints.in_place import keep_copy\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\nprint(keep_copy(sys.argv[1], 'mine'))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True)
    assert "File too large" in done.stdout
    assert os.listdir(tmp_path) == ["state.pkl"]


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


def test_a_folder_moves_as_a_folder(tmp_path: Path) -> None:
    """A checkpoint that is a folder leaves with all that is in it; its siblings stay; `latest` names the one before."""
    for step in (1, 2):
        folder = tmp_path / "ck" / f"global_step{step}"
        folder.mkdir(parents=True)
        (folder / "mp_rank_00_model_states.pt").write_bytes(pickle.dumps(step))
    (tmp_path / "ck" / "latest").write_text("global_step2")
    newest, older = find([str(tmp_path / "ck")])
    assert newest.form == "deepspeed"
    place = set_aside(newest, str(tmp_path / "ck"), 4)
    assert place == str(tmp_path / "ck.set-aside" / "link-4" / "global_step2")
    assert os.listdir(place) == ["mp_rank_00_model_states.pt"]
    assert sorted(os.listdir(tmp_path / "ck")) == ["global_step1", "latest"]
    assert (tmp_path / "ck" / "latest").read_text() == "global_step1"
    set_aside(older, str(tmp_path / "ck"), 4)
    assert not (tmp_path / "ck").exists(), "the last one takes the folder with it, and `latest`"


def test_the_named_folder_is_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--checkpoint saved`: the folder moves; from inside it, where it must stay, all that is in it does."""
    for name in ("saved", "stays"):
        (tmp_path / name / "variables").mkdir(parents=True)
        (tmp_path / name / "saved_model.pb").write_bytes(b"x")
        (tmp_path / name / "variables" / "variables.index").write_bytes(b"x")
    (found,) = find([str(tmp_path / "saved")])
    place = set_aside(found, str(tmp_path / "saved"), 1)
    assert (place, sorted(os.listdir(place))) == (str(tmp_path / "saved.set-aside/link-1/saved"), ["saved_model.pb", "variables"])
    monkeypatch.chdir(tmp_path / "stays")
    (found,) = find([str(tmp_path / "stays")])
    place = set_aside(found, str(tmp_path / "stays"), 1)
    assert os.listdir(tmp_path / "stays") == ["variables"]
    assert os.listdir(os.path.join(place, "variables")) == ["variables.index"]


def test_a_rank_that_did_not_come_to_its_file(tmp_path: Path) -> None:
    """Three ranks wrote step 1, two step 2: that is not whole, and moves with all its files; a gap between ranks is none either."""
    names = ["step-1-rank0.pkl", "step-1-rank1.pkl", "step-1-rank2.pkl", "step-2-rank0.pkl", "step-2-rank1.pkl"]
    (tmp_path / "ck").mkdir()
    for name in names:
        (tmp_path / "ck" / name).write_bytes(pickle.dumps(name))
    newest, truncated = newest_whole([str(tmp_path / "ck")])
    assert newest is not None
    assert (os.path.basename(newest.path), len(newest.parts), newest.step) == ("step-1-rank0.pkl", 3, 1)
    assert [one.why for one in truncated] == ["the file of rank 2 is missing"]
    set_aside(truncated[0], str(tmp_path / "ck"), 5)
    assert sorted(os.listdir(tmp_path / "ck")) == names[:3]
    assert sorted(os.listdir(tmp_path / "ck.set-aside" / "link-5")) == names[3:]
    (tmp_path / "ck" / "step-1-rank1.pkl").unlink()
    assert [one.why for one in newest_whole([str(tmp_path / "ck")])[1]] == ["the file of rank 1 is missing"]


def put(folder: Path, names: Iterable[str], at: float = 1000.0) -> None:
    """Write files of these names, dated `at`."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
        os.utime(folder / name, (at, at))


LEFT = ["12.pt.tmp", "tmpa1b2c3d4", "7.ckpt_temp/part-0", "9.orbax-checkpoint-tmp/default/d/x", "tmp-checkpoint-5/a", "x.partial"]
KEPT = ["11.pt", "checkpoint", ".gitignore", "model.pt~", "tmp/mine.txt", "notes.txt", "checkpoint-4/a.pth", "1.pt.ckptrun-last"]
INSIDE = ["checkpoint-4/a.tmp"]


def test_what_a_dead_writer_left_is_set_aside(tmp_path: Path) -> None:
    """Temporary files and folders leave; checkpoints and what is in their folders, hidden files and a person's own stay."""
    folder = tmp_path / "ck"
    put(folder, LEFT + KEPT + INSIDE)
    (folder / "8.orbax-checkpoint-tmp-1").mkdir()
    found = set_leftovers_aside(str(folder), 3, older_than_unix=float("inf"))
    assert sorted(found) == sorted({name.split("/")[0] for name in LEFT} | {"8.orbax-checkpoint-tmp-1"})
    assert sorted(os.listdir(folder)) == sorted({name.split("/")[0] for name in KEPT})
    assert (folder / INSIDE[0]).exists()
    assert sorted(os.listdir(tmp_path / "ck.set-aside" / "link-3")) == sorted(found)
    assert set_leftovers_aside(str(folder), 3, older_than_unix=float("inf")) == []


def test_what_is_still_written_to_stays(tmp_path: Path) -> None:
    """A file that is younger than what counts as left behind, and a folder with such a file in it."""
    put(tmp_path / "ck", ["1.pt.tmp", "2.orbax-checkpoint-tmp/a"], at=100.0)
    put(tmp_path / "ck", ["3.pt.tmp", "2.orbax-checkpoint-tmp/b"], at=200.0)
    assert set_leftovers_aside(str(tmp_path / "ck"), 1, older_than_unix=150.0) == ["1.pt.tmp"]


def test_a_folder_with_nothing_but_leftovers_moves_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some programs fail on an empty folder; but never the working directory. A file, and what does not exist, are no error."""
    for name in ("ck", "here"):
        put(tmp_path / name, ["1.pt.tmp"])
    assert set_leftovers_aside(str(tmp_path / "ck"), 1, older_than_unix=float("inf")) == ["1.pt.tmp"]
    assert not (tmp_path / "ck").exists()
    assert (tmp_path / "ck.set-aside" / "link-1" / "ck" / "1.pt.tmp").exists()
    monkeypatch.chdir(tmp_path / "here")
    put(tmp_path / "here", ["download.part"])
    assert set_leftovers_aside(str(tmp_path / "here"), 1, older_than_unix=float("inf")) == ["1.pt.tmp"]
    assert os.listdir(tmp_path / "here") == ["download.part"], "it may be anybody's"
    put(tmp_path, ["state.pkl"])
    for path in (tmp_path / "state.pkl", tmp_path / "none"):
        assert set_leftovers_aside(str(path), 1, older_than_unix=float("inf")) == []


def test_a_sharded_one_moves_with_its_shards(tmp_path: Path) -> None:
    """Index and shards leave together."""
    for name in ("a-00001-of-00002.safetensors", "a-00002-of-00002.safetensors", "a.safetensors.index.json", "b.pt"):
        (tmp_path / "ck").mkdir(exist_ok=True)
        (tmp_path / "ck" / name).write_bytes(b"x")
    found = next(one for one in find([str(tmp_path / "ck")]) if one.form == "sharded")
    set_aside(found, str(tmp_path / "ck"), 1)
    assert os.listdir(tmp_path / "ck") == ["b.pt"]
    assert len(os.listdir(tmp_path / "ck.set-aside" / "link-1")) == 3
