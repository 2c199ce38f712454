"""JSON: whole when it is read to the end."""

from __future__ import annotations

import json

from ckptrun.words import Checkpoint


def check(checkpoint: Checkpoint) -> str | None:
    """Return why the file is truncated, None for a whole one. Reads the whole file."""
    try:
        with open(checkpoint.path, "rb") as file:
            json.load(file)
    except (ValueError, RecursionError) as error:
        return f"no complete JSON: {error}"
    return None
