"""Keras trainings, interrupted, beside uninterrupted ones: `python -m tests.training.keras_cases FOLDER CASE...`.

A line of JSON: each case and whether all is the same, to the bit, or as the case says. It runs with Keras 2 and 3, the latter with
each of its backends, and with two devices in one process (`KERAS_CASES_DEVICES=2`).
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

import numpy

import ckptrun
from ckptrun.training.keras import checkpoints_in

WITH_TENSORFLOW = os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow"
tf: Any = importlib.import_module("tensorflow") if WITH_TENSORFLOW else None
keras: Any = tf.keras if WITH_TENSORFLOW else importlib.import_module("keras")
if os.environ.get("KERAS_CASES_DEVICES"):
    TWO = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], TWO)

KERAS_2 = not hasattr(keras, "ops")
EPOCHS, BATCHES = 3, 7
IMAGES = numpy.random.RandomState(1).rand(40, 6).astype("float32")
LABELS = (IMAGES.sum(axis=1) > 3).astype("int64")
PICTURES = numpy.random.RandomState(2).rand(40, 4, 4, 1).astype("float32")


class Asks(keras.callbacks.Callback):  # type: ignore[misc]
    """Asks for a stop after so many batches of this start, as a person would by file."""

    def __init__(self, after: int | None, draws: bool = True) -> None:
        super().__init__()
        self.left, self.draws = after, draws

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        """Count down, and draw from the general generators; the adapter comes after us."""
        if self.draws:
            random.random(), numpy.random.rand()
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                ask()


def ask() -> None:
    """Ask this process's run for a save and a stop."""
    run = ckptrun.current()
    run._heard, run._stop = run._heard + 1, True


class Rows(keras.utils.Sequence):  # type: ignore[misc]
    """A Sequence as a user writes it."""

    def __len__(self) -> int:
        return BATCHES

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        return IMAGES[number * 6 : number * 6 + 6], LABELS[number * 6 : number * 6 + 6]


class Drawn(keras.utils.Sequence):  # type: ignore[misc]
    """A Sequence that shuffles its rows after each epoch, in place, and augments them with NumPy and Python."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = numpy.arange(40)

    def __len__(self) -> int:
        return BATCHES

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        rows = self.rows[number * 6 : number * 6 + 6]
        return IMAGES[rows] * numpy.random.rand(len(rows), 1).astype("float32") + random.random(), LABELS[rows]

    def on_epoch_end(self) -> None:
        numpy.random.shuffle(self.rows)


def dataset() -> Any:
    """Return a Dataset whose order is the same each time."""
    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).shuffle(40, 5, reshuffle_each_iteration=False)


def adam() -> Any:
    """Return an optimizer whose learning rate falls with its steps."""
    return keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.01, 5, 0.7))


def scaled() -> Any:
    """Return an optimizer whose gradients are scaled, by more each few steps."""
    return keras.mixed_precision.LossScaleOptimizer(adam(), initial_scale=8.0, dynamic_growth_steps=4)


def crossentropy() -> Any:
    """Return the loss of two classes."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def dense(*layers: Any, optimizer: Callable[[], Any] = adam, **options: Any) -> Any:
    """Return a compiled model of a few layers."""
    first = [keras.Input((6,)), keras.layers.Dense(8, activation="relu"), keras.layers.BatchNormalization()]
    model = keras.Sequential([*first, *layers, keras.layers.Dense(2)])
    model.compile(optimizer(), crossentropy(), metrics=["accuracy"], **options)
    return model


def dropout(**options: Any) -> Any:
    """Return the model with Dropout."""
    return dense(keras.layers.Dropout(0.4), **options)


def augmented() -> Any:
    """Return a model whose first layers alter the pictures at random."""
    layers = [keras.layers.RandomFlip(), keras.layers.RandomRotation(0.2), keras.layers.RandomContrast(0.3), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((4, 4, 1)), *layers, keras.layers.Dense(2)])
    model.compile(adam(), crossentropy())
    return model


