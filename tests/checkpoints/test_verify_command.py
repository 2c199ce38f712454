"""`ckptrun verify`: one line each, an exit code, JSON."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkpoints.cases import Case, copy


def run(*words: object) -> subprocess.CompletedProcess[str]:
    """Run `ckptrun verify`."""
    command = [sys.executable, "-m", "ckptrun", "verify", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_a_folder_of_checkpoints_newest_first(tmp_path: Path) -> None:
    """Each on a line of its own with the reason; 0 because all are whole; 1 when one is cut, and the others are still said."""
    for step in (2, 10, 9):
        (tmp_path / f"step-{step}.pkl").write_bytes(pickle.dumps([step] * 1000))
    done = run(tmp_path)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [os.path.basename(line.split(":")[0]) for line in lines] == ["step-10.pkl", "step-9.pkl", "step-2.pkl"]
    assert all(": whole: its opcodes run to the end (pickle, " in line for line in lines)
    os.truncate(tmp_path / "step-9.pkl", 100)
    done = run(tmp_path)
    assert (done.returncode, [line.split(": ")[1] for line in done.stdout.splitlines()]) == (1, ["whole", "truncated", "whole"])


def test_not_checked_is_not_whole(tmp_path: Path) -> None:
    """A format that is not checked was not proved: 1, and it is called what it is."""
    (tmp_path / "weights.xyz").write_text("hello")
    done = run(tmp_path / "weights.xyz")
    assert (done.returncode, ": not checked: " in done.stdout) == (1, True)


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    """2, and the others are judged all the same."""
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(1))
    done = run(tmp_path / "none.pt", tmp_path / "a.pkl")
    assert (done.returncode, "a.pkl: whole" in done.stdout) == (2, True)
    assert done.stderr == f"ckptrun: {tmp_path / 'none.pt'}: no such file or folder\n"
    assert run().returncode == 2


def test_an_empty_folder(tmp_path: Path) -> None:
    """Nothing is proved: 1."""
    done = run(tmp_path)
    assert (done.returncode, done.stdout, "no checkpoint" in done.stderr) == (1, "", True)


def test_json(real: Path) -> None:
    """The envelope, a file, a folder, TensorFlow's prefix, and one that is not whole."""
    paths = [real / "torch" / "zip.pt", real / "transformers/run/checkpoint-6", real / "tensorflow" / "managed" / "ckpt-2"]
    done = run("--json", *paths)
    assert done.returncode == 0
    envelope = json.loads(done.stdout)
    assert (envelope["schema"], envelope["kind"]) == ("ckptrun/1", "verify")
    assert [(row["path"], row["status"], row["format"], row["step"]) for row in envelope["data"]] == [
        (str(paths[0]), "whole", "pytorch", None),
        (str(paths[1]), "whole", "hugging-face", 6),
        (str(paths[2]), "whole", "tensorflow", 2),
    ]
    assert all(set(row) == {"path", "status", "why", "format", "size", "step"} and row["why"] for row in envelope["data"])
    assert envelope["data"][0]["size"] == paths[0].stat().st_size


def test_full_reads_what_structure_does_not(real: Path, tmp_path: Path) -> None:
    """A bit turned in the data: its structure is complete, its checksum is wrong."""
    path = copy(real, Case("pytorch", "torch/zip.pt"), tmp_path)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"data/0") + 1000
    raw[at] ^= 1
    path.write_bytes(raw)
    assert run(path).returncode == 0
    done = run("--full", path)
    assert (done.returncode, "the checksum is wrong" in done.stdout) == (1, True)


@pytest.mark.parametrize("state", ["cut", "gone"])
def test_the_file_that_names_the_newest(real: Path, tmp_path: Path, state: str) -> None:
    """TensorFlow's `checkpoint` file is judged with its folder: cut, or naming what is not there, a reader would begin anew."""
    path = copy(real, Case("tensorflow", "tensorflow/managed/ckpt-2"), tmp_path)
    assert run(path.parent).returncode == 0
    text = (path.parent / "checkpoint").read_text()
    (path.parent / "checkpoint").write_text(text[:20] if state == "cut" else text.replace("ckpt-2", "ckpt-7"))
    done = run(path.parent)
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "truncated" in line]
    assert line.startswith(f"{path.parent / 'checkpoint'}: truncated: ")


def test_help_and_typing_errors() -> None:
    """`--help` describes the exit code; an unknown option is 2 without a traceback."""
    assert "exit code is 0 if all are whole" in " ".join(run("--help").stdout.split())
    done = run("--fast", ".")
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
