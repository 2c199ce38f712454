"""Checkpoints of a Keras training, with Keras 2 and 3 and any of its backends, that resume in the middle of an epoch.

    from ckptrun.training.keras import checkpoints_in

    checkpoints = checkpoints_in("checkpoints")
    checkpoints.fit(model, images, labels, epochs=20, batch_size=32)  # in place of model.fit(images, labels, ...)
    if checkpoints.stopped:
        sys.exit()
    checkpoints.done()

Rules of this file. It imports `ckptrun`, Keras and NumPy, nothing else of ckptrun, so that it can be copied into a container beside
`ckptrun.py`. A checkpoint is one `.npz` file of arrays, `FOLDER/step-0000012.npz`, the step being the batches that are done: it is
read by every version of NumPy, and nothing in it is executed.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterable
from typing import Any

import ckptrun

_NAME = re.compile(r"step-(\d{7,})\.npz")


class Stop(Exception):
    """Raised through `fit` at the batch after which the training stops: Keras itself would validate first."""


def checkpoints_in(folder: str, *, every_epochs: int = 1, keep: int = 2) -> Any:
    """Return a Keras callback that saves when it is asked, and each so many epochs; 0 saves only when asked.

    Its `fit` stands for `model.fit`: it resumes first, to the batch. With `model.fit(initial_epoch=callback.resume(model),
    callbacks=[callback])` the epoch that was interrupted is trained in whole once more. `stopped` says that the training was asked
    to stop. `keep`: how many checkpoints stay.
    """
    base = _keras().callbacks.Callback

    class Checkpoints(_Checkpoints, base):  # type: ignore[misc, valid-type]
        """The callback, with the Keras that the program uses."""

    return Checkpoints(folder, every_epochs, keep)


class _Checkpoints:
    """What the callback does, without the class that Keras wants it to be of."""

    model: Any
    _supports_tf_logs = True  # the logs are not looked at: they need not be fetched after each batch

    def __init__(self, folder: str, every_epochs: int, keep: int) -> None:
        super().__init__()
        self.folder, self.stopped, self.epoch, self.place, self.steps = folder, False, 0, 0, 0
        self._every_epochs, self._keep = every_epochs, keep
        self._run = ckptrun.current()
        self._passed_over = self._offset = self._steps_before = 0
        self._total: int | None = None
        self._fitting = False

    # --- what a program calls

    def resume(self, model: Any) -> int:
        """Restore the newest checkpoint into a compiled model that is built; return the epoch to go on with, 0 without one."""
        path = self._newest()
        if path is None:
            return 0
        facts = _load(path, model)
        self.epoch, self.place, self.steps = facts["epoch"], facts["place"], facts["steps"]
        return self.epoch

    def fit(self, model: Any, x: Any, y: Any = None, *, epochs: int = 1, callbacks: Iterable[Any] = (), **options: Any) -> Any:
        """Train as `model.fit` does, from where the newest checkpoint stands; return the last History.

        Arrays are read in an order of each epoch's own, which follows from `seed` (0); `shuffle=False` leaves it. A tf.data
        Dataset or a Sequence is read from the place on: its own order must be the same each time. The rest of an interrupted epoch
        is a `model.fit` of its own, so callbacks see a beginning twice.
        """
        seed = options.pop("seed", 0)
        source = _source(x, y, seed, options)
        self.resume(model)
        place, length = self.place, source.length()
        if length is not None:
            self._total = epochs * length
            if place >= length:
                self.epoch, place = self.epoch + 1, 0
        ranges = [(self.epoch, epochs, 0)]
        if place:
            ranges = [(self.epoch, self.epoch + 1, place), (self.epoch + 1, epochs, 0)]
        history = None
        for first, end, passed_over in ranges:
            if first < end and not self.stopped:
                data = source.epochs_from(first, passed_over)
                history = self._fit(model, data, passed_over, {**options, "initial_epoch": first, "epochs": end}, callbacks)
        return history

    def done(self) -> None:
        """Say that the training is finished: no further link follows."""
        self._run.done()

    # --- what Keras calls

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        """Count the batches of this epoch from here."""
        self.epoch, self.place = epoch, self._passed_over
        self._offset, self._passed_over = self._passed_over, 0
        self._steps_before = self.steps - self.place

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        """Count, and save and stop where that was asked for."""
        self.place = self._offset + batch + 1
        self.steps = self._steps_before + self.place
        self._attend(self.steps)

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Save each so many epochs."""
        if self.stopped:  # an epoch that was broken off ends here, too
            return
        self.epoch, self.place = epoch + 1, 0
        if self._every_epochs and (epoch + 1) % self._every_epochs == 0:
            self.save()

    def save(self) -> str:
        """Save now, and return the path."""
        name = os.path.join(self.folder, f"step-{self.steps:07d}.npz")
        with ckptrun.atomic_path(name) as path:
            _save(path, self.model, {"epoch": self.epoch, "place": self.place, "steps": self.steps})
        self._run.saved(name)
        for old in self._all()[: -self._keep]:
            if int(old[1]) < self.steps:
                os.unlink(os.path.join(self.folder, old[0]))
        return name

    def _attend(self, steps: int) -> None:
        self._run.progress(steps, self._total)
        if self._run.checkpoint_requested:
            self.save()
        if self._run.stop_requested:
            self.stopped = True
            self.model.stop_training = True
            if self._fitting:
                raise Stop

    def _fit(self, model: Any, data: Any, passed_over: int, options: dict[str, Any], callbacks: Iterable[Any]) -> Any:
        self._passed_over, self._fitting = passed_over, True
        try:
            return model.fit(data, callbacks=[*callbacks, self], shuffle=False, **options)
        except Stop:
            return model.history
        finally:
            self._fitting = False

    def _newest(self) -> str | None:
        told = self._run.checkpoint
        if told is not None and _NAME.fullmatch(os.path.basename(told)):
            return told
        found = self._all()
        return os.path.join(self.folder, found[-1][0]) if found else None

    def _all(self) -> list[re.Match[str]]:
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        return sorted((found for name in names if (found := _NAME.fullmatch(name))), key=lambda found: int(found[1]))


