"""Orbax' folders (JAX, Flax): descriptions in JSON, and arrays in OCDBT data files or as zarr's chunks.

An OCDBT data file is a row of values (zstd frames, or JSON) and nodes, each node with its length before it and a CRC-32C behind it.
Which data files there must be stands in nodes that are compressed and is not read: one that is missing altogether is not noticed,
unless it is a manifest. Source: tensorstore's OCDBT driver, "Database format"; orbax/checkpoint/_src/path/atomicity.py.
"""

from __future__ import annotations

import os

from ckptrun.checkpoints.formats import json, zstd
from ckptrun.checkpoints.formats.crc32c import crc32c
from ckptrun.checkpoints.formats.found import Cut, Found, all_of, truncated, unchecked, whole
from ckptrun.checkpoints.formats.window import Window
from ckptrun.words import Checkpoint

_NODES = (b"\x0c\xdb\x3a\x2a", b"\x0c\xdb\x20\xde", b"\x0c\xdb\x12\x34")  # manifest, node of the tree, node of versions
_MANIFEST = "manifest.ocdbt"
_LARGEST_NODE_BYTES = 1 << 26


def check(checkpoint: Checkpoint, full: bool) -> Found:
    """Return what was found in the folder of one step. The checksums of nodes are compared with `full`."""
    names = {os.path.relpath(part, checkpoint.path): part for part in checkpoint.parts}
    missing = _missing(set(names))
    if missing is not None:
        return truncated(f"{missing} is missing")
    found = []
    for name, path in names.items():
        if os.path.basename(name) == "commit_success.txt" and os.path.getsize(path):
            continue  # that it stands is what it says
        try:
            with Window(path) as data:
                found.append((name, _check_file(data, full)))
        except Cut as error:
            return truncated(f"{name}: {error}")
    return all_of(found)


def _missing(names: set[str]) -> str | None:
    """Return what must be there and is not: the descriptions, and a manifest over each folder of data files."""
    folders = {os.path.dirname(name) for name in names}
    if "_CHECKPOINT_METADATA" not in names and ("commit_success.txt" in names or "_METADATA" not in names):
        return "_CHECKPOINT_METADATA"
    for folder in sorted(folders):
        if os.path.join(folder, "_sharding") in names and os.path.join(folder, "_METADATA") not in names:
            return os.path.join(folder, "_METADATA")
        above, name = os.path.split(folder)
        if name == "d" and os.path.join(above, _MANIFEST) not in names:
            return os.path.join(above, _MANIFEST)
    for name in sorted(names):
        folder, base = os.path.split(name)
        if base == _MANIFEST:
            if not any(other.startswith(os.path.join(folder, "d", "")) for other in names):
                return os.path.join(folder, "d", "*")
            if not os.path.basename(folder).startswith("ocdbt.process_") and os.path.join(folder, "_METADATA") not in names:
                return os.path.join(folder, "_METADATA")
    return None


def _check_file(data: Window, full: bool) -> Found:
    """Return what was found in one file: values and nodes, one after the other, to its end. Raises Cut."""
    if not data.size:
        raise Cut("empty")
    place = 0
    while place < data.size:
        start = data.take(place, min(4, data.size - place))
        if start in _NODES:
            place = _behind_node(data, place, full)
        elif start == zstd.MAGIC:
            place = zstd.behind_frame(data, place)
        elif start[:1] in (b"{", b"["):
            place = json.read_value(data, place)
        elif len(start) < 4 and any(magic.startswith(start) for magic in (*_NODES, zstd.MAGIC)):
            raise Cut("it ends too early")
        else:
            return unchecked("bytes in no format that is known")
    return whole("read to its end")


def _behind_node(data: Window, place: int, full: bool) -> int:
    length = int.from_bytes(data.take(place + 4, 8), "little")
    if length < 16 or place + length > data.size:
        raise Cut("it stops in the middle of a node")
    if full and length <= _LARGEST_NODE_BYTES:
        raw = data.take(place, length)
        if crc32c(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
            raise Cut("the checksum of a node is wrong")
    return place + length
