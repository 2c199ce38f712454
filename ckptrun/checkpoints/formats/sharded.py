"""Weights in several files with an index in JSON: `model.safetensors.index.json`, `pytorch_model.bin.index.json`.

The index is written last and names every file. Source: huggingface_hub/serialization/_torch.py, transformers/modeling_utils.py.
"""

from __future__ import annotations

import json
import os

from ckptrun.checkpoints.formats.files import check_file
from ckptrun.checkpoints.formats.found import Cut, Found, all_of, truncated
from ckptrun.checkpoints.formats.window import Window
from ckptrun.words import Checkpoint

_LARGEST_INDEX_BYTES = 32 * 1000**2


def check(checkpoint: Checkpoint, full: bool) -> Found:
    """Return what was found in an index, which is the checkpoint's path, and the files that it names."""
    return check_index(checkpoint.path, full)


def check_index(index: str, full: bool) -> Found:
    """Return what was found in an index and the files that it names."""
    try:
        names = _names(index)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        return truncated(f"its index cannot be read: {error}")
    if not names:
        return truncated("its index names no files")
    folder, parts = os.path.dirname(index), []
    for name in names:
        if os.path.basename(name) != name:
            return truncated(f"its index names {name}, which is no file beside it")
        try:
            parts.append((name, check_file(os.path.join(folder, name), full)))
        except FileNotFoundError:
            return truncated(f"{name} is missing")
    return all_of(parts)


def _names(index: str) -> list[str]:
    with Window(index) as data:
        if data.size > _LARGEST_INDEX_BYTES:
            raise Cut("it is too large for an index")
        found = json.loads(data.take(0, data.size))
    return sorted(set(found["weight_map"].values()))
