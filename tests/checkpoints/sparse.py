"""Checkpoints of any size that take no room: real structure, with holes where the data would be."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np


def pytorch(path: Path, size: int) -> None:
    """PyTorch's zip file with one storage of `size` bytes, in the long form that sizes above 4 GB need."""
    head = b"\x80\x02ctorch\nByteStorage\nq\x00(X\x07\x00\x00\x00storageh\x00X\x01\x00\x00\x000X\x03\x00\x00\x00cpu\x8a\x05"
    data = head + struct.pack("<Q", size)[:5] + b"tQ."
    with path.open("wb") as file:
        directory = b""
        for name, length, raw in (("a/data.pkl", len(data), data), ("a/data/0", size, None), ("a/version", 2, b"3\n")):
            offset, text = file.tell(), name.encode()
            file.write(struct.pack("<4s5H3L2H", b"PK\x03\x04", 45, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, len(text), 20) + text)
            file.write(struct.pack("<2H2Q", 1, 16, length, length))
            file.seek(length, 1) if raw is None else file.write(raw)
            long = struct.pack("<2H3Q", 1, 24, length, length, offset)
            entry = (b"PK\x01\x02", 45, 45, 0, 0, 0, 0, 0, 0xFFFFFFFF, 0xFFFFFFFF, len(text), len(long), 0, 0, 0, 0, 0xFFFFFFFF)
            directory += struct.pack("<4s6H3L5H2L", *entry) + text + long
        begin = file.tell()
        file.write(directory)
        end = file.tell()
        file.write(struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 3, 3, len(directory), begin))
        file.write(struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1))
        file.write(struct.pack("<4s4H2LH", b"PK\x05\x06", 0xFFFF, 0xFFFF, 3, 3, 0xFFFFFFFF, 0xFFFFFFFF, 0))


def safetensors(path: Path, size: int) -> None:
    """One tensor."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    _with_hole(path, len(header).to_bytes(8, "little") + header, size)


def npy(path: Path, size: int) -> None:
    """One array of bytes."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (size,)})
        file.truncate(file.tell() + size)


def hdf5(path: Path, size: int) -> None:
    """A real file, then longer, and the superblock says so."""
    import h5py

    with h5py.File(path, "w") as file:
        file["a"] = np.zeros(1000)
    with path.open("r+b") as file:
        file.seek(40)
        file.write(struct.pack("<Q", size + 1))
        file.truncate(size + 1)


def pickled(path: Path, size: int) -> None:
    """One text of bytes, with an opcode whose length has 8 bytes."""
    _with_hole(path, b"\x80\x04\x8e" + struct.pack("<Q", size), size, b".")


def joblib(path: Path, size: int) -> None:
    """One array behind its opcodes, as joblib writes it."""
    import joblib

    joblib.dump(np.zeros(7, dtype="u1"), path)
    raw = path.read_bytes()
    # The shape (7,) becomes (size,): an opcode of one byte becomes one of many.
    at = raw.index(b"shape") + 6
    assert raw[at : at + 3] == b"K\x07\x85"
    longer = raw[:at] + b"\x8a\x06" + struct.pack("<Q", size)[:6] + raw[at + 2 : -8]
    frame = int.from_bytes(raw[3:11], "little")
    longer = longer[:3] + struct.pack("<Q", frame + 6) + longer[11:]
    _with_hole(path, longer, size, b".")


def tensorflow(path: Path, size: int, real: Path) -> None:
    """The shard of a real checkpoint made longer: readers ignore what no tensor lies in."""
    for part in real.parent.glob(f"{real.name}.*"):
        (path.parent / part.name.replace(real.name, path.name)).write_bytes(part.read_bytes())
    with (path.parent / f"{path.name}.data-00000-of-00001").open("r+b") as file:
        file.truncate(size)


def distributed(path: Path, size: int, real: Path) -> None:
    """A real distributed checkpoint with a longer file."""
    path.mkdir()
    for part in real.iterdir():
        (path / part.name).write_bytes(part.read_bytes())
    with (path / "__0_0.distcp").open("r+b") as file:
        file.truncate(size)


def _with_hole(path: Path, head: bytes, size: int, tail: bytes = b"") -> None:
    with path.open("wb") as file:
        file.write(head)
        file.seek(size, 1)
        file.write(tail)
        file.truncate(len(head) + size + len(tail))


MAKERS = {
    "step-1.pt": pytorch,
    "step-1.safetensors": safetensors,
    "step-1.npy": npy,
    "step-1.h5": hdf5,
    "step-1.pkl": pickled,
    "step-1.joblib": joblib,
}
