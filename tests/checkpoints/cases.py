"""Real checkpoints, one of each format, and what is done to them: cut, a part removed, a bit turned."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ckptrun.checkpoints.find import find_named
from ckptrun.checkpoints.formats import verify
from ckptrun.words import Checkpoint

REAL = Path(__file__).parent / "real"
NATIVE, FOREIGN = ("plain", "torch", "tensorflow"), ("orbax", "keras3", "lightning", "transformers", "deepspeed")


class Case(NamedTuple):
    """One real checkpoint: the format that it must be found to have, and where `make` puts it."""

    form: str
    path: str

    @property
    def id(self) -> str:
        """Return the name of the case."""
        return self.path.replace("/", "-")


FILES = (
    Case("pytorch", "torch/zip.pt"),
    Case("pytorch-legacy", "torch/legacy.pt"),
    Case("safetensors", "torch/one.safetensors"),
    *(Case("pickle", f"plain/protocol{protocol}.pkl") for protocol in range(6)),
    Case("json", "plain/plain.json"),
    Case("json", "plain/indented.json"),
    Case("npy", "plain/array.npy"),
    Case("npy", "plain/objects.npy"),
    Case("npy", "plain/records.npy"),
    Case("npz", "plain/stored.npz"),
    Case("npz", "plain/packed.npz"),
    Case("pickle", "plain/plain.joblib"),
    Case("zlib", "plain/packed.joblib"),
    Case("gzip", "plain/packed.joblib.gz"),
    Case("xz", "plain/packed.joblib.xz"),
    Case("bzip2", "plain/packed.joblib.bz2"),
    Case("zlib", "plain/packed.joblib.z"),
    Case("lzma", "plain/packed.joblib.lzma"),
    Case("hdf5", "plain/earliest.h5"),
    Case("hdf5", "plain/v108.h5"),
    Case("hdf5", "plain/latest.h5"),
    Case("gzip", "plain/state.pkl.gz"),
    Case("bzip2", "plain/state.pkl.bz2"),
    Case("xz", "plain/state.pkl.xz"),
    Case("zstd", "plain/state.pkl.zst"),
    Case("zstd", "plain/stream.pkl.zst"),
    Case("keras", "tensorflow/model.keras"),
    Case("hdf5", "tensorflow/model.h5"),
    Case("hdf5", "tensorflow/model.weights.h5"),
    Case("keras", "keras3/model.keras"),
    Case("hdf5", "keras3/model.weights.h5"),
    Case("pytorch", "lightning/epochs/last.ckpt"),
)
SEVERAL = (
    Case("sharded", "torch/sharded/model.safetensors.index.json"),
    Case("sharded", "transformers/sharded/model.safetensors.index.json"),
    Case("distributed", "torch/distributed-3"),
    Case("tensorflow", "tensorflow/managed/ckpt-2"),
    Case("saved-model", "tensorflow/saved-model"),
    Case("hugging-face", "transformers/run/checkpoint-6"),
    Case("deepspeed", "deepspeed/run/global_step2"),
    Case("orbax", "orbax/steps/10"),
    Case("orbax", "orbax/zarr"),
)


def make(folder: Path) -> None:
    """Write, or unpack, all real checkpoints into a folder."""
    writers = [subprocess.Popen([sys.executable, "-m", "tests.checkpoints.native", name, str(folder / name)]) for name in NATIVE]
    for name in FOREIGN:
        with tarfile.open(REAL / f"{name}.tar.gz") as packed:
            packed.extractall(folder / name, filter="data")
    assert [writer.wait() for writer in writers] == [0] * len(writers)


def copy(real: Path, case: Case, folder: Path) -> Path:
    """Return a copy of a case in a folder of its own, with what stands beside it where that belongs to it."""
    source = real / case.path
    target = folder / source.parent.name / source.name
    # The siblings of these are evidence of what a folder must hold; the others of several files are no folders.
    if case.form in ("hugging-face", "deepspeed", "sharded", "tensorflow"):
        shutil.copytree(source.parent, target.parent)
    elif source.is_dir():
        shutil.copytree(source, target)
    else:
        target.parent.mkdir(parents=True)
        shutil.copy2(source, target)
    return target


def look(path: Path, full: bool = False) -> Checkpoint:
    """Return the verified checkpoint that a path names."""
    found = find_named(str(path))
    assert found is not None and len(found) == 1, f"{path}: {found}"
    return verify(found[0], full)


def lengths(size: int, dice: random.Random, count: int = 200) -> list[int]:
    """Return lengths to cut a file to, falling: random ones, and all near its ends."""
    near = {*range(min(20, size)), *range(max(size - 20, 0), size)}
    return sorted(near | {dice.randrange(size) for _ in range(count)}, reverse=True)


def flips(raw: bytes, dice: random.Random, count: int = 200) -> Iterator[tuple[int, bytes]]:
    """Yield positions of bits, and the bytes with that one bit turned."""
    for _ in range(count):
        place = dice.randrange(8 * len(raw))
        turned = bytearray(raw)
        turned[place // 8] ^= 1 << place % 8
        yield place, bytes(turned)
