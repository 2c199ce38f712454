"""A callback for Lightning's Trainer: saved when it is asked, and ended there. Lightning's own requeue is switched off.

    from ckptrun.training.lightning import checkpoints_in
    from ckptrun.training.pytorch import ResumableLoader

    checkpoints = checkpoints_in("checkpoints")
    trainer = Trainer(max_epochs=20, callbacks=[checkpoints], enable_checkpointing=False)
    trainer.fit(module, ResumableLoader(loader), ckpt_path=checkpoints.newest(), weights_only=True)
    checkpoints.done()

Rules of this file. It imports `ckptrun`, the PyTorch adapter beside it and Lightning, under either of its names. Lightning itself
makes and reads what is saved. Under ckptrun its handlers are taken off: it would requeue the job on SIGUSR1, and leave without a
save on SIGTERM; the ask comes by file.

Saved between two batches, before the next one is read: no callback of Lightning's stands there, and in `on_train_batch_end` other
callbacks, the module's own hook, the validation and the end of the epoch are still to come. Where a validation is under way, what
is saved is the training before it, which then begins with that validation. Gradients are not saved: while they are accumulated it
waits for the step of the optimizer.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import signal
import sys
from typing import Any

import ckptrun
from ckptrun.training.pytorch.dice import random_state, set_random_state
from ckptrun.training.pytorch.loader import ResumableLoader
from ckptrun.training.pytorch.ranks import Ranks, Vote
from ckptrun.training.told import say, told_in

_NAME = re.compile(r"step-(\d{7,})\.ckpt")
# Lightning does not count the steps of an optimizer that a module calls past it: after so many batches without one, each is a step.
_UNCOUNTED = 100


def checkpoints_in(folder: str, *, every: int = 0, keep: int = 2) -> Any:
    """Return a callback that saves when it is asked, and each so many steps of the optimizer; 0 saves only when asked.

    Asked to stop, it ends the program with 0 right after the save (SystemExit): Lightning would validate first. `keep`: how many
    checkpoints stay. Raises ImportError where Lightning is older than 2.2.
    """
    name = "lightning.pytorch"
    if name not in sys.modules and "pytorch_lightning" in sys.modules:
        name = "pytorch_lightning"
    lightning = importlib.import_module(name)
    if tuple(int(part) for part in lightning.__version__.split(".")[:2]) < (2, 2):
        raise ImportError(f"Lightning {lightning.__version__} cannot restore the place in the data: 2.2 or newer is needed")

    class Checkpoints(_Checkpoints, lightning.Callback):  # type: ignore[misc, name-defined]
        """The callback, with the Lightning that the program uses."""

    return Checkpoints(folder, every, keep)


class _Checkpoints:
    """What the callback does, without the class that Lightning wants it to be of."""

    state_key: str

    def __init__(self, folder: str, every: int, keep: int) -> None:
        super().__init__()
        self.folder = os.path.expanduser(os.fspath(folder))
        self._every, self._keep = every, keep
        self._run = ckptrun.current()
        self._ranks = Ranks()  # found anew when the training starts: `torch.distributed` is set up by then
        self._vote = Vote(self._run, self._ranks)
        self._of_ranks: list[dict[str, Any]] = []
        self._place: str | None = None  # where the training stood, in the checkpoint that is being written or was read
        self._saved_at = self._looks = 0
        self._looks_left = 0.0  # of this validation
        self._written: int | None = None
        self._complete = False  # something was trained in this start, and the last batch ended with a step of the optimizer
        self._before_validation: dict[str, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Be made anew where it is copied, or sent to another process."""
        return _again, (self.folder, self._every, self._keep)

    def newest(self) -> str | None:
        """Return the checkpoint to resume from: what ckptrun verified, else the newest of the folder; None without one."""
        if (told := told_in(self._run, self.folder, _NAME)) is not None:
            return told
        found = self._all()
        return os.path.join(self.folder, found[-1]) if found else None

    def done(self) -> None:
        """Say that the training is finished: no further link follows."""
        self._run.done()

    # --- what Lightning calls

    def setup(self, trainer: Any, pl_module: object, stage: str) -> None:
        """Switch its requeue off, before it sets its handlers."""
        kinds = (kind.__name__ for kind in type(trainer.strategy.launcher).__mro__)
        if "_MultiProcessingLauncher" in kinds:
            raise ValueError("ranks that Lightning forks or spawns cannot end the program: say strategy='ddp', one program a rank")
        environment = trainer._accelerator_connector.cluster_environment
        if self._run.chain is not None and hasattr(environment, "auto_requeue"):
            environment.auto_requeue = False

    def on_train_start(self, trainer: Any, pl_module: object) -> None:
        """Take its handler of SIGTERM off, which it sets in any case, find out who trains, and stand before each batch."""
        if self._run.chain is not None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._ranks = Ranks()
        self._vote = Vote(self._run, self._ranks)
        self._saved_at, self._written, self._complete = self._step(trainer), None, False
        if len(self._of_ranks) == self._ranks.count:
            set_random_state(self._of_ranks[self._ranks.number]["random"])
        self._of_ranks = []
        loop = trainer.fit_loop.epoch_loop
        vars(loop).pop("advance", None)  # of a `fit` before this one
        advance = loop.advance

        def between(fetcher: Any) -> None:
            if self._goes_on(trainer, fetcher):
                before = trainer.global_step
                advance(fetcher)
                self._complete = self._is_complete(trainer, before)
                if self._ranks.number == 0:
                    self._run.progress(self._step(trainer), trainer.max_steps if trainer.max_steps > 0 else None)
            if trainer.enable_validation:
                self._before_validation = random_state()

        loop.advance = between

    def on_validation_start(self, trainer: Any, pl_module: object) -> None:
        """Find out at how many of its batches all ranks can agree on something: some may have fewer."""
        self._looks_left = 0.0
        if trainer.state.fn == "fit" and not trainer.sanity_checking and self._complete:
            fewest = -self._ranks.highest([-float(sum(trainer.num_val_batches))])[0]
            self._looks_left = fewest if self._ranks.count == 1 or fewest < float("inf") else 0.0

    def on_validation_batch_start(self, trainer: Any, *_others: object) -> None:
        """Save the training as it was before this validation, where all ranks have agreed on that."""
        if self._looks_left > 0:
            self._looks_left -= 1
            self._look(trainer, "validation", self._before_validation)

    def on_load_checkpoint(self, trainer: Any, pl_module: object, checkpoint: dict[str, Any]) -> None:
        """Put this rank's place in the data where Lightning would give every rank the first one's."""
        of_ranks = checkpoint["callbacks"].get(self.state_key, {}).get("ranks", [])
        if not of_ranks or "loaders" not in of_ranks[0]:
            return
        loops = checkpoint["loops"]["fit_loop"]["state_dict"]
        if len(of_ranks) == trainer.world_size:
            loops["combined_loader"] = of_ranks[trainer.global_rank]["loaders"]
            return
        loops.pop("combined_loader", None)
        if trainer.global_rank == 0:
            what = "random states and the place in the epoch begin anew"
            say(f"saved by {len(of_ranks)} ranks and read by {trainer.world_size}: {what}")

    def state_dict(self) -> dict[str, Any]:
        """Return what Lightning does not save: each rank's random state, and its place in the data.

        In a checkpoint that another callback saves it is this rank's alone: several ranks do not find theirs in it.
        """
        return {"ranks": self._of_ranks or [{"random": random_state()}], "place": self._place}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back, when the training starts."""
        self._of_ranks, self._place = state_dict["ranks"], state_dict.get("place")

    # --- between two batches

    def _goes_on(self, trainer: Any, fetcher: Any) -> bool:
        """Save, and end, where all ranks have agreed on that; return whether a batch comes next, else a validation."""
        loop, ahead = trainer.fit_loop.epoch_loop, len(getattr(fetcher, "batches", ()))
        if self._place is not None:
            # Its own restart would leave out the validation, or do it twice, and the schedulers at the end of this epoch.
            place, self._place = self._place, None
            trainer.fit_loop._restarting = loop.restarting = False
            self._complete = place == "validation"
            if self._complete:
                return False
        elif self._complete:
            if loop.batch_progress.current.ready == 0 and not ahead:
                for loader in _resumable(trainer):  # limit_train_batches ends an epoch before the loader does
                    loader.begin_epoch(trainer.current_epoch)
            self._look(trainer, "batch", None, ahead)
        for loader in _resumable(trainer):  # a validation may have come between what was saved and the first batch
            loader.go_on_as_drawn()
        return True

    def _is_complete(self, trainer: Any, before: int) -> bool:
        if trainer.lightning_module.automatic_optimization:
            return not trainer.fit_loop.epoch_loop._should_accumulate()
        batches = trainer.fit_loop.epoch_loop.batch_progress.total.completed
        return bool(trainer.global_step != before or (trainer.global_step == 0 and batches >= _UNCOUNTED))

    def _step(self, trainer: Any) -> int:
        return int(trainer.global_step or trainer.fit_loop.epoch_loop.batch_progress.total.completed)

    def _look(self, trainer: Any, place: str, random: dict[str, Any] | None, ahead: int = 0) -> None:
        self._looks += 1
        step = self._step(trainer)
        wanted = self._vote.take(self._looks)
        if wanted.save or (self._every and step >= self._saved_at + self._every):
            name = os.path.join(self.folder, f"step-{step:07d}.ckpt")
            if self._written != step:
                self._save(trainer, name, place, random, ahead)
                self._saved_at = self._written = step
            self._run.answer(wanted.ask)
            if self._ranks.number == 0:
                self._run.saved(name)
                self._remove_old(step)
        if wanted.stop and not 0 < trainer.max_steps <= trainer.global_step:  # Lightning would not come back to its last validation
            raise SystemExit(0)

    def _save(self, trainer: Any, name: str, place: str, random: dict[str, Any] | None, ahead: int) -> None:
        ranks = self._ranks
        atomic = ckptrun.atomic_path(name)
        temporary = ranks.from_first(ranks.first_does(atomic.__enter__))
        loaders = [_behind(state, ahead) for state in trainer.fit_loop._combined_loader._state_dicts()]
        own = {"random": random_state() if random is None else random, "loaders": loaders}
        self._of_ranks, self._place = ranks.to_first(own), place
        failed: BaseException | None = None
        plugin = trainer.strategy.checkpoint_io
        late = type(plugin).__name__ == "AsyncCheckpointIO"  # it would return before the file stands
        try:
            if late:
                trainer.strategy.checkpoint_io = plugin.checkpoint_io
            trainer.save_checkpoint(temporary)
        except Exception as error:
            failed = error
        if late:
            trainer.strategy.checkpoint_io = plugin
        self._of_ranks, self._place = [], None
        try:
            ranks.all_or_none(failed)
        except Exception as error:
            if ranks.number == 0:
                atomic.__exit__(type(error), error, None)
            raise
        ranks.first_does(lambda: atomic.__exit__(None, None, None))

    def _remove_old(self, step: int) -> None:
        # What is newer than this save belongs to a training that stood here before: it is not ours to remove.
        ours = [old for old in self._all() if int(_NAME.fullmatch(old)[1]) <= step]  # type: ignore[index]
        for old in ours[: -self._keep]:
            path = os.path.join(self.folder, old)
            try:
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
            except OSError as error:
                say(f"{path} stays: {error.strerror}")

    def _all(self) -> list[str]:
        names = os.listdir(self.folder) if os.path.isdir(self.folder) else []
        found = (match for name in names if (match := _NAME.fullmatch(name)))
        return [match[0] for match in sorted(found, key=lambda match: int(match[1]))]


def _again(folder: str, every: int, keep: int) -> Any:
    return checkpoints_in(folder, every=every, keep=keep)


def _resumable(trainer: Any) -> list[ResumableLoader]:
    return [loader for loader in trainer.fit_loop._combined_loader.flattened if isinstance(loader, ResumableLoader)]


def _behind(state: Any, ahead: int) -> Any:
    """Return a loader's place without the batches that Lightning has read ahead, as it does where the length is not known."""
    if ahead and isinstance(state, dict) and isinstance(state.get("place"), int) and state["place"] >= ahead:
        return {**state, "place": state["place"] - ahead}
    return state
