"""NumPy's `.npy` files, whose header says how long they are, and `.npz`, zip files of such.

Source: numpy/lib/format.py.
"""

from __future__ import annotations

import ast
from typing import Any

from ckptrun.checkpoints.formats import pickle, zip  # noqa: A004  # a format's name is its module's
from ckptrun.checkpoints.formats.dtypes import element_bytes
from ckptrun.checkpoints.formats.found import Cut, Found, truncated, unchecked, whole
from ckptrun.checkpoints.formats.window import Window

MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 10_000  # numpy's own bound: it refuses longer ones, because reading them could exhaust the machine


def check(path: str, full: bool) -> Found:
    """Return what was found in a `.npy` file. It has no checksum."""
    with Window(path) as data:
        return check_stretch(data)


def check_stretch(data: Window) -> Found:
    """Return what was found in a stretch that holds one array."""
    try:
        begin, size = _header(data)
        if size is None:
            return pickle.check_stretch(data.part(begin, data.size - begin))
    except Cut as error:
        return truncated(str(error))
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError, KeyError):
        return unchecked("its NumPy header cannot be read")
    if begin + size != data.size:
        return truncated(f"{data.size} bytes of {begin + size}")
    return whole("as long as its header says")


def check_archive(data: Window, full: bool) -> Found:
    """Return what was found in a `.npz` file: the zip file, and that each array is as long as its own header says."""
    members = list(zip.members(data))
    for member in members:
        if member.name.endswith(".npy") and member.method == zip.STORED:
            found = check_stretch(data.part(member.begin, member.size))
            if found.is_truncated:
                return truncated(f"{member.name}: {found.why}")
    return zip.check_members(data, members, full)


def _header(data: Window) -> tuple[int, int | None]:
    """Return where the array begins and its bytes, None for an array of objects, which is a pickle. Raises Cut and ValueError."""
    start = data.take(0, 8)
    if start[:6] != MAGIC:
        raise ValueError("no NumPy file")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(data.take(8, width), "little")
    begin = 8 + width + length
    if length > _LONGEST_HEADER:
        raise ValueError("a header too long to be read")
    if begin > data.size:
        raise Cut("it stops in the middle of its header")
    header: Any = ast.literal_eval(data.take(8 + width, length).decode("latin-1").strip())
    size = element_bytes(header["descr"])
    if size is None:
        return begin, None
    for one in header["shape"]:
        size *= int(one)
    return begin, size
