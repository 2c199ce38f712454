"""A training of Hugging Face's Trainer on the ranks of torchrun: `huggingface_ranks.py FOLDER STEPS SECONDS_A_STEP`.

`--unused`: DDP with find_unused_parameters. `--every STEPS`: save after so many. The first rank writes the weights to FOLDER.final.
"""

import hashlib
import os
import sys
import time

import ckptrun

ckptrun.current()  # says that it can be asked by file, before what takes long

import torch  # noqa: E402
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments, set_seed  # noqa: E402

from ckptrun.training.huggingface import checkpoints_for  # noqa: E402

folder, steps, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
rank = int(os.environ["RANK"])


def say(text):
    """Print a line whole: the ranks share one pipe."""
    os.write(1, f"{text}\n".encode())


class Slow(TrainerCallback):
    """Steps that take their time, and dropout that is another one on each rank."""

    def on_train_begin(self, args, state, control, **others):
        say(f"rank {rank} from step {state.global_step}")
        if state.global_step == 0:
            torch.manual_seed(100 + rank)

    def on_step_begin(self, args, state, control, **others):
        time.sleep(seconds)


set_seed(3)
rows = [{"input_ids": row, "labels": row} for row in torch.randint(0, 32, (56, 8), generator=torch.Generator().manual_seed(1))]
model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=32, n_positions=16))
quiet = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "logging_strategy": "no"}
if "--every" in sys.argv:
    quiet |= {"save_strategy": "steps", "save_steps": int(sys.argv[sys.argv.index("--every") + 1])}
    quiet["lr_scheduler_type"] = "constant"  # else the rate depends on STEPS
if "--unused" in sys.argv:
    quiet["ddp_find_unused_parameters"] = True
arguments = TrainingArguments(
    folder, max_steps=steps, per_device_train_batch_size=4, save_total_limit=2, use_cpu=True, ddp_backend="gloo", **quiet
)
trainer = Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[Slow()])
checkpoints = checkpoints_for(trainer)
trainer.train(resume_from_checkpoint=checkpoints.newest())
if checkpoints.stopped:
    say(f"rank {rank} stopped at step {trainer.state.global_step}")
    sys.exit()
if rank == 0:
    with open(f"{folder}.final", "w") as file:
        file.write(hashlib.sha256(b"".join(one.numpy().tobytes() for one in model.state_dict().values())).hexdigest())
checkpoints.done()
