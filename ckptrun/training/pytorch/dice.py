"""The states of the random numbers that a training draws from."""

from __future__ import annotations

import random
import sys
from typing import Any

from ckptrun.training.told import say


def generator_like(like: Any) -> Any:
    """Return a generator with the seed of another one, or of PyTorch's own; nothing is drawn for it."""
    import torch

    return torch.Generator().manual_seed(torch.initial_seed() if like is None else like.initial_seed())


def random_state() -> dict[str, Any]:
    """Return the states of Python's, NumPy's (where it is loaded), PyTorch's and CUDA's generators, as plain values."""
    import torch

    found: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if "numpy" in sys.modules:
        state = sys.modules["numpy"].random.get_state(legacy=False)
        # Lists instead of arrays: torch.load reads them with weights_only.
        found["numpy"] = {**state, "state": {**state["state"], "key": state["state"]["key"].tolist()}}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        found["cuda"] = torch.cuda.get_rng_state_all()
    return found


def set_random_state(found: dict[str, Any]) -> None:
    """Set the generators to what `random_state` returned. CUDA's are set where there are as many devices."""
    import torch

    random.setstate(found["python"])
    torch.set_rng_state(found["torch"])
    if "numpy" in found:
        import numpy

        key = numpy.array(found["numpy"]["state"]["key"], dtype=numpy.uint32)
        numpy.random.set_state({**found["numpy"], "state": {**found["numpy"]["state"], "key": key}})
    states = found.get("cuda", [])
    if states and torch.cuda.is_available():
        if len(states) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(states)
        else:
            say(f"saved with {len(states)} GPUs, read with {torch.cuda.device_count()}: their random states begin anew")
