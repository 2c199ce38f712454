"""The callback: it saves and stops when it is asked, and its `fit` goes on in the middle of an epoch."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any

import ckptrun
from ckptrun.training.keras.data import source_of
from ckptrun.training.keras.dice import set_random_states, set_torch_states
from ckptrun.training.keras.model import build, keras_of
from ckptrun.training.keras.remembered import deaf, listed, remind, state_of
from ckptrun.training.keras.saved import State, load
from ckptrun.training.keras.workers import Together, together_of
from ckptrun.training.told import say

_NAME = re.compile(r"step-(\d{7,})\.npz")


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
    base = keras_of().callbacks.Callback

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
        self._together: Together | None = None

    # --- what a program calls

    def resume(self, model: Any) -> int:
        """Restore the newest checkpoint into a compiled model that is built; return the epoch to go on with, 0 without one.

        Raises ValueError for a checkpoint of another model, for what is none of this adapter's, and for a model that is not built.
        """
        if not isinstance(self, keras_of(model).callbacks.Callback):
            raise TypeError(
                "the model is of another Keras than the callback: before checkpoints_in import the one that you use alone,"
                " or say with TF_USE_LEGACY_KERAS=1 that it is tf_keras"
            )
        self._together = together_of(model)
        path = self._newest()
        if path is None:
            return 0
        facts = load(path, model, self._together)
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
        source = source_of(model, x, y, options)
        self._others = [one for one in listed(callbacks) if one is not self]
        build(model, source)
        self.resume(model)
        place, self._length = self.place, source.length
        if self._length is not None:
            self._total = epochs * self._length
            if place >= self._length:
                self.epoch, place = self.epoch + 1, 0
        ranges = [(self.epoch, self.epoch + 1, place), (self.epoch + 1, epochs, 0)] if place else [(self.epoch, epochs, 0)]
        ranges = [one for one in ranges if one[0] < min(one[1], epochs) and self._ended_at != epochs]
        if not ranges:
            say(f"nothing is left to train: the newest checkpoint in {self.folder} has {self.epoch} epochs, or a callback ended it")
            return keras_of(model).callbacks.History()
        self._target, self._ended_at = epochs, None
        everybody = [*self._others, self]
        for number, (first, end, passed_over) in enumerate(ranges):
            last = number == len(ranges) - 1
            # For the callbacks they are one training: EarlyStopping would give the best weights back at the end of the first.
            with deaf(everybody, *(["on_train_begin"] if number else []), *([] if last else ["on_train_end"])):
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
            remind(self._others[number], state)
        set_random_states(self._random)  # once more: Keras may have drawn from them to try the model

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
            set_torch_states(self._random)
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
        self._remembered = [state_of(one) for one in self._others]
        facts = {
            "epoch": self.epoch,
            "place": self.place,
            "steps": self.steps,
            "ended": self._ended_at,
            "callbacks": self._remembered,
        }
        state = State(self.model, facts, self._together)
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
