"""A PyTorch training that resumes exactly: model, optimizer, generators and the place in the data order are saved.

`python exact_pytorch.py FOLDER STEPS SECONDS_A_STEP`. On SIGUSR1 it saves at the step boundary and exits with 0; when it has done
all steps it writes the weights to FOLDER.final and creates FOLDER.done.
"""

import hashlib
import os
import random
import signal
import sys
import time

import torch

folder, steps, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
torch.manual_seed(7)
random.seed(7)
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.ReLU(), torch.nn.Dropout(0.3), torch.nn.Linear(32, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 50)
data = torch.randn(256, 20, generator=torch.Generator().manual_seed(1))
labels = (data.sum(dim=1) > 0).long()
order, place, step = [], 0, 0
asked = False


def on_usr1(_number, _frame):
    """Only set a flag."""
    global asked
    asked = True


signal.signal(signal.SIGUSR1, on_usr1)


def save():
    """Write the whole state beside its name, sync it, rename it."""
    os.makedirs(folder, exist_ok=True)
    state = {
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
    }
    state |= {"torch": torch.get_rng_state(), "python": random.getstate(), "order": order, "place": place}
    path = os.path.join(folder, f"step-{step:06d}.pt")
    with open(path + ".tmp", "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".tmp", path)


if os.environ.get("CKPTRUN_CHECKPOINT"):
    state = torch.load(os.environ["CKPTRUN_CHECKPOINT"], weights_only=False)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    step, order, place = state["step"], state["order"], state["place"]

print(f"from step {step}", flush=True)
while step < steps:
    if place >= len(order):
        order, place = random.sample(range(len(data)), len(data)), 0
    batch = order[place : place + 16]
    place += 16
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(model(data[batch]), labels[batch]).backward()
    optimizer.step()
    scheduler.step()
    step += 1
    time.sleep(seconds)
    if step % 20 == 0:
        print(f"step {step}", flush=True)
    if asked:
        save()
        sys.exit(0)
save()
weights = b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())
with open(f"{folder}.final", "w") as file:
    file.write(hashlib.sha256(weights).hexdigest())
with open(f"{folder}.done", "w"):
    pass
