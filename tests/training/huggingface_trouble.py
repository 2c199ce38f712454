"""What may go wrong around a save of the Trainer: `python -m tests.training.huggingface_trouble FOLDER`."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

import ckptrun
from ckptrun.training.huggingface import checkpoints_for

ROWS = [{"input_ids": row, "labels": row} for row in torch.randint(0, 32, (28, 8), generator=torch.Generator().manual_seed(1))]


class Asks(TrainerCallback):  # type: ignore[misc]
    """Asks for a stop after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: object, state: Any, control: object, **_others: object) -> None:
        if state.global_step == self.step:
            run = ckptrun.current()
            run._heard, run._stop = 1, True


class Full(Trainer):  # type: ignore[misc]
    """The disk is full in the middle of a save."""

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        raise OSError(28, "No space left on device")


def trainer(folder: Path | str, ask: int = 0, told: Path | None = None, kind: Any = Trainer, **options: Any) -> tuple[Any, Any]:
    """Return a Trainer of seven steps, which saves each third, and its callback."""
    environment = {"CKPTRUN": "1", "CKPTRUN_CHAIN": "c", "CKPTRUN_CHECKPOINT": str(told)} if told else {}
    ckptrun._current = ckptrun.Run(environment)
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=32, n_positions=16))
    quiet = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "logging_strategy": "no"}
    settings = {"save_strategy": "steps", "save_steps": 3, "num_train_epochs": 1, "per_device_train_batch_size": 4, **options}
    arguments = TrainingArguments(str(folder), **quiet, **settings)
    made = kind(model=model, args=arguments, train_dataset=ROWS, eval_dataset=ROWS, callbacks=[Asks(ask)])
    return made, checkpoints_for(made)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def half_written(folder: Path) -> bool:
    """What a kill left is passed over, cut wherever."""
    made, checkpoints = trainer(folder)
    made.train()
    os.truncate(folder / "checkpoint-7" / "trainer_state.json", 40)
    (folder / "checkpoint-6" / "trainer_state.json").unlink()
    return str(checkpoints.newest()) == str(folder / "checkpoint-3")


def full(folder: Path) -> bool:
    """The error is the disk's, and the checkpoint before is what it goes on from."""
    trainer(folder, ask=2)[0].train()
    made, checkpoints = trainer(folder, kind=Full)
    try:
        made.train(resume_from_checkpoint=checkpoints.newest())
    except OSError as error:
        return error.errno == 28 and str(checkpoints.newest()) == str(folder / "checkpoint-2")
    return False


def two_trainers(folder: Path) -> bool:
    """Each goes on from its own folder, whichever of them ckptrun has verified last."""
    trainer(folder / "first", ask=5)[0].train()
    trainer(folder / "second", ask=2)[0].train()
    told = folder / "second" / "checkpoint-2"
    found = [trainer(folder / name, told=told)[1].newest() for name in ("first", "second", "third")]
    return found == [str(folder / "first" / "checkpoint-5"), str(told), None]


def last_step(folder: Path) -> bool:
    """Asked at the last step it saves, and is through."""
    made, checkpoints = trainer(folder, ask=7)
    made.train()
    return names(folder)[-1] == "checkpoint-7" and not checkpoints.stopped


def where_it_saves_anyway(folder: Path) -> bool:
    """Asked there it saves once, and stops; relative to the working folder, and with one checkpoint that is kept."""
    os.makedirs(folder)
    os.chdir(folder)
    made, checkpoints = trainer("out", ask=3, save_total_limit=1)
    saves: list[int] = []
    inner = made._save_checkpoint
    made._save_checkpoint = lambda *words, **more: (saves.append(made.state.global_step), inner(*words, **more))
    made.train()
    return bool(saves == [3] and checkpoints.stopped and checkpoints.newest() == os.path.join("out", "checkpoint-3"))


def epochs(folder: Path) -> bool:
    """Asked in the middle of an epoch it does not evaluate, or save again, where the epoch is broken off."""
    best = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True, "save_total_limit": 1}
    made, checkpoints = trainer(folder, ask=10, **best, num_train_epochs=3)
    evaluated: list[int] = []
    inner = made.evaluate
    made.evaluate = lambda *words, **more: (evaluated.append(made.state.global_step), inner(*words, **more))[1]
    made.train()
    return bool(evaluated == [7] and checkpoints.newest() == str(folder / "checkpoint-10"))


CASES = (half_written, full, two_trainers, last_step, where_it_saves_anyway, epochs)


def main() -> None:
    """Run all cases, or those that are named."""
    warnings.simplefilter("ignore")
    folder, wanted = Path(sys.argv[1]).absolute(), sys.argv[2:]
    found = {case.__name__: case(folder / case.__name__) for case in CASES if not wanted or case.__name__ in wanted}
    print("CASES", json.dumps(found))


if __name__ == "__main__":
    main()
