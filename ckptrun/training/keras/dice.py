"""Random numbers: an order, and draws, that follow from numbers; the states of the general generators."""

from __future__ import annotations

import contextlib
import random
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

_ONE_AT_A_TIME = threading.RLock()


def order(count: int, seed: int | None, turn: int) -> Any:
    """Return the numbers from 0 to `count` - 1 in an order that follows from the seed and the turn; as they are without a seed."""
    import numpy

    if seed is None:
        return numpy.arange(count)
    return numpy.random.RandomState((seed * 1_000_003 + turn) % 2**32).permutation(count)


@contextlib.contextmanager
def dice(*numbers: int) -> Iterator[None]:
    """Let the general random numbers of NumPy and Python follow from these numbers for a while."""
    import numpy

    with _ONE_AT_A_TIME:
        before = random.getstate(), numpy.random.get_state()
        random.seed(repr(numbers))
        numpy.random.seed([number % 2**32 for number in numbers])
        try:
            yield
        finally:
            random.setstate(before[0])
            numpy.random.set_state(before[1])


def draws(act: Callable[[], Any]) -> bool:
    """Return whether something draws from the general generators."""
    with dice(0):
        before = repr(random_states())
        act()
        return repr(random_states()) != before


def random_states() -> list[Any]:
    """Return the states of the general generators of Python, NumPy and, where it is loaded, PyTorch: its dropout draws there."""
    import numpy

    state = numpy.random.get_state(legacy=False)
    plain = {**state, "state": {**state["state"], "key": state["state"]["key"].tolist()}}
    torch: Any = sys.modules.get("torch")
    devices = torch.cuda.get_rng_state_all() if torch is not None and torch.cuda.is_initialized() else []
    return [random.getstate(), plain, [one.tolist() for one in (torch.get_rng_state(), *devices)] if torch is not None else []]


def set_random_states(states: list[Any] | None) -> None:
    """Set Python's and NumPy's generators to what `random_states` returned; nothing for None."""
    import numpy

    if states is None:
        return

    (version, numbers, gauss), state, _ = states
    random.setstate((version, tuple(numbers), gauss))
    key = numpy.array(state["state"]["key"], dtype=numpy.uint32)
    numpy.random.set_state({**state, "state": {**state["state"], "key": key}})


def set_torch_states(states: list[Any]) -> None:
    """Set PyTorch's generators; those of CUDA where there are as many devices."""
    torch: Any = sys.modules.get("torch")
    if states[2] and torch is not None:
        first, *devices = (torch.tensor(one, dtype=torch.uint8) for one in states[2])
        torch.set_rng_state(first)
        if devices and len(devices) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(devices)
