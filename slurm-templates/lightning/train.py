"""A Lightning training that goes on exactly where it stopped: `python3 train.py [FOLDER] [--steps N]`.

It imports ckptrun's callback: where the program runs, in a container too, Python must find the folder `ckptrun`. Put your own model
and data in their places.
"""

import argparse
import hashlib
import re
import warnings

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ckptrun.training.lightning import checkpoints_in
from ckptrun.training.pytorch import ResumableLoader

SEED, BATCH, SAVE_EVERY = 1, 64, 500  # SAVE_EVERY: steps that are lost when the machine dies without a word

parser = argparse.ArgumentParser()
parser.add_argument("folder", nargs="?", default="checkpoints")
parser.add_argument("--steps", type=int, default=20000)
options = parser.parse_args()


class Module(pl.LightningModule):
    """The model, its loss and its optimizer."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Dropout(0.2), nn.Linear(1024, 2))

    def training_step(self, batch, number):
        """Return the loss of one batch."""
        inputs, labels = batch
        return nn.functional.cross_entropy(self.layers(inputs), labels)

    def configure_optimizers(self):
        """Return the optimizer and its schedule, a value a step."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


def dataset():
    """Return the data: here the sign of a sum, as a stand-in for yours."""
    inputs = torch.randn(4096, 256, generator=torch.Generator().manual_seed(SEED))
    return TensorDataset(inputs, (inputs.sum(dim=1) > 0).long())


def main():
    """Train from the newest checkpoint to the last step, or until asked to stop."""
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    pl.seed_everything(SEED)
    module = Module()
    loader = ResumableLoader(DataLoader(dataset(), BATCH, shuffle=True, drop_last=True))
    checkpoints = checkpoints_in(options.folder, every=SAVE_EVERY)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    trainer = pl.Trainer(max_steps=options.steps, callbacks=[checkpoints], **quiet)
    newest = checkpoints.newest()
    print("from step", int(re.findall(r"\d+", newest)[-1]) if newest else 0, flush=True)
    trainer.fit(module, loader, ckpt_path=newest, weights_only=True)
    trainer.save_checkpoint("final.ckpt", weights_only=True)
    checkpoints.done()
    weights = b"".join(one.cpu().numpy().tobytes() for one in module.state_dict().values())
    print("done:", hashlib.sha256(weights).hexdigest(), flush=True)


if __name__ == "__main__":
    main()
