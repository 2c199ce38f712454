"""Zstandard files: whole when frame follows frame, each with all its blocks, to the end. Blocks are skipped, not unpacked.

Source: RFC 8878, 3.1.
"""

from __future__ import annotations

from typing import Any

from ckptrun.checkpoints.formats.found import Cut, Found, number_of, truncated, whole
from ckptrun.checkpoints.formats.window import PIECE_BYTES, Window

MAGIC = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
_LARGEST_BLOCK = 1 << 17


def check(path: str, full: bool) -> Found:
    """Return what was found; `full` compares checksums too where Python, or the package `zstandard`, can unpack."""
    with Window(path) as data:
        place = count = 0
        try:
            while place < data.size:
                place, count = behind_frame(data, place), count + 1
            unpack = _unpacker() if full else None
            if unpack is not None:
                unpack(data)
                return whole(f"{number_of(count, 'frame')} unpacked to the end")
        except Cut as error:
            return truncated(f"no complete zstd file: {error}")
        except _errors() as error:
            return truncated(f"it cannot be unpacked: {error}")
    return whole(f"{number_of(count, 'complete frame')}")


def behind_frame(data: Window, place: int) -> int:
    """Return the place behind the frame that begins at `place`. Raises Cut."""
    magic = int.from_bytes(data.take(place, 4), "little")
    if magic in _SKIPPABLE:
        place += 8 + int.from_bytes(data.take(place + 4, 4), "little")
    elif magic == int.from_bytes(MAGIC, "little"):
        place = _behind_blocks(data, place + 4)
    else:
        raise Cut("no frame begins where one should")
    if place > data.size:
        raise Cut("it stops in the middle of a frame")
    return place


def _behind_blocks(data: Window, place: int) -> int:
    descriptor = data.take(place, 1)[0]
    single = descriptor >> 5 & 1
    place += 1 + (0 if single else 1) + (0, 1, 2, 4)[descriptor & 3] + (single, 2, 4, 8)[descriptor >> 6]
    while True:
        header = int.from_bytes(data.take(place, 3), "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        if kind == 3 or (kind == 2 and size > _LARGEST_BLOCK):
            raise Cut("a block is broken")
        place += 3 + (1 if kind == 1 else size)
        if last:
            return place + (4 if descriptor >> 2 & 1 else 0)


def _unpacker() -> Any:
    """Return what unpacks a whole file into nothing, None where there is no library for it."""
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # Python 3.14

        return lambda data: _with_standard_library(zstd, data)
    except ImportError:
        pass
    try:
        import zstandard  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    return lambda data: _with_package(zstandard, data)


def _with_standard_library(zstd: Any, data: Window) -> None:
    unpacker = zstd.ZstdDecompressor()
    for piece in data.pieces():
        rest = piece
        while rest or not (unpacker.needs_input or unpacker.eof):
            unpacker.decompress(rest, PIECE_BYTES)
            rest = b""
            if unpacker.eof and unpacker.unused_data:
                rest, unpacker = unpacker.unused_data, zstd.ZstdDecompressor()


def _with_package(zstandard: Any, data: Window) -> None:
    pieces = data.pieces()

    class Source:
        def read(self, size: int = -1) -> bytes:
            return next(pieces, b"")

    with zstandard.ZstdDecompressor().stream_reader(Source(), read_across_frames=True) as reader:
        while reader.read(PIECE_BYTES):
            pass


def _errors() -> tuple[type[Exception], ...]:
    import sys

    modules = [sys.modules.get("zstandard"), sys.modules.get("compression.zstd")]
    return tuple(module.ZstdError for module in modules if module is not None)
