"""Checkpoints of a PyTorch training that resume exactly, in one process and on all ranks of `torch.distributed`.

    from ckptrun.training.pytorch import Checkpoints, ResumableLoader

    loader = ResumableLoader(DataLoader(data, batch_size=64, shuffle=True))
    checkpoints = Checkpoints("checkpoints", model=model, optimizer=optimizer, scheduler=scheduler, loader=loader)
    checkpoints.resume()
    for epoch in range(loader.epoch, EPOCHS):
        for batch in loader:
            train(batch)
            if checkpoints.step():  # saves when it was asked; True: stop
                sys.exit()
    checkpoints.done()

Rules of this folder. It imports `ckptrun` and PyTorch, nothing else of ckptrun, so that the folder `training` and that one module
are all that a container needs; PyTorch is imported when it is used. All ranks make every call, in the same order.
"""

from ckptrun.training.pytorch.checkpoints import Checkpoints, Stateful, Values
from ckptrun.training.pytorch.loader import ResumableLoader

__all__ = ["Checkpoints", "ResumableLoader", "Stateful", "Values"]
