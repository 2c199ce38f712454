"""A training of Hugging Face's Trainer that goes on exactly where it stopped: `python3 train.py [FOLDER] [--steps N]`.

It imports ckptrun's callback: where the program runs, in a container too, Python must find the folder `ckptrun`. Put your own model
and data in their places.
"""

import argparse
import hashlib
import re
import sys

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

from ckptrun.training.huggingface import checkpoints_for

SEED, BATCH, SAVE_EVERY = 1, 16, 500  # SAVE_EVERY: steps that are lost when the machine dies without a word

parser = argparse.ArgumentParser()
parser.add_argument("folder", nargs="?", default="checkpoints")
parser.add_argument("--steps", type=int, default=5000)
options = parser.parse_args()


def dataset():
    """Return the data: here numbers that count up, as a stand-in for your text."""
    begin = torch.randint(0, 64, (1024, 1), generator=torch.Generator().manual_seed(SEED))
    rows = (begin + torch.arange(16)) % 64
    return [{"input_ids": row, "labels": row} for row in rows]


def main():
    """Train from the newest checkpoint to the last step, or until asked to stop."""
    set_seed(SEED)
    model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=32, vocab_size=64, n_positions=16))
    arguments = TrainingArguments(
        output_dir=options.folder,
        max_steps=options.steps,
        per_device_train_batch_size=BATCH,
        save_steps=SAVE_EVERY,
        save_total_limit=2,
        seed=SEED,
        disable_tqdm=True,
        report_to="none",
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=dataset())
    checkpoints = checkpoints_for(trainer)
    newest = checkpoints.newest()
    print("from step", int(re.findall(r"\d+", newest)[-1]) if newest else 0, flush=True)
    trainer.train(resume_from_checkpoint=newest)
    if checkpoints.stopped:
        sys.exit()
    trainer.save_model("final")
    checkpoints.done()
    weights = b"".join(one.cpu().numpy().tobytes() for one in model.state_dict().values())
    print("done:", hashlib.sha256(weights).hexdigest(), flush=True)


if __name__ == "__main__":
    main()
