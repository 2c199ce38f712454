"""What Lightning can do beside a plain loop, interrupted: `python -m tests.training.lightning_features FOLDER [CASE...]`.

Each case trains once as a whole, and once asked again and again at other places. Both are to end with the same weights, random
numbers and metrics, and to have gone through the same batches, validations and ends of epochs, each once. Works with
Lightning under either of its names, as `CKPTRUN_TEST_LIGHTNING` says.
"""

from __future__ import annotations

import importlib
import inspect
import os
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

import ckptrun
from ckptrun.training.lightning import checkpoints_in
from ckptrun.training.pytorch import ResumableLoader
from tests.training import interrupted

pl: Any = importlib.import_module(os.environ.get("CKPTRUN_TEST_LIGHTNING", "lightning.pytorch"))
callbacks = importlib.import_module(f"{pl.__name__}.callbacks")
ROWS = torch.rand(40, 6, generator=torch.Generator().manual_seed(1))


class Noisy(Dataset[torch.Tensor]):
    """Rows that are disturbed each time they are read, as augmentations do."""

    def __len__(self) -> int:
        return len(ROWS)

    def __getitem__(self, place: int) -> torch.Tensor:
        return ROWS[place] + 0.1 * (random.random() + float(numpy.random.rand()) + torch.rand(1).item())


class Endless(IterableDataset[torch.Tensor]):
    """The same rows, without a length."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        yield from ROWS


class Module(pl.LightningModule):  # type: ignore[misc]
    """A model with dropout, whose schedule follows the validation, and whose own hooks change it, too."""

    def __init__(self, trace: list[str]) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Dropout(0.4), torch.nn.Linear(8, 1))
        self.register_buffer("mean", torch.zeros(6))
        self.trace = trace

    def training_step(self, batch: torch.Tensor, number: int) -> torch.Tensor | None:
        self.trace.append(f"batch {batch.sum().item():.6f}")
        loss: torch.Tensor = self.layers(batch).square().mean()
        return loss

    def on_train_batch_end(self, outputs: object, batch: torch.Tensor, number: int) -> None:
        self.mean = 0.9 * self.mean + 0.1 * batch.mean(dim=0)

    def validation_step(self, batch: torch.Tensor, number: int) -> None:
        self.log("val_loss", self.layers(batch).square().mean() + random.random() * 0.01)

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.trace.append(f"validated {self.trainer.callback_metrics['val_loss'].item():.6f}")

    def on_train_epoch_end(self) -> None:
        self.trace.append(f"epoch {self.current_epoch} ends at {self.global_step}")

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        if not self.trainer.enable_validation:
            return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.7)]
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss"}}


class Skipping(Module):
    """It has nothing to learn from every third batch."""

    def training_step(self, batch: torch.Tensor, number: int) -> torch.Tensor | None:
        loss = super().training_step(batch, number)
        return None if number % 3 == 2 else loss


class Manual(Module):
    """Two optimizers, called by hand: one each batch, the other with the gradients of two."""

    def __init__(self, trace: list[str]) -> None:
        super().__init__(trace)
        self.automatic_optimization = False

    def training_step(self, batch: torch.Tensor, number: int) -> None:
        self.trace.append(f"batch {batch.sum().item():.6f}")
        self.manual_backward(self.layers(batch).square().mean())
        if number % 2:
            for optimizer in self.optimizers():
                optimizer.step()
                optimizer.zero_grad()

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(self.layers[0].parameters(), 0.01), torch.optim.SGD(self.layers[3].parameters(), 0.1)]


class Data(pl.LightningDataModule):  # type: ignore[misc]
    """The data as Lightning likes it, with a state of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def train_dataloader(self) -> Any:
        return ResumableLoader(DataLoader(Noisy(), batch_size=6, shuffle=True))

    def val_dataloader(self) -> Any:
        return DataLoader(ROWS, batch_size=8)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seen = state_dict["seen"]


class Counts(callbacks.Callback):  # type: ignore[misc, name-defined]
    """A callback with a state, behind ours in the list."""

    def __init__(self) -> None:
        self.batches = 0

    def on_train_batch_end(self, *_arguments: object) -> None:
        self.batches += 1

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.batches = state_dict["batches"]


class Asks(callbacks.Callback):  # type: ignore[misc, name-defined]
    """Asks for a stop after so many training batches of this start, or, below zero, of a validation."""

    def __init__(self, after: int | None) -> None:
        self.after = after
        self.batches = self.of_validation = 0

    def on_train_batch_end(self, *_arguments: object) -> None:
        self.batches += 1
        self._ask(self.batches)

    def on_validation_batch_end(self, trainer: Any, *_arguments: object) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.of_validation += 1
            self._ask(-self.of_validation)

    def _ask(self, done: int) -> None:
        if done == self.after:
            run = ckptrun.current()
            run._heard, run._stop = 1, True


def loader(**options: Any) -> Any:
    return ResumableLoader(DataLoader(Noisy(), batch_size=6, shuffle=True, **options))


