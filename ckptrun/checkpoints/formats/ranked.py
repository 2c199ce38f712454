"""Files that the ranks of one training wrote, each its own: one checkpoint, whole when all are.

How many ranks there were stands nowhere: as many as the files of another step have. Who goes on with fewer takes another folder.
"""

from __future__ import annotations

import os
import re

from ckptrun.checkpoints.formats.files import check_file
from ckptrun.checkpoints.formats.found import Found, all_of, truncated
from ckptrun.checkpoints.forms import prefix, rank_of
from ckptrun.words import Checkpoint


def check(checkpoint: Checkpoint, full: bool) -> Found:
    """Return what was found in the files of all ranks, and of the ranks that must be there."""
    names = {os.path.basename(part): part for part in checkpoint.parts}
    ranks = {rank_of(name) for name in names}
    folder = os.path.dirname(checkpoint.path) or "."
    expected = max(_others(folder, os.path.basename(checkpoint.path)), default=0)
    for rank in range(max(expected, *(rank + 1 for rank in ranks if rank is not None))):
        if rank not in ranks:
            return truncated(f"the file of rank {rank} is missing")
    return all_of([(name, check_file(path, full)) for name, path in names.items()])


def _others(folder: str, name: str) -> list[int]:
    """Return how many ranks the checkpoints beside this one have whose names differ in numbers alone."""
    own, counts = _group(name), dict[str, int]()
    for group in map(_group, os.listdir(folder)):
        if group and group != own and _kind(group) == _kind(own):
            counts[group] = counts.get(group, 0) + 1
    return list(counts.values())


def _group(name: str) -> str:
    found = prefix(name)
    return found[0] if found is not None and found[1] == "ranked" else ""


def _kind(group: str) -> str:
    return re.sub(r"\d+", "#", group)
