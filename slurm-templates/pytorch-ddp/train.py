"""A PyTorch training on many GPUs that goes on exactly where it stopped: `torchrun ... train.py [FOLDER] [--steps N]`.

All processes stop at the same step, and the first one saves for all. Without GPUs it runs on CPUs (gloo).
"""

import argparse
import glob
import os
import signal

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Subset, TensorDataset

SEED, BATCH, SAVE_EVERY = 1, 32, 500  # BATCH: of one process; SAVE_EVERY: steps that are lost when a machine dies without a word

parser = argparse.ArgumentParser()
parser.add_argument("folder", nargs="?", default="checkpoints")
parser.add_argument("--steps", type=int, default=20000)
options = parser.parse_args()
# torchrun sets the first of each pair; under srun alone Slurm's own say the same.
for name, of_slurm in {"RANK": "SLURM_PROCID", "LOCAL_RANK": "SLURM_LOCALID", "WORLD_SIZE": "SLURM_NTASKS"}.items():
    os.environ[name] = os.environ.get(name) or os.environ[of_slurm]
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
device = torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if torch.cuda.is_available() else "cpu")
stop = False


def on_usr1(number, frame):
    """Only set a flag: the loop saves, between two steps."""
    global stop
    stop = True


def stop_together():
    """Return whether any process was told to stop: the answer is the same in all of them, at the same step."""
    told = torch.tensor([stop], dtype=torch.int32, device=device)
    dist.all_reduce(told, dist.ReduceOp.MAX)
    return bool(told.item())


def dataset():
    """Return the data: here the sign of a sum, as a stand-in for yours."""
    inputs = torch.randn(4096, 256, generator=torch.Generator().manual_seed(SEED))
    return TensorDataset(inputs, (inputs.sum(dim=1) > 0).long())


def batches(data, epoch, done):
    """Return this process's share of what is left of an epoch, whose order depends on its number alone: all jobs find it."""
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(SEED + epoch))
    own = torch.Generator().manual_seed(SEED + epoch)  # a loader draws from the general one when it starts
    return DataLoader(Subset(data, order[done * BATCH * world + rank :: world].tolist()), BATCH, drop_last=True, generator=own)


def saved():
    """Return the checkpoints, the newest last."""
    return sorted(glob.glob(os.path.join(glob.escape(options.folder), "step-*.pt")))


def save(step, parts):
    """Collect what differs between the processes; the first one writes, whole or not at all."""
    random = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
    of_all = [None] * world
    dist.all_gather_object(of_all, random)
    if rank > 0:
        return
    state = {name: part.state_dict() for name, part in parts.items()}
    os.makedirs(options.folder, exist_ok=True)
    path = os.path.join(options.folder, f"step-{step:08d}.pt")
    with open(path + ".tmp", "wb") as file:
        torch.save({**state, "step": step, "random": of_all}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".tmp", path)
    for old in saved()[:-2]:  # two are kept: if the newest is damaged, there is one before it
        os.remove(old)
    print(f"saved step {step}", flush=True)


def load(parts):
    """Bring the newest checkpoint back in every process, and return its step; 0 where nothing was saved yet."""
    # The first process chooses, so that all have the same one. ckptrun names the newest that it found whole.
    chosen = [os.environ.get("CKPTRUN_CHECKPOINT") or (saved() or [None])[-1]]
    dist.broadcast_object_list(chosen)
    if chosen[0] is None:
        return 0
    state = torch.load(chosen[0], map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["random"][rank], device)
    else:
        torch.set_rng_state(state["random"][rank])
    return state["step"]


def main():
    """Train from the newest checkpoint to the last step, or until one of the processes is told to stop."""
    signal.signal(signal.SIGUSR1, on_usr1)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    torch.manual_seed(SEED)
    data = dataset()
    plain = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Dropout(0.2), nn.Linear(1024, 2)).to(device)
    optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3)
    torch.manual_seed(SEED + rank)  # from here on each process draws its own
    parts = {"model": plain, "optimizer": optimizer}
    step = load(parts)
    model = DistributedDataParallel(plain)
    if rank == 0:
        print(f"from step {step}", flush=True)
    told = False
    while step < options.steps and not told:
        epoch, done = divmod(step, len(data) // (BATCH * world))
        for inputs, labels in batches(data, epoch, done):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs.to(device)), labels.to(device)).backward()
            optimizer.step()
            step += 1
            told = stop_together()
            if told or step % SAVE_EVERY == 0 or step == options.steps:
                save(step, parts)
            if told or step == options.steps:
                break
    if step == options.steps and rank == 0:
        plain.eval()
        with torch.no_grad():
            inputs, labels = data.tensors
            loss = nn.functional.cross_entropy(plain(inputs.to(device)), labels.to(device)).item()
        print(f"done: the loss is {loss!r}", flush=True)
    dist.barrier()  # nobody leaves while another one still saves
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
