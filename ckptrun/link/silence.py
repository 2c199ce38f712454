"""PURE. Has anything come of an ask, where no checkpoint can be seen? What the processes have written, before it and now.

Rule: a doubt counts as a save. A save that is not seen to begin, because it is still being prepared, cannot be told from none; with
`--checkpoint` it is no different.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

# More than a log gains while a training is asked, and less than the weights of any.
A_LOGS_BYTES = 1_000_000


class Written(NamedTuple):
    """What one process has written so far, pipes and terminals included (bytes), and the files that it has open for writing."""

    size: int
    files: frozenset[str]


def nothing_came(before: Mapping[int, Written] | None, now: Mapping[int, Written] | None) -> bool:
    """Return whether the same processes live, none has a file open for writing that it had not, and they wrote no more than a log.

    None: somebody could not be seen. A process that has come or gone may have been one that saves.
    """
    if before is None or now is None or before.keys() != now.keys():
        return False
    if any(now[pid].files - before[pid].files for pid in now):
        return False
    return sum(now[pid].size - before[pid].size for pid in now) < A_LOGS_BYTES
