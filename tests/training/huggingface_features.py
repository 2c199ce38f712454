"""What the Trainer can do beside a plain loop, interrupted: `python -m tests.training.huggingface_features FOLDER [CASE...]`.

Each case trains once as a whole, and once asked again and again at other places. Both are to end with the same weights, random
numbers and best metric, and to have gone through the same batches and evaluations, each once.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import EarlyStoppingCallback, GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

import ckptrun
from ckptrun.training.huggingface import checkpoints_for
from tests.training import interrupted

ROWS = [{"input_ids": row, "labels": row} for row in torch.randint(0, 32, (28, 8), generator=torch.Generator().manual_seed(1))]
LONGER = [{"input_ids": row, "labels": row} for row in (torch.arange(4 + number % 5) for number in range(28))]


class Noisy(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Rows one number of which is another each time they are read, as an augmentation does."""

    def __len__(self) -> int:
        return len(ROWS)

    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        row = ROWS[place]["input_ids"].clone()
        row[0] = torch.randint(0, 32, ())
        return {"input_ids": row, "labels": row}


class Endless(torch.utils.data.IterableDataset[dict[str, torch.Tensor]]):
    """The same rows, without a length."""

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        yield from ROWS


class Traced(Trainer):  # type: ignore[misc]
    """It writes down what it trains on, and what it evaluates to."""

    trace: list[str]

    def training_step(self, model: Any, inputs: Any, *others: Any, **more: Any) -> Any:
        self.trace.append(f"batch {inputs['input_ids'].tolist()}")
        return super().training_step(model, inputs, *others, **more)

    def evaluate(self, *others: Any, **more: Any) -> Any:
        metrics = super().evaluate(*others, **more)
        self.trace.append(f"evaluated {metrics['eval_loss']} after {self.state.global_step}")
        return metrics


class Asks(TrainerCallback):  # type: ignore[misc]
    """Asks for a stop after so many steps of this start, or, below zero, of evaluating."""

    def __init__(self, after: int | None) -> None:
        self.after = after
        self.steps = self.of_evaluation = 0

    def on_step_end(self, *_arguments: object, **_others: object) -> None:
        random.random()
        self.steps += 1
        self._ask(self.steps)

    def on_prediction_step(self, *_arguments: object, **_others: object) -> None:
        self.of_evaluation += 1
        self._ask(-self.of_evaluation)

    def _ask(self, done: int) -> None:
        if done == self.after:
            run = ckptrun.current()
            run._heard, run._stop = 1, True


def start(folder: Path, after: int | None, trace: list[str], case: dict[str, Any]) -> tuple[list[Any], bool]:
    """Run one start, with dropout; return how it ended, and whether it was stopped."""
    ckptrun._current = ckptrun.Run({})
    transformers.set_seed(3)
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=32, n_positions=16))
    known = inspect.signature(TrainingArguments).parameters
    settings = {name: value for name, value in case["trainer"].items() if name in known}
    if "eval_strategy" not in known and "eval_strategy" in case["trainer"]:
        settings["evaluation_strategy"] = case["trainer"]["eval_strategy"]
    quiet = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "logging_strategy": "no"}
    options = {"save_strategy": "no", "num_train_epochs": 3, "save_total_limit": 2, **settings}
    arguments = TrainingArguments(output_dir=str(folder), per_device_train_batch_size=4, **quiet, **options)
    rows = case.get("rows", ROWS)
    beside = [Asks(after), *(one() for one in case.get("beside", ()))]
    more = {"data_collator": case["collator"]} if "collator" in case else {}
    trainer = Traced(model=model, args=arguments, train_dataset=rows, eval_dataset=ROWS, callbacks=beside, **more)
    trainer.trace = trace
    checkpoints = checkpoints_for(trainer)
    stopped = False
    try:
        trainer.train(resume_from_checkpoint=checkpoints.newest())
    except SystemExit as end:
        assert end.code == 0
        stopped = True
    ended = [*(one.tolist() for one in model.state_dict().values()), random.random(), torch.rand(1).item()]
    ended += [trainer.state.global_step, trainer.state.best_metric, trainer.state.best_model_checkpoint]
    return ended, stopped or checkpoints.stopped


def same(folder: Path, case: dict[str, Any]) -> bool:
    """Return whether it ends alike; of the best checkpoint its name is compared, because each has a folder of its own."""
    return interrupted.same(folder, case, start, alike=by_name)


def by_name(ended: list[Any]) -> list[Any]:
    """Return how a training ended, with the name alone of its best checkpoint."""
    *others, best = ended
    return [*others, best.rpartition("/")[2] if isinstance(best, str) else best]


def padded(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    ids = torch.nn.utils.rnn.pad_sequence([row["input_ids"] for row in rows], batch_first=True)
    return {"input_ids": ids, "labels": ids}


def patient() -> Any:
    return EarlyStoppingCallback(early_stopping_patience=50)


EVERYWHERE = (1, 3, 3, 7, 1, 5)  # steps of 21: after 1, 4, 7, 14, 15, 20
BEST = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "per_device_eval_batch_size": 8}
CASES: dict[str, dict[str, Any]] = {
    "plain": {"trainer": {}, "asks": EVERYWHERE},
    # Seven batches an epoch: three steps of two, and one of the one that is left.
    "accumulated": {"trainer": {"gradient_accumulation_steps": 2}, "asks": (1, 2, 1, 3)},
    "evaluated each epoch": {
        "trainer": {"eval_strategy": "epoch", "save_strategy": "epoch", **BEST},
        "beside": (patient,),
        "asks": (1, 6, -2, -4, 7, -1, 3),
    },
    "evaluated within": {
        "trainer": {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 3, **BEST},
        "beside": (patient,),
        "asks": (1, 2, -2, 3, -1, 4),
    },
    "the best alone": {
        "trainer": {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "best", **BEST, "save_total_limit": 1},
        "asks": (1, 2, -2, 3, -1, 4),
    },
    "no length": {"trainer": {"max_steps": 17}, "rows": Endless(), "asks": (1, 3, 3, 7)},
    "workers": {"trainer": {"dataloader_num_workers": 2}, "asks": (1, 3, 7)},
    "grouped": {
        "trainer": {"group_by_length": True, "train_sampling_strategy": "group_by_length"},
        "rows": LONGER,
        "collator": padded,
        "asks": EVERYWHERE,
    },
    "augmented": {"trainer": {}, "rows": Noisy(), "asks": (1, 3, 7)},
    "augmented in workers": {"trainer": {"dataloader_num_workers": 2}, "rows": Noisy(), "asks": (1, 3, 7)},
}


if __name__ == "__main__":
    interrupted.main(CASES, same)
