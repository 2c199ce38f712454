"""The files beside checkpoints that name the newest: TensorFlow's `checkpoint`, DeepSpeed's `latest`. Readers go by them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Set

from ckptrun.words import Checkpoint, Verdict

_NEWEST = re.compile(r'^model_checkpoint_path: "(.*)"$', re.MULTILINE)
# Format -> the name of its state file. Other formats have none.
_NAMES = {"tensorflow": "checkpoint", "deepspeed": "latest"}
_LARGEST_BYTES = 65536
STATE_FILES = frozenset(_NAMES.values())


def named_newest(folder: str, form: str) -> str | None:
    """Return the path of the checkpoint that the folder's state file names, None without such a file or name."""
    if form not in _NAMES:
        return None
    text = _text(os.path.join(folder, _NAMES[form]))
    if form == "deepspeed":
        return os.path.join(folder, text.strip()) if text.strip() else None
    found = _NEWEST.search(text)
    return os.path.join(folder, found[1]) if found else None


def _text(path: str) -> str:
    """Return what a state file says, nothing where it is none: a FIFO of that name would be waited for until somebody writes."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with open(handle, "rb") as file:
        try:
            return os.fsdecode(file.read(_LARGEST_BYTES)) if stat.S_ISREG(os.fstat(handle).st_mode) else ""
        except OSError:
            return ""


def misnamed(folder: str, form: str) -> str:
    """Return why a state file leads its readers nowhere, so that they would begin anew; empty where it does not."""
    if form not in _NAMES or not os.path.isfile(os.path.join(folder, _NAMES[form])):
        return ""
    newest = named_newest(folder, form)
    if newest is None:
        return "it names no checkpoint"
    there = os.path.exists(newest if form == "deepspeed" else f"{newest}.index")
    return "" if there else f"it names {os.path.basename(newest)}, which is not there"


def mend(folder: str, form: str, newest: str | None) -> None:
    """Make the folder's state file name another checkpoint; without one, remove it. Raises OSError."""
    path = os.path.join(folder, _NAMES[form])
    if newest is None:
        os.unlink(path)
        return
    name = os.path.relpath(newest, folder)
    temporary = f"{path}.tmp{os.getpid()}"
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(name if form == "deepspeed" else f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n')
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def check(folder: str, forms: Set[str]) -> list[Checkpoint]:
    """Return the state files of a folder that are cut, or name what is not there, as truncated: their readers would begin anew.

    `forms` are the formats that stand in the folder: other programs, too, have files that are called `latest`.
    """
    found = []
    for form, name in _NAMES.items():
        path = os.path.join(folder, name)
        if form in forms and (why := misnamed(folder, form)):
            found.append(_truncated(path, form, why))
    return found


def _truncated(path: str, form: str, why: str) -> Checkpoint:
    state = os.stat(path)
    return Checkpoint(path, (path,), None, state.st_mtime, state.st_size, Verdict.TRUNCATED, why, form)
