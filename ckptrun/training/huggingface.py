"""A callback for the Trainer of Hugging Face's transformers: saved when it is asked, and stopped at that step.

    from ckptrun.training.huggingface import checkpoints_for

    checkpoints = checkpoints_for(trainer)
    trainer.train(resume_from_checkpoint=checkpoints.newest())
    if checkpoints.stopped:
        sys.exit()
    checkpoints.done()

Rules of this file. It imports `ckptrun`, the PyTorch adapter beside it and transformers. The Trainer itself writes and reads its
checkpoints, with optimizer, scheduler, random states and the place in the data. `save_total_limit=2` in its arguments keeps two.

Asked at a step after which it evaluates, or within an evaluation, what is saved is the training before that evaluation, which is
done again when it goes on from there. After the last step it is not stopped: it would come back to nothing.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

import ckptrun
from ckptrun.training.pytorch.dice import random_state, set_random_state
from ckptrun.training.pytorch.ranks import Ranks, Vote, Wanted
from ckptrun.training.told import told_in

_NAME = re.compile(r"checkpoint-(\d+)")
_OURS = "ckptrun"  # in trainer_state.json, among the states of callbacks


def checkpoints_for(trainer: Any) -> Any:
    """Return a callback that the Trainer has from now on. `stopped` says that the training was asked to stop.

    Raises ImportError where transformers is too old: its evaluation could not be done again.
    """
    import transformers

    if not hasattr(trainer, "_determine_best_metric"):
        raise ImportError(
            f"transformers {transformers.__version__} is too old for this callback: 4.57 was tried, and is new enough"
        )

    class Checkpoints(_Checkpoints, transformers.TrainerCallback):  # type: ignore[misc]
        """The callback, with the transformers that the program uses."""

    callback = Checkpoints(trainer)
    trainer.add_callback(callback)
    return callback


class _Checkpoints:
    """What the callback does, without the class that the Trainer wants it to be of."""

    def __init__(self, trainer: Any) -> None:
        self.folder, self.stopped = trainer.args.output_dir, False
        self._trainer = trainer
        self._run = ckptrun.current()
        self._ranks = Ranks()
        self._vote: Vote | None = None  # while the Trainer trains
        self._ask = self._looks = 0
        self._evaluates = False  # first of all: the evaluation within which the checkpoint was saved
        self._before_evaluation: dict[str, Any] = {}

    def newest(self) -> str | None:
        """Return the checkpoint to resume from: what ckptrun verified, else the newest of the output folder; None without one."""
        if (told := told_in(self._run, self.folder, _NAME)) is not None:
            return told
        names = os.listdir(self.folder) if os.path.isdir(self.folder) else []
        numbers = [int(found[1]) for name in names if (found := _NAME.fullmatch(name))]
        paths = (os.path.join(self.folder, f"checkpoint-{number}") for number in sorted(numbers, reverse=True))
        return next((path for path in paths if _is_written(path)), None)

    def done(self) -> None:
        """Say that the training is finished: no further link follows."""
        self._run.done()

    # --- what the Trainer calls

    def on_train_begin(self, args: object, state: Any, control: Any, **_others: object) -> None:
        """Find out who trains: `torch.distributed` is set up by now."""
        self._ranks = Ranks()
        self._vote, self.stopped = Vote(self._run, self._ranks), False
        self._evaluates = state.stateful_callbacks.pop(_OURS, None) is not None

    def on_step_begin(self, args: object, state: Any, control: Any, **_others: object) -> None:
        """Evaluate first, where that was to come next: the random states are those of the checkpoint by now."""
        if self._evaluates:
            self._before_evaluation = random_state()
            metrics = self._trainer._evaluate(None, None)
            self._trainer._determine_best_metric(metrics=metrics, trial=None)
            self._evaluates = False

    def on_step_end(self, args: object, state: Any, control: Any, **_others: object) -> Any:
        """Let the Trainer save and stop where all ranks have agreed on that."""
        if state.is_world_process_zero:
            self._run.progress(state.global_step, state.max_steps if state.max_steps > 0 else None)
        if control.should_evaluate:
            self._before_evaluation = random_state()
        elif not float(state.epoch).is_integer():  # else the end of the epoch comes first
            self._control(state, control)
        return control

    def on_epoch_end(self, args: object, state: Any, control: Any, **_others: object) -> Any:
        """The same at the end of an epoch; where it was stopped in the middle there is nothing to evaluate, or to save again."""
        if self.stopped:
            control.should_evaluate = control.should_save = False
        elif control.should_evaluate:
            self._before_evaluation = random_state()
        else:
            self._control(state, control)
        return control

    def on_prediction_step(self, args: object, state: Any, control: Any, **_others: object) -> None:
        """Save within an evaluation: it may be long."""
        if self._vote is None:
            return
        wanted = self._wanted()
        if wanted.save:
            self._ask = wanted.ask
            if not self._evaluates or not _is_written(os.path.join(self.folder, f"checkpoint-{state.global_step}")):
                self._save_in_evaluation(state)
            self._trainer.callback_handler.on_save(self._trainer.args, state, control)
        if wanted.stop and not _is_last(state):
            raise SystemExit(0)

    def on_save(self, args: object, state: Any, control: Any, **_others: object) -> None:
        """Tell of the checkpoint that stands now."""
        self._run.answer(self._ask)
        if state.is_world_process_zero:
            self._run.saved(os.path.join(self.folder, f"checkpoint-{state.global_step}"))
        if self.stopped:  # else the Trainer would load the best model now, and with save_total_limit=1 remove this checkpoint
            state.best_model_checkpoint = None

    def on_train_end(self, args: object, state: Any, control: Any, **_others: object) -> None:
        """Know that an evaluation from here on is the program's own."""
        self._vote = None

    def _save_in_evaluation(self, state: Any) -> None:
        now = random_state()
        set_random_state(self._before_evaluation)
        state.stateful_callbacks[_OURS] = {}
        try:
            self._trainer._save_checkpoint(self._trainer.model_wrapped, None)
        finally:
            del state.stateful_callbacks[_OURS]
            set_random_state(now)

    def _wanted(self) -> Wanted:
        assert self._vote is not None
        self._looks += 1
        return self._vote.take(self._looks)

    def _control(self, state: Any, control: Any) -> None:
        wanted = self._wanted()
        if wanted.save:
            control.should_save, self._ask = True, wanted.ask
        if wanted.stop and not _is_last(state):
            control.should_training_stop = self.stopped = True


def _is_last(state: Any) -> bool:
    return bool(0 < state.max_steps <= state.global_step)


def _is_written(path: str) -> bool:
    """Return whether the Trainer came to the end of a checkpoint: it writes this file last but one, and begins anew without it."""
    try:
        with open(os.path.join(path, "trainer_state.json"), encoding="utf-8") as file:
            return isinstance(json.load(file), dict)
    except (OSError, ValueError):
        return False
