"""Pickles: whole when the opcodes run to a STOP at the end of the file. They are read, never carried out."""

from __future__ import annotations

from ckptrun.checkpoints.formats import joblib
from ckptrun.checkpoints.formats.found import Cut, Found, truncated, whole
from ckptrun.checkpoints.formats.opcodes import HoldsArrays, skim
from ckptrun.checkpoints.formats.window import Window


def check(path: str, full: bool) -> Found:
    """Return what was found. The time grows with the number of opcodes, not with the data; there is no checksum to read for."""
    with Window(path) as data:
        return check_stretch(data)


def check_stretch(data: Window) -> Found:
    """Return what was found in a stretch of a file. Several pickles one after the other are a usual form."""
    place = count = 0
    try:
        while place < data.size:
            place, count = skim(data, place), count + 1
    except HoldsArrays:
        return joblib.check_stretch(data)
    except Cut:
        return truncated("it stops in the middle of a pickle")
    if not count:
        return truncated("empty")
    return whole("its opcodes run to the end" if count == 1 else f"{count} pickles whose opcodes run to the end")
