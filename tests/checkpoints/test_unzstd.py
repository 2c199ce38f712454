"""Unpacking without a library equals the library's, and no bytes are too strange for it."""

from __future__ import annotations

import os
import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ckptrun.checkpoints.formats.unzstd import unpack

MOST = 1 << 20


def text(dice: random.Random, words: int) -> bytes:
    """Return bytes with what compression is made for: repeats, runs, letters that are more frequent than others."""
    kinds = (b"d/", b"weights", b"\x00\x01", dice.randbytes(4).hex().encode(), bytes([dice.randrange(256)]) * dice.randrange(1, 90))
    return b"".join(dice.choice((*kinds, dice.randbytes(2))) for _ in range(words))


@pytest.mark.parametrize("level", [-5, 1, 3, 9, 19])
def test_equals_the_library(dice: random.Random, level: int) -> None:
    """Of every kind of block and table: text, digits, runs, noise, at all strengths, with a checksum and without."""
    for number in range(40):
        kinds = (text(dice, dice.randrange(600)), os.urandom(99).hex().encode(), bytes(dice.randrange(3000)), os.urandom(300))
        for raw in (*kinds, b"".join(kinds) * 3):
            frame = zstandard.ZstdCompressor(level=level, write_checksum=bool(number & 1)).compress(raw)
            assert unpack(frame, MOST) == raw


def test_several_blocks(dice: random.Random) -> None:
    """More than a block holds, with tables and trees that are used again."""
    raw = text(dice, 40_000)
    assert len(raw) > 1 << 17
    assert unpack(zstandard.compress(raw, 3), 1 << 22) == raw


def test_it_does_not_grow_beyond_what_is_allowed() -> None:
    """A bomb of runs, one of matches, and one of blocks that are nothing but literals of one letter."""
    literals = b"\xfd\xff\xff" + b"a" + b"\x00"  # a million times the same, and no match
    block = len(literals) << 3 | 2 << 1
    with pytest.raises(ValueError, match="too"):
        unpack(b"\x28\xb5\x2f\xfd\x00\x58" + (block.to_bytes(3, "little") + literals) * 10**4, MOST)
    for raw in (bytes(10**7), (b"abcdefgh" * 9 + b"!") * 10**5):
        with pytest.raises(ValueError, match="too"):
            unpack(zstandard.compress(raw, 3), MOST)


@given(st.binary(max_size=300), st.integers(0, 10**9))
def test_no_bytes_are_too_strange(noise: bytes, seed: int) -> None:
    """Noise, and frames with some bytes of it: an answer or one of two errors, never a hang, never more than allowed."""
    dice = random.Random(seed)
    frame = bytearray(zstandard.compress(text(dice, 30), 3))
    for _ in range(3):
        frame[dice.randrange(4, len(frame))] = dice.randrange(256)
    for raw in (b"\x28\xb5\x2f\xfd" + noise, bytes(frame)):
        try:
            assert len(unpack(raw, MOST)) <= MOST
        except (ValueError, IndexError):
            pass
