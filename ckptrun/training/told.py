"""What every adapter has from ckptrun, the checkpoint that it has verified, and what it says to a person."""

from __future__ import annotations

import os
import re
import sys

import ckptrun


def told_in(run: ckptrun.Run, folder: str, name: re.Pattern[str]) -> str | None:
    """Return the checkpoint to resume from where it stands in this folder under such a name, else None.

    Another training of the same program has a folder of its own.
    """
    path = run.checkpoint
    if path is None or not name.fullmatch(os.path.basename(path)) or not os.path.exists(path) or not os.path.isdir(folder):
        return None
    return path if os.path.samefile(os.path.dirname(path), folder) else None


def say(text: str) -> None:
    """Print a line as ckptrun's own are, on stderr."""
    print(f"ckptrun: {text}", file=sys.stderr, flush=True)
