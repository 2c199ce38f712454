"""Checkpoints of a Keras training, with Keras 2 and 3 (on TensorFlow, JAX or PyTorch), that resume in the middle of an epoch.

    from ckptrun.training.keras import checkpoints_in

    checkpoints = checkpoints_in("checkpoints")
    checkpoints.fit(model, images, labels, epochs=20, batch_size=32)  # in place of model.fit(images, labels, ...)
    if checkpoints.stopped:
        sys.exit()
    checkpoints.done()

Rules of this file. It imports `ckptrun`, Keras and NumPy, nothing else of ckptrun, so that it can be copied into a container beside
`ckptrun.py`. A checkpoint is one `.npz` file of arrays, `FOLDER/step-0000012.npz`, the step being the batches that are done: it is
read by every version of NumPy, and nothing in it is executed. Where several processes train together all of them make every call,
in the same order; one writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ckptrun

_NAME = re.compile(r"step-(\d{7,})\.npz")
# What Keras's own callbacks that watch a metric (EarlyStopping, ReduceLROnPlateau, ModelCheckpoint) remember from epoch to epoch.
_REMEMBERED = ("best", "best_epoch", "best_weights", "cooldown_counter", "stopped_epoch", "wait")
# One agreement a second is never felt; the bound keeps batches that suddenly become slow from putting the next one off for minutes.
_AGREE_EVERY_S = 1.0
_MOST_BATCHES_BETWEEN = 50


class Stop(Exception):
    """Raised through `fit` at the batch after which the training stops: Keras itself would validate first."""


def checkpoints_in(folder: str, *, every_epochs: int = 1, keep: int = 2) -> Any:
    """Return a Keras callback that saves when it is asked, and each so many epochs; 0 saves only when asked.

    Its `fit` stands for `model.fit`: it resumes first, to the batch. With `model.fit(initial_epoch=callback.resume(model),
    callbacks=[callback])` the epoch that was interrupted is trained in whole once more. `stopped` says that the training was asked
    to stop. `keep`: how many checkpoints stay, at least 1. Raises ValueError for other numbers.
    """
    if keep < 1 or every_epochs < 0:
        raise ValueError(f"keep={keep}, every_epochs={every_epochs}: at least one checkpoint stays, and 0 epochs is the least")
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
        self._length: int | None = None
        self._total: int | None = None
        self._fitting = self._in_training = False
        self._target = 0
        self._ended_at: int | None = None  # the `epochs` of a fit that another callback has ended
        self._source: Any = None
        self._others: list[Any] = []
        self._remembered: list[dict[str, Any]] = []
        self._random: list[Any] | None = None
        self._together: _Together | None = None

    # --- what a program calls

    def resume(self, model: Any) -> int:
        """Restore the newest checkpoint into a compiled model that is built; return the epoch to go on with, 0 without one.

        Raises ValueError for a checkpoint of another model, for what is none of this adapter's, and for a model that is not built.
        """
        if not isinstance(self, _keras(model).callbacks.Callback):
            raise TypeError(
                "the model is of another Keras than the callback: before checkpoints_in import the one that you use alone,"
                " or say with TF_USE_LEGACY_KERAS=1 that it is tf_keras"
            )
        self._together = _together(model)
        path = self._newest()
        if path is None:
            return 0
        facts = _load(path, model, self._together)
        self.epoch, self.place, self.steps = facts["epoch"], facts["place"], facts["steps"]
        self._remembered, self._ended_at = facts["callbacks"], facts["ended"]
        self._random = facts["random"]
        return int(self.epoch)

    def fit(self, model: Any, x: Any, y: Any = None, *, epochs: int = 1, callbacks: Any = (), **options: Any) -> Any:
        """Train as `model.fit` does, from where the newest checkpoint stands; return the last History.

        Arrays, and the batches of a Sequence, are read in an order of each epoch's own, which follows from `seed` (0);
        `shuffle=False` leaves it. A tf.data Dataset is read from the place on: its own order must be the same each time. The rest
        of an interrupted epoch is a `model.fit` of its own; other callbacks hear of one beginning and one end, and what those of
        Keras remember is restored. Where nothing is left to train that is said, and the History is empty. Raises TypeError and
        ValueError for what cannot be resumed, before anything is trained.
        """
        if os.path.isdir(self.folder) and not os.access(self.folder, os.W_OK):
            raise PermissionError(13, "checkpoints could not be written", self.folder)
        source = _source(model, x, y, options)
        self._others = [one for one in _listed(callbacks) if one is not self]
        _build(model, source)
        self.resume(model)
        place, self._length = self.place, source.length
        if self._length is not None:
            self._total = epochs * self._length
            if place >= self._length:
                self.epoch, place = self.epoch + 1, 0
        ranges = [(self.epoch, self.epoch + 1, place), (self.epoch + 1, epochs, 0)] if place else [(self.epoch, epochs, 0)]
        ranges = [one for one in ranges if one[0] < min(one[1], epochs) and self._ended_at != epochs]
        if not ranges:
            _say(
                f"nothing is left to train: the newest checkpoint in {self.folder} has {self.epoch} epochs, or a callback ended it"
            )
            return _keras(model).callbacks.History()
        self._target, self._ended_at = epochs, None
        everybody = [*self._others, self]
        for number, (first, end, passed_over) in enumerate(ranges):
            last = number == len(ranges) - 1
            # For the callbacks they are one training: EarlyStopping would give the best weights back at the end of the first.
            with _deaf(everybody, *(["on_train_begin"] if number else []), *([] if last else ["on_train_end"])):
                history = self._fit(model, source, passed_over, {**options, "initial_epoch": first, "epochs": end})
            if model.stop_training:  # by us, or by another callback
                for callback in everybody if not last and not self.stopped else ():
                    callback.on_train_end()
                break
        return history

    def done(self) -> None:
        """Say that the training is finished: no further link follows."""
        self._run.done()

    # --- what Keras calls

    def on_train_begin(self, logs: object = None) -> None:
        """Give the other callbacks back what they remembered: we are the last, they have begun anew."""
        self._in_training = True
        for number, state in enumerate(self._remembered[: len(self._others)]):
            _remind(self._others[number], state)
        _set_random_states(self._random)  # once more: Keras may have drawn from them to try the model

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        """Count the batches of this epoch from here."""
        self.epoch, self.place = epoch, self._passed_over
        self._offset, self._passed_over = self._passed_over, 0
        self._steps_before = self.steps - self.place
        if not self.place:
            self.on_train_batch_begin(0)

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        """Restore what PyTorch draws from: the iterator that is made for the rest of an epoch has drawn, too."""
        if self._random is not None:
            _set_torch_states(self._random)
            self._random = None

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        """Count, and save and stop where that was asked for."""
        self.place = self._offset + batch + 1
        if self._length is not None:  # with `steps_per_execution` the last batches may be fewer than Keras says
            self.place = min(self.place, self._length)
        self.steps = self._steps_before + self.place
        if not self._fitting or self.place != self._length:  # after the last one: in the validation, or at the epoch's end
            self._attend()

    def on_test_begin(self, logs: object = None) -> None:
        """Count the epoch as done: its batches are, a validation changes nothing."""
        if self._in_training and not self.stopped:
            self.epoch, self.place = self.epoch + 1, 0

    def on_test_batch_end(self, batch: int, logs: object = None) -> None:
        """Hear an ask in a validation, too: it may be longer than what is left."""
        if self._in_training and not self.stopped:
            self._attend()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Save each so many epochs."""
        if self.stopped:  # an epoch that was broken off ends here, too
            return
        self.epoch, self.place = epoch + 1, 0
        if self._source is not None:
            self._source.turn_to(self.epoch)
        if self._every_epochs and (epoch + 1) % self._every_epochs == 0:
            self.save()
        if self.epoch < self._target:
            self._attend()

    def on_train_end(self, logs: object = None) -> None:
        """Save once more where another callback has ended the training: with what it did to the weights at the end."""
        self._in_training = False
        if self._target and self.model.stop_training and not self.stopped:
            self._ended_at = self._target
            if self._every_epochs:
                self.save()

    def save(self) -> str:
        """Save now, and return the path."""
        name = os.path.join(self.folder, f"step-{self.steps:07d}.npz")
        self._remembered = [_state_of(one) for one in self._others]
        facts = {
            "epoch": self.epoch,
            "place": self.place,
            "steps": self.steps,
            "ended": self._ended_at,
            "callbacks": self._remembered,
        }
        state = _State(self.model, facts, self._together)
        if self._together is None or self._together.first:
            with ckptrun.atomic_path(name) as path:
                state.write(path)
            self._run.saved(name)
            self._remove_old()
        return name

    def _remove_old(self) -> None:
        for old in self._all()[: -self._keep]:
            if int(old[1]) < self.steps:
                with contextlib.suppress(FileNotFoundError):  # somebody was faster
                    os.unlink(os.path.join(self.folder, old[0]))

    def _attend(self) -> None:
        if self._together is None or self._together.first:
            self._run.progress(self.steps, self._total)
        save, stop = self._run.checkpoint_requested, self._run.stop_requested
        if self._together is not None:
            save, stop = self._together.agree(self._run, save, stop)
        if save:
            self.save()
        if stop:
            self.stopped = True
            self.model.stop_training = True
            if self._fitting:
                raise Stop

    def _fit(self, model: Any, source: Any, passed_over: int, options: dict[str, Any]) -> Any:
        first = options["initial_epoch"]
        source.turn_to(first)
        data = source.epochs_from(first, passed_over)
        self._source, self._passed_over, self._fitting, self._in_training = source, passed_over, True, True
        try:
            return model.fit(data, callbacks=[*self._others, self], shuffle=False, **options, **source.options(passed_over))
        except Stop:
            return model.history
        finally:
            self._fitting = self._in_training = False

    def _newest(self) -> str | None:
        found = self._all()
        newest = os.path.join(self.folder, found[-1][0]) if found else None
        told = self._run.checkpoint
        if told is not None and _NAME.fullmatch(os.path.basename(told)):
            # The one that ckptrun has verified, unless it is of another folder, of another model of this program.
            here = os.path.join(self.folder, os.path.basename(told))
            with contextlib.suppress(OSError):
                newest = here if os.path.samefile(told, here) else newest
        if self._together is not None:  # names may be seen later on other nodes: the first process decides
            step = self._together.rows([int(os.path.basename(newest)[5:-4]) if newest else -1])[0][0]
            newest = os.path.join(self.folder, f"step-{step:07d}.npz") if step >= 0 else None
        return newest

    def _all(self) -> list[re.Match[str]]:
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        return sorted((found for name in names if (found := _NAME.fullmatch(name))), key=lambda found: int(found[1]))


