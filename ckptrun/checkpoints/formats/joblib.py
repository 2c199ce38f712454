"""joblib's files: a pickle in which the bytes of each array stand right behind the opcodes that describe it.

Source: joblib/numpy_pickle.py, NumpyArrayWrapper.write_array: a length byte and so many bytes of padding, then the array.
"""

from __future__ import annotations

from typing import Any

from ckptrun.checkpoints.formats.dtypes import element_bytes
from ckptrun.checkpoints.formats.found import Cut, Found, truncated, unchecked, whole
from ckptrun.checkpoints.formats.opcodes import HoldsArrays, Made, Name, Opaque, follow, skim
from ckptrun.checkpoints.formats.window import Window


def check_stretch(data: Window) -> Found:
    """Return what was found in a file, or a stretch of one, that is known to hold joblib's arrays."""
    place = 0
    try:
        while place < data.size:
            place = follow(data, place, lambda made, at: _behind_array(data, made, at)).end
    except (Cut, HoldsArrays):
        return truncated("it stops in the middle of a joblib file")
    except Opaque as error:
        return unchecked(f"a joblib file that cannot be followed: {error}")
    return whole("joblib's opcodes and arrays run to the end")


def _behind_array(data: Window, made: Made, place: int) -> int:
    """Return the place behind the bytes of the array that the object describes, `place` where it describes none."""
    if not isinstance(made.what, Name) or made.what.name != "NumpyArrayWrapper" or not isinstance(made.state, dict):
        return place
    size = _element_bytes(made.state["dtype"])
    if size is None:  # an array of objects is a pickle of its own
        return skim(data, place)
    if made.state.get("numpy_array_alignment_bytes") is not None:
        place += 1 + data.take(place, 1)[0]
    for length in made.state["shape"]:
        size *= length
    if size < 0 or place + size > data.size:
        raise Cut("it stops in the middle of an array")
    return place + size


def _element_bytes(dtype: Any) -> int | None:
    """Return the bytes of one element of a pickled dtype, None for objects. Raises Opaque."""
    try:
        return element_bytes(dtype.arguments[0])
    except (ValueError, TypeError, IndexError, AttributeError):
        raise Opaque("a dtype that cannot be read") from None
