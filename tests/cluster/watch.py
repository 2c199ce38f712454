"""Wait until something is true of files, woken by the kernel when they change: nothing is polled, nobody sleeps."""

from __future__ import annotations

import ctypes
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_CHANGES = 0x2 | 0x8 | 0x40 | 0x80 | 0x100  # modified, closed after writing, moved from and to, created


def until(root: Path, found: Callable[[], T | None], limit_s: float = 300.0, describe: Callable[[], str] = str) -> T:
    """Return what `found` returns as soon as that is something; it is asked again whenever a file below `root` changes.

    Raises AssertionError with what `describe` says when the time is over.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert handle >= 0, os.strerror(ctypes.get_errno())
    end_at = time.monotonic() + limit_s
    try:
        while True:
            # A folder that has just appeared is watched before its content is looked at.
            for folder, _, _ in os.walk(root):
                # Also one that is watched already: under its name may stand another by now.
                libc.inotify_add_watch(handle, os.fsencode(folder), _CHANGES)
            if (value := found()) is not None and value is not False:
                return value
            left_s = end_at - time.monotonic()
            if left_s <= 0 or not select.select([handle], [], [], left_s)[0]:
                raise AssertionError(f"not within {limit_s:.0f} s: {describe()}")
            os.read(handle, 65536)
    finally:
        os.close(handle)
