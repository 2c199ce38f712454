"""PURE. How long periodic saves take, as looks at the files show it: from the look before the first byte to whole.

A save that fewer than two looks saw grow is not measured, nor one of which nobody saw the beginning. Times are Unix seconds.
"""

from __future__ import annotations

from typing import NamedTuple

from ckptrun.words import Save

# A save counts as watched from its first byte only where the look before it was this close.
_CLOSE_LOOK_S = 1.0
# A writer that pauses for longer has given up.
_GIVEN_UP_S = 60.0


class _Writing(NamedTuple):
    """What has not led to a whole checkpoint yet: since when (None: not watched), over how many looks, until when."""

    began_at: float | None
    looks: int
    changed_at: float


class Stopwatch:
    """Measures one save after the other."""

    def __init__(self) -> None:
        self._writing: _Writing | None = None

    def grew(self, last_look_at: float, now: float) -> None:
        """Take in that a look saw part of a checkpoint grow that is not whole."""
        writing = self._since(now)
        if writing is None:
            self._writing = _Writing(last_look_at if now - last_look_at <= _CLOSE_LOOK_S else None, 1, now)
        else:
            self._writing = writing._replace(looks=writing.looks + 1, changed_at=now)

    def whole(self, written_at: float, now: float) -> list[Save]:
        """Take in that a checkpoint is whole; return its save where that was watched."""
        writing, self._writing = self._since(now), None
        if writing is None or writing.began_at is None or writing.looks < 2:
            return []
        return [Save(max(written_at - writing.began_at, 0.0), asked=False)]

    def _since(self, now: float) -> _Writing | None:
        """Return what is being written; None where its writer has given up: what is written now is another save."""
        return self._writing if self._writing is not None and now - self._writing.changed_at <= _GIVEN_UP_S else None
