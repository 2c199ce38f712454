"""A callback for the Trainer of Hugging Face's transformers: saved when it is asked, and stopped at that step.

    from ckptrun.training.huggingface import checkpoints_for

    checkpoints = checkpoints_for(trainer)
    trainer.train(resume_from_checkpoint=checkpoints.newest())
    if checkpoints.stopped:
        sys.exit()
    checkpoints.done()

Rules of this file. It imports `ckptrun`, the PyTorch adapter beside it and transformers. The Trainer itself writes and reads its
checkpoints, with optimizer, scheduler, random states and the place in the data. `save_total_limit=2` in its arguments keeps two.
"""

from __future__ import annotations

import os
import re
from typing import Any

import ckptrun
from ckptrun.training.pytorch import Ranks, Vote


def checkpoints_for(trainer: Any) -> Any:
    """Return a callback that the Trainer has from now on. `stopped` says that the training was asked to stop."""
    import transformers

    class Checkpoints(_Checkpoints, transformers.TrainerCallback):  # type: ignore[misc]
        """The callback, with the transformers that the program uses."""

    callback = Checkpoints(trainer.args.output_dir)
    trainer.add_callback(callback)
    return callback


class _Checkpoints:
    """What the callback does, without the class that the Trainer wants it to be of."""

    def __init__(self, folder: str) -> None:
        self.folder, self.stopped = folder, False
        self._run = ckptrun.current()
        self._vote: Vote | None = None
        self._ask = 0

    def newest(self) -> str | None:
        """Return the checkpoint to resume from: what ckptrun verified, else the newest of the output folder; None without one."""
        told = self._run.checkpoint
        if told is not None and re.fullmatch(r"checkpoint-\d+", os.path.basename(told)):
            return told
        names = os.listdir(self.folder) if os.path.isdir(self.folder) else []
        numbers = [int(found[1]) for name in names if (found := re.fullmatch(r"checkpoint-(\d+)", name))]
        paths = (os.path.join(self.folder, f"checkpoint-{number}") for number in sorted(numbers, reverse=True))
        # The Trainer writes this file last but one, and begins anew without it.
        return next((path for path in paths if os.path.exists(os.path.join(path, "trainer_state.json"))), None)

    def done(self) -> None:
        """Say that the training is finished: no further link follows."""
        self._run.done()

    # --- what the Trainer calls

    def on_train_begin(self, args: object, state: Any, control: Any, **_others: object) -> None:
        """Find out who trains: `torch.distributed` is set up by now."""
        self._vote = Vote(self._run, Ranks())

    def on_step_end(self, args: object, state: Any, control: Any, **_others: object) -> Any:
        """Let the Trainer save and stop where all ranks have agreed on that."""
        assert self._vote is not None
        if state.is_world_process_zero:
            self._run.progress(state.global_step, state.max_steps if state.max_steps > 0 else None)
        wanted = self._vote.take(state.global_step)
        if wanted.save:
            control.should_save, self._ask = True, wanted.ask
        if wanted.stop:
            control.should_training_stop = self.stopped = True
        return control

    def on_save(self, args: object, state: Any, control: Any, **_others: object) -> None:
        """Tell of the checkpoint that stands now."""
        self._run.answer(self._ask)
        if state.is_world_process_zero:
            self._run.saved(os.path.join(self.folder, f"checkpoint-{state.global_step}"))
