"""Is this checkpoint whole? One module a format, one table. Nothing is unpickled, imported or executed.

A format is told by its first bytes where they say it, else by the name. What is empty is truncated; what is in no format of the
table is `not-checked`.
"""

from __future__ import annotations

import importlib
import os

from ckptrun.words import Checkpoint, Verdict

# What tells a format -> the module that checks it. A module has check(checkpoint) -> why it is truncated, or None.
_BY_MAGIC = ((b"PK\x03\x04", "pytorch"), (b"PK\x05\x06", "pytorch"), (b"\x80", "pickle"))
_BY_SUFFIX = {".pkl": "pickle", ".pickle": "pickle", ".json": "json", ".pt": "pytorch", ".pth": "pytorch"}


def verify(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint with verdict and why. A checkpoint that vanished meanwhile is truncated."""
    try:
        if checkpoint.size == 0:
            return checkpoint._replace(verdict=Verdict.TRUNCATED, why="empty")
        name = _format(checkpoint)
        if name is None:
            return checkpoint._replace(verdict=Verdict.NOT_CHECKED, why="in a format that is not checked")
        why = importlib.import_module(f"{__name__}.{name}").check(checkpoint)
    except OSError as error:
        return checkpoint._replace(verdict=Verdict.TRUNCATED, why=f"cannot be read: {error.strerror}")
    if why is not None:
        return checkpoint._replace(verdict=Verdict.TRUNCATED, why=why)
    return checkpoint._replace(verdict=Verdict.WHOLE, why=f"{name} structure is complete")


def _format(checkpoint: Checkpoint) -> str | None:
    if checkpoint.path not in checkpoint.parts:
        return "tensorflow"
    with open(checkpoint.path, "rb") as file:
        first = file.read(4)
    suffix = os.path.splitext(checkpoint.path)[1].lower()
    if suffix == ".json":
        return "json"
    for magic, name in _BY_MAGIC:
        # A file cut after its first byte still has to be told: the magic of what is left is enough.
        if first.startswith(magic) or (len(first) < len(magic) and magic.startswith(first)):
            return name
    return _BY_SUFFIX.get(suffix)
