"""Real checkpoints of libraries that are too large for every test run: `python -m tests.checkpoints.foreign NAME FOLDER`.

Each library is installed into a folder of its own (`packages` below), which goes before everything else. What was written once is
kept, packed, in tests/checkpoints/real/; a long test writes all of it anew.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Name -> what pip is told, call after call. Without dependencies where the one that is left out, PyTorch, is at hand already.
PACKAGES = {
    "orbax": (("jax==0.10.2", "flax==0.12.8", "orbax-checkpoint==0.12.8"),),
    "keras3": (("--no-deps", "keras==3.12.0", "optree"),),
    "lightning": (("--no-deps", "lightning==2.6.6", "pytorch-lightning==2.6.6", "lightning-utilities", "torchmetrics", "tqdm"),),
    "transformers": (("transformers==5.23.0",), ("--no-deps", "accelerate==1.15.0")),
    "deepspeed": (
        ("--no-deps", "--no-build-isolation", "deepspeed==0.19.8"),
        ("--no-deps", "hjson", "py-cpuinfo", "ninja", "msgpack", "einops", "tqdm"),
        ("pydantic",),
    ),
}


def orbax(folder: Path) -> None:
    """A manager's three steps, each a folder; OCDBT, the default, and zarr."""
    import jax.numpy as jnp
    import orbax.checkpoint as ocp

    state = {"params": {"w": jnp.arange(400.0).reshape(20, 20), "b": jnp.ones(7)}, "step": 3}
    with ocp.CheckpointManager(folder / "steps", options=ocp.CheckpointManagerOptions(max_to_keep=3)) as manager:
        for step in (1, 2, 10):
            manager.save(step, args=ocp.args.StandardSave(state))
            manager.wait_until_finished()
    ocp.PyTreeCheckpointer(use_ocdbt=False).save(folder / "zarr", state)


def keras3(folder: Path) -> None:
    """Model and weights of Keras 3, on PyTorch."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import numpy as np

    model = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(16), keras.layers.Dense(4)])
    model.compile("adam", "mse")
    model.fit(np.zeros((8, 8)), np.zeros((8, 4)), verbose=0)
    model.save(folder / "model.keras")
    model.save_weights(folder / "model.weights.h5")


def lightning(folder: Path) -> None:
    """Two epochs of Lightning's Trainer with its own checkpoint callback."""
    import lightning as pl
    import torch

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(8, 4)

        def training_step(self, batch: list[torch.Tensor], number: int) -> torch.Tensor:
            return self.layer(batch[0]).sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters())

    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.rand(8, 8)), batch_size=4)
    callback = pl.pytorch.callbacks.ModelCheckpoint(folder / "epochs", save_top_k=-1, save_last=True)
    options = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    pl.Trainer(max_epochs=2, callbacks=[callback], default_root_dir=folder, **options).fit(Module(), data)


def transformers(folder: Path) -> None:
    """Three checkpoints of Hugging Face's Trainer, and weights in shards with an index."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    config = GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=32, n_positions=16)
    model = GPT2LMHeadModel(config)
    rows = [{"input_ids": torch.arange(8), "labels": torch.arange(8)} for _ in range(8)]
    options = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "per_device_train_batch_size": 2}
    arguments = TrainingArguments(output_dir=str(folder / "run"), max_steps=6, save_steps=2, **options)
    Trainer(model=model, args=arguments, train_dataset=rows).train()
    model.save_pretrained(folder / "sharded", max_shard_size="1KB")


def deepspeed(folder: Path) -> None:
    """Two steps of DeepSpeed with ZeRO, one rank."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29577", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    os.environ |= {"DS_ACCELERATOR": "cpu"}
    import deepspeed as ds
    import torch

    model = torch.nn.Linear(8, 4)
    settings = {"train_batch_size": 4, "zero_optimization": {"stage": 1}, "zero_force_ds_cpu_optimizer": False}
    optimizer = torch.optim.Adam(model.parameters())
    engine, *_ = ds.initialize(model=model, optimizer=optimizer, config=settings | {"zero_allow_untested_optimizer": True})
    for _ in range(2):
        engine.backward(engine(torch.rand(4, 8)).sum())
        engine.step()
        engine.save_checkpoint(str(folder / "run"))


MAKERS = {maker.__name__: maker for maker in (orbax, keras3, lightning, transformers, deepspeed)}

if __name__ == "__main__":
    # CKPTRUN_FOREIGN_PACKAGES is the folder that pip installed into.
    sys.path.insert(0, os.environ["CKPTRUN_FOREIGN_PACKAGES"])
    target = Path(sys.argv[2]).absolute()
    target.mkdir(parents=True, exist_ok=True)
    MAKERS[sys.argv[1]](target)
