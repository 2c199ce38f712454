"""A PyTorch training that goes on exactly where it stopped: `python3 train.py [FOLDER] [--steps N]`.

Model, optimizer, schedule, random numbers and the place in the data are saved; put your own model and data in their places.
"""

import argparse
import glob
import os
import signal

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

SEED, BATCH, SAVE_EVERY = 1, 64, 500  # SAVE_EVERY: steps that are lost when the machine dies without a word

parser = argparse.ArgumentParser()
parser.add_argument("folder", nargs="?", default="checkpoints")
parser.add_argument("--steps", type=int, default=20000)
options = parser.parse_args()
device = "cuda" if torch.cuda.is_available() else "cpu"
stop = False


def on_usr1(number, frame):
    """Only set a flag: the loop saves, between two steps."""
    global stop
    stop = True


def dataset():
    """Return the data: here the sign of a sum, as a stand-in for yours."""
    inputs = torch.randn(4096, 256, generator=torch.Generator().manual_seed(SEED))
    return TensorDataset(inputs, (inputs.sum(dim=1) > 0).long())


def batches(data, epoch, done):
    """Return what is left of an epoch. Its order depends on its number alone, so every job finds the same one."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(SEED + epoch))
    # A generator of its own: a loader draws from the general one when it starts, which an uninterrupted run does less often.
    own = torch.Generator().manual_seed(SEED + epoch)
    return DataLoader(Subset(data, order[done * BATCH :].tolist()), BATCH, drop_last=True, generator=own)


def saved():
    """Return the checkpoints, the newest last."""
    return sorted(glob.glob(os.path.join(glob.escape(options.folder), "step-*.pt")))


def save(step, parts):
    """Write beside the name, bring it to the disk, then rename: nobody ever finds half a checkpoint."""
    state = {name: part.state_dict() for name, part in parts.items()}
    state.update(step=step, random=torch.get_rng_state(), random_cuda=torch.cuda.get_rng_state_all())
    os.makedirs(options.folder, exist_ok=True)
    path = os.path.join(options.folder, f"step-{step:08d}.pt")
    with open(path + ".tmp", "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".tmp", path)
    for old in saved()[:-2]:  # two are kept: if the newest is damaged, there is one before it
        os.remove(old)


def load(parts):
    """Bring the newest checkpoint back, and return its step; 0 where nothing was saved yet."""
    # ckptrun names the newest checkpoint that it found whole; without ckptrun the newest one is taken.
    path = os.environ.get("CKPTRUN_CHECKPOINT") or (saved() or [None])[-1]
    if path is None:
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    torch.set_rng_state(state["random"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["random_cuda"])
    return state["step"]


def main():
    """Train from the newest checkpoint to the last step, or until told to stop."""
    signal.signal(signal.SIGUSR1, on_usr1)
    torch.manual_seed(SEED)
    data = dataset()
    model = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Dropout(0.2), nn.Linear(1024, 2)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.steps)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    step = load(parts)
    print(f"from step {step}", flush=True)
    told = False
    while step < options.steps and not told:
        epoch, done = divmod(step, len(data) // BATCH)
        for inputs, labels in batches(data, epoch, done):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs.to(device)), labels.to(device)).backward()
            optimizer.step()
            scheduler.step()
            step += 1
            told = stop  # read once a step: the signal may come between the save and the break
            if told or step % SAVE_EVERY == 0 or step == options.steps:
                save(step, parts)
                print(f"saved step {step}", flush=True)
            if told or step == options.steps:
                break
    if step == options.steps:
        model.eval()
        with torch.no_grad():
            inputs, labels = data.tensors
            loss = nn.functional.cross_entropy(model(inputs.to(device)), labels.to(device)).item()
        print(f"done: the loss is {loss!r}", flush=True)


if __name__ == "__main__":
    main()
