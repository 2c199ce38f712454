"""Pickles: whole when the opcodes run to a STOP at the end of the file. The opcodes are read, never carried out.

PyTorch's legacy files (before 1.6) are several pickles followed by raw data: their first pickle must be whole and data must follow.
"""

from __future__ import annotations

import mmap
import struct

from ckptrun.words import Checkpoint

_LEGACY_TORCH = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # LONG1, 10 bytes: torch's magic number
_LARGEST_READ = 2 * 1000**3

# How an opcode's argument is found: fixed bytes, a length of 1, 4 or 8 bytes before it, or lines of text.
_FIXED = {b"K": 1, b"M": 2, b"J": 4, b"G": 8, b"h": 1, b"j": 4, b"q": 1, b"r": 4, b"\x80": 1, b"\x82": 1, b"\x83": 2}
_FIXED |= {b"\x84": 4, b"\x95": 8}
_COUNTED = {b"U": "<B", b"C": "<B", b"\x8c": "<B", b"\x8a": "<B", b"T": "<i", b"B": "<I", b"X": "<I", b"\x8b": "<i"}
_COUNTED |= {b"\x8d": "<Q", b"\x8e": "<Q", b"\x96": "<Q"}
_LINES = {b"I": 1, b"L": 1, b"F": 1, b"S": 1, b"V": 1, b"P": 1, b"p": 1, b"g": 1, b"c": 2, b"i": 2}
_BARE = frozenset(
    b"(.0123NQRabdelostu}])" + bytes([0x81, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8F, 0x90, 0x91, 0x92, 0x93, 0x94, 0x97, 0x98])
)


def check(checkpoint: Checkpoint) -> str | None:
    """Return why the file is truncated, None for a whole one. The time grows with the number of opcodes, not with the data."""
    with open(checkpoint.path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if len(data) > _LARGEST_READ:
            return None if data[-1:] == b"." else "its last byte does not end a pickle"
        legacy = data[2 : 2 + len(_LEGACY_TORCH)] == _LEGACY_TORCH
        end = _end_of_pickle(data, 0)
        if end is None:
            return "it stops in the middle of a pickle"
        if legacy:
            return None if end < len(data) else "nothing follows the first pickle of a PyTorch file"
        while end is not None and end < len(data):  # several pickles one after the other are a usual form
            end = _end_of_pickle(data, end)
        return None if end is not None else "it stops in the middle of a pickle"


def _end_of_pickle(data: mmap.mmap, at: int) -> int | None:
    """Return the offset behind the STOP of the pickle that begins at `at`, None where it is cut or no pickle."""
    size = len(data)
    while at < size:
        opcode = data[at : at + 1]
        at += 1
        if opcode == b".":
            return at
        if opcode in _FIXED:
            at += _FIXED[opcode]
        elif (form := _COUNTED.get(opcode)) is not None:
            width = struct.calcsize(form)
            if at + width > size:
                return None
            (length,) = struct.unpack(form, data[at : at + width])
            at += width + max(length, 0)
        elif (lines := _LINES.get(opcode)) is not None:
            for _ in range(lines):
                end = data.find(b"\n", at)
                if end < 0:
                    return None
                at = end + 1
        elif opcode[0] not in _BARE:
            return None
    return None
