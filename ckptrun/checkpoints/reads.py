"""Which files are read: inotify through ctypes, because the standard library has none.

Rule: a file counts as read when it was read, or opened to be read, before it was written to. A writer opens files, too, and from
its first byte on we verify what it writes. So each watch tells one event and is gone (IN_ONESHOT): no queue can overflow.
inotify does not say who reads. Whoever watches must have read what he needs before, and read nothing of these files meanwhile.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable

# linux/inotify.h. A read through mmap alone is no access; it is seen when the file, opened to be read, is closed.
_ACCESS, _MODIFY, _CLOSE_NOWRITE, _ONESHOT = 0x1, 0x2, 0x10, 0x80000000
_EVENT = struct.Struct("iIII")
_BUFFER_BYTES = 1 << 16


class Reads:
    """The files that are read from now on. `complete` is False where the kernel had no room to watch all of them."""

    def __init__(self, paths: Iterable[str]) -> None:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        self._handle = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        # Two names of one file have one watch.
        self._names: dict[int, list[str]] = {}
        self.complete = self._handle >= 0
        for path in paths if self.complete else ():
            mask = ctypes.c_uint32(_ACCESS | _MODIFY | _CLOSE_NOWRITE | _ONESHOT)
            watch = libc.inotify_add_watch(self._handle, os.fsencode(path), mask)
            if watch < 0:
                self.complete = False
            else:
                self._names.setdefault(watch, []).append(path)

    def close(self) -> frozenset[str]:
        """Stop watching; return the paths that were read before they were written to."""
        found: set[str] = set()
        if self._handle < 0:
            return frozenset()
        try:
            while data := os.read(self._handle, _BUFFER_BYTES):
                for watch, mask in _events(data):
                    if mask & (_ACCESS | _CLOSE_NOWRITE):
                        found.update(self._names[watch])
        except BlockingIOError:
            pass
        finally:
            os.close(self._handle)
            self._handle = -1
        return frozenset(found)


def _events(data: bytes) -> Iterable[tuple[int, int]]:
    place = 0
    while place < len(data):
        watch, mask, _, length = _EVENT.unpack_from(data, place)
        place += _EVENT.size + length
        yield watch, mask