class Subclassed(keras.Model):  # type: ignore[misc]
    """A model that is not built before it has seen data."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = keras.layers.Dense(8, activation="relu"), keras.layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        return self.out(self.hidden(inputs))


def subclassed() -> Any:
    """Return it, compiled."""
    model = Subclassed()
    model.compile(adam(), crossentropy())
    return model


class Gan(keras.Model):  # type: ignore[misc]
    """Two models with an optimizer each, trained in turn by a step of its own, as in Keras's guide."""

    def __init__(self) -> None:
        super().__init__()
        self.critic = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(1)])
        self.maker = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6)])

    def compile(self, critic: Any, maker: Any) -> None:
        """Keep the optimizers where nobody looks for them."""
        super().compile()
        self.of_critic, self.of_maker = critic, maker
        self.tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self) -> list[Any]:
        """Return what begins anew with each epoch."""
        return [self.tracker]

    def train_step(self, data: Any) -> dict[str, Any]:
        """Train the critic, then the maker."""
        images, _ = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self.critic(self.maker(images))) - tf.reduce_mean(self.critic(images))
        weights = self.critic.trainable_variables
        self.of_critic.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        with tf.GradientTape() as tape:
            other = -tf.reduce_mean(self.critic(self.maker(images)))
        weights = self.maker.trainable_variables
        self.of_maker.apply_gradients(zip(tape.gradient(other, weights), weights, strict=True))
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


def gan() -> Any:
    """Return it, compiled with two optimizers of different kinds."""
    model = Gan()
    model.compile(keras.optimizers.Adam(0.01), keras.optimizers.RMSprop(0.01, momentum=0.5))
    return model


def recurrent() -> Any:
    """Return a model with an Embedding and a layer that keeps its state from batch to batch."""
    inputs = keras.Input((4,), batch_size=5, dtype="int32")
    hidden = keras.layers.GRU(3, stateful=True)(keras.layers.Embedding(9, 3)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    model.compile(adam(), crossentropy())
    return model


def two_inputs() -> Any:
    """Return a model of two named inputs."""
    inputs = {"one": keras.Input((6,), name="one"), "other": keras.Input((2,), name="other")}
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Concatenate()([inputs["one"], inputs["other"]])))
    model.compile(adam(), crossentropy())
    return model


def listed() -> Any:
    """Return a model of a list of two inputs."""
    inputs = [keras.Input((6,)), keras.Input((2,))]
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Concatenate()(inputs)))
    model.compile(adam(), crossentropy())
    return model


def bfloat() -> Any:
    """Return a model that keeps its weights in bfloat16."""
    keras.backend.set_floatx("float32")
    layers = [keras.layers.Dense(8, dtype="bfloat16"), keras.layers.Dense(2, dtype="bfloat16")]
    model = keras.Sequential([keras.Input((6,)), *layers])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), crossentropy())
    return model


ARRAYS = {"x": IMAGES, "y": LABELS, "batch_size": 6, "seed": 9}
PLACES = {"validation_data": (IMAGES[:6], LABELS[:6])}
WEIGHED = {"sample_weight": IMAGES[:, 0], **ARRAYS}
# What is trained, and what `fit` is given beside the epochs.
SAME: dict[str, tuple[Callable[[], Any], Callable[[], dict[str, Any]]]] = {
    "arrays": (dense, lambda: {**ARRAYS, **PLACES}),
    "dataset": (dense, lambda: {"x": dataset().batch(6), **PLACES}),
    "sequence": (dense, lambda: {"x": Rows(), **PLACES}),
    "sequence that draws": (dense, lambda: {"x": Drawn(), **PLACES}),
    "dropout": (dropout, lambda: ARRAYS),
    "dropout, scaled": (lambda: dropout(optimizer=scaled), lambda: {**ARRAYS, **PLACES}),
    "augmented": (augmented, lambda: {**ARRAYS, "x": PICTURES}),
    "not built": (subclassed, lambda: WEIGHED),
    "not built, dataset": (subclassed, lambda: {"x": dataset().batch(6)}),
    "gan": (gan, lambda: {"x": dataset().batch(6)}),
    "gan, arrays": (gan, lambda: ARRAYS),
    "recurrent": (
        recurrent,
        lambda: {"x": (IMAGES[:35, :4] * 9).astype("int32"), "y": LABELS[:35], "batch_size": 5, "shuffle": False},
    ),
    "two inputs": (two_inputs, lambda: {**ARRAYS, "x": {"one": IMAGES, "other": IMAGES[:, :2].tolist()}}),
    "list of inputs": (
        listed,
        lambda: {**ARRAYS, "x": [IMAGES.astype("float64"), IMAGES[:, :2]], "class_weight": {0: 1.0, 1: 2.0}},
    ),
    "tensors": (dense, lambda: {**ARRAYS, "x": tf.constant(IMAGES), "y": tf.constant(LABELS)}),
    "split": (dense, lambda: {**ARRAYS, "x": numpy.tile(IMAGES, (2, 1)), "y": numpy.tile(LABELS, 2), "validation_split": 0.5}),
    "steps of arrays": (dense, lambda: {**ARRAYS, "batch_size": 3, "steps_per_epoch": 7}),
    "endless": (dense, lambda: {"x": dataset().repeat().batch(5), "steps_per_epoch": 7}),
    "several at a time": (lambda: dense(steps_per_execution=2), lambda: {**ARRAYS, **PLACES}),
    "compiled": (lambda: dropout(jit_compile=True), lambda: ARRAYS),
    "bfloat16": (bfloat, lambda: ARRAYS),
    "legacy optimizer": (lambda: dense(optimizer=lambda: keras.optimizers.legacy.Adam(0.01)), lambda: ARRAYS),
}


