"""One of two workers of a MultiWorkerMirroredStrategy: `TF_CONFIG=... python -m tests.training.keras_workers FOLDER ASKED`.

The worker of that number hears the ask after five batches, the other never; nobody does where it is -1. At the end each prints what
all of it has come to. For the folder `-` Keras's own `fit` is called, without the adapter.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

import numpy
import tensorflow as tf

import ckptrun
from ckptrun.training import keras as adapter

keras: Any = tf.keras
STRATEGY = tf.distribute.MultiWorkerMirroredStrategy()
NUMBER = int(json.loads(os.environ["TF_CONFIG"])["task"]["index"])
FOLDER, ASKED = sys.argv[1], int(sys.argv[2])
ROWS = numpy.random.RandomState(1).rand(64, 6).astype("float32")


class Asks(keras.callbacks.Callback):  # type: ignore[misc]
    """Hears the ask on one worker alone, and draws from the general generators: each worker has numbers of its own."""

    left = 5

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        """Count down."""
        self.model.drawn = random.random(), numpy.random.rand()
        self.left -= 1
        if self.left == 0 and ASKED == NUMBER:
            run = ckptrun.current()
            run._heard, run._stop = 1, True


def main() -> None:
    """Train, and tell."""
    if not hasattr(keras, "ops"):  # Keras 2
        keras.backend.experimental.enable_tf_random_generator()
    keras.utils.set_random_seed(3)
    random.seed(NUMBER)
    numpy.random.seed(NUMBER)
    with STRATEGY.scope():
        layers = [keras.layers.Dense(8, activation="relu"), keras.layers.BatchNormalization(), keras.layers.Dropout(0.4)]
        model = keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(2)])
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    labels = (ROWS.sum(axis=1) > 3).astype("int64")
    if FOLDER == "-":
        model.fit(tf.data.Dataset.from_tensor_slices((ROWS, labels)).batch(8), verbose=0)
        return
    checkpoints = adapter.checkpoints_in(FOLDER)
    wrote: list[str] = []
    checkpoints._remove_old = lambda: wrote.append(str(checkpoints.steps))
    checkpoints.fit(model, ROWS, labels, batch_size=8, epochs=16, callbacks=[Asks()], verbose=0)
    values: list[Any] = [one.numpy() for one in (*model.variables, *model.optimizer.variables)]
    digest = hashlib.sha256(b"".join(one.tobytes() for one in values)).hexdigest()
    said = {"stopped": checkpoints.stopped, "steps": checkpoints.steps, "digest": digest, "drawn": model.drawn, "wrote": wrote}
    print("WORKER", json.dumps(said))


if __name__ == "__main__":
    main()
