"""Orbax' folders (JAX, Flax): descriptions in JSON, and arrays in OCDBT data files or as zarr's chunks.

An OCDBT data file is a row of values (zstd frames, or JSON) and nodes, each node with its length before it and a CRC-32C behind it.
Which data files there must be stands in manifests and nodes, compressed. Unpacking takes its time: 64 kB of them are followed for
that, with `full` 1 MB, the manifests first, then the smallest.
Source: tensorstore's OCDBT driver, "Database format"; orbax/checkpoint/_src/path/atomicity.py.
"""

from __future__ import annotations

import os

from ckptrun.checkpoints.formats import json, ocdbt, zstd
from ckptrun.checkpoints.formats.crc32c import crc32c
from ckptrun.checkpoints.formats.found import Cut, Found, all_of, truncated, unchecked, whole
from ckptrun.checkpoints.formats.window import Window
from ckptrun.words import Checkpoint

_NODES = (ocdbt.MANIFEST, ocdbt.TREE, b"\x0c\xdb\x12\x34")  # the last is a node of versions
_MANIFEST = "manifest.ocdbt"
_LARGEST_NODE_BYTES = 1 << 26
_FOLLOWED_BYTES, _FOLLOWED_FULL_BYTES = 1 << 16, 1 << 20


def check(checkpoint: Checkpoint, full: bool) -> Found:
    """Return what was found in the folder of one step. The checksums of nodes are compared with `full`."""
    names = {os.path.relpath(part, checkpoint.path): part for part in checkpoint.parts}
    missing = _missing(set(names))
    if missing is not None:
        return truncated(f"{missing} is missing")
    found = []
    nodes: list[tuple[str, bytes]] = []
    for name, path in names.items():
        if os.path.basename(name) == "commit_success.txt" and os.path.getsize(path):
            continue  # that it stands is what it says
        small: list[bytes] = []
        try:
            with Window(path) as data:
                found.append((name, _check_file(data, full, small)))
        except Cut as error:
            return truncated(f"{name}: {error}")
        nodes += [(name, node) for node in small]
    missing = _missing_file(nodes, set(names), _FOLLOWED_FULL_BYTES if full else _FOLLOWED_BYTES)
    return all_of(found) if missing is None else truncated(f"{missing} is missing")


def _missing_file(nodes: list[tuple[str, bytes]], names: set[str], room: int) -> str | None:
    """Return a data file that a node names and that is not there; `room` bytes of nodes are followed at the most."""
    for name, node in sorted(nodes, key=lambda one: (not one[1].startswith(ocdbt.MANIFEST), len(one[1]))):
        room -= len(node)
        if room < 0:
            return None
        for file in _files_of(node, name):
            if file not in names:
                return file
    return None


def _files_of(node: bytes, name: str) -> list[str]:
    """Return the data files that a node names, which is itself in the manifest or the data file `name`, by their names here."""
    folder, base = os.path.split(name)
    database = folder if base == _MANIFEST else os.path.dirname(folder)
    return [os.path.normpath(os.path.join(database, file)) for file in ocdbt.files_of(node)]


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


def _check_file(data: Window, full: bool, nodes: list[bytes]) -> Found:
    """Return what was found in one file: values and nodes, one after the other, to its end. Adds its small nodes. Raises Cut."""
    if not data.size:
        raise Cut("empty")
    place = 0
    while place < data.size:
        start = data.take(place, min(4, data.size - place))
        if start in _NODES:
            begin, place = place, _behind_node(data, place, full)
            if place - begin <= _FOLLOWED_BYTES:
                nodes.append(data.take(begin, place - begin))
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
