"""`exact_ranks.py` with the same words on two ranks of `torch.multiprocessing.spawn`, which no launcher has started."""

import os
import runpy
import socket
import sys
from pathlib import Path

import torch.multiprocessing


def train(rank, port):
    """Be one rank: what torchrun would have put into the environment."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    runpy.run_path(str(Path(__file__).with_name("exact_ranks.py")), run_name="__main__")


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(train, (port,), nprocs=2)
    sys.exit(0)
