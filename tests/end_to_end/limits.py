"""Looking for a time that suits this machine: how fast a framework starts and trains here, beside the other tests, is not known."""

from __future__ import annotations

import math

TRIES = 9
LONGER = 1.6


class Seconds:
    """A time to try, narrowed from both sides; where the machine has changed meanwhile, so that nothing is left between, anew."""

    def __init__(self, first: float) -> None:
        self.now = first
        self._short, self._long = 0.0, math.inf

    def was_too_short(self) -> None:
        """Try a longer one."""
        self._short = self.now
        if self._long < self.now * 1.1:
            self._long = math.inf
        self._next()

    def was_too_long(self) -> None:
        """Try a shorter one."""
        self._long = self.now
        if self._short > self.now / 1.1:
            self._short = 0.0
        self._next()

    def _next(self) -> None:
        if self._short and self._long < math.inf:
            self.now = math.sqrt(self._short * self._long)
        else:
            self.now = self._long * 0.65 if self._long < math.inf else self._short * LONGER
