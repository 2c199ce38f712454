"""A PyTorch training on all ranks of torchrun or srun that resumes exactly: `exact_ranks.py FOLDER STEPS SECONDS_A_STEP`.

`--sharded`: FSDP instead of DDP. `--fixed-buckets`: DDP adds gradients in the same order in every step, on more than two ranks too.
`--every STEPS`: save after so many. `--slow RANK STEP SECONDS`: that rank takes so long over that step. `--mailboxes FOLDER`: each
rank has a mailbox of its own, FOLDER/RANK, so that one alone can be asked. The first rank writes the weights to FOLDER.final.
"""

import argparse
import hashlib
import os
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("steps", type=int)
parser.add_argument("seconds", type=float)
parser.add_argument("--sharded", action="store_true")
parser.add_argument("--fixed-buckets", action="store_true")
parser.add_argument("--every", type=int, default=0)
parser.add_argument("--slow", nargs=3, type=float, default=(-1, -1, 0))
parser.add_argument("--mailboxes")
options = parser.parse_args()
if "RANK" not in os.environ:  # srun
    for name, slurm in (("RANK", "SLURM_PROCID"), ("WORLD_SIZE", "SLURM_NTASKS"), ("LOCAL_RANK", "SLURM_LOCALID")):
        os.environ[name] = os.environ[slurm]
rank = int(os.environ["RANK"])
if options.mailboxes:
    os.environ["CKPTRUN_MAILBOX"] = os.path.join(options.mailboxes, str(rank))

import ckptrun  # noqa: E402

ckptrun.current()  # says that it can be asked by file, before what takes long: else it may be sent a signal meanwhile

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset  # noqa: E402

from ckptrun.training.pytorch import Checkpoints, ResumableLoader  # noqa: E402


def say(text):
    """Print a line whole: the ranks share one pipe."""
    os.write(1, f"{text}\n".encode())


dist.init_process_group("gloo")
torch.set_num_threads(1)
torch.manual_seed(7)
model = torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.ReLU(), torch.nn.Dropout(0.3), torch.nn.Linear(32, 2))
if options.sharded:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
else:
    model = DistributedDataParallel(model, find_unused_parameters=options.fixed_buckets)
torch.manual_seed(100 + rank)  # each rank drops out others
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 50)
rows = torch.randn(256, 20, generator=torch.Generator().manual_seed(1))
data = TensorDataset(rows, (rows.sum(dim=1) > 0).long())
loader = ResumableLoader(DataLoader(data, batch_size=8, sampler=DistributedSampler(data)))
parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "loader": loader}
checkpoints = Checkpoints(options.folder, every=options.every, **parts)

say(f"rank {rank} from step {checkpoints.resume()}")
while checkpoints.steps < options.steps:
    for batch, labels in loader:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(batch), labels).backward()
        optimizer.step()
        scheduler.step()
        slow = (rank, checkpoints.steps + 1) == tuple(options.slow[:2])
        time.sleep(options.slow[2] if slow else options.seconds)
        if checkpoints.step(options.steps):
            say(f"rank {rank} stopped at step {checkpoints.steps}")
            dist.destroy_process_group()
            sys.exit(0)
        if checkpoints.steps == 3:
            say(f"rank {rank} trains")
        if checkpoints.steps == options.steps:
            break

weights = [one.full_tensor() if options.sharded else one for one in model.state_dict().values()]
if rank == 0:
    with open(f"{options.folder}.final", "w") as file:
        file.write(hashlib.sha256(b"".join(one.numpy().tobytes() for one in weights)).hexdigest())
checkpoints.done()
say(f"rank {rank} is done")
dist.destroy_process_group()
