"""A training of Lightning's own: nothing about jobs stands in it. `lightning_counter.py FOLDER EPOCHS`."""

import sys
import time

import lightning
import torch


class Counter(lightning.LightningModule):
    """One weight, and one slow batch an epoch."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, _index):
        """Train for a tenth of a second."""
        time.sleep(0.1)
        print(f"step {self.global_step + 1}", flush=True)
        return self.layer(batch[0]).sum()

    def configure_optimizers(self):
        """Return the plainest optimiser."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main(folder, steps):
    """Train for so many steps; where a checkpoint of Lightning's own for jobs stands, it goes on from there by itself."""
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(steps, 1)))
    trainer = lightning.Trainer(
        max_steps=steps,
        default_root_dir=folder,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(Counter(), data)
    print("all steps done", flush=True)


main(sys.argv[1], int(sys.argv[2]))
