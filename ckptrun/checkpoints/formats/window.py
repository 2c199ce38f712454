"""A file read piece by piece, at any place, in bounded memory.

Files are never mapped: a training that truncates a file which it overwrites in place would end us by SIGBUS at the next access.
Only regular files are opened, without waiting: a FIFO of that name would block for ever.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from types import TracebackType

from ckptrun.checkpoints.formats.found import Cut

PIECE_BYTES = 1 << 20
_LARGEST_TAKE_BYTES = 1 << 26


class Window:
    """A regular file, or a stretch of one: `start` and `size` limit what is seen; places count from `start`. Raises OSError."""

    def __init__(self, path: str) -> None:
        if not stat.S_ISREG(os.stat(path).st_mode):  # to open a device may do something
            raise Cut("it is no regular file")
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        found = os.fstat(self._fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(self._fd)
            raise Cut("it is no regular file")
        self.start, self.size = 0, found.st_size
        self._owner = True
        self._buffer, self._at = b"", 0

    def part(self, start: int, size: int) -> Window:
        """Return a stretch of this file as a file of its own. Raises Cut where it reaches beyond the end."""
        if start < 0 or size < 0 or start + size > self.size:
            raise Cut("a part reaches beyond the end")
        other = Window.__new__(Window)
        other._fd, other._owner = self._fd, False
        other.start, other.size = self.start + start, size
        other._buffer, other._at = b"", 0
        return other

    def __enter__(self) -> Window:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._owner:
            os.close(self._fd)

    def take(self, place: int, count: int) -> bytes:
        """Return exactly `count` bytes. Raises Cut where they do not exist or are more than a header can be."""
        if place < 0 or count < 0 or place + count > self.size:
            raise Cut("it ends too early")
        if count > _LARGEST_TAKE_BYTES:
            raise Cut("a length field says more than can be")
        index = place - self._at
        if index >= 0 and index + count <= len(self._buffer):
            return self._buffer[index : index + count]
        if count >= PIECE_BYTES:
            return self._read(place, count)
        buffer, index = self.near(place, count)
        return buffer[index : index + count]

    def near(self, place: int, count: int = 1) -> tuple[bytes, int]:
        """Return a buffer and where in it `place` is; at least `count` bytes follow there. Raises Cut."""
        index = place - self._at
        if index < 0 or index + count > len(self._buffer):
            if place + count > self.size:
                raise Cut("it ends too early")
            # A few bytes are wanted from most places of a large file: reading far ahead there would read all of it.
            ahead = PIECE_BYTES if self._buffer and 0 <= index <= len(self._buffer) + 4096 else 4096
            self._buffer, self._at, index = self._read(place, min(max(count, ahead), self.size - place)), place, 0
        return self._buffer, index

    def find(self, wanted: bytes, place: int) -> int:
        """Return where `wanted`, a single byte, stands first from `place` on. Raises Cut where it does not."""
        while place < self.size:
            buffer, index = self.near(place)
            found = buffer.find(wanted, index)
            if found >= 0:
                return place + found - index
            place += len(buffer) - index
        raise Cut("it ends too early")

    def pieces(self, place: int = 0, end: int | None = None, piece: int = PIECE_BYTES) -> Iterator[bytes]:
        """Yield everything from `place` to `end` in pieces. Raises Cut."""
        end = self.size if end is None else end
        while place < end:
            count = min(piece, end - place)
            yield self._read(place, count)
            place += count

    def _read(self, place: int, count: int) -> bytes:
        data = os.pread(self._fd, count, self.start + place)
        while len(data) < count:
            more = os.pread(self._fd, count - len(data), self.start + place + len(data))
            if not more:
                raise Cut("it became shorter while it was read")
            data += more
        return data
