"""PURE. The size of one element of an array, from the notation that NumPy writes into files."""

from __future__ import annotations

import re
from typing import Any


def element_bytes(descr: Any) -> int | None:
    """Return the bytes of one element of a dtype in NumPy's notation, None where it holds objects. Raises ValueError."""
    if isinstance(descr, str):
        match = re.fullmatch(r"[<>=|]?([a-zA-Z?])(\d{0,9})(\[.*\])?", descr)
        if match is None:
            raise ValueError(f"{descr!r} is no dtype")
        if match[1] == "O":
            return None
        return int(match[2] or 1) * (4 if match[1] == "U" else 1)
    total = 0
    for _, form, *shape in descr:
        size = element_bytes(form)
        if size is None:
            return None
        for one in shape[0] if shape else ():
            size *= int(one)
        total += size
    return total
