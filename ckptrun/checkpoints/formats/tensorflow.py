"""TensorFlow's checkpoints: `NAME.index`, a table with a footer, and its shards `NAME.data-00000-of-00001`.

The index is written after the shards; its header says how many there are, its entries how far each one reaches and what the
checksum of each tensor is. Source: tensorflow/core/lib/io/format.h (footer of 48 bytes, magic number),
tensorflow/core/protobuf/tensor_bundle.proto, tensorflow/core/util/tensor_bundle/tensor_bundle.cc (WriteStringTensor).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from ckptrun.checkpoints.formats.crc32c import crc32c, masked
from ckptrun.checkpoints.formats.found import Cut, Found, number_of, truncated, whole
from ckptrun.checkpoints.formats.protobuf import fields, varint
from ckptrun.checkpoints.formats.window import PIECE_BYTES, Window
from ckptrun.words import Checkpoint

_FOOTER_BYTES = 48
_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_BLOCK_TRAILER_BYTES = 5
_STRING = 7
# The checksums of a small index are compared always: it costs less than a millisecond for 200 kB.
_SMALL_INDEX_BYTES = 200_000
_SHARD = re.compile(r"\.data-(\d{5})-of-(\d{5})$")


class Tensor(NamedTuple):
    """One tensor of a bundle: where its bytes are, what they are, and their checksum as stored."""

    name: bytes
    kind: int
    elements: int
    shard: int
    offset: int
    size: int
    checksum: int


def check(checkpoint: Checkpoint, full: bool) -> Found:
    """Return what was found in a checkpoint of index and shards."""
    return check_bundle(checkpoint.path, checkpoint.parts, full)


def check_bundle(prefix: str, parts: tuple[str, ...], full: bool) -> Found:
    """Return what was found in the bundle of that prefix, whose files are among `parts`."""
    if f"{prefix}.index" not in parts:
        return truncated("its index is missing")
    shards = {
        int(match[1]): (int(match[2]), part)
        for part in parts
        if part.startswith(f"{prefix}.data-") and (match := _SHARD.search(part))
    }
    try:
        with Window(f"{prefix}.index") as index:
            header, tensors = _read(index, full)
    except Cut as error:
        return truncated(f"its index: {error}")
    missing = next((number for number in range(header) if number not in shards), None)
    if missing is not None or not header:
        return truncated(f"shard {missing} of {header} is missing" if header else "its index names no shards")
    return _check_shards(shards, tensors, full)


def _check_shards(shards: dict[int, tuple[int, str]], tensors: list[Tensor], full: bool) -> Found:
    needed: dict[int, int] = {}
    for tensor in tensors:
        needed[tensor.shard] = max(needed.get(tensor.shard, 0), tensor.offset + tensor.size)
    for number, length in needed.items():
        size = os.path.getsize(shards[number][1]) if number in shards else 0
        if size < length:
            return truncated(f"shard {number} has {size} bytes of {length}")
    if not full:
        return whole(f"the index and {number_of(len(shards), 'shard')} stand")
    for number, (_, path) in shards.items():
        with Window(path) as data:
            for tensor in (one for one in tensors if one.shard == number and one.size):
                try:
                    right = masked(_checksum(data, tensor)) == tensor.checksum
                except Cut:
                    right = False
                if not right:
                    return truncated(f"the checksum of {tensor.name.decode(errors='replace')} is wrong")
    return whole(f"the checksums of {number_of(len(tensors), 'tensor')} are right")


def _checksum(data: Window, tensor: Tensor) -> int:
    """Return the checksum of a tensor's bytes. Raises Cut."""
    end = tensor.offset + tensor.size
    if tensor.kind != _STRING:
        return _extend(data, tensor.offset, end, 0)
    # Texts: their lengths as numbers of 4 bytes (8 for more), the checksum of that as stored, the texts.
    place, summed = tensor.offset, 0
    for _ in range(tensor.elements):
        length, place = _varint_at(data, place)
        summed = crc32c(length.to_bytes(4 if length < 1 << 32 else 8, "little"), summed)
    return _extend(data, place + 4, end, crc32c(data.take(place, 4), summed))


def _varint_at(data: Window, place: int) -> tuple[int, int]:
    length, width = varint(data.take(place, min(10, data.size - place)), 0)
    return length, place + width


def _extend(data: Window, begin: int, end: int, summed: int) -> int:
    for piece in data.pieces(begin, end, 4 * PIECE_BYTES):
        summed = crc32c(piece, summed)
    return summed


# --- the index


def _read(index: Window, full: bool) -> tuple[int, list[Tensor]]:
    """Return the number of shards and the tensors. Raises Cut."""
    place = index.size - _FOOTER_BYTES
    if place < 0 or index.take(index.size - 8, 8) != _MAGIC:
        raise Cut("it has no footer")
    footer = index.take(place, _FOOTER_BYTES)
    place = 0
    compare = full or index.size <= _SMALL_INDEX_BYTES
    meta_offset, place = varint(footer, place)
    meta_size, place = varint(footer, place)
    list(_block(index, meta_offset, meta_size, compare))
    offset, place = varint(footer, place)
    size, place = varint(footer, place)
    shards, tensors = 0, []
    for _, handle in _block(index, offset, size, compare):
        block_offset, place = varint(handle, 0)
        block_size, _ = varint(handle, place)
        for key, value in _block(index, block_offset, block_size, compare):
            if key:
                tensors.append(_tensor(key, value))
            else:  # the header
                shards = next((one for number, one in fields(value) if number == 1 and isinstance(one, int)), 0)
    return shards, tensors


def _tensor(key: bytes, value: bytes) -> Tensor:
    numbers: dict[int, int] = {}
    elements = 1
    for number, one in fields(value):
        if isinstance(one, int):
            numbers[number] = one
        elif number == 2:
            for dimension in (inner for at, inner in fields(one) if at == 2 and isinstance(inner, bytes)):
                elements *= next((size for at, size in fields(dimension) if at == 1 and isinstance(size, int)), 0)
    return Tensor(key, numbers.get(1, 0), elements, *(numbers.get(field, 0) for field in (3, 4, 5, 6)))


def _block(index: Window, offset: int, size: int, compare: bool) -> Iterator[tuple[bytes, bytes]]:
    """Yield the entries of one block of the table. Raises Cut for one that is compressed or lies outside the file."""
    raw = index.take(offset, size + _BLOCK_TRAILER_BYTES)
    block = raw[:size]
    if size < 4 or raw[size] != 0:
        raise Cut("a block is broken")
    if compare and masked(crc32c(raw[: size + 1])) != int.from_bytes(raw[size + 1 :], "little"):
        raise Cut("a checksum is wrong")
    end = size - 4 - 4 * int.from_bytes(block[-4:], "little")
    place, key = 0, b""
    while place < end:
        shared, place = varint(block, place)
        unshared, place = varint(block, place)
        length, place = varint(block, place)
        key = key[:shared] + block[place : place + unshared]
        place += unshared
        yield key, block[place : place + length]
        place += length
