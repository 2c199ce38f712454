"""gzip, zlib, bzip2, xz and lzma, also as joblib writes them: their end is found by unpacking them, into nothing.

They do not say where they end, so a large one is proved only by reading it all (`full`); their checksums are compared then.
Unpacking takes a bounded amount of memory, whatever the file promises.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Iterator

from ckptrun.checkpoints.formats.found import Cut, Found, truncated, unchecked, whole
from ckptrun.checkpoints.formats.window import PIECE_BYTES, Window

# Unpacked without being asked to: that takes about a tenth of a second.
SMALL_BYTES = 8 * 1000**2
_SMALL_UNPACKED_BYTES = 128 * 1000**2
_MEMORY_BYTES = 1 << 30
_READ_ON = "--full reads it to its end"


def check(path: str, full: bool) -> Found:
    """Return what was found. A large file is read only with `full`."""
    with Window(path) as data:
        if not full and data.size > SMALL_BYTES:
            return unchecked(f"a compressed file does not say where it ends; {_READ_ON}")
        try:
            return _unpack(data, None if full else _SMALL_UNPACKED_BYTES)
        except Cut as error:
            return truncated(str(error))
        except (zlib.error, lzma.LZMAError, OSError, ValueError) as error:
            return truncated(f"it cannot be unpacked: {error}")


def _unpack(data: Window, most: int | None) -> Found:
    """Unpack one member after the other. Raises Cut, and what the libraries raise."""
    start = data.take(0, min(6, data.size))
    first, last, count, unpacked = b"", b"", 0, 0
    stream: _Stream | None = None
    for piece in data.pieces():
        rest = piece
        while rest:
            if stream is None:
                if count and not rest.strip(b"\0"):  # padding, as tar and tapes leave it
                    break
                stream = _Stream(start)
            for found in stream.unpack(rest):
                first, last, unpacked = first or found[:1], found[-1:] or last, unpacked + len(found)
                if most is not None and unpacked > most:
                    return unchecked(f"it unpacks to more than {most // 1000**2} MB; {_READ_ON}")
            rest = stream.rest
            if stream.ended:
                count, stream = count + 1, None
    if stream is not None or not count:
        raise Cut("it stops in the middle of its compressed bytes")
    # A writer that was interrupted closes the compressed file on its way out: then only what is in it is cut.
    if first == b"\x80" and last != b".":
        raise Cut("the pickle in it stops in the middle")
    return whole(f"it unpacks to its end, to {unpacked} bytes")


class _Stream:
    """One member that is being unpacked, whatever the library."""

    def __init__(self, start: bytes) -> None:
        self.rest = b""
        self._zlib: zlib._Decompress | None = None
        self._other: bz2.BZ2Decompressor | lzma.LZMADecompressor | None = None
        if start.startswith(b"BZh"):
            self._other = bz2.BZ2Decompressor()
        elif start.startswith((b"\xfd7zXZ", b"\x5d\x00")):
            self._other = lzma.LZMADecompressor(memlimit=_MEMORY_BYTES)
        else:
            self._zlib = zlib.decompressobj(31 if start.startswith(b"\x1f\x8b") else 15)

    @property
    def ended(self) -> bool:
        """Return whether the member is complete; its checksum was then right."""
        return bool((self._zlib or self._other).eof)  # type: ignore[union-attr]

    def unpack(self, piece: bytes) -> Iterator[bytes]:
        """Yield what comes out of a piece, in small parts; afterwards `rest` is what belongs to the next member."""
        if self._zlib is not None:
            while not self._zlib.eof:
                found = self._zlib.decompress(piece, PIECE_BYTES)
                piece = self._zlib.unconsumed_tail
                yield found
                if not found and not piece:
                    break
            self.rest = self._zlib.unused_data
        elif self._other is not None:
            while not self._other.eof:
                yield self._other.decompress(piece, PIECE_BYTES)
                piece = b""
                if self._other.needs_input:
                    break
            self.rest = self._other.unused_data