def start(folder: Path, case: str, after: int | None, **more: Any) -> tuple[Any, Any]:
    """Run one start: build the model anew, resume, train to the end or for so many batches; return model and callback."""
    ckptrun._current = ckptrun.Run({})
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    make, options = SAME[case]
    if os.environ.get("KERAS_CASES_DEVICES"):
        with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
            model = make()
    else:
        model = make()
    checkpoints = checkpoints_in(str(folder))
    given = {"epochs": EPOCHS, "verbose": 0, **options(), **more}
    given["callbacks"] = [*given.get("callbacks", []), Asks(after, draws=case != "sequence that draws")]  # not two at a time
    checkpoints.fit(model, **given)
    return model, checkpoints


def plain(variable: Any) -> Any:
    """Return a variable as an array, with each backend."""
    return variable.numpy() if KERAS_2 else keras.ops.convert_to_numpy(variable)


def state(model: Any) -> list[Any]:
    """Return all that training has changed."""
    optimizers = [model.optimizer, *(getattr(model, name) for name in ("of_critic", "of_maker") if hasattr(model, name))]
    lists = [one.variables() if callable(one.variables) else one.variables for one in optimizers]
    metrics = {id(variable) for metric in model.metrics for variable in metric.variables}
    variables = [one for one in model.variables if id(one) not in metrics]
    variables += [one for each in lists for one in each]
    return [plain(one).tolist() for one in variables] + [random.random(), numpy.random.rand()]


def same(folder: Path, case: str, stops: Iterable[int] = (3, 6)) -> bool:
    """Return whether a training that was stopped after so many batches of its starts ends as one that was not."""
    expected = state(start(folder / "whole", case, None)[0])
    for after in stops:
        model, checkpoints = start(folder / "parts", case, after)
        assert checkpoints.stopped, checkpoints.steps
    model, checkpoints = start(folder / "parts", case, None)
    assert not checkpoints.stopped and checkpoints.steps == EPOCHS * BATCHES, checkpoints.steps
    names = sorted(path.name for path in (folder / "parts").iterdir())
    assert len(names) == 2 and names[-1] == "step-0000021.npz", names
    return state(model) == expected


def everywhere(folder: Path, case: str) -> bool:
    """Return the same with stops at the batches 1, 4, 7, 14, 15 and 20: in each epoch, and at its end."""
    return same(folder, case, (1, 3, 3, 7, 1, 5))


def another_model(folder: Path) -> bool:
    """Return whether a checkpoint of another optimizer, and what is none, are refused with a sentence that says which."""
    start(folder, "arrays", 2)
    SAME["another"] = (lambda: dense(optimizer=keras.optimizers.SGD), SAME["arrays"][1])
    said = refused(ValueError, lambda: start(folder, "another", None))
    (folder / "step-0000002.npz").write_bytes(b"PK")
    damaged = refused(ValueError, lambda: start(folder, "arrays", None))
    numpy.savez(folder / "step-0000002.npz", x=IMAGES)
    foreign = refused(ValueError, lambda: start(folder, "arrays", None))
    return "variables in place of" in said and "damaged" in damaged and "move it out of the folder" in foreign


