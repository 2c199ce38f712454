"""What a training is fed with, from a place on: arrays, a Sequence, a tf.data Dataset."""

from __future__ import annotations

import contextlib
from typing import Any

from ckptrun.training.keras.dice import dice, draws, order
from ckptrun.training.keras.model import keras_of, leaves, mapped


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
        """Return what `fit` is to be told besides."""
        return {}

    def batch(self, epoch: int, number: int) -> Any:
        """Return one batch of an epoch."""
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
        rows = {len(one) for one in leaves(arrays)}
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
            ordered = turn, order(self._rows, self._seed, turn)
            self._ordered = ordered
        rows = ordered[1][number * self._size : (number + 1) * self._size]

        def taken(array: Any) -> Any:
            part = array[rows]
            return part.astype(self._floats) if numpy.issubdtype(part.dtype, numpy.floating) else part

        return mapped(taken, self._arrays)


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
        self._draws = alone and draws(lambda: sequence[0])

    def turn_to(self, epoch: int) -> None:
        for done in range(self._epoch, epoch):
            with dice(self._seed, done):
                self._sequence.on_epoch_end()
        self._epoch = max(self._epoch, epoch)

    def batch(self, epoch: int, number: int) -> Any:
        number = int(order(self.length, self._seed, epoch)[number]) if self._shuffle else number
        with dice(self._seed, epoch, number) if self._draws else contextlib.nullcontext():
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


def source_of(model: Any, x: Any, y: Any, options: dict[str, Any]) -> Any:
    """Return the data that `fit` was given, and take out of its options what is not to be passed on."""
    keras = keras_of(model)
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
        rows = len(leaves(arrays)[0])
        begin = int(rows * (1.0 - split))  # as Keras does: the last rows
        options["validation_data"] = mapped(lambda array: array[begin:], arrays)
        arrays = mapped(lambda array: array[:begin], arrays)
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
