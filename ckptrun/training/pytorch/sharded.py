"""What differs for a model that lies in parts on several ranks (FSDP): PyTorch's distributed checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def is_sharded(part: Any) -> bool:
    import torch

    if not isinstance(part, torch.nn.Module):
        return False
    # By their names: both classes would have to be imported for every training that has neither.
    wrapped = any(type(module).__name__ == "FullyShardedDataParallel" for module in part.modules())
    return wrapped or any(type(one).__name__ == "DTensor" for one in part.parameters())


def planner_for(weights_only: bool) -> Any:
    """Return a planner that reads what is no tensor as `torch.load` does with `weights_only`; PyTorch's own does without."""
    import torch
    from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner

    class Planner(DefaultLoadPlanner):  # type: ignore[misc]
        def load_bytes(self, read_item: Any, value: Any) -> None:
            import io

            plain = torch.load(value, weights_only=weights_only)
            again = io.BytesIO()
            torch.save(plain, again)
            again.seek(0)
            super().load_bytes(read_item, again)

    return Planner()


@contextmanager
def said_plainly(what: str) -> Iterator[None]:
    """Raise RuntimeError, with what each rank says, for CheckpointException: no `except Exception` would catch that one."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except CheckpointException as error:
        said = (f"rank {rank}: {type(one).__name__}: {one}" for rank, (one, _) in sorted(error.failures.items()))
        raise RuntimeError(f"{what}: {'; '.join(said)}") from error
