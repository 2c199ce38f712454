"""PyTorch's distributed checkpoints: a folder of `__0_0.distcp` files and `.metadata`, written last, which says what is where.

Source: torch/distributed/checkpoint/filesystem.py (_StorageInfo), metadata.py.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from ckptrun.checkpoints.formats import zip  # noqa: A004  # a format's name is its module's
from ckptrun.checkpoints.formats.found import Cut, Found, number_of, truncated, unchecked, whole
from ckptrun.checkpoints.formats.opcodes import HoldsArrays, Made, Name, Opaque, follow
from ckptrun.checkpoints.formats.window import Window
from ckptrun.words import Checkpoint

METADATA = ".metadata"


class Piece(NamedTuple):
    """Where one tensor, or a part of it, lies."""

    file: str
    offset: int
    length: int


def check(checkpoint: Checkpoint, full: bool) -> Found:
    """Return what was found: every file that the metadata speaks of must reach as far as it says. `full` compares checksums."""
    metadata = os.path.join(checkpoint.path, METADATA)
    if metadata not in checkpoint.parts:
        return truncated("its .metadata is missing: it was not finished")
    try:
        if _is_foreign(metadata):
            return unchecked(".metadata is of a kind that is not known")
        pieces = _pieces(metadata)
    except (Cut, HoldsArrays):
        return truncated(".metadata stops in the middle")
    except Opaque as error:
        return unchecked(f".metadata cannot be followed: {error}")
    if not pieces:
        return unchecked(".metadata speaks of no pieces")
    by_file: dict[str, list[Piece]] = {}
    for piece in pieces:
        by_file.setdefault(piece.file, []).append(piece)
    for name, inside in by_file.items():
        path = os.path.join(checkpoint.path, name)
        # What a file says is not followed out of the folder, nor to a name that no file can have.
        why = _check_file(path, inside, full) if path in checkpoint.parts else "missing"
        if why is not None:
            return truncated(f"{name}: {why}")
    return whole(
        f"all {number_of(len(pieces), 'piece')} stand in {number_of(len(by_file), 'file')}" + (", checksums right" if full else "")
    )


def _is_foreign(metadata: str) -> bool:
    """Return whether a file of that name is no pickle: other programs have such files, too."""
    with Window(metadata) as data:
        return data.size > 0 and data.take(0, 1) != b"\x80"


def _pieces(metadata: str) -> list[Piece]:
    found: list[Piece] = []

    def note(made: Made, place: int) -> int:
        if isinstance(made.what, Name) and made.what.name == "_StorageInfo" and isinstance(made.state, dict):
            state = made.state
            found.append(Piece(str(state["relative_path"]), int(state["offset"]), int(state["length"])))
        return place

    with Window(metadata) as data:
        if follow(data, 0, note).end != data.size:
            raise Cut("bytes follow its end")
    return found


def _check_file(path: str, pieces: list[Piece], full: bool) -> str | None:
    try:
        with Window(path) as data:
            for piece in pieces:
                stretch = data.part(piece.offset, piece.length)
                # Each piece is a file of its own inside the file: of PyTorch's, a zip file, where it is no raw bytes.
                if full and piece.length > 4 and stretch.take(0, 4) == b"PK\x03\x04":
                    found = zip.check_members(stretch, zip.members(stretch), full=True)
                    if found.is_truncated:
                        return found.why
    except FileNotFoundError:
        return "it is missing"
    except Cut as error:
        return str(error)
    return None
