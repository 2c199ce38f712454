"""Two ranks that save with torch.distributed.checkpoint.async_save: `torchrun ... async_pytorch.py FOLDER STEPS SECONDS_A_STEP`.

On SIGUSR1 to any of them all leave the loop at the same step, begin a save, and end without waiting for it.
"""

import os
import signal
import sys
import time

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp

folder, steps, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
asked = False


def on_usr1(_number, _frame):
    """Only set a flag."""
    global asked
    asked = True


signal.signal(signal.SIGUSR1, on_usr1)
dist.init_process_group("gloo")
torch.set_num_threads(1)
rank = dist.get_rank()
state = {f"rank-{rank}": torch.full((2_000_000,), float(rank)), "step": torch.zeros(1)}
resumed = os.environ.get("CKPTRUN_CHECKPOINT")
if resumed:
    dcp.load(state, checkpoint_id=resumed)
step = int(state["step"])
if rank == 0:
    print(f"from step {step}", flush=True)
while True:
    word = torch.tensor([float(asked)])
    dist.all_reduce(word)
    if word.item() or step >= steps:
        break
    step += 1
    time.sleep(seconds)
state["step"].fill_(step)
dcp.async_save(state, checkpoint_id=os.path.join(folder, f"step-{step:06d}"))
