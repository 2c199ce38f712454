"""What the agreement of ranks costs in a step.

`python -m torch.distributed.run --standalone --nproc-per-node 2 -m tests.bench.ranks`
"""

from __future__ import annotations

import tempfile
import time

import torch.distributed as dist

from ckptrun.training.pytorch import Checkpoints

STEPS = 20_000


def main() -> None:
    """Count steps that cost nothing, so that each fiftieth is a vote, and print what a step and a vote cost."""
    dist.init_process_group("gloo")
    checkpoints = Checkpoints(tempfile.mkdtemp())
    start_at = time.perf_counter()
    for _ in range(STEPS):
        checkpoints.step(STEPS)
    seconds = time.perf_counter() - start_at
    if dist.get_rank() == 0:
        print(f"{seconds / STEPS * 1e6:.1f} us a step, at most {seconds / STEPS * 50 * 1e6:.0f} us a vote")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
