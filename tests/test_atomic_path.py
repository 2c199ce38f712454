"""atomic_path: the old file or the new one, whole, whatever dies when; the training's own errors are its own."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import ckptrun
from tests.end_to_end.harness import CHILDREN

MODULE = Path(ckptrun.__file__)


def leftovers(folder: Path) -> list[str]:
    """Return the temporaries in a folder."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def die_at(line: int, name: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Save in a process that is killed at a line, or ends well where it has fewer lines."""
    command = [sys.executable, "-I", "-S", str(CHILDREN / "dies_at_line.py"), str(MODULE), str(name), str(line), *words]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("old", ["old", None], ids=["over an old file", "where none stood"])
def test_killed_at_every_line(tmp_path: Path, old: str | None) -> None:
    """SIGKILL at each line of the save, one process a line: never anything but the old file or the new one; both are seen."""
    name = tmp_path / "step-1.json"
    seen: list[str | None] = []
    done = None
    while done is None or done.returncode == -signal.SIGKILL:
        name.unlink(missing_ok=True)
        if old is not None:
            name.write_text(old)
        done = die_at(len(seen) + 1, name)
        seen.append(name.read_text() if name.exists() else None)
    assert done.returncode == 0, done.stderr
    assert len(seen) > 30, "few lines were run: are they counted at all?"
    assert set(seen) == {old, "new"}
    assert seen == sorted(seen, key=lambda content: content == "new"), "the new file stays once it is there"


