"""A PyTorch training that is killed within torch.save: `python killed_pytorch.py FOLDER STEPS KILLS SEED`.

It saves every few steps, with plain torch.save under the file's own name, and keeps the last three. The second save of each process
ends with kill -9 at a random moment of it, and each third of these before its first byte, until that has happened KILLS times;
FOLDER.kills counts. At its end it writes what the weights are to FOLDER.final.
"""

import hashlib
import os
import random
import signal
import sys
import time

import torch

folder, steps, kills, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
EVERY, KEPT = 4, 3
torch.manual_seed(7)
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.ReLU(), torch.nn.Dropout(0.3), torch.nn.Linear(32, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
ballast = torch.zeros(1_500_000)
step = 0
saved_in_s = []


def killed_so_far():
    """Return how often it was killed."""
    return os.path.getsize(f"{folder}.kills") if os.path.exists(f"{folder}.kills") else 0


def have_it_killed(within_s):
    """Have us killed at a random moment within that time, each third time at once.

    By a process of its own: a thread would have to wait for the interpreter.
    """
    count = killed_so_far()
    with open(f"{folder}.kills", "ab") as file:
        file.write(b"x")
    training = os.getpid()
    if count % 3 == 1:
        os.kill(training, signal.SIGKILL)
    if os.fork() == 0:
        time.sleep(random.Random(f"{seed}-{count}").uniform(0, within_s))
        os.kill(training, signal.SIGKILL)
        os._exit(0)


def save():
    """Write under the file's own name, as most programs do."""
    os.makedirs(folder, exist_ok=True)
    state = {"step": step, "model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}
    doomed = len(saved_in_s) == 1 and killed_so_far() < kills
    if doomed:
        have_it_killed(saved_in_s[0])
    began = time.monotonic()
    torch.save(state | {"ballast": ballast}, os.path.join(folder, f"step-{step:06d}.pt"))
    saved_in_s.append(time.monotonic() - began)
    if doomed:
        signal.pause()
    for name in sorted(os.listdir(folder))[:-KEPT]:
        os.unlink(os.path.join(folder, name))


if os.environ.get("CKPTRUN_CHECKPOINT"):
    state = torch.load(os.environ["CKPTRUN_CHECKPOINT"], weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"])
    step = state["step"]

print(f"from step {step}", flush=True)
while step < steps:
    optimizer.zero_grad()
    data = torch.randn(16, 20)
    torch.nn.functional.cross_entropy(model(data), (data.sum(dim=1) > 0).long()).backward()
    optimizer.step()
    step += 1
    if step % EVERY == 0:
        save()
weights = b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())
with open(f"{folder}.final", "w") as file:
    file.write(hashlib.sha256(weights).hexdigest())