def refused(kind: type[Exception], act: Callable[[], Any]) -> str:
    """Return what was said, nothing where it was not refused."""
    try:
        act()
    except kind as error:
        return str(error)
    return ""


def refusals(folder: Path) -> bool:
    """Return whether what cannot be resumed is refused before a batch is trained, with what to do."""
    model, checkpoints = dense(), checkpoints_in(str(folder))

    def fit(*data: Any, **options: Any) -> str:
        return refused(TypeError, lambda: refused_value(lambda: checkpoints.fit(model, *data, **options)))

    def refused_value(act: Callable[[], Any]) -> None:
        said = refused(ValueError, act)
        raise TypeError(said)

    return (
        "use model.fit with the callback" in fit(iter([(IMAGES, LABELS)]))
        and "initial_epoch" in fit(IMAGES, LABELS, initial_epoch=1)
        and "same number of rows" in fit(IMAGES, LABELS[:-1])
        and "nothing to be weighted" in fit(IMAGES, sample_weight=LABELS)
        and "length is that of an epoch" in fit(Rows(), steps_per_epoch=2)
        and "at least one checkpoint" in refused(ValueError, lambda: checkpoints_in(str(folder), keep=0))
        and not folder.exists()
    )


def endless_without_steps(folder: Path) -> bool:
    """Return whether Datasets whose epochs have no end, or not the one that is told, are refused."""
    checkpoints = checkpoints_in(str(folder))
    endless = refused(ValueError, lambda: checkpoints.fit(dense(), dataset().repeat().batch(6)))
    short = refused(ValueError, lambda: checkpoints.fit(dense(), dataset().batch(6), steps_per_epoch=3))
    return "give steps_per_epoch" in endless and "let it repeat()" in short


def as_a_callback(folder: Path) -> bool:
    """Return whether, with model.fit itself, a stop is one at a batch's end, and the next start knows its epoch."""
    start(folder, "arrays", 9)
    model = dense()
    ckptrun._current = ckptrun.Run({})
    callback = checkpoints_in(str(folder))
    first = callback.resume(model)
    model.fit(IMAGES, LABELS, initial_epoch=first, epochs=EPOCHS, batch_size=6, callbacks=[Asks(2), callback], verbose=0)
    return (first, callback.stopped, callback.steps, callback.place) == (1, True, 11, 2)


class Validates(keras.callbacks.Callback):  # type: ignore[misc]
    """Asks in the middle of a validation."""

    def on_test_batch_end(self, batch: int, logs: object = None) -> None:
        """Ask at its first batch."""
        if batch == 0:
            ask()


def asked_in_a_validation(folder: Path) -> bool:
    """Return whether an ask is heard in a validation, and the epoch, all batches of which are done, is not trained again."""
    longer = {"validation_data": (IMAGES, LABELS), "validation_batch_size": 6}
    _, first = start(folder, "arrays", None, callbacks=[Validates()], **longer)
    names = [path.name for path in folder.iterdir()]
    _, second = start(folder, "arrays", 1)
    return (first.stopped, first.epoch, first.place, names, second.epoch, second.place) == (True, 1, 0, ["step-0000007.npz"], 1, 1)


def watching(folder: Path) -> list[Any]:
    """Return Keras's own callbacks that remember something, so patient that two epochs do not stop the training, and four do."""
    best = keras.callbacks.ModelCheckpoint(str(folder / "best.weights.h5"), "val_loss", save_best_only=True, save_weights_only=True)
    slower = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=2, min_delta=10.0)
    early = keras.callbacks.EarlyStopping("val_loss", patience=4, min_delta=10.0, restore_best_weights=True)
    return [best, slower, early]