def test_an_exception_leaves_the_old_file(tmp_path: Path) -> None:
    """The block's exception is raised as it is, the old file stands, the temporary is gone; Ctrl-C as well."""
    name = tmp_path / "step-1.pt"
    name.write_text("old")
    for error in (ZeroDivisionError("mine"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, ckptrun.atomic_path(name) as path:
            Path(path).write_text("half")
            raise error
        assert caught.value is error
        assert name.read_text() == "old"
        assert leftovers(tmp_path) == []


def test_a_write_that_fails_is_raised(tmp_path: Path) -> None:
    """A full disk: the training hears of it, the old file stands, the temporary is gone."""
    name = tmp_path / "step-1.pt"
    name.write_text("old")
    program = f"""
import importlib.util, resource, signal
spec = importlib.util.spec_from_file_location("ckptrun", {str(MODULE)!r})
ckptrun = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ckptrun)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with ckptrun.atomic_path({str(name)!r}) as path, open(path, "wb") as file:
    file.write(bytes(100000))
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert "OSError" in done.stderr and "File too large" in done.stderr
    assert name.read_text() == "old"
    assert leftovers(tmp_path) == []


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    """A writer that adds a suffix of its own, or forgets to write: said, not passed over."""
    with pytest.raises(FileNotFoundError, match="nothing was written"), ckptrun.atomic_path(tmp_path / "a.pt"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_is_beside_it_and_looks_like_none(tmp_path: Path) -> None:
    """Same folder, made where it is missing; the suffix stays, the name says that it is a temporary; two are never the same."""
    from ckptrun.checkpoints.find import is_temporary

    name = tmp_path / "new" / ("x" * 240 + ".keras")
    with ckptrun.atomic_path(name) as path, ckptrun.atomic_path(name) as other:
        assert os.path.dirname(path) == str(tmp_path / "new")
        assert path.endswith(".keras") and path != other
        assert is_temporary(os.path.basename(path))
        Path(path).write_text("1")
        Path(other).write_text("2")
    assert name.read_text() == "1", "the block that ended last"


def test_a_change_of_directory_inside_the_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative name means the folder in which the block began."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with ckptrun.atomic_path("a.json") as path:
        os.chdir("elsewhere")
        Path(path).write_text("1")
    assert (tmp_path / "a.json").read_text() == "1"


def test_a_link_and_a_mode_stay(tmp_path: Path) -> None:
    """A symbolic link is followed, as open does; the mode of the old file is the new one's."""
    target, name = tmp_path / "real.pt", tmp_path / "last.pt"
    target.write_text("old")
    target.chmod(0o640)
    name.symlink_to("real.pt")
    with ckptrun.atomic_path(name) as path:
        Path(path).write_text("new")
    assert name.is_symlink() and target.read_text() == "new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_folder(tmp_path: Path) -> None:
    """A checkpoint that is a folder appears whole; over one that stands it is an error, and the old one stays."""
    for content in ("1", "2"):
        try:
            with ckptrun.atomic_path(tmp_path / "step-1") as path:
                os.makedirs(os.path.join(path, "shard"))
                Path(path, "shard", "0.bin").write_text(content)
        except OSError as error:
            assert content == "2", error
    assert (tmp_path / "step-1" / "shard" / "0.bin").read_text() == "1"
    assert leftovers(tmp_path) == []


def fill(folder: Path, content: str) -> None:
    """Save a checkpoint of two files through atomic_dir."""
    with ckptrun.atomic_dir(folder) as path:
        Path(path, "shard").mkdir()
        for name in ("state.bin", "shard/0.bin"):
            Path(path, name).write_text(content)


def contents(folder: Path) -> set[str]:
    """Return what the files of a checkpoint say."""
    return {path.read_text() for path in folder.rglob("*.bin")}


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    """atomic_dir: new where none stands, exchanged with the one that stands, and nothing is left beside it."""
    for content in ("1", "2"):
        fill(tmp_path / "new" / "step-1", content)
        assert contents(tmp_path / "new" / "step-1") == {content}
        assert leftovers(tmp_path / "new") == []


def test_a_folder_keeps_its_mode(tmp_path: Path) -> None:
    """Who could read the old checkpoint, and who could not, stays so: a file's mode is no folder's."""
    fill(tmp_path / "step-1", "old")
    (tmp_path / "step-1").chmod(0o700)
    fill(tmp_path / "step-1", "new")
    assert stat.S_IMODE((tmp_path / "step-1").stat().st_mode) == 0o700
    (tmp_path / "step-2").write_text("a file")
    (tmp_path / "step-2").chmod(0o600)
    fill(tmp_path / "step-2", "new")
    assert contents(tmp_path / "step-2") == {"new"}, "it can be listed"


@pytest.mark.parametrize("name", [".", "..", "../work", "link"])
def test_the_working_directory_is_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A folder that is replaced is removed: not the one in which the training works, nor one above it, whatever it is called."""
    (tmp_path / "work" / "data").mkdir(parents=True)
    (tmp_path / "work" / "train.py").write_text("mine")
    (tmp_path / "work" / "link").symlink_to(".")
    monkeypatch.chdir(tmp_path / "work")
    with pytest.raises(OSError, match="working directory"), ckptrun.atomic_dir(name) as path:
        Path(path, "state.bin").write_text("new")
    assert (tmp_path / "work" / "train.py").read_text() == "mine" and leftovers(tmp_path) == []
    fill(Path("data"), "below it may be replaced")
    monkeypatch.chdir(tmp_path)
    fill(Path("wor"), "a name that begins like it is another")


def test_a_name_that_was_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty name is what it is for `open`, before anything is written; nothing is left beside the working directory."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for save in (ckptrun.atomic_path, ckptrun.atomic_dir):
        with pytest.raises(FileNotFoundError, match="empty name"):
            save("")
    assert os.listdir(tmp_path) == ["work"]


def test_a_device_stays_what_it_is(tmp_path: Path) -> None:
    """Renamed over /dev/null a checkpoint would take its place, for all programs where the training is root."""
    os.mkfifo(tmp_path / "pipe")
    for save in (ckptrun.atomic_path, ckptrun.atomic_dir):
        with pytest.raises(OSError, match="neither a file nor a folder"), save(tmp_path / "pipe"):
            pytest.fail("refused before anything is written")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode) and leftovers(tmp_path) == []


def test_a_folder_without_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system cannot exchange two names the old folder is moved out of the way first."""
    monkeypatch.setattr(ckptrun, "_exchange", lambda one, other: False)
    test_a_folder_is_replaced_whole(tmp_path)


def test_a_folder_that_cannot_take_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names cannot be exchanged, and the second rename fails, or Ctrl-C is pressed before it: the old checkpoint is back."""
    rename = os.rename
    for error in (OSError(28, "No space left on device"), KeyboardInterrupt()):
        fill(tmp_path / "step-1", "old")
        told: list[str] = []

        def failing(one: str, other: str, error: BaseException = error, told: list[str] = told) -> None:
            told.append(other)
            if len(told) == 2:
                raise error
            rename(one, other)

        monkeypatch.setattr(ckptrun, "_exchange", lambda one, other: False)
        monkeypatch.setattr(os, "rename", failing)
        with pytest.raises(type(error)):
            fill(tmp_path / "step-1", "new")
        monkeypatch.undo()
        assert contents(tmp_path / "step-1") == {"old"} and leftovers(tmp_path) == []


def test_two_processes_save_one_folder(tmp_path: Path) -> None:
    """Both at once, again and again, where nothing stands and where something does: whole each time, and no save is refused."""
    program = f"""
import importlib.util, os
spec = importlib.util.spec_from_file_location("ckptrun", {str(MODULE)!r})
ckptrun = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ckptrun)
for number in range(40):
    with ckptrun.atomic_dir({str(tmp_path)!r} + "/step-%d" % (number // 2)) as path, open(path + "/state", "w") as file:
        file.write("whole")
"""
    processes = [subprocess.Popen([sys.executable, "-I", "-S", "-c", program]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert [path.read_text() for path in tmp_path.glob("step-*/state")] == ["whole"] * 20
    assert leftovers(tmp_path) == []


def test_what_a_folder_may_hold(tmp_path: Path) -> None:
    """Links to nothing, and a pipe that nobody writes to, do not hold up or end the save of what stands beside them."""
    with ckptrun.atomic_dir(tmp_path / "step-1") as path:
        os.symlink("nowhere", os.path.join(path, "latest"))
        os.mkfifo(os.path.join(path, "pipe"))
        with ckptrun.atomic_path(os.path.join(path, "state.bin")) as state:
            Path(state).write_text("1")
    assert sorted(os.listdir(tmp_path / "step-1")) == ["latest", "pipe", "state.bin"]


def test_names_of_all_kinds(tmp_path: Path) -> None:
    """As long as a file's name may be, of letters of three bytes each, a long ending, bytes, a dot in front, a link to nothing."""
    names: list[str | bytes] = ["\u6b65" * 83 + ".pt", "a." + "b" * 250, b"c\xff.pt", ".hidden", "val_loss=0.125"]
    (tmp_path / "link.pt").symlink_to("new/of-link.pt")
    for name in [*names, "link.pt"]:
        full = os.path.join(os.fsencode(tmp_path), os.fsencode(name))
        for content in ("1", "2"):
            with ckptrun.atomic_path(full) as path, open(path, "w") as file:  # type: ignore[arg-type]
                file.write(content)
        assert Path(os.fsdecode(full)).read_text() == "2"
    assert (tmp_path / "link.pt").is_symlink() and (tmp_path / "new" / "of-link.pt").read_text() == "2"
    assert leftovers(tmp_path) == [".hidden"]


def test_over_a_folder_and_over_a_file(tmp_path: Path) -> None:
    """A file over a folder is the training's error, and the folder stays; a folder over a file takes its place."""
    fill(tmp_path / "step-1", "old")
    with pytest.raises(IsADirectoryError), ckptrun.atomic_path(tmp_path / "step-1") as path:
        Path(path).write_text("new")
    assert contents(tmp_path / "step-1") == {"old"}
    (tmp_path / "step-2").write_text("a file")
    fill(tmp_path / "step-2", "new")
    assert contents(tmp_path / "step-2") == {"new"} and leftovers(tmp_path) == []


def test_a_block_within_a_block(tmp_path: Path) -> None:
    """Of the same name: each is whole when it ends, and an error of the outer one does not take the inner one back."""
    with pytest.raises(ZeroDivisionError), ckptrun.atomic_path(tmp_path / "a.pt") as outer:
        Path(outer).write_text("outer")
        with ckptrun.atomic_path(tmp_path / "a.pt") as inner:
            Path(inner).write_text("inner")
        assert (tmp_path / "a.pt").read_text() == "inner"
        raise ZeroDivisionError
    assert (tmp_path / "a.pt").read_text() == "inner" and leftovers(tmp_path) == []


def test_a_folder_that_was_not_finished(tmp_path: Path) -> None:
    """An exception, or an empty folder: raised, the old checkpoint stands, the temporary is gone."""
    fill(tmp_path / "step-1", "old")
    with pytest.raises(ZeroDivisionError), ckptrun.atomic_dir(tmp_path / "step-1") as path:
        Path(path, "state.bin").write_text("half")
        raise ZeroDivisionError
    with pytest.raises(FileNotFoundError, match="nothing was written"), ckptrun.atomic_dir(tmp_path / "step-1"):
        pass
    assert contents(tmp_path / "step-1") == {"old"} and leftovers(tmp_path) == []


def test_a_folder_killed_at_every_line(tmp_path: Path) -> None:
    """SIGKILL at each line of a save over a folder that stands: it is the old one or the new one, with all its files."""
    name = tmp_path / "step-1"
    seen: list[set[str]] = []
    done = None
    while done is None or done.returncode == -signal.SIGKILL:
        shutil.rmtree(name, ignore_errors=True)
        fill(name, "old")
        done = die_at(len(seen) + 1, name, "--folder")
        seen.append(contents(name))
    assert done.returncode == 0, done.stderr
    assert len(seen) > 30 and {"old"} in seen and {"new"} in seen
    assert all(found in ({"old"}, {"new"}) for found in seen), seen
    assert seen == sorted(seen, key=lambda found: found == {"new"})
