"""What the other callbacks of a program remember, and what they are to hear of a training that is several `fit`s."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

# What Keras's own callbacks that watch a metric (EarlyStopping, ReduceLROnPlateau, ModelCheckpoint) remember from epoch to epoch.
_REMEMBERED = ("best", "best_epoch", "best_weights", "cooldown_counter", "stopped_epoch", "wait")


def listed(callbacks: Any) -> list[Any]:
    """Return the callbacks of a program, which Keras takes one or many, or none."""
    many = callbacks if isinstance(callbacks, Iterable) else getattr(callbacks, "callbacks", [callbacks])
    return [] if callbacks is None else list(many)


@contextlib.contextmanager
def deaf(callbacks: list[Any], *names: str) -> Iterator[None]:
    """Let callbacks not hear of these for a while."""
    before = [(vars(one), name, vars(one).get(name)) for one in callbacks for name in names]
    for known, name, _ in before:
        known[name] = lambda logs=None: None
    try:
        yield
    finally:
        for known, name, own in before:
            known.pop(name)
            known.update({} if own is None else {name: own})


def state_of(callback: Any) -> dict[str, Any]:
    """Return what a callback remembers: its `state_dict`, else what Keras's own keep of the metric that they watch."""
    if hasattr(callback, "state_dict"):
        return dict(callback.state_dict())
    known = vars(callback)
    return {name: known[name] for name in _REMEMBERED if name in known and hasattr(callback, "monitor")}


def remind(callback: Any, state: dict[str, Any]) -> None:
    if state and hasattr(callback, "load_state_dict"):
        callback.load_state_dict(state)
    elif hasattr(callback, "monitor"):
        for name in [name for name in _REMEMBERED if name in state]:
            setattr(callback, name, state[name])