# --- the data, from a place on


class _Arrays:
    """Arrays, in batches whose order follows from a seed and the epoch alone."""

    def __init__(self, arrays: tuple[Any, ...], batch_size: int, shuffle: bool, seed: int) -> None:
        self.arrays, self._size, self._shuffle, self._seed = arrays, batch_size, shuffle, seed
        self._rows = len(arrays[0])
        self._ordered: tuple[int, Any] | None = None

    def length(self) -> int:
        return -(-self._rows // self._size)

    def epochs_from(self, first: int, passed_over: int) -> Any:
        return _sequence(self, first, passed_over)

    def batch(self, epoch: int, number: int) -> tuple[Any, ...]:
        import numpy

        if self._ordered is None or self._ordered[0] != epoch:
            dice = numpy.random.RandomState((self._seed * 1_000_003 + epoch) % 2**32)
            self._ordered = epoch, dice.permutation(self._rows) if self._shuffle else numpy.arange(self._rows)
        rows = self._ordered[1][number * self._size : (number + 1) * self._size]
        return tuple(array[rows] for array in self.arrays)


class _Sequence:
    """A Sequence of Keras, which has batches by their number."""

    def __init__(self, sequence: Any) -> None:
        self._sequence = sequence

    def length(self) -> int:
        return len(self._sequence)

    def epochs_from(self, first: int, passed_over: int) -> Any:
        return _sequence(self, first, passed_over)

    def batch(self, epoch: int, number: int) -> Any:
        return self._sequence[number]


class _Dataset:
    """A tf.data Dataset."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def length(self) -> int | None:
        found = int(self._dataset.cardinality())
        return found if found >= 0 else None

    def epochs_from(self, first: int, passed_over: int) -> Any:
        return self._dataset.skip(passed_over) if passed_over else self._dataset


def _source(x: Any, y: Any, seed: int, options: dict[str, Any]) -> Any:
    shuffle, weights = options.pop("shuffle", True), options.pop("sample_weight", None)
    if hasattr(x, "cardinality"):
        return _Dataset(x)
    if isinstance(x, _keras().utils.Sequence):
        return _Sequence(x)
    if not hasattr(x, "shape"):
        raise TypeError(
            f"fit takes arrays, a tf.data Dataset or a Sequence, not {type(x).__name__}: use model.fit with the callback"
        )
    arrays = tuple(one for one in (x, y, weights) if one is not None)
    return _Arrays(arrays, options.pop("batch_size", None) or 32, bool(shuffle), seed)


def _sequence(source: Any, first: int, passed_over: int) -> Any:
    """Return a Sequence of Keras's own class that begins with an epoch, some batches of which are passed over."""
    base = _keras().utils.Sequence

    class Batches(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            if hasattr(base, "workers"):  # Keras 3
                super().__init__()
            self._epoch = first

        def __len__(self) -> int:
            return int(source.length()) - passed_over

        def __getitem__(self, number: int) -> Any:
            return source.batch(self._epoch, number + passed_over)

        def on_epoch_end(self) -> None:
            self._epoch += 1

    return Batches()


# --- what is saved


def _save(path: str, model: Any, facts: dict[str, Any]) -> None:
    import numpy

    state = numpy.random.get_state(legacy=False)
    facts["numpy"] = {**state, "state": {**state["state"], "key": state["state"]["key"].tolist()}}
    facts["python"] = random.getstate()
    variables = _variables(model)
    facts["names"] = [_shape(one) for one in variables]
    arrays = {f"variable-{number}": _plain(_value(one)) for number, one in enumerate(variables)}
    # A file that is open, because NumPy would append its own ending to a name.
    with open(path, "wb") as file:
        numpy.savez(file, facts=numpy.frombuffer(json.dumps(facts).encode(), dtype=numpy.uint8), **arrays)


def _load(path: str, model: Any) -> dict[str, Any]:
    """Restore a model, its optimizer and the random states; return the rest. Raises ValueError where it is of another model."""
    import numpy

    variables = _variables(model)
    with numpy.load(path, allow_pickle=False) as arrays:
        facts: dict[str, Any] = json.loads(bytes(arrays["facts"]))
        if facts["names"] != [_shape(one) for one in variables]:
            raise ValueError(f"{path} is of another model or optimizer: its variables have other shapes")
        for number, one in enumerate(variables):
            one.assign(arrays[f"variable-{number}"].astype(_value(one).dtype))
    version, numbers, gauss = facts["python"]
    random.setstate((version, tuple(numbers), gauss))
    key = numpy.array(facts["numpy"]["state"]["key"], dtype=numpy.uint32)
    numpy.random.set_state({**facts["numpy"], "state": {**facts["numpy"]["state"], "key": key}})
    return facts


def _variables(model: Any) -> list[Any]:
    """Return what is restored: weights, what layers keep, the states of their random generators, the optimizer's variables.

    Metrics are left out: they begin anew with each `fit`, and do not exist before the first.
    """
    if not model.built or getattr(model, "optimizer", None) is None:
        raise ValueError(
            "a model has to be built and compiled before its checkpoint is restored: give it an Input, or call it once"
        )
    metrics = {id(variable) for metric in model.metrics for variable in metric.variables}
    found = [one for one in model.variables if id(one) not in metrics] + _generators(model) + _of_optimizer(model)
    return list({id(one): one for one in found}.values())


def _generators(model: Any) -> list[Any]:
    """Return the states of Keras 2's generators; it has them with `enable_tf_random_generator` only. Keras 3's are variables."""
    layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else []
    holders = (getattr(layer, "_random_generator", None) for layer in layers)
    found = [getattr(holder, "_generator", None) for holder in holders]
    return [one.state for one in found if one is not None]


def _of_optimizer(model: Any) -> list[Any]:
    optimizer = model.optimizer
    if hasattr(optimizer, "_create_all_weights"):  # keras.optimizers.legacy of Keras 2
        optimizer._create_all_weights(model.trainable_variables)
        return list(optimizer.variables())
    if not getattr(optimizer, "built", False) and not getattr(optimizer, "_built", False):
        optimizer.build(model.trainable_variables)
    return list(optimizer.variables)


def _value(variable: Any) -> Any:
    ops = getattr(_keras(), "ops", None)
    return ops.convert_to_numpy(variable) if ops is not None else variable.numpy()  # Keras 2 has no `ops`


def _plain(array: Any) -> Any:
    """Return an array of a type that NumPy itself can write: bfloat16 is a part of float32."""
    return array.astype("float32") if array.dtype.name == "bfloat16" else array


def _shape(variable: Any) -> str:
    return f"{list(variable.shape)}"


def _keras() -> Any:
    """Return the Keras that the program uses: what TensorFlow has as `tf.keras` where it was imported, else `keras`."""
    import sys

    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None:
        return tensorflow.keras
    import keras

    return keras
