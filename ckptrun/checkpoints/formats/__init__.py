"""Is this checkpoint whole? One module a format, one table. Nothing is unpickled, imported or executed.

Structural by default: what the format says of its own length is compared with what is there, in milliseconds whatever the size.
With `full` every byte is read and every checksum compared that the format has.
"""

from __future__ import annotations

import importlib

from ckptrun.checkpoints.formats.files import check_file
from ckptrun.checkpoints.formats.found import Found, truncated, unchecked
from ckptrun.words import Checkpoint

UNJUDGED = "it could not be judged"
UNREADABLE = "cannot be read"
# What `find` calls a checkpoint of several files -> the module that checks it, with check(checkpoint, full) -> Found.
_MODULES = {
    "tensorflow": "tensorflow",
    "saved-model": "saved_model",
    "distributed": "distributed",
    "sharded": "sharded",
    "orbax": "orbax",
    "ranked": "ranked",
    "folder": "folder",
    "deepspeed": "folder",
    "hugging-face": "folder",
}


def verify(checkpoint: Checkpoint, full: bool = False) -> Checkpoint:
    """Return the checkpoint with verdict, why and format. One that vanished meanwhile, or cannot be read, is truncated."""
    try:
        found = _check(checkpoint, full)
    except OSError as error:
        found = truncated(f"{UNREADABLE}: {error.strerror}")
    except Exception as error:  # a file that is stranger than we thought must not end the link that watches it
        found = unchecked(f"{UNJUDGED}: {type(error).__name__}: {error}")
    form = found.form or checkpoint.form
    return checkpoint._replace(verdict=found.verdict, why=found.why, form=form)


def _check(checkpoint: Checkpoint, full: bool) -> Found:
    name = _MODULES.get(checkpoint.form)
    if name is None:
        return check_file(checkpoint.path, full)
    found: Found = importlib.import_module(f"{__name__}.{name}").check(checkpoint, full)
    return found