def remembered(folder: Path) -> bool:
    """Return whether callbacks stop the training in the same epoch, with the same weights; and no later start begins again."""
    SAME["watched"] = (lambda: dense(optimizer=lambda: keras.optimizers.Adam(0.3)), lambda: {**ARRAYS, **PLACES})
    ends = []
    for name, stops in (("whole", ()), ("parts", (9, 7, 8))):
        (folder / f"best-{name}").mkdir(parents=True)
        for after in (*stops, None):
            model, checkpoints = start(folder / name, "watched", after, callbacks=watching(folder / f"best-{name}"), epochs=20)
            assert checkpoints.stopped == (after is not None), (name, after)
        weights = [one.tolist() for one in model.get_weights()]
        rate = float(plain(model.optimizer.learning_rate))
        model.load_weights(str(folder / f"best-{name}" / "best.weights.h5"))  # of Keras 3 with the rate
        ends.append([checkpoints.steps, checkpoints.epoch, rate, weights, [one.tolist() for one in model.get_weights()]])
        model, checkpoints = start(folder / name, "watched", None, callbacks=watching(folder), epochs=20)
        ends[-1] += [checkpoints.steps, [one.tolist() for one in model.get_weights()]]
    assert ends[0][0] == ends[0][-2] == 5 * BATCHES and ends[0][2] < 0.2, ends[0][:3]
    return ends[0] == ends[1] and ends[0][-1] == ends[0][3]


class Counts(keras.callbacks.Callback):  # type: ignore[misc]
    """A callback of the program's own, with a state."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs, self.seen = 0, numpy.zeros(2)

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Count in both."""
        self.epochs, self.seen = self.epochs + 1, self.seen + [1, 2]

    def state_dict(self) -> dict[str, Any]:
        """Return both."""
        return {"epochs": self.epochs, "seen": [self.seen]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take both back."""
        self.epochs, self.seen = state["epochs"], state["seen"][0]


def own_state(folder: Path) -> bool:
    """Return whether a callback that has `state_dict` and `load_state_dict` counts on."""
    start(folder, "arrays", 9, callbacks=[Counts()])
    last = Counts()
    start(folder, "arrays", None, callbacks=[last])
    return last.epochs == EPOCHS and last.seen.tolist() == [EPOCHS, 2 * EPOCHS]


def nothing_left(folder: Path) -> bool:
    """Return whether a training that is through is not trained, nor is one that had more epochs; and nobody stumbles over it."""
    start(folder, "arrays", None)
    found = [start(folder, "arrays", None), start(folder, "arrays", None, epochs=2)]
    found.append(start(folder, "arrays", 4, epochs=4))
    history = checkpoints_in(str(folder)).fit(found[-1][0], IMAGES, LABELS, epochs=1, callbacks=None)
    return [one.steps for _, one in found] == [21, 21, 25] and history.history == {}


def another_folder(folder: Path) -> bool:
    """Return whether the checkpoint that ckptrun names is left alone where it is of another folder: of another model."""
    start(folder / "one", "arrays", 5)
    start(folder / "other", "arrays", 2)
    ckptrun._current = ckptrun.Run({"CKPTRUN": "1", "CKPTRUN_CHECKPOINT": str(folder / "one" / "step-0000005.npz")})
    checkpoints = [checkpoints_in(str(folder / name)) for name in ("one", "other")]
    for one in checkpoints:
        one.resume(dense())
    return [one.steps for one in checkpoints] == [5, 2]


CHECKS: dict[str, Callable[[Path], bool]] = {
    "another model": another_model,
    "refusals": refusals,
    "endless without steps": endless_without_steps,
    "as a callback": as_a_callback,
    "asked in a validation": asked_in_a_validation,
    "remembered": remembered,
    "own state": own_state,
    "nothing left": nothing_left,
    "another folder": another_folder,
}


def main() -> None:
    """Run the cases that are named: with a `*` those that are stopped everywhere, with a `-` before switching generators on."""
    found = {}
    for word in sorted(sys.argv[2:], key=lambda word: word[0] != "-"):
        case, here = word.strip("*-"), Path(sys.argv[1]) / word.strip("*-").replace(" ", "-").replace(",", "")
        if KERAS_2 and word[0] != "-":
            keras.backend.experimental.enable_tf_random_generator()
        try:
            found[case] = CHECKS[case](here) if case in CHECKS else (everywhere if word[-1] == "*" else same)(here, case)
        except Exception:
            import traceback

            traceback.print_exc()
            found[case] = False
        sys.stderr.write(f"{case}: {found[case]}\n")
    print("CASES", json.dumps(found))


if __name__ == "__main__":
    main()
