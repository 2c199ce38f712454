"""What may go wrong around a save of Lightning's callback: `python -m tests.training.lightning_trouble FOLDER`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.plugins.io import AsyncCheckpointIO, TorchCheckpointIO
from torch.utils.data import DataLoader

import ckptrun
from ckptrun.training.lightning import checkpoints_in
from ckptrun.training.pytorch import ResumableLoader

torch.set_num_threads(1)


class Module(pl.LightningModule):
    """One layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch: torch.Tensor, number: int) -> torch.Tensor:
        loss: torch.Tensor = self.layer(batch).square().mean()
        return loss

    def validation_step(self, batch: torch.Tensor, number: int) -> None:
        self.log("val_loss", self.layer(batch).square().mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


class IntoFolders(TorchCheckpointIO):
    """A checkpoint is a folder, as those of FSDP and DeepSpeed are."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        os.makedirs(path)
        torch.save(checkpoint, os.path.join(path, "all.pt"))

    def load_checkpoint(self, path: Any, map_location: Any = None, **others: Any) -> dict[str, Any]:
        found: dict[str, Any] = torch.load(os.path.join(path, "all.pt"), weights_only=True)
        return found


class Full(TorchCheckpointIO):
    """The disk is full in the middle of a save."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")


def train(folder: Path, steps: int, environment: dict[str, str] | None = None, every: int = 2, **settings: Any) -> Any:
    """Train up to a step, with a save each second one; return the trainer and from what it went on."""
    ckptrun._current = ckptrun.Run(environment or {})
    checkpoints = checkpoints_in(str(folder), every=every)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(max_steps=steps, accelerator="cpu", callbacks=[checkpoints], **quiet, **settings)
    newest = checkpoints.newest()
    rows = torch.rand(40, 4, generator=torch.Generator().manual_seed(1))
    loader = ResumableLoader(DataLoader(rows, batch_size=4, shuffle=True))
    trainer.fit(Module(), loader, DataLoader(rows[:4]), ckpt_path=newest, weights_only=True)
    return trainer, newest and os.path.basename(newest)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def spawned(folder: Path) -> bool:
    """Refused in one sentence, wherever it is raised."""
    try:
        train(folder, 4, strategy="ddp_spawn", devices=2)
    except Exception as error:
        return "say strategy='ddp'" in str(error)
    return False


def asynchronous(folder: Path) -> bool:
    """The file stands, whole, when the save has returned."""
    train(folder, 5, plugins=[AsyncCheckpointIO()])
    return names(folder) == ["step-0000002.ckpt", "step-0000004.ckpt"] and train(folder, 7)[1] == "step-0000004.ckpt"


def folders(folder: Path) -> bool:
    """Folders are renamed and removed whole, too."""
    train(folder, 9, plugins=[IntoFolders()])
    kept = names(folder)
    return kept == ["step-0000006.ckpt", "step-0000008.ckpt"] and train(folder, 9, plugins=[IntoFolders()])[1] == kept[1]


def full(folder: Path) -> bool:
    """The error is the disk's; the old checkpoint stays and nothing else is left."""
    train(folder, 3)
    try:
        train(folder, 5, plugins=[Full()])
    except OSError as error:
        return error.errno == 28 and names(folder) == ["step-0000002.ckpt"]
    return False


def killed(folder: Path) -> bool:
    """Killed at each line that runs in the second save: the newest checkpoint is the first one or the second one, whole."""
    train(folder / "before", 3)
    for line in range(1, 1000):
        place = folder / str(line)
        shutil.copytree(folder / "before", place)
        child = os.fork()
        if child == 0:
            sys.settrace(killer(line))
            train(place, 5)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        found = torch.load(checkpoints_in(str(place)).newest(), weights_only=True)["global_step"]
        if found not in (2, 4) or status not in (0, signal.SIGKILL):
            return False
        if status == 0:
            return line > 20 and found == 4
    return False


def killer(last: int) -> Callable[..., Any]:
    """Count the lines of the callback's save and of the module; die before the last one."""
    lines = 0

    def trace(frame: Any, event: str, _argument: object) -> Any:
        nonlocal lines
        ours = frame.f_code.co_filename == ckptrun.__file__ or frame.f_code.co_name in ("_save", "_remove_old")
        if event == "line" and ours:
            lines += 1
            if lines == last:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def two_trainings(folder: Path) -> bool:
    """Each goes on from its own folder, whichever of them ckptrun has verified last; one that is validated first is none."""
    train(folder / "first", 5)
    train(folder / "second", 3)
    told = {"CKPTRUN": "1", "CKPTRUN_CHAIN": "c", "CKPTRUN_CHECKPOINT": str(folder / "second" / "step-0000002.ckpt")}
    found = [train(folder / name, 5, told)[1] for name in ("first", "second")]
    return found == ["step-0000004.ckpt", "step-0000002.ckpt"]


def validated_first(folder: Path) -> bool:
    """`trainer.validate` before `fit`, and `fit` twice, are no trainings to be saved."""
    ckptrun._current = ckptrun.Run({})
    run = ckptrun.current()
    run._heard = 1
    checkpoints = checkpoints_in(str(folder))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = pl.Trainer(max_steps=3, accelerator="cpu", callbacks=[checkpoints], **quiet)
    module, rows = Module(), DataLoader(torch.rand(40, 4), batch_size=4)
    trainer.validate(module, rows, verbose=False)
    nothing = not folder.exists()
    trainer.fit(module, rows)
    trainer.fit_loop.epoch_loop.max_steps = 6
    run._heard = run._answered + 1
    trainer.fit(module, rows)
    return nothing and names(folder) == ["step-0000001.ckpt", "step-0000004.ckpt"]


CASES = (spawned, asynchronous, folders, full, killed, two_trainings, validated_first)


def main() -> None:
    """Run all cases, or those that are named."""
    warnings.simplefilter("ignore")
    folder, wanted = Path(sys.argv[1]), sys.argv[2:]
    found = {case.__name__: case(folder / case.__name__) for case in CASES if not wanted or case.__name__ in wanted}
    print("CASES", json.dumps(found))


if __name__ == "__main__":
    main()
