"""Whole or truncated: real files made by the real libraries, cut at many lengths. Nothing is unpickled."""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from ckptrun.checkpoints.find import find, newest_whole
from ckptrun.checkpoints.formats import verify
from ckptrun.words import Verdict

STATE = {"step": 7, "model": OrderedDict(a=torch.randn(40, 30), b=torch.zeros(3)), "names": ["x", "y"], "lr": 0.1, "big": 1 << 80}


def save(path: Path) -> None:
    """Write a checkpoint in the format that the name says."""
    if path.name == "legacy.pt":
        torch.save(STATE, path, _use_new_zipfile_serialization=False)
    elif path.suffix == ".pt":
        torch.save(STATE, path)
    elif path.suffix == ".json":
        path.write_text(json.dumps({"step": 7, "weights": [0.5] * 50}))
    else:
        protocol = int(path.stem[-1])
        state = {"counter": 5, "rows": [list(range(30)), "text\n" * 9, b"bytes", 1.5, (None, True), {1, 2}, 1 << 3000, "x" * 300]}
        path.write_bytes(pickle.dumps(state, protocol))


NAMES = ["model.pt", "data.json", *(f"state-{protocol}.pkl" for protocol in range(6))]


@pytest.mark.parametrize("name", [*NAMES, "legacy.pt"])
def test_a_whole_file_is_whole(tmp_path: Path, name: str) -> None:
    """What the library wrote is whole."""
    save(tmp_path / name)
    assert [verify(one).verdict for one in find([str(tmp_path)])] == [Verdict.WHOLE]


@pytest.mark.parametrize("name", NAMES)
def test_every_cut_is_found(tmp_path: Path, name: str) -> None:
    """Cut at 200 random lengths, at every one of the first and of the last twenty bytes: truncated each time."""
    save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    dice = random.Random(1)
    lengths = {0, *range(1, 20), *range(len(whole) - 20, len(whole)), *(dice.randrange(len(whole)) for _ in range(200))}
    for length in sorted(one for one in lengths if 0 <= one < len(whole)):
        (tmp_path / name).write_bytes(whole[:length])
        (found,) = find([str(tmp_path)])
        assert verify(found).verdict is Verdict.TRUNCATED, f"cut to {length} of {len(whole)} bytes"


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch was-run",)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pickle and a `.pt` that would run a command on load are verified, and nothing is run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil-1.pkl").write_bytes(pickle.dumps(Evil()))
    torch.save({"x": Evil()}, tmp_path / "evil-2.pt")
    assert {verify(one).verdict for one in find([str(tmp_path)])} == {Verdict.WHOLE}
    assert not (tmp_path / "was-run").exists()


def test_a_large_sparse_file_takes_milliseconds(tmp_path: Path) -> None:
    """A zip file of 5 GB is verified by its directory; what is in it is not read (bytes read are counted, not timed)."""
    path = tmp_path / "large.pt"
    program = (
        "import sys, zipfile\nwith zipfile.ZipFile(sys.argv[1], 'w') as z:\n  with z.open('a/data.pkl', 'w') as f: f.write(b'x')"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    raw = path.read_bytes()
    start = raw.index(b"PK\x01\x02")
    assert start < 200
    with open(path, "wb") as file:  # 5 GB of nothing before the zip file: readers find it from its end
        file.seek(5 * 10**9)
        file.write(raw)
    before = _read_bytes()
    (found,) = find([str(tmp_path)])
    assert verify(found._replace(size=path.stat().st_size)).verdict is not None
    assert _read_bytes() - before < 10**6


def _read_bytes() -> int:
    return int(next(line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar")).split()[1])


TENSORFLOW = """
import sys, tensorflow as tf
model = tf.keras.Sequential([tf.keras.layers.Dense(64, input_shape=(32,)), tf.keras.layers.Dense(4)])
for epoch in (1, 2):
    model.save_weights(f"{sys.argv[1]}/{epoch}.ckpt")
"""


@pytest.fixture(scope="module")
def tensorflow_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two real TensorFlow checkpoints."""
    folder = tmp_path_factory.mktemp("tensorflow")
    subprocess.run([sys.executable, "-c", TENSORFLOW, str(folder)], check=True, capture_output=True)
    return folder


def test_tensorflow(tensorflow_folder: Path, tmp_path: Path) -> None:
    """One checkpoint is index and shards together; a cut index, a cut shard and a missing shard are found."""
    for file in tensorflow_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    newest, truncated = newest_whole([str(tmp_path)])
    assert newest is not None
    assert (newest.path, newest.step, newest.verdict, truncated) == (str(tmp_path / "2.ckpt"), 2, Verdict.WHOLE, ())
    for name in ("2.ckpt.index", "2.ckpt.data-00000-of-00001"):
        whole = (tmp_path / name).read_bytes()
        for length in sorted({0, 1, len(whole) // 2, len(whole) - 1, *random.Random(2).sample(range(len(whole)), 60)}):
            (tmp_path / name).write_bytes(whole[:length])
            os.utime(tmp_path / name)
            newest, truncated = newest_whole([str(tmp_path)])
            assert newest is not None
            assert os.path.basename(newest.path) == "1.ckpt", f"{name} cut to {length} of {len(whole)} bytes"
            assert [os.path.basename(one.path) for one in truncated] == ["2.ckpt"]
        (tmp_path / name).write_bytes(whole)
    (tmp_path / "2.ckpt.data-00000-of-00001").unlink()
    assert os.path.basename(newest_whole([str(tmp_path)])[0].path) == "1.ckpt"
