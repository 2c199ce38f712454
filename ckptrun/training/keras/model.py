"""Where a model keeps what training changes, with Keras 2 and 3, and the devices that it lies on."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any


def keras_of(model: Any = None) -> Any:
    """Return the Keras that a model is of; without one, the Keras that the program has loaded.

    TensorFlow alone decides nothing where a Keras is loaded: it may be there for other things, and have another Keras in it.
    """
    tops = [one.__module__.partition(".")[0] for one in type(model).__mro__]
    legacy = os.environ.get("TF_USE_LEGACY_KERAS", "") in ("1", "true", "True")
    for name in [*tops, *(("tf_keras", "keras") if legacy else ("keras", "tf_keras"))]:
        if name in ("keras", "tf_keras") and name in sys.modules:
            return sys.modules[name]
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"].keras
    import keras

    return keras


def scope_of(model: Any) -> Any:
    """Return the scope that a model was made in, in which its optimizer has to be built, too."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def build(model: Any, source: Any) -> None:
    """Let a model that is not built see a batch, as Keras itself does; one that has no call of its own is made of built ones."""
    if not getattr(model, "built", True):
        data = source.one()
        with scope_of(model), contextlib.suppress(NotImplementedError):
            model(data[0] if isinstance(data, tuple) else data)


def variables_of(model: Any, built: dict[str, Any] | None = None) -> tuple[list[Any], dict[str, Any]]:
    """Return what is restored: weights, what layers keep, the states of their random generators, the optimizers' variables.

    Beside it: on which weights each optimizer is built, which `built` says when the model is to be as a saved one was. Metrics are
    left out: they begin anew with each `fit`, and do not exist before the first.
    """
    if getattr(model, "optimizer", None) is None:
        raise ValueError("a model has to be compiled before its checkpoint is restored")
    metrics = {id(variable) for metric in model.metrics for variable in metric.variables}
    weights = [one for one in model.variables if id(one) not in metrics]
    found, are_built = weights + _generators(model) + _states(model), {}
    for name, optimizer in _optimizers(model).items():
        on = built.get(name) if built is not None else None
        if on is not None and max(on, default=-1) < len(weights):
            _build_optimizer(optimizer, [weights[number] for number in on])
        elif optimizer is model.optimizer and model.trainable_variables:
            _build_optimizer(optimizer, model.trainable_variables)
        are_built[name] = _built_on(optimizer, weights)
        if built is None or on is not None or optimizer is model.optimizer:
            found += _of_optimizer(optimizer)
    return list({id(one): one for one in found}.values()), are_built


def _layers(model: Any) -> list[Any]:
    return list(model._flatten_layers()) if hasattr(model, "_flatten_layers") else [model]


def _generators(model: Any) -> list[Any]:
    """Return the states of Keras 2's generators; it has them with `enable_tf_random_generator` only. Keras 3's are variables."""
    holders: list[Any] = [getattr(layer, "_random_generator", None) for layer in _layers(model)]
    for holder in holders:
        if hasattr(holder, "_maybe_init"):  # made when first used: by a model that was not called yet not at all
            holder._maybe_init()
    found: list[Any] = [getattr(holder, "_generator", None) for holder in holders]
    return [one.state for one in found if hasattr(one, "state")]


def _states(model: Any) -> list[Any]:
    """Return what recurrent layers carry from batch to batch: with `stateful=True`, and nobody counts it among the variables."""
    states = [one for layer in _layers(model) if getattr(layer, "stateful", False) for one in leaves(getattr(layer, "states", ()))]
    return [one for one in states if hasattr(one, "assign")]


def _optimizers(model: Any) -> dict[str, Any]:
    """Return the optimizers of a model and of those in it, by where they are: a GAN has two, and neither is `model.optimizer`."""
    found = {"optimizer": model.optimizer}
    for number, layer in enumerate(_layers(model)):
        for name, one in sorted(vars(layer).items()):
            if hasattr(one, "apply_gradients") and all(one is not other for other in found.values()):
                found[f"{number}.{name}"] = one
    return found


def _inner(optimizer: Any) -> Any:
    """Return the optimizer in one that scales gradients."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def _built_on(optimizer: Any, weights: list[Any]) -> list[int] | None:
    """Return the numbers of the weights that an optimizer is built on, in its order; None for one that is not built."""
    inner = _inner(optimizer)
    if hasattr(inner, "_trainable_variables"):  # Keras 3
        places = {id(one): number for number, one in enumerate(weights)}
        on = [places[id(one)] for one in inner._trainable_variables if id(one) in places]
    else:
        known = getattr(inner, "_index_dict", None) or getattr(inner, "_slots", None) or {}  # the latter of the legacy ones
        key_of = getattr(inner, "_var_key", lambda one: one._unique_id)
        mine = [(key_of(one), number) for number, one in enumerate(weights)] if known else []
        on = [number for key, number in mine if key in known]
        if isinstance(next(iter(known.values()), None), int):
            on = [number for key, number in sorted(((known[key], number) for key, number in mine if key in known))]
    return on or None


def _build_optimizer(optimizer: Any, weights: list[Any]) -> None:
    if hasattr(optimizer, "_create_all_weights"):  # keras.optimizers.legacy of Keras 2
        optimizer._create_all_weights(weights)
    elif not getattr(optimizer, "built", False) and not getattr(optimizer, "_built", False):
        optimizer.build(weights)


def _of_optimizer(optimizer: Any) -> list[Any]:
    """Return its variables and, in Keras 2, its learning rate, which callbacks change and which is none of them."""
    found = optimizer.variables
    inner = _inner(optimizer)
    rates = [getattr(inner, "_learning_rate", None), *getattr(inner, "_hyper", {}).values()]
    return [*(found() if callable(found) else found), *(one for one in rates if hasattr(one, "assign"))]


def reader_of(model: Any) -> Callable[[Any], Any]:
    """Return what reads a variable into a NumPy array: Keras 2 has no `ops`."""
    ops = getattr(keras_of(model), "ops", None)
    return (lambda variable: variable.numpy()) if ops is None else ops.convert_to_numpy


def shape_of(variable: Any) -> str:
    """Return a variable's shape as a checkpoint names it."""
    return f"{list(variable.shape)}"


def differs(variable: Any) -> bool:
    """Return whether each device has a value of its own: averages of BatchNormalization, states of dropout in Keras 2."""
    return hasattr(variable, "values") and getattr(getattr(variable, "synchronization", None), "name", "") == "ON_READ"


def mapped(act: Callable[[Any], Any], tree: Any) -> Any:
    """Return dictionaries and tuples of what an act makes of each array in dictionaries, tuples and lists."""
    if isinstance(tree, dict):
        return {name: mapped(act, one) for name, one in tree.items()}
    return tuple(mapped(act, one) for one in tree) if isinstance(tree, (tuple, list)) else act(tree)


def leaves(tree: Any) -> list[Any]:
    """Return the arrays in dictionaries, tuples and lists, in their order."""
    found: list[Any] = []
    mapped(found.append, tree)
    return found
