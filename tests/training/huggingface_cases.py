"""A training of Hugging Face's Trainer, interrupted everywhere: `python -m tests.training.huggingface_cases FOLDER`."""

from __future__ import annotations

import json
import random
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

import ckptrun
from ckptrun.training.huggingface import checkpoints_for

ROWS = [{"input_ids": row, "labels": row} for row in torch.randint(0, 32, (28, 8), generator=torch.Generator().manual_seed(1))]


class Noisy(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Rows one number of which is another each time they are read, as an augmentation does."""

    def __len__(self) -> int:
        return len(ROWS)

    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        row = ROWS[place]["input_ids"].clone()
        row[0] = random.randrange(32)
        return {"input_ids": row, "labels": row}


class Asks(TrainerCallback):  # type: ignore[misc]
    """Asks for a stop after so many steps of this start."""

    def __init__(self, after: int | None) -> None:
        self.left = after

    def on_step_end(self, *_arguments: object, **_others: object) -> None:
        random.random(), numpy.random.rand()
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                run = ckptrun.current()
                run._heard, run._stop = 1, True


def start(folder: Path, after: int | None, rows: Any) -> tuple[Any, Any]:
    """Run one start: three epochs of seven steps, with dropout; return the model and the callback."""
    ckptrun._current = ckptrun.Run({})
    transformers.set_seed(3)
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=32, n_positions=16))
    options = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no", "logging_strategy": "no"}
    arguments = TrainingArguments(
        output_dir=str(folder), num_train_epochs=3, per_device_train_batch_size=4, save_total_limit=2, **options
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[Asks(after)])
    checkpoints = checkpoints_for(trainer)
    trainer.train(resume_from_checkpoint=checkpoints.newest())
    return model, checkpoints


def same(folder: Path, rows: Any) -> bool:
    """Return whether a training that was stopped in each epoch ends as one that was not."""

    def state(model: Any) -> list[Any]:
        return [*(one.tolist() for one in model.state_dict().values()), random.random(), numpy.random.rand()]

    expected = state(start(folder / "whole", None, rows)[0])
    for after in (1, 3, 3, 7, 1, 5):  # at step 1, 4, 7, 14, 15, 20
        assert start(folder / "parts", after, rows)[1].stopped
    model, checkpoints = start(folder / "parts", None, rows)
    assert not checkpoints.stopped
    assert sorted(path.name for path in (folder / "parts").iterdir()) == ["checkpoint-15", "checkpoint-20"]
    return state(model) == expected


def main() -> None:
    """Run all cases."""
    warnings.simplefilter("ignore")
    folder = Path(sys.argv[1])
    found = {"plain": same(folder / "plain", ROWS), "augmented": same(folder / "augmented", Noisy())}
    print("CASES", json.dumps(found))


if __name__ == "__main__":
    main()
