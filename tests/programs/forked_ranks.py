"""Trainings on two ranks that are forks of this process, one after the other: `forked_ranks.py CASE...`; each says how it ended.

A case of `MISUSED` prints what each rank was told, and what stands in the folder then. Every other one is a kind of model and
optimizers, trained in one go, and stopped and resumed (`2 to 1`: on so many ranks): it prints whether the weights are the same.
"""

import os
import signal
import sys
import tempfile
import warnings
from functools import partial

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from ckptrun.training.pytorch import Checkpoints, ResumableLoader, Values

warnings.simplefilter("ignore")
torch.set_num_threads(1)
rows = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
data = TensorDataset(rows, (rows.sum(dim=1) > 0).long())


def say(text):
    """Print a line whole: the ranks share one pipe."""
    os.write(1, f"{text}\n".encode())


def ranks(count, act, *words):
    """Fork so many ranks, let each act, and wait for them; return their exit codes."""
    store = tempfile.mktemp()
    pids = []
    for rank in range(count):
        pids.append(os.fork())
        if pids[-1] == 0:
            try:
                act(rank, partial(dist.init_process_group, "gloo", f"file://{store}", rank=rank, world_size=count), *words)
            except Exception as error:
                say(f"{words[0]}: rank {rank}: {type(error).__name__}: {str(error).splitlines()[0]}")
                os._exit(1)
            os._exit(0)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def all_ranks():
    """Return the mesh of them."""
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh("cpu", (dist.get_world_size(),))


def sharded(model):
    """Return the model in parts on all ranks."""
    from torch.distributed.fsdp import fully_shard

    return fully_shard(model, mesh=all_ranks())


def no_space(*_, **__):
    """Fail as on a full disk."""
    raise OSError(28, "No space left on device")


class Own:
    """What weights_only does not load."""


def misused(rank, init, case, folder):
    """Do what must end in one sentence."""
    if case == "made before init":
        checkpoints = Checkpoints(folder, values=Values(a=1))
        checkpoints.resume()
        init()
        checkpoints.step()
    init()
    if case == "two sharded models":
        Checkpoints(folder, one=sharded(torch.nn.Linear(6, 2)), other=sharded(torch.nn.Linear(6, 2))).resume()
    if case in ("full on one rank", "cannot be loaded", "not sharded before"):
        model = torch.nn.Linear(6, 2) if case == "not sharded before" else sharded(torch.nn.Linear(6, 2))
        parts = {"model": model, "values": Values(a=Own() if case == "cannot be loaded" else 1)}
        checkpoints = Checkpoints(folder, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), **parts)
        checkpoints.resume()
        checkpoints.save()
        if case == "not sharded before":
            Checkpoints(folder, model=sharded(torch.nn.Linear(6, 2))).resume()
        checkpoints.step()
        torch.save = no_space if rank == 1 else torch.save
        checkpoints.save()
    if case == "sharded after it was made":
        model = torch.nn.Linear(6, 2)
        checkpoints = Checkpoints(folder, model=model)
        sharded(model)
        checkpoints.resume()
        raise RuntimeError(f"none, saved {os.path.basename(checkpoints.save())}")
    checkpoints = Checkpoints(folder, every=2 + rank if case == "saves at other steps" else 0, values=Values(a=1))
    checkpoints.resume()
    if case == "another default device":
        torch.set_default_device("meta")
        checkpoints.step()
        raise RuntimeError(f"none, saved {os.path.basename(checkpoints.save())}")
    if case == "destroyed":
        checkpoints.step()
        dist.destroy_process_group()
        checkpoints.done()
    for step in range(100000):
        if step == 5 and rank == 1 and case in ("one ends", "one is killed"):
            os.kill(os.getpid(), signal.SIGKILL) if case == "one is killed" else os._exit(0)
        checkpoints.step()
        if case == "the first alone saves" and rank == 0:
            checkpoints.save()


MISUSED = (
    *("made before init", "saves at other steps", "destroyed", "one ends", "one is killed", "the first alone saves"),
    *("another default device", "two sharded models", "full on one rank", "cannot be loaded", "not sharded before"),
    "sharded after it was made",
)


def trained(rank, init, kind, folder, steps, stop):
    """Train so many steps, or stop after fewer; the first rank writes the weights beside the folder."""
    init()
    torch.manual_seed(7)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    whole = model
    if kind == "bfloat16":
        model.to(torch.bfloat16).register_forward_pre_hook(lambda _, inputs: (inputs[0].to(torch.bfloat16),))
    if kind == "frozen":
        model[0].requires_grad_(False)
    if kind == "FSDP1":
        from torch.distributed.fsdp import FullyShardedDataParallel

        where = {"device_mesh": all_ranks(), "device_id": torch.device("cpu")}
        model = FullyShardedDataParallel(model, use_orig_params=True, **where)
    elif kind.startswith("DDP"):
        model = torch.compile(model, backend="eager") if kind == "DDP of a compiled model" else model
        model = DistributedDataParallel(model)
        model = torch.compile(model, backend="eager") if kind == "DDP, compiled" else model
    else:
        sharded(model)
    model = torch.compile(model, backend="eager") if kind == "FSDP2, compiled" else model
    ours = [one for one in model.parameters() if one.requires_grad]
    optimizers = {"adam": torch.optim.AdamW(ours, lr=0.01)}
    if kind == "two optimizers":
        optimizers = {
            "sgd": torch.optim.SGD(whole[2].parameters(), lr=0.1, momentum=0.9),
            "adam": torch.optim.AdamW(whole[0].parameters(), lr=0.01),
        }
        optimizers = dict(reversed(optimizers.items())) if stop else optimizers
    loader = ResumableLoader(DataLoader(data, batch_size=4, sampler=DistributedSampler(data)))
    checkpoints = Checkpoints(folder, model=model, loader=loader, **optimizers)
    checkpoints.resume()
    while checkpoints.steps < steps:
        for batch, labels in loader:
            torch.nn.functional.cross_entropy(model(batch), labels).backward()
            for optimizer in optimizers.values():
                optimizer.step()
                optimizer.zero_grad()
            checkpoints.step()
            if checkpoints.steps in (stop, steps):
                break
        if checkpoints.steps == stop:
            break
    if stop:
        checkpoints.save()
    weights = [one.full_tensor() if hasattr(one, "full_tensor") else one for one in model.parameters()]
    torch.save([one.detach().clone() for one in weights], f"{folder}.{rank}")


def main():
    """Take one case after the other."""
    for case in sys.argv[1:]:
        folder = os.path.join(tempfile.mkdtemp(), "ck")
        if case in MISUSED:
            ranks(2, misused, case, folder)
            say(f"{case}: stands {sorted(os.listdir(folder)) if os.path.isdir(folder) else []}")
            continue
        if " to " in case:  # the ranks' data are others then: what is restored is what was saved
            before, after = (int(number) for number in case.split(" to "))
            codes = ranks(before, trained, "FSDP2", folder, 20, 20)
            os.rename(f"{folder}.0", f"{folder}-whole.0")
            codes += ranks(after, trained, "FSDP2", folder, 20, None)
        else:
            codes = ranks(2, trained, case, f"{folder}-whole", 20, None)
            codes += ranks(2, trained, case, folder, 20, 5) + ranks(2, trained, case, folder, 20, None)
        whole, parts = f"{folder}-whole.0", f"{folder}.0"
        one, other = (torch.load(path, weights_only=True) for path in (whole, parts))
        same = all(torch.equal(*pair) for pair in zip(one, other, strict=True))
        say(f"{case}: {'the same' if same else 'others'} {codes}")


main()
