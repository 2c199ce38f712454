"""The ranks of `torch.distributed`: what all of them do at the same step, and a vote on it.

What all ranks must do at the same step is agreed on in a process group of its own, on the CPU, and only at steps that each rank
knows beforehand: so no rank ever waits for a vote that another does not join.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import ckptrun

# A vote costs some tenths of a millisecond. One a second is never felt; the bound keeps steps that suddenly become slow from
# putting the next vote off for minutes.
_VOTE_EVERY_S = 1.0
_MOST_STEPS_WITHOUT_VOTE = 50
# A rank may validate for hours; one that dies is noticed at once by its closed connection.
_PATIENCE = timedelta(days=7)
# By the numbers that ranks compare: each must be in the call that the others are in.
_CALLS = ("a call", "resume", "step", "save")
RESUME, STEP, SAVE = 1, 2, 3


class Wanted(NamedTuple):
    """What all ranks have agreed on; `ask` is the highest number of an ask that any of them has heard of."""

    save: bool = False
    stop: bool = False
    ask: int = 0


class Ranks:
    """The ranks of `torch.distributed`, or the one process there is. A collective call is made by all of them."""

    def __init__(self) -> None:
        import torch.distributed as dist

        self.number, self.count, self.group = 0, 1, None
        self._call, self._step = 0, 0
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            self.number, self.count = dist.get_rank(), dist.get_world_size()
            self.group = dist.new_group(backend="gloo", timeout=_PATIENCE)

    def begin(self, call: int, step: int) -> None:
        """Take note of the call that this rank makes now, and of its step, which must be every rank's; raise as `check` does."""
        self.check()
        self._call, self._step = call, step

    def check(self) -> None:
        """Raise RuntimeError where the ranks are not those that were there when this was made: each would go on by itself."""
        import torch.distributed as dist

        there = dist.is_available() and dist.is_initialized()
        if there and self.count == 1 and dist.get_world_size() > 1:
            raise RuntimeError("Checkpoints was made before init_process_group, for one rank alone: make it after that")
        if not there and self.count > 1:
            raise RuntimeError("destroy_process_group was called before the last step or save of Checkpoints: call it after that")

    def highest(self, numbers: list[float]) -> list[float]:
        """Return the highest of each number, four at most, over all ranks. Collective.

        Raises RuntimeError on all ranks where one makes another call, or the same at another step, and where one has ended.
        """
        if self.count == 1:
            return numbers
        import torch
        import torch.distributed as dist

        # Always as many, so that ranks meet here whatever they are about to do: gloo would wait, or mix up what does not fit.
        mine = [self._call, self._step, -self._call, -self._step, *numbers, *[0.0] * (4 - len(numbers))]
        found = torch.tensor(mine, dtype=torch.float64, device="cpu")  # the program may have another default device
        try:
            dist.all_reduce(found, op=dist.ReduceOp.MAX, group=self.group)
        except RuntimeError as error:
            raise RuntimeError("another rank has ended, and this one cannot go on alone; what that one said says why") from error
        call, step, lowest_call, lowest_step, *high = (float(one) for one in found)
        if (call, step) != (-lowest_call, -lowest_step):
            here = f"this one is in {_CALLS[self._call]} at step {self._step}, another one is not"
            raise RuntimeError(f"{here}: all ranks call resume, step and save alike (no `if rank == 0`), and count the same steps")
        return high[: len(numbers)]

    def from_first(self, value: Any) -> Any:
        """Return the first rank's value. Collective."""
        if self.count == 1:
            return value
        import torch.distributed as dist

        self.highest([])
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def to_first(self, value: Any) -> list[Any]:
        """Return the values of all ranks on the first one, an empty list on the others. Collective."""
        if self.count == 1:
            return [value]
        import torch.distributed as dist

        self.highest([])
        box: list[Any] = [None] * self.count if self.number == 0 else []
        dist.gather_object(value, box or None, dst=0, group=self.group)
        return box

    def first_does(self, act: Callable[[], Any]) -> Any:
        """Let the first rank act while the others wait; raise on all ranks where that fails. Collective."""
        result, failed = None, None
        if self.number == 0:
            try:
                result = act()
            except Exception as error:
                failed = error
        self.all_or_none(failed)
        return result

    def all_or_none(self, failed: BaseException | None) -> None:
        """Raise on all ranks where one has failed: the others would wait for it in their next collective call. Collective."""
        anywhere = self.highest([float(failed is not None)])[0]
        if failed is not None:
            raise failed
        if anywhere:
            raise RuntimeError("another rank has failed; what it raised says why")


class Vote:
    """Whether to save and to stop, agreed on by all ranks at steps that each of them knows.

    The next vote's step follows from the last vote's result, which is the same on all ranks: about one a second by the slowest of
    them. Without other ranks every step is one, and costs a look at a clock.
    """

    def __init__(self, run: ckptrun.Run, ranks: Ranks) -> None:
        self.own_ask = False
        self._run, self._ranks = run, ranks
        self._next = self._last = self._answered = 0
        self._last_at: float | None = None

    def take(self, step: int) -> Wanted:
        """Return what all ranks want after this step. Collective at the steps of a vote, else free."""
        if self._ranks.count == 1:
            return self._agreed(self._own())
        if step < self._next:
            return Wanted()
        self._ranks.begin(STEP, step)
        now = time.monotonic()
        seconds = (now - self._last_at) / max(1, step - self._last) if self._last_at is not None else 0.0
        own = self._own()
        save, stop, ask, slowest = self._ranks.highest([float(own.save), float(own.stop), float(own.ask), seconds])
        self._last, self._last_at = step, time.monotonic()
        self._next = step + (min(_MOST_STEPS_WITHOUT_VOTE, max(1, int(_VOTE_EVERY_S / slowest))) if slowest > 0 else 1)
        return self._agreed(Wanted(save > 0, stop > 0, int(ask)))

    def _own(self) -> Wanted:
        # By its number: another vote of this program may have answered the ask with a save of what it has.
        save = self._run.checkpoint_requested or self._run.ask > self._answered or self.own_ask
        stop = self._run.stop_requested or self.own_ask
        return Wanted(save, stop, self._run.ask) if save or stop else Wanted()

    def _agreed(self, wanted: Wanted) -> Wanted:
        self._answered = max(self._answered, wanted.ask)
        return wanted
