"""TensorFlow's `checkpoint` file: the one beside the checkpoints that names the newest."""

from __future__ import annotations

import os
import re

_NEWEST = re.compile(r'^model_checkpoint_path: "(.*)"$', re.MULTILINE)


def named_newest(folder: str) -> str | None:
    """Return the path of the checkpoint that the folder's `checkpoint` file names, None without such a file."""
    try:
        with open(os.path.join(folder, "checkpoint"), encoding="utf-8", errors="surrogateescape") as file:
            found = _NEWEST.search(file.read(65536))
    except OSError:
        return None
    return os.path.join(folder, found[1]) if found else None


def mend(folder: str, newest: str | None) -> None:
    """Make the folder's `checkpoint` file name another checkpoint; without one, remove it. Raises OSError."""
    path = os.path.join(folder, "checkpoint")
    if newest is None:
        os.unlink(path)
        return
    name = os.path.relpath(newest, folder)
    temporary = f"{path}.tmp{os.getpid()}"
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n')
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
