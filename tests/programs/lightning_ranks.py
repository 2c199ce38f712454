"""A Lightning training on processes of this machine: `lightning_ranks.py FOLDER STEPS SECONDS_A_STEP [RANKS [STRATEGY [EVERY]]]`.

Lightning starts the others by itself: two in all, if nothing else is said. The first one writes the weights to FOLDER.final.
"""

import hashlib
import os
import sys
import time

import ckptrun

ckptrun.current()  # says that it can be asked by file, before what takes long

import lightning.pytorch as pl  # noqa: E402
import torch  # noqa: E402
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset  # noqa: E402

from ckptrun.training.lightning import checkpoints_in  # noqa: E402
from ckptrun.training.pytorch import ResumableLoader  # noqa: E402

folder, steps, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
ranks, strategy, every = (*sys.argv[4:], *("2", "ddp", "0")[len(sys.argv[4:]) :])


def say(text):
    """Print a line whole: the ranks share one pipe."""
    os.write(1, f"{text}\n".encode())


class Module(pl.LightningModule):
    """A model whose dropout is another one on each rank."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Dropout(0.4), torch.nn.Linear(8, 2))

    def on_train_start(self):
        say(f"rank {self.global_rank} from step {self.trainer.global_step}")
        if self.trainer.global_step == 0:
            torch.manual_seed(100 + self.global_rank)

    def training_step(self, batch, number):
        time.sleep(seconds)
        return torch.nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


pl.seed_everything(3, verbose=False)
rows = torch.rand(80, 6, generator=torch.Generator().manual_seed(1))
data = TensorDataset(rows, (rows.sum(dim=1) > 3).long())
rank = int(os.environ.get("LOCAL_RANK", "0"))
loader = ResumableLoader(DataLoader(data, batch_size=6, sampler=DistributedSampler(data, int(ranks), rank)))
checkpoints = checkpoints_in(folder, every=int(every))
quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
trainer = pl.Trainer(
    max_steps=steps,
    accelerator="cpu",
    devices=int(ranks),
    strategy=strategy,
    callbacks=[checkpoints],
    use_distributed_sampler=False,
    **quiet,
)
module = Module()
try:
    trainer.fit(module, loader, ckpt_path=checkpoints.newest(), weights_only=True)
except SystemExit:
    say(f"rank {rank} stopped at step {trainer.global_step}")
    raise
if rank == 0:
    with open(f"{folder}.final", "w") as file:
        file.write(hashlib.sha256(b"".join(one.numpy().tobytes() for one in module.state_dict().values())).hexdigest())
checkpoints.done()
