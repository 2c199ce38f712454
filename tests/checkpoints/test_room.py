"""Room for the next save: a real disk that is small, and what quotas say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ckptrun.checkpoints.room import Room, lacks, of_quota, too_little
from ckptrun.words import Checkpoint


def saved(path: Path, size: int, parts: int = 1) -> Checkpoint:
    """Return a checkpoint of this size."""
    return Checkpoint(str(path), tuple(f"{path}.{number}" for number in range(parts)), None, 0.0, size)


def test_the_disk_itself(tmp_path: Path) -> None:
    """What would fit is no shortage; what cannot fit is, with what is left; a folder that is gone is none."""
    assert too_little(saved(tmp_path / "a.pt", 1000)) is None
    room = too_little(saved(tmp_path / "a.pt", 1 << 60))
    assert room is not None and room.free_bytes is not None
    assert (room.where, room.free_bytes > 0) == ("the disk", True)
    assert too_little(saved(tmp_path / "gone" / "a.pt", 1 << 60)) is None


@pytest.mark.parametrize(
    ("numbers", "room"),
    [
        ((0, 0, 5000, 0, 0, 3), None),
        ((10, 0, 5000, 0, 0, 3), Room(5240, None, "your quota")),
        ((10, 6, 5000, 20, 0, 3), Room(1144, 17, "your quota")),
        ((10, 0, 99999, 4, 2, 3), Room(0, 0, "your quota")),
    ],
)
def test_a_users_quota(numbers: tuple[int, ...], room: Room | None) -> None:
    """Limits are in kB, use is in bytes; the soft limit counts; none of both is no bound; more than the limit leaves nothing."""
    assert of_quota((*numbers, 0, 0, 0)) == room


def test_bytes_and_files() -> None:
    """Either may be what is lacking; None bounds nothing."""
    assert lacks(Room(10, None, ""), 11, 1)
    assert not lacks(Room(10, None, ""), 10, 99)
    assert lacks(Room(None, 2, ""), 1 << 60, 3)
    assert not lacks(Room(None, 3, ""), 1 << 60, 3)


PROGRAM = """
import glob, json, time

def wait_for(word, where):
    while not any(word in open(path).read() for path in glob.glob(where)):
        time.sleep(0.1)

for step, word, where in ((1, "step-1.json", "home/chains/*/events.jsonl"), (2, "may not fit", "said"), (3, "", "said")):
    with open(f"ck/full/step-{step}.json", "w") as file:
        json.dump("x" * 3_000_000, file)
    wait_for(word, where)
"""


def test_a_small_disk_is_said_once_before_it_is_full(tmp_path: Path) -> None:
    """Eight megabytes, three saves of three: after the second, not before, the third is said not to fit. It is only said.

    Each save is made when ckptrun has seen the one before.
    """
    (tmp_path / "ck" / "full").mkdir(parents=True)
    command = (
        f"mount -t tmpfs -o size=8m none ck/full && exec {sys.executable} -m ckptrun --time-limit 60s --checkpoint ck/full -- "
    )
    own_mounts = "-m" if os.geteuid() == 0 else "-rm"
    words = ["unshare", own_mounts, "sh", "-c", f'{command} {sys.executable} -c "$1" 2> said', "sh", PROGRAM]
    environment = os.environ | {"CKPTRUN_HOME": str(tmp_path / "home")}
    done = subprocess.run(words, cwd=tmp_path, env=environment, timeout=600)
    said = (tmp_path / "said").read_text()
    (line,) = [line for line in said.splitlines() if "may not fit" in line]
    assert "the disk has" in line and "ck/full/step-2.json has 3.0 MB" in line
    assert done.returncode == 1 and "No space left" in said