# --- the data, from a place on


class _Numbered:
    """Batches that can be had by their number: what Keras is given is a Sequence of its own class."""

    length: int
    workers: dict[str, Any]

    def __init__(self, base: Any) -> None:
        self._base, self._epoch, self.workers = base, 0, {}

    def turn_to(self, epoch: int) -> None:
        """Be ready to be read for this epoch. Keras's own word for it comes at other times in each of its versions."""
        self._epoch = epoch

    def options(self, passed_over: int) -> dict[str, Any]:
        return {}

    def batch(self, epoch: int, number: int) -> Any:
        raise NotImplementedError

    def one(self) -> Any:
        """Return a batch, to build a model with."""
        return self.batch(0, 0)

    def epochs_from(self, first: int, passed_over: int) -> Any:
        """Return a Sequence that begins with an epoch, some batches of which are passed over."""
        source = self

        class Batches(self._base):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                if hasattr(source._base, "workers"):  # Keras 3
                    super().__init__(**source.workers)

            def __len__(self) -> int:
                return source.length - passed_over

            def __getitem__(self, number: int) -> Any:
                return source.batch(source._epoch, number + passed_over)

        return Batches()


class _Arrays(_Numbered):
    """Arrays, in batches whose order follows from a seed and the number of the pass through them alone."""

    def __init__(self, base: Any, arrays: Any, size: int, steps: int | None, seed: int | None, floats: str) -> None:
        super().__init__(base)
        rows = {len(one) for one in _leaves(arrays)}
        if len(rows) != 1 or not rows.copy().pop():
            raise ValueError(f"x, y and sample_weight are to have the same number of rows, and some: they have {sorted(rows)}")
        self._arrays, self._size, self._seed, self._floats = arrays, size, seed, floats
        self._rows = rows.pop()
        self._in_a_pass = -(-self._rows // size)
        self.length = steps or self._in_a_pass
        self._ordered: tuple[int, Any] = -1, None

    def batch(self, epoch: int, number: int) -> Any:
        import numpy

        turn, number = divmod(epoch * self.length + number, self._in_a_pass)
        ordered = self._ordered  # Keras reads ahead, in another thread
        if ordered[0] != turn:
            ordered = turn, _order(self._rows, self._seed, turn)
            self._ordered = ordered
        rows = ordered[1][number * self._size : (number + 1) * self._size]

        def taken(array: Any) -> Any:
            part = array[rows]
            return part.astype(self._floats) if numpy.issubdtype(part.dtype, numpy.floating) else part

        return _map(taken, self._arrays)


class _Sequence(_Numbered):
    """A Sequence of the program's, read by one thread or by workers.

    What it draws from NumPy's and Python's general generators, at an epoch's end and, read by one thread, for a batch, follows from
    the seed, the epoch and the batch: so it is the same after a resume, however far Keras has read ahead.
    """

    def __init__(self, base: Any, sequence: Any, shuffle: bool, seed: int, workers: dict[str, Any]) -> None:
        super().__init__(base)
        self._sequence, self._shuffle, self._seed, self.workers = sequence, shuffle, seed, workers
        self.length = len(sequence)
        alone = workers.get("workers", 1) <= 1 and not workers.get("use_multiprocessing", False)
        # Keras reads in another thread than the callbacks are in: their random numbers are left alone if this one draws none.
        self._draws = alone and _draws(lambda: sequence[0])

    def turn_to(self, epoch: int) -> None:
        for done in range(self._epoch, epoch):
            with _dice(self._seed, done):
                self._sequence.on_epoch_end()
        self._epoch = max(self._epoch, epoch)

    def batch(self, epoch: int, number: int) -> Any:
        number = int(_order(self.length, self._seed, epoch)[number]) if self._shuffle else number
        with _dice(self._seed, epoch, number) if self._draws else contextlib.nullcontext():
            return self._sequence[number]


class _Dataset:
    """A tf.data Dataset; with `steps_per_epoch` one that has no end, whose epochs follow one another."""

    def __init__(self, dataset: Any, steps: int | None) -> None:
        size = int(dataset.cardinality())
        if steps is None and size == -1:
            raise ValueError("a Dataset without an end has no epochs: give steps_per_epoch")
        if steps is not None and size not in (-2, -1, steps):
            raise ValueError(
                f"steps_per_epoch={steps} of a Dataset of {size} batches: let it repeat(), or leave steps_per_epoch out"
            )
        self._dataset, self._steps = dataset, steps if size < 0 else None
        self.length: int | None = steps or (size if size >= 0 else None)

    def turn_to(self, epoch: int) -> None:
        """Nothing: Keras reads it anew in each epoch."""

    def options(self, passed_over: int) -> dict[str, Any]:
        return {} if self._steps is None else {"steps_per_epoch": self._steps - passed_over}

    def one(self) -> Any:
        return next(iter(self._dataset))

    def epochs_from(self, first: int, passed_over: int) -> Any:
        done = passed_over + first * (self._steps or 0)
        return self._dataset.skip(done) if done else self._dataset


def _source(model: Any, x: Any, y: Any, options: dict[str, Any]) -> Any:
    """Return the data that `fit` was given, and take out of its options what is not to be passed on."""
    keras = _keras(model)
    base, seed, steps = keras.utils.Sequence, options.pop("seed", 0), options.get("steps_per_epoch")
    shuffle, weights = options.pop("shuffle", True), options.pop("sample_weight", None)
    if "initial_epoch" in options:
        raise TypeError("fit takes no initial_epoch: it follows from the checkpoint")
    if hasattr(x, "cardinality") and hasattr(x, "skip"):
        options.pop("steps_per_epoch", None)
        return _Dataset(x, steps)
    if isinstance(x, base):
        if steps is not None:
            raise ValueError("fit takes no steps_per_epoch with a Sequence: its length is that of an epoch")
        given = {name: getattr(x, name) for name in ("workers", "use_multiprocessing", "max_queue_size") if hasattr(x, name)}
        used = given or {name: options[name] for name in ("workers", "use_multiprocessing") if name in options}
        return _Sequence(base, x, bool(shuffle), seed, used)
    if weights is not None and y is None:
        raise ValueError("sample_weight without y: there is nothing to be weighted")
    size = options.pop("batch_size", None) or 32
    options.pop("steps_per_epoch", None)
    arrays = tuple(_arrays(one) for one in (x, y, weights) if one is not None)
    split = options.pop("validation_split", 0.0)
    if split and options.get("validation_data") is None:
        rows = len(_leaves(arrays)[0])
        begin = int(rows * (1.0 - split))  # as Keras does: the last rows
        options["validation_data"] = _map(lambda array: array[begin:], arrays)
        arrays = _map(lambda array: array[:begin], arrays)
    if isinstance(options.get("validation_data"), (tuple, list)):
        options.setdefault("validation_batch_size", size)
    return _Arrays(base, arrays, size, steps, seed if shuffle else None, keras.backend.floatx())


def _arrays(tree: Any) -> Any:
    """Return NumPy arrays where there were arrays, tensors, frames and lists of numbers, in the same lists and dictionaries."""
    import numpy

    if isinstance(tree, dict):
        return {name: _arrays(one) for name, one in tree.items()}
    if isinstance(tree, (list, tuple)) and all(hasattr(one, "shape") or isinstance(one, dict) for one in tree):
        return tuple(_arrays(one) for one in tree)
    array = numpy.asarray(tree)
    if array.ndim == 0 or array.dtype == object:
        raise TypeError(
            f"fit takes arrays, a tf.data Dataset or a Sequence, not {type(tree).__name__}: use model.fit with the callback"
        )
    return array[:, None] if type(tree).__name__ == "Series" else array  # as Keras does with pandas


def _map(act: Callable[[Any], Any], tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _map(act, one) for name, one in tree.items()}
    return tuple(_map(act, one) for one in tree) if isinstance(tree, (tuple, list)) else act(tree)


def _leaves(tree: Any) -> list[Any]:
    found: list[Any] = []
    _map(found.append, tree)
    return found


# --- random numbers


_ONE_AT_A_TIME = threading.RLock()


def _order(count: int, seed: int | None, turn: int) -> Any:
    import numpy

    if seed is None:
        return numpy.arange(count)
    return numpy.random.RandomState((seed * 1_000_003 + turn) % 2**32).permutation(count)


@contextlib.contextmanager
def _dice(*numbers: int) -> Iterator[None]:
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


def _draws(act: Callable[[], Any]) -> bool:
    """Return whether something draws from the general generators."""
    with _dice(0):
        before = repr(_random_states())
        act()
        return repr(_random_states()) != before


def _random_states() -> list[Any]:
    """Return the states of the general generators of Python, NumPy and, where it is loaded, PyTorch: its dropout draws there."""
    import numpy

    state = numpy.random.get_state(legacy=False)
    plain = {**state, "state": {**state["state"], "key": state["state"]["key"].tolist()}}
    torch: Any = sys.modules.get("torch")
    devices = torch.cuda.get_rng_state_all() if torch is not None and torch.cuda.is_initialized() else []
    return [random.getstate(), plain, [one.tolist() for one in (torch.get_rng_state(), *devices)] if torch is not None else []]


def _set_random_states(states: list[Any] | None) -> None:
    import numpy

    if states is None:
        return

    (version, numbers, gauss), state, _ = states
    random.setstate((version, tuple(numbers), gauss))
    key = numpy.array(state["state"]["key"], dtype=numpy.uint32)
    numpy.random.set_state({**state, "state": {**state["state"], "key": key}})


def _set_torch_states(states: list[Any]) -> None:
    """Set PyTorch's generators; those of CUDA where there are as many devices."""
    torch: Any = sys.modules.get("torch")
    if states[2] and torch is not None:
        first, *devices = (torch.tensor(one, dtype=torch.uint8) for one in states[2])
        torch.set_rng_state(first)
        if devices and len(devices) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(devices)


# --- what other callbacks remember


def _listed(callbacks: Any) -> list[Any]:
    """Return the callbacks of a program, which Keras takes one or many, or none."""
    many = callbacks if isinstance(callbacks, Iterable) else getattr(callbacks, "callbacks", [callbacks])
    return [] if callbacks is None else list(many)


@contextlib.contextmanager
def _deaf(callbacks: list[Any], *names: str) -> Iterator[None]:
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


def _state_of(callback: Any) -> dict[str, Any]:
    """Return what a callback remembers: its `state_dict`, else what Keras's own keep of the metric that they watch."""
    if hasattr(callback, "state_dict"):
        return dict(callback.state_dict())
    known = vars(callback)
    return {name: known[name] for name in _REMEMBERED if name in known and hasattr(callback, "monitor")}


def _remind(callback: Any, state: dict[str, Any]) -> None:
    if state and hasattr(callback, "load_state_dict"):
        callback.load_state_dict(state)
    elif hasattr(callback, "monitor"):
        for name in [name for name in _REMEMBERED if name in state]:
            setattr(callback, name, state[name])


# --- what is saved


class _State:
    """All that is saved, read from the model. Of several processes each makes one; one of them writes."""

    def __init__(self, model: Any, facts: dict[str, Any], together: _Together | None) -> None:
        self._variables, built = _variables(model)
        self._facts = facts
        self._arrays: dict[str, Any] = {}
        states = json.dumps(_random_states())
        facts["random"] = [states] if together is None else [one.decode() for one in together.exchange(states.encode())]
        facts["built"], facts["names"] = built, [_shape(one) for one in self._variables]
        self._each = {number: _each(one, together) for number, one in enumerate(self._variables) if _differs(one)}
        facts["callbacks"] = [self._without_arrays(one) for one in facts["callbacks"]]
        self._value = _reader(model)

    def write(self, path: str) -> None:
        """Write one array after the other: all of them at once would need the memory a second time where they are on a GPU."""
        import numpy

        facts = numpy.frombuffer(json.dumps(self._facts, default=_number).encode(), dtype=numpy.uint8)
        with open(path, "wb") as file, zipfile.ZipFile(file, "w") as whole:
            for name, array in [("facts", facts), *self._arrays.items()]:
                _put(whole, name, array)
            for number, one in enumerate(self._variables):
                _put(whole, f"variable-{number}", self._each[number] if number in self._each else self._value(one))

    def _without_arrays(self, state: Any) -> Any:
        """Return a callback's state with names for the arrays in it."""
        if isinstance(state, dict):
            return {name: self._without_arrays(one) for name, one in state.items()}
        if isinstance(state, (list, tuple)):
            return [self._without_arrays(one) for one in state]
        if getattr(state, "ndim", 0):
            name = f"callback-{len(self._arrays)}"
            self._arrays[name] = state
            return {"array": name}
        return state


def _load(path: str, model: Any, together: _Together | None) -> dict[str, Any]:
    """Restore a model, its optimizers and the random states; return the rest."""
    import numpy

    try:
        with numpy.load(path, allow_pickle=False) as arrays:
            facts: dict[str, Any] = json.loads(bytes(arrays["facts"]))
    except (ValueError, KeyError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged, or no checkpoint of this adapter ({error}): move it out of the folder") from error
    with numpy.load(path, allow_pickle=False) as arrays:
        _restore(path, model, facts, arrays, together)
        facts["callbacks"] = _with_arrays(facts["callbacks"], arrays)
    states = facts["random"]
    own = 0 if together is None else together.number
    facts["random"] = json.loads(states[own]) if own < len(states) else None
    _set_random_states(facts["random"])
    return facts


def _restore(path: str, model: Any, facts: dict[str, Any], arrays: Any, together: _Together | None) -> None:
    with _scope(model):
        variables, _ = _variables(model, facts["built"])
        shapes = [_shape(one) for one in variables]
        if facts["names"] != shapes:
            what = f"{len(shapes)} variables in place of {len(facts['names'])}"
            if len(shapes) == len(facts["names"]):
                what = next(f"a shape {shapes[n]} in place of {one}" for n, one in enumerate(facts["names"]) if one != shapes[n])
            raise ValueError(
                f"{path} is of another model or optimizer: this one has {what}."
                " If it is the same, build it first: give it an Input, or call it once. If not, give it a folder of its own"
            )
        for number, one in enumerate(variables):
            array = arrays[f"variable-{number}"]
            if _differs(one) and list(array.shape) != list(one.shape):
                _assign_each(one, array, together)
            else:
                one.assign(array)


def _with_arrays(state: Any, arrays: Any) -> Any:
    if isinstance(state, dict):
        return (
            arrays[state["array"]] if set(state) == {"array"} else {name: _with_arrays(one, arrays) for name, one in state.items()}
        )
    return [_with_arrays(one, arrays) for one in state] if isinstance(state, list) else state


def _put(whole: zipfile.ZipFile, name: str, array: Any) -> None:
    import numpy

    array = numpy.asarray(array)
    if array.dtype.kind == "V":  # bfloat16 and float8, which NumPy cannot write, are parts of float32
        array = array.astype("float32")
    with whole.open(f"{name}.npy", "w", force_zip64=True) as part:
        numpy.lib.format.write_array(part, array, allow_pickle=False)  # type: ignore[no-untyped-call]


def _number(value: Any) -> Any:
    """Return a NumPy number, or a tensor of one, as JSON has it."""
    return value.item() if hasattr(value, "item") else float(value)


# --- where a model keeps it


def _build(model: Any, source: Any) -> None:
    """Let a model that is not built see a batch, as Keras itself does; one that has no call of its own is made of built ones."""
    if not getattr(model, "built", True):
        data = source.one()
        with _scope(model), contextlib.suppress(NotImplementedError):
            model(data[0] if isinstance(data, tuple) else data)


def _variables(model: Any, built: dict[str, Any] | None = None) -> tuple[list[Any], dict[str, Any]]:
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
    states = [one for layer in _layers(model) if getattr(layer, "stateful", False) for one in _leaves(getattr(layer, "states", ()))]
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


def _reader(model: Any) -> Callable[[Any], Any]:
    """Return what reads a variable into a NumPy array: Keras 2 has no `ops`."""
    ops = getattr(_keras(model), "ops", None)
    return (lambda variable: variable.numpy()) if ops is None else ops.convert_to_numpy


def _shape(variable: Any) -> str:
    return f"{list(variable.shape)}"


# --- several devices, several processes: the strategies of TensorFlow


def _scope(model: Any) -> Any:
    """Return the scope that a model was made in, in which its optimizer has to be built, too."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def _differs(variable: Any) -> bool:
    """Return whether each device has a value of its own: averages of BatchNormalization, states of dropout in Keras 2."""
    return hasattr(variable, "values") and getattr(getattr(variable, "synchronization", None), "name", "") == "ON_READ"


def _each(variable: Any, together: _Together | None) -> Any:
    """Return the values of all devices, of all processes, one below the other."""
    import numpy

    own = numpy.stack([one.numpy() for one in variable.values])
    if together is None:
        return own
    return numpy.concatenate([numpy.frombuffer(one, own.dtype).reshape(own.shape) for one in together.exchange(own.tobytes())])


def _assign_each(variable: Any, values: Any, together: _Together | None) -> None:
    """Give each device its value; where they are more or fewer than they were, all the first one's."""
    own = variable.values
    same = len(values) == len(own) * (1 if together is None else together.count)
    before = 0 if together is None else together.number * len(own)
    for number, one in enumerate(own):
        one.assign(values[before + number if same else 0])


class _Together:
    """The processes of a MultiWorkerMirroredStrategy: what they do at the same batch, each of them does.

    An ask reaches each at a moment of its own. So they tell each other what they heard, about once a second, at batches that all of
    them know beforehand.
    """

    def __init__(self, strategy: Any, number: int, count: int) -> None:
        self.number, self.count, self.first = number, count, number == 0
        self._batches = self._next = self._last = 0
        self._since = time.monotonic()
        self._sum = _sum(strategy, strategy.num_replicas_in_sync // count)

    def agree(self, run: Any, save: bool, stop: bool) -> tuple[bool, bool]:
        """Return whether all of them are to save, and to stop, after this batch."""
        self._batches += 1
        if self._batches < self._next:
            return False, False
        took_us = int((time.monotonic() - self._since) * 1e6)
        rows = self.rows([save, stop, run.ask, took_us])
        each_s = max(row[3] for row in rows) / 1e6 / max(1, self._batches - self._last)
        self._last, self._since = self._batches, time.monotonic()
        self._next = self._batches + max(1, min(_MOST_BATCHES_BETWEEN, int(_AGREE_EVERY_S / max(each_s, 1e-9))))
        save = any(row[0] for row in rows)
        if save and not self.first:
            run.answer(max(row[2] for row in rows))
        return save, any(row[1] for row in rows)

    def rows(self, numbers: Any) -> list[list[int]]:
        """Give these numbers to all; return those of each process, the first one's first."""
        import numpy

        table = numpy.zeros((self.count, len(numbers)), numpy.int64)
        table[self.number] = numbers
        found: list[list[int]] = self._sum(table).tolist()
        return found

    def exchange(self, content: bytes) -> list[bytes]:
        """Give these bytes to all; return those of each process."""
        lengths = [row[0] for row in self.rows([len(content)])]
        rows = self.rows(list(content.ljust(max(lengths))))
        return [bytes(row[:length]) for row, length in zip(rows, lengths)]  # noqa: B905 Python 3.8 has no `strict`


def _sum(strategy: Any, devices: int) -> Callable[[Any], Any]:
    """Return what adds up a table of all processes: one graph for each size, because an eager collective is traced each time."""
    import tensorflow

    @tensorflow.function  # type: ignore[untyped-decorator]
    def added(table: Any) -> Any:
        def of_device() -> Any:
            device = tensorflow.distribute.get_replica_context()
            mine = table if device.replica_id_in_sync_group % devices == 0 else tensorflow.zeros_like(table)
            return device.all_reduce(tensorflow.distribute.ReduceOp.SUM, mine)

        return strategy.run(of_device)

    return lambda table: strategy.experimental_local_results(added(tensorflow.constant(table)))[0].numpy()


def _together(model: Any) -> _Together | None:
    """Return the processes that train this model, None for one alone. Raises ValueError for those that could not agree."""
    strategy = getattr(model, "distribute_strategy", None)
    resolver: Any = getattr(strategy, "cluster_resolver", None)
    workers = resolver.cluster_spec().as_dict() if resolver is not None and resolver.cluster_spec() else {}
    count = len(workers.get("chief", [])) + len(workers.get("worker", []))
    if count > 1 and set(workers) <= {"chief", "worker", "evaluator"} and not hasattr(_keras(model), "ops"):
        before = len(workers.get("chief", [])) if resolver.task_type == "worker" else 0
        return _Together(strategy, before + resolver.task_id, count)
    jax: Any = sys.modules.get("jax")
    torch: Any = sys.modules.get("torch")
    ranks = torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized()
    if count > 1 or (jax is not None and jax.process_count() > 1) or (ranks and torch.distributed.get_world_size() > 1):
        raise ValueError(
            "of trainings in several processes this adapter knows MultiWorkerMirroredStrategy with Keras 2 alone:"
            " use one process with all its devices, or a checkpoint of Keras's own"
        )
    return None


def _keras(model: Any = None) -> Any:
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


def _say(text: str) -> None:
    sys.stderr.write(f"ckptrun: {text}\n")
