"""`ckptrun demo`: a small real training that needs longer than its limit, chained on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time

import click

LIMIT = "4s"

_BEFORE = """\
A training that needs about 9 seconds meets a time limit of {limit}. Without ckptrun it would be killed in the middle,
and what it had learned since its last save would be lost. The program saves on SIGUSR1; it knows nothing of ckptrun.

  $ {shown}
"""
_AFTER = """
That is one chain of {limit} links: each was asked to save in time, stopped, and started again where it had stopped.
The training itself ended the chain, with exit code {code}. This is what `ckptrun chain show {chain}` says of it:
"""
_NEXT = """
Now your own training: put the word in front of it, with a limit and the folder that it saves to.

  $ ckptrun --time-limit 10m --checkpoint checkpoints/ python train.py
"""


@click.command(short_help="A small real training, chained over its time limit, on this machine.")
def demo() -> int:
    """Run a small real training as a chain of links of a few seconds, and show the chain. No Slurm is needed."""
    folder = tempfile.mkdtemp(prefix="ckptrun-demo-")
    program = os.path.join(folder, "train.py")
    shutil.copyfile(os.path.join(os.path.dirname(os.path.dirname(__file__)), "demo", "training.py"), program)
    chain = f"demo-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    options = ["--time-limit", LIMIT, "--checkpoint", "checkpoints", "--chain", chain]
    command = [sys.executable, "-m", "ckptrun", *options, "--", sys.executable, "train.py", "checkpoints"]
    shown = f"ckptrun --time-limit {LIMIT} --checkpoint checkpoints/ python train.py checkpoints"
    click.echo(_BEFORE.format(limit="4 seconds", shown=shown))
    code = subprocess.run(command, cwd=folder, check=False, env=_environment()).returncode
    click.echo(_AFTER.format(limit="4-second", chain=chain, code=code))
    subprocess.run([sys.executable, "-m", "ckptrun", "chain", "show", chain], check=False, cwd=folder, env=_environment())
    click.echo(_NEXT)
    click.echo(f"The program and its checkpoints are in {folder}.")
    return code


def _environment() -> dict[str, str]:
    """Return our environment without what would change the demo: options of the user's own, and a Slurm job around us."""
    return {name: value for name, value in os.environ.items() if name != "CKPTRUN_OPTIONS" and not name.startswith("SLURM_")}
