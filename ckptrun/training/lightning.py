"""A callback for Lightning's Trainer: saved when it is asked, and ended at that batch. Lightning's own requeue is switched off.

    from ckptrun.training.lightning import checkpoints_in
    from ckptrun.training.pytorch import ResumableLoader

    checkpoints = checkpoints_in("checkpoints")
    trainer = Trainer(max_epochs=20, callbacks=[checkpoints], enable_checkpointing=False)
    trainer.fit(module, ResumableLoader(loader), ckpt_path=checkpoints.newest(), weights_only=True)
    checkpoints.done()

Rules of this file. It imports `ckptrun`, the PyTorch adapter beside it and Lightning, under either of its names. Lightning itself
makes and reads what is saved. Under ckptrun its handlers are taken off: it would requeue the job on SIGUSR1, and leave without a
save on SIGTERM; the ask comes by file.
"""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
from typing import Any

import ckptrun
from ckptrun.training.pytorch import Ranks, Vote, random_state, set_random_state

_NAME = re.compile(r"step-(\d{7,})\.ckpt")


def checkpoints_in(folder: str, *, every: int = 0, keep: int = 2) -> Any:
    """Return a callback that saves when it is asked, and each so many steps of the optimizer; 0 saves only when asked.

    Asked to stop, it ends the program with 0 right after the save (SystemExit): Lightning would validate first. `keep`: how many
    checkpoints stay.
    """
    name = "lightning.pytorch"
    if name not in sys.modules and "pytorch_lightning" in sys.modules:
        name = "pytorch_lightning"
    base = importlib.import_module(name).Callback

    class Checkpoints(_Checkpoints, base):  # type: ignore[misc, valid-type]
        """The callback, with the Lightning that the program uses."""

    return Checkpoints(folder, every, keep)


class _Checkpoints:
    """What the callback does, without the class that Lightning wants it to be of."""

    state_key: str

    def __init__(self, folder: str, every: int, keep: int) -> None:
        super().__init__()
        self.folder = folder
        self._every, self._keep = every, keep
        self._run = ckptrun.current()
        self._ranks = Ranks()  # found anew when the training starts: `torch.distributed` is set up by then
        self._vote = Vote(self._run, self._ranks)
        self._of_ranks: list[dict[str, Any]] = []
        self._saved_at = 0

    def newest(self) -> str | None:
        """Return the checkpoint to resume from: what ckptrun verified, else the newest of the folder; None without one."""
        told = self._run.checkpoint
        if told is not None and _NAME.fullmatch(os.path.basename(told)):
            return told
        found = self._all()
        return os.path.join(self.folder, found[-1]) if found else None

    def done(self) -> None:
        """Say that the training is finished: no further link follows."""
        self._run.done()

    # --- what Lightning calls

    def setup(self, trainer: Any, pl_module: object, stage: str) -> None:
        """Switch its requeue off, before it sets its handlers."""
        environment = trainer._accelerator_connector.cluster_environment
        if self._run.chain is not None and hasattr(environment, "auto_requeue"):
            environment.auto_requeue = False

    def on_train_start(self, trainer: Any, pl_module: object) -> None:
        """Take its handler of SIGTERM off, which it sets in any case, and find out who trains."""
        if self._run.chain is not None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._ranks = Ranks()
        self._vote = Vote(self._run, self._ranks)
        self._saved_at = trainer.global_step
        if len(self._of_ranks) == self._ranks.count:
            set_random_state(self._of_ranks[self._ranks.number]["random"])
        self._of_ranks = []

    def on_train_batch_end(self, trainer: Any, pl_module: object, outputs: object, batch: object, batch_idx: int) -> None:
        """Save, and end, where all ranks have agreed on that."""
        step = trainer.global_step
        if self._ranks.number == 0:
            self._run.progress(step, trainer.max_steps if trainer.max_steps > 0 else None)
        wanted = self._vote.take(trainer.fit_loop.total_batch_idx + 1)
        due = self._every and step >= self._saved_at + self._every
        if wanted.save or due:
            self._save(trainer, os.path.join(self.folder, f"step-{step:07d}.ckpt"))
            self._run.answer(wanted.ask)
            if self._ranks.number == 0:
                self._run.saved(os.path.join(self.folder, f"step-{step:07d}.ckpt"))
        if wanted.stop:
            raise SystemExit(0)

    def on_load_checkpoint(self, trainer: Any, pl_module: object, checkpoint: dict[str, Any]) -> None:
        """Put this rank's place in the data where Lightning would give every rank the first one's."""
        of_ranks = checkpoint["callbacks"].get(self.state_key, {}).get("ranks", [])
        if len(of_ranks) == trainer.world_size > 1:
            checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"] = of_ranks[trainer.global_rank]["loaders"]

    def state_dict(self) -> dict[str, Any]:
        """Return what Lightning does not save: each rank's random state, and its place in the data.

        In a checkpoint that another callback saves it is this rank's alone: several ranks do not find theirs in it.
        """
        return {"ranks": self._of_ranks or [{"random": random_state()}]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back, when the training starts."""
        self._of_ranks = state_dict["ranks"]

    def _save(self, trainer: Any, name: str) -> None:
        ranks = self._ranks
        atomic = ckptrun.atomic_path(name)
        temporary = ranks.from_first(ranks.first_does(atomic.__enter__))
        self._of_ranks = ranks.to_first({"random": random_state(), "loaders": trainer.fit_loop._combined_loader._state_dicts()})
        failed: BaseException | None = None
        try:
            trainer.save_checkpoint(temporary)
        except Exception as error:
            failed = error
        self._of_ranks = []
        ranks.all_or_none(failed)
        ranks.first_does(lambda: atomic.__exit__(None, None, None))
        self._saved_at = trainer.global_step
        if ranks.number == 0:
            # What is newer than this save belongs to a training that stood here before: it is not ours to remove.
            ours = [old for old in self._all() if int(_NAME.fullmatch(old)[1]) <= self._saved_at]  # type: ignore[index]
            for old in ours[: -self._keep]:
                os.unlink(os.path.join(self.folder, old))

    def _all(self) -> list[str]:
        names = os.listdir(self.folder) if os.path.isdir(self.folder) else []
        found = (match for name in names if (match := _NAME.fullmatch(name)))
        return [match[0] for match in sorted(found, key=lambda match: int(match[1]))]