def validated() -> dict[str, Any]:
    return {"train_dataloaders": loader(), "val_dataloaders": DataLoader(ROWS, batch_size=8)}


def start(folder: Path, after: int | None, trace: list[str], case: dict[str, Any]) -> tuple[list[Any], bool]:
    """Run one start; return how it ended, and whether it was stopped."""
    ckptrun._current = ckptrun.Run({})
    pl.seed_everything(3)
    module, counts = case.get("module", Module)(trace), Counts()
    checkpoints = checkpoints_in(str(folder / "ck"))
    beside = [one(folder) for one in case.get("beside", ())]
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": str(folder)}
    settings = {"logger": False, "enable_checkpointing": False, **quiet, **case["trainer"]}
    trainer = pl.Trainer(accelerator="cpu", callbacks=[Asks(after), checkpoints, counts, *beside], **settings)
    plain = {"weights_only": True} if "weights_only" in inspect.signature(trainer.fit).parameters else {}
    data = case["data"]()
    stopped = False
    try:
        trainer.fit(module, **data, ckpt_path=checkpoints.newest(), **plain)
    except SystemExit as end:
        assert end.code == 0
        stopped = True
    ended = [*(one.tolist() for one in module.state_dict().values()), random.random(), numpy.random.rand(), counts.batches]
    ended += [trainer.global_step, trainer.current_epoch, trainer.fit_loop.epoch_loop._batches_that_stepped]
    ended += [one.param_groups[0]["lr"] for one in trainer.optimizers]
    ended += [one.wait_count for one in trainer.callbacks if isinstance(one, callbacks.EarlyStopping)]
    return ended, stopped


def early(folder: Path) -> Any:
    return callbacks.EarlyStopping("val_loss", patience=50)


def best(folder: Path) -> Any:
    return callbacks.ModelCheckpoint(folder / "best", monitor="val_loss")


def each_step(folder: Path) -> Any:
    return callbacks.ModelCheckpoint(folder / "steps", every_n_train_steps=2, save_top_k=-1)


def rates(folder: Path) -> Any:
    return callbacks.LearningRateMonitor()


EVERYWHERE = (1, 3, 3, 7, 1, 5)  # batches of 21: after 1, 4, 7, 14, 15, 20
CASES: dict[str, dict[str, Any]] = {
    "plain": {"trainer": {"max_epochs": 3}, "data": lambda: {"train_dataloaders": loader()}, "asks": EVERYWHERE},
    # Batches 3, 6 and 7 of each epoch end with a step of the optimizer.
    "accumulated": {
        "trainer": {"max_epochs": 3, "accumulate_grad_batches": 3},
        "data": lambda: {"train_dataloaders": loader()},
        "asks": (1, 1, 2, 2),
    },
    "validated each epoch": {"trainer": {"max_epochs": 4}, "data": validated, "asks": (1, 6, -2, -5, 7, -1, 3, 4)},
    "validated within": {
        "trainer": {"max_epochs": 3, "val_check_interval": 3},
        "data": validated,
        "asks": (1, -2, 3, -1, -1, 1, -5, 4, 2),
    },
    "beside others": {
        "trainer": {"max_epochs": 3, "val_check_interval": 3, "enable_checkpointing": True, "logger": True, "log_every_n_steps": 1},
        "data": validated,
        "beside": (early, best, each_step, rates),
        "asks": (1, -2, 3, -1, 4),
    },
    "limited": {
        "trainer": {"max_epochs": 4, "limit_train_batches": 5, "limit_val_batches": 2},
        "data": validated,
        "asks": (1, 4, -1, 2, 5, 1),
    },
    "data module": {"trainer": {"max_epochs": 3}, "data": lambda: {"datamodule": Data()}, "asks": (1, 6, -2, 3)},
    "no length": {
        "trainer": {"max_epochs": 3},
        "data": lambda: {"train_dataloaders": ResumableLoader(DataLoader(Endless(), batch_size=6))},
        "asks": EVERYWHERE,
    },
    "steps": {"trainer": {"max_steps": 17, "val_check_interval": 3}, "data": validated, "asks": (1, -2, 4, 3)},
    "manual": {
        "module": Manual,
        "trainer": {"max_epochs": 4},
        "data": lambda: {"train_dataloaders": loader(drop_last=True)},
        "asks": (1, 2, 1, 3),
    },
    "nothing learnt": {
        "module": Skipping,
        "trainer": {"max_epochs": 3},
        "data": lambda: {"train_dataloaders": loader()},
        "asks": EVERYWHERE,
    },
    "workers": {
        "trainer": {"max_epochs": 3},
        "data": lambda: {"train_dataloaders": ResumableLoader(DataLoader(ROWS, batch_size=6, shuffle=True, num_workers=2))},
        "asks": (1, 3, 7),
    },
    "augmented in workers": {
        "trainer": {"max_epochs": 3},
        "data": lambda: {"train_dataloaders": loader(num_workers=2)},
        "asks": (1, 3, 7),
    },
}


if __name__ == "__main__":
    interrupted.main(CASES, partial(interrupted.same, start=start))
