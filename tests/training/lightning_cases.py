"""A Lightning training, interrupted everywhere, beside an uninterrupted one: `python -m tests.training.lightning_cases FOLDER`."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy
import torch
from lightning.pytorch.plugins.environments import SLURMEnvironment
from torch.utils.data import DataLoader, Dataset

import ckptrun
from ckptrun.training.lightning import checkpoints_in
from ckptrun.training.pytorch import ResumableLoader

ROWS = torch.rand(40, 6, generator=torch.Generator().manual_seed(1))
INSIDE = {"CKPTRUN": "1", "CKPTRUN_CHAIN": "c"}


class Noisy(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Rows that are disturbed with all three generators each time they are read, as augmentations do."""

    def __len__(self) -> int:
        return len(ROWS)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        noise = random.random() + numpy.random.rand() + torch.rand(1).item()
        return ROWS[place] + 0.1 * noise, (ROWS[place].sum() > 3).long()


class Module(pl.LightningModule):
    """A model with dropout and a scheduler; it notes what SIGTERM and SIGUSR1 would do."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Dropout(0.4), torch.nn.Linear(8, 2))
        self.handlers: set[Any] = set()

    def training_step(self, batch: list[torch.Tensor], number: int) -> torch.Tensor:
        self.handlers |= {signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)}
        return torch.nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        return [optimizer], [{"scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 5), "interval": "step"}]


class Asks(pl.Callback):
    """Asks for a stop after so many batches of this start."""

    def __init__(self, after: int | None) -> None:
        self.left = after

    def on_train_batch_end(self, *_arguments: object) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                run = ckptrun.current()
                run._heard, run._stop = 1, True


def start(folder: Path, after: int | None, resumable: bool, plugins: list[Any]) -> tuple[Module, bool]:
    """Run one start; return the model and whether it was stopped."""
    ckptrun._current = ckptrun.Run(INSIDE)
    pl.seed_everything(3, verbose=False)
    module = Module()
    loader: Any = DataLoader(Noisy(), batch_size=6, shuffle=resumable)
    checkpoints = checkpoints_in(str(folder))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(max_epochs=3, accelerator="cpu", callbacks=[Asks(after), checkpoints], plugins=plugins, **quiet)
    data = ResumableLoader(loader) if resumable else loader
    try:
        trainer.fit(module, data, ckpt_path=checkpoints.newest(), weights_only=True)
    except SystemExit as end:
        assert end.code == 0
        return module, True
    return module, False


def same(folder: Path, resumable: bool) -> bool:
    """Return whether a training that was stopped in each epoch ends as one that was not."""

    def state(module: Module) -> list[Any]:
        return [*(one.tolist() for one in module.state_dict().values()), random.random(), numpy.random.rand()]

    expected = state(start(folder / "whole", None, resumable, [])[0])
    for after in (1, 3, 3, 7, 1, 5):  # at batch 1, 4, 7, 14, 15, 20
        assert start(folder / "parts", after, resumable, [])[1]
    module, stopped = start(folder / "parts", None, resumable, [])
    assert not stopped
    assert sorted(path.name for path in (folder / "parts").iterdir()) == ["step-0000015.ckpt", "step-0000020.ckpt"]
    return state(module) == expected


def handlers(folder: Path) -> bool:
    """Return whether neither signal is caught, in a job in which Lightning would catch both."""
    os.environ |= {"SLURM_NTASKS": "1", "SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    os.environ |= {"SLURM_JOB_NAME": "train", "SLURM_JOB_NUM_NODES": "1", "SLURM_NODELIST": "n1", "SLURM_NTASKS_PER_NODE": "1"}
    environment = SLURMEnvironment(auto_requeue=True)
    module, _ = start(folder, 2, True, [environment])
    return module.handlers == {signal.SIG_DFL} and environment.auto_requeue is False


def main() -> None:
    """Run all cases."""
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    found = {"resumable": same(folder / "resumable", True), "without ResumableLoader": same(folder / "ordered", False)}
    found["handlers"] = handlers(folder / "handlers")
    print("CASES", json.dumps(found))


if __name__ == "__main__":
    main()
