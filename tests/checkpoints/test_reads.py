"""Which files are read: real files, other processes, the kernel's word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ckptrun.checkpoints.reads import Reads

READING = {
    "read": "open(path, 'rb').read()",
    "opened to be read": "open(path, 'rb').close()",
    "mapped": "import mmap; file = open(path, 'rb'); mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)[:4]",
    "read and then replaced": "import os; open(path, 'rb').read(); open(path + '2', 'wb').close(); os.replace(path + '2', path)",
}
OTHERWISE = {
    "looked at": "import os; os.stat(path); os.listdir(os.path.dirname(path))",
    "written anew": "open(path, 'wb').write(b'new')",
    "written anew and then read": "open(path, 'wb').write(b'new'); open(path, 'rb').read()",
    "replaced unread": "import os; open(path + '2', 'wb').close(); os.replace(path + '2', path); open(path, 'rb').read()",
    "removed": "import os; os.unlink(path)",
}


def seen(folder: Path, program: str) -> frozenset[str]:
    """Return what was seen of two files while another process did something with the first."""
    paths = [folder / "a.pt", folder / "b.pt"]
    for path in paths:
        path.write_bytes(b"whole")
    reads = Reads(map(str, paths))
    assert reads.complete
    subprocess.run([sys.executable, "-c", f"path = {str(paths[0])!r}\n{program}"], check=True)
    return reads.close()


@pytest.mark.parametrize("program", READING.values(), ids=READING)
def test_a_read_is_seen(tmp_path: Path, program: str) -> None:
    """Whatever way another process reads a file, that file is named, and no other."""
    assert seen(tmp_path, program) == {str(tmp_path / "a.pt")}


@pytest.mark.parametrize("program", OTHERWISE.values(), ids=OTHERWISE)
def test_what_is_no_read_of_what_stood_there(tmp_path: Path, program: str) -> None:
    """Looking, writing, replacing, and reading what was written meanwhile, are no reads of what stood there."""
    assert seen(tmp_path, program) == frozenset()


def test_two_names_of_one_file(tmp_path: Path) -> None:
    """A file that is read through a link is read under each of its names."""
    (tmp_path / "step-1.pt").write_bytes(b"whole")
    (tmp_path / "last.pt").symlink_to("step-1.pt")
    reads = Reads([str(tmp_path / "step-1.pt"), str(tmp_path / "last.pt")])
    (tmp_path / "last.pt").read_bytes()
    assert reads.close() == {str(tmp_path / "step-1.pt"), str(tmp_path / "last.pt")}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """What cannot be watched is said: nobody may conclude from silence that it was not read."""
    assert not Reads([str(tmp_path / "missing")]).complete


def test_what_was_read_before_does_not_count(tmp_path: Path) -> None:
    """Our own verification comes before the watch."""
    (tmp_path / "a.pt").write_bytes(b"whole")
    (tmp_path / "a.pt").read_bytes()
    assert Reads([str(tmp_path / "a.pt")]).close() == frozenset()
