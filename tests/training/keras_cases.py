"""A Keras training, interrupted everywhere, beside an uninterrupted one: `python -m tests.training.keras_cases FOLDER [all]`.

A line for each case: its name and whether all is the same, to the bit. It runs with Keras 2 and 3.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

import numpy
import tensorflow as tf

import ckptrun
from ckptrun.training.keras import checkpoints_in

keras = tf.keras
EPOCHS, BATCHES = 3, 7
IMAGES = numpy.random.RandomState(1).rand(40, 6).astype("float32")
LABELS = (IMAGES.sum(axis=1) > 3).astype("int64")


class Asks(keras.callbacks.Callback):  # type: ignore[misc]
    """Asks for a stop after so many batches of this start, as a person would by file."""

    def __init__(self, run: Any, after: int | None) -> None:
        super().__init__()
        self.run, self.left = run, after

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        """Count down, and draw from the general generators; the adapter comes after us."""
        random.random(), numpy.random.rand()
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                self.run._heard, self.run._stop = 1, True


class Rows(keras.utils.Sequence):  # type: ignore[misc]
    """A Sequence as a user writes it."""

    def __len__(self) -> int:
        return BATCHES

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        return IMAGES[number * 6 : number * 6 + 6], LABELS[number * 6 : number * 6 + 6]


DATA = {
    "arrays": lambda: (IMAGES, LABELS),
    "dataset": lambda: (tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).shuffle(40, 5, False).batch(6), None),
    "sequence": lambda: (Rows(), None),
}


def adam() -> Any:
    """Return an optimizer whose learning rate falls with its steps."""
    return keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.01, 5, 0.7))


def scaled() -> Any:
    """Return an optimizer whose gradients are scaled, by more each few steps."""
    return keras.mixed_precision.LossScaleOptimizer(adam(), initial_scale=8.0, dynamic_growth_steps=4)


def start(folder: Path, data: str, after: int | None, dropout: bool, optimizer: Callable[[], Any] = adam) -> tuple[Any, Any]:
    """Run one start: build the model anew, resume, train to the end or for so many batches; return model and callback."""
    ckptrun._current = ckptrun.Run({})
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(8, activation="relu"), keras.layers.BatchNormalization()]
    layers += [keras.layers.Dropout(0.4)] if dropout else []
    model = keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer(), loss, metrics=["accuracy"])
    checkpoints = checkpoints_in(str(folder))
    x, y = DATA[data]()
    options = {"batch_size": 6, "seed": 9} if y is not None else {}
    asks = Asks(ckptrun.current(), after)
    checkpoints.fit(model, x, y, epochs=EPOCHS, callbacks=[asks], verbose=0, validation_data=(IMAGES[:6], LABELS[:6]), **options)
    return model, checkpoints


def state(model: Any) -> list[Any]:
    """Return all that training has changed."""
    optimizer = model.optimizer.variables
    return [one.numpy().tolist() for one in (*model.variables, *optimizer)] + [random.random(), numpy.random.rand()]


def same(folder: Path, data: str, dropout: bool, optimizer: Callable[[], Any] = adam) -> bool:
    """Return whether a training that was stopped in each epoch, and at its end, ends as one that was not."""
    expected = state(start(folder / "whole", data, None, dropout, optimizer)[0])
    for after in (1, 3, 3, 7, 1, 5):  # at batch 1, 4, 7, 14, 15, 20
        model, checkpoints = start(folder / "parts", data, after, dropout, optimizer)
        assert checkpoints.stopped, checkpoints.steps
    model, checkpoints = start(folder / "parts", data, None, dropout, optimizer)
    assert not checkpoints.stopped and checkpoints.steps == EPOCHS * BATCHES, checkpoints.steps
    names = sorted(path.name for path in (folder / "parts").iterdir())
    assert names == ["step-0000020.npz", "step-0000021.npz"], names
    return state(model) == expected


def another_model(folder: Path) -> bool:
    """Return whether a checkpoint of another optimizer is refused."""
    start(folder, "arrays", 2, dropout=False)
    try:
        start(folder, "arrays", None, dropout=False, optimizer=keras.optimizers.SGD)
    except ValueError as error:
        return "is of another model" in str(error)
    return False


def as_a_callback(folder: Path) -> bool:
    """Return whether, with model.fit itself, a stop is one at a batch's end, and the next start knows its epoch."""
    start(folder, "arrays", 9, dropout=False)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8), keras.layers.BatchNormalization(), keras.layers.Dense(2)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    ckptrun._current = ckptrun.Run({})
    callback = checkpoints_in(str(folder))
    first = callback.resume(model)
    asks = Asks(ckptrun.current(), 2)
    model.fit(IMAGES, LABELS, initial_epoch=first, epochs=EPOCHS, batch_size=6, callbacks=[asks, callback], verbose=0)
    return (first, callback.stopped, callback.steps, callback.place) == (1, True, 11, 2)


def main() -> None:
    """Run all cases."""
    folder = Path(sys.argv[1])
    found = {data: same(folder / data, data, dropout=False) for data in (DATA if "all" in sys.argv else ["dataset"])}
    if not hasattr(keras, "ops"):  # Keras 2
        if "all" in sys.argv:
            found["dropout of Keras 2"] = same(folder / "legacy", "arrays", dropout=True)
        keras.backend.experimental.enable_tf_random_generator()
    found["arrays, dropout, scaled"] = same(folder / "dropout", "arrays", dropout=True, optimizer=scaled)
    found["another model"] = another_model(folder / "other")
    found["as a callback"] = as_a_callback(folder / "callback")
    print("CASES", json.dumps(found))


if __name__ == "__main__":
    main()
