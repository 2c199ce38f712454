"""TensorFlow's checkpoints: `NAME.index`, a table with a footer, and its shards `NAME.data-00000-of-00001`.

The index is written after the shards; its header says how many shards there are and its entries how far each one reaches.
Source: tensorflow/core/lib/io/format.h (footer of 48 bytes, magic number), tensor_bundle.proto (BundleEntryProto).
"""

from __future__ import annotations

import os
import re
import struct

from ckptrun.words import Checkpoint

_FOOTER_BYTES = 48
_MAGIC = 0xDB4775248B80FB57
_BLOCK_TRAILER_BYTES = 5
_SHARD = re.compile(r"\.data-(\d{5})-of-(\d{5})$")


def check(checkpoint: Checkpoint) -> str | None:
    """Return why the checkpoint is truncated, None for a whole one."""
    index = f"{checkpoint.path}.index"
    if index not in checkpoint.parts:
        return "its index is missing"
    with open(index, "rb") as file:
        raw = file.read()
    if len(raw) < _FOOTER_BYTES or struct.unpack("<Q", raw[-8:])[0] != _MAGIC:
        return "its index has no footer"
    shards = {int(match[1]): (int(match[2]), part) for part in checkpoint.parts if (match := _SHARD.search(part))}
    if not shards:
        return "its shards are missing"
    count = next(iter(shards.values()))[0]
    missing = [number for number in range(count) if number not in shards]
    if missing:
        return f"shard {missing[0]} of {count} is missing"
    try:
        needed = _reach(raw)
    except (IndexError, struct.error, ValueError):
        return "its index cannot be read"
    for number, length in needed.items():
        size = os.path.getsize(shards[number][1]) if number in shards else 0
        if size < length:
            return f"shard {number} has {size} bytes of {length}"
    return None


def _reach(raw: bytes) -> dict[int, int]:
    """Return how many bytes each shard must have, from the entries of the index."""
    place = len(raw) - _FOOTER_BYTES
    for _ in range(2):  # the handle of the meta index
        _, place = _varint(raw, place)
    offset, place = _varint(raw, place)
    size, place = _varint(raw, place)
    needed: dict[int, int] = {}
    for _, handle in _block(raw, offset, size):
        block_offset, place = _varint(handle, 0)
        block_size, _ = _varint(handle, place)
        for key, value in _block(raw, block_offset, block_size):
            if key:  # the empty key is the header
                fields = _fields(value)
                shard = fields.get(3, 0)
                needed[shard] = max(needed.get(shard, 0), fields.get(4, 0) + fields.get(5, 0))
    return needed


def _block(raw: bytes, offset: int, size: int) -> list[tuple[bytes, bytes]]:
    """Return the entries of one block of the table. Raises ValueError for one that is compressed or lies outside the file."""
    if offset + size + _BLOCK_TRAILER_BYTES > len(raw) or raw[offset + size] != 0:
        raise ValueError("compressed, or outside the file")
    block = raw[offset : offset + size]
    restarts = struct.unpack("<I", block[-4:])[0]
    end = len(block) - 4 - 4 * restarts
    place, key, found = 0, b"", []
    while place < end:
        shared, place = _varint(block, place)
        unshared, place = _varint(block, place)
        length, place = _varint(block, place)
        key = key[:shared] + block[place : place + unshared]
        place += unshared
        found.append((key, block[place : place + length]))
        place += length
    return found


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7


def _fields(message: bytes) -> dict[int, int]:
    """Return the integer fields of a protocol buffer message by number; others are skipped."""
    place, found = 0, {}
    while place < len(message):
        tag, place = _varint(message, place)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            found[number], place = _varint(message, place)
        elif kind == 2:
            length, place = _varint(message, place)
            place += length
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        else:
            raise ValueError("no protocol buffer")
    return found
