"""Folders that hold one checkpoint in several files: Hugging Face's `checkpoint-N/`, accelerate's, DeepSpeed's, and the like.

Every file in it is checked in its own format. There is no list of the files in such a folder: what must stand beside what is said
here, and a folder lacks what all its siblings have. Source: transformers/trainer.py (_save_checkpoint),
deepspeed/runtime/engine.py (save_checkpoint).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from ckptrun.checkpoints.find import entries
from ckptrun.checkpoints.formats import pytorch, sharded, zip  # noqa: A004  # a format's name is its module's
from ckptrun.checkpoints.formats.files import check_file
from ckptrun.checkpoints.formats.found import Cut, Found, all_of, truncated
from ckptrun.checkpoints.formats.opcodes import HoldsArrays
from ckptrun.checkpoints.formats.window import Window
from ckptrun.checkpoints.forms import pattern
from ckptrun.words import Checkpoint

_DESCRIBES = re.compile(r"(\.(txt|md|yaml|yml|py|jinja|model|log|csv|sh)|^\.gitattributes|^latest|^merges.*)$")
_TRAINER = ("trainer_state.json", "training_args.bin")
_RESUMED = ("optimizer.pt", "scheduler.pt", "rng_state")
_WEIGHTS = re.compile(r"^(pytorch_model|model|adapter_model|adapter|tf_model|flax_model)[.-].*")
_MODEL_STATES = re.compile(r"(?:^|/)mp_rank_(\d+)_model_states\.pt$")
_OPTIMIZER = re.compile(r"(?:^|/)(?:bf16_|fp16_)?zero_pp_rank_(\d+)_mp_rank_(\d+)_optim_states\.pt$")
_MOST_SIBLINGS = 5


def check(checkpoint: Checkpoint, full: bool) -> Found:
    """Return what was found in the files of a folder, and of the files that must be there."""
    names = {os.path.relpath(part, checkpoint.path): part for part in checkpoint.parts}
    missing = _missing(set(names)) or _missing_ranks(names) or _missing_beside_siblings(checkpoint.path, set(names))
    if missing is not None:
        return truncated(f"{missing} is missing")
    found = []
    for name, path in names.items():
        base = os.path.basename(name)
        if base.endswith(".json") and ".index" in base:
            found.append((name, sharded.check_index(path, full)))
        elif not _DESCRIBES.search(base):
            found.append((name, check_file(path, full)))
        elif os.path.getsize(path) == 0 and base == "latest":
            return truncated("latest is empty")
    return all_of(found)


def _missing(names: set[str]) -> str | None:
    """Return what a folder of Hugging Face's Trainer lacks, None where it lacks nothing or is none."""
    own = {name for name in names if "/" not in name}
    resumed = [any(name.startswith(wanted) for name in own) for wanted in _RESUMED]
    if any(wanted in own for wanted in _TRAINER):
        for wanted in _TRAINER:
            if wanted not in own:
                return wanted
        # DeepSpeed and FSDP keep the optimizer, and may keep the weights, in folders of their own.
        if any("/" in name for name in names):
            return None
        if not any(_WEIGHTS.match(name) for name in own):
            return "the file of weights"
        if any(resumed) and not all(resumed):
            return _RESUMED[resumed.index(False)]
    return _missing_shard(own)


def _missing_shard(names: set[str]) -> str | None:
    """Shards of weights without their index were not finished."""
    for name in sorted(names):
        match = re.fullmatch(r"(.*)-\d{5}-of-\d{5}\.(safetensors|bin)", name)
        if match and not any(one.endswith(".json") and f".{match[2]}.index" in one for one in names):
            return f"{match[1]}.{match[2]}.index.json"
    return None


def _missing_beside_siblings(path: str, names: set[str]) -> str | None:
    """Return a file that all folders of the same kind beside this one have, numbers apart, and this one lacks."""
    above, own = os.path.split(os.path.abspath(path))
    with os.scandir(above) as beside:
        siblings = [item.path for item in beside if item.name != own and pattern(item.name) == pattern(own) and item.is_dir()]
    common: set[str] | None = None
    for sibling in sorted(siblings)[:_MOST_SIBLINGS]:
        inside = _kinds(os.path.relpath(part.path, sibling) for part in entries([sibling]))
        common = inside if common is None else common & inside
    lacking = (common or set()) - _kinds(names)
    return min(lacking, default=None)


def _kinds(names: Iterable[str]) -> set[str]:
    return {re.sub(r"\d+", "#", name) for name in names if not _DESCRIBES.search(name)}


def _missing_ranks(names: dict[str, str]) -> str | None:
    """Return which file of DeepSpeed is missing: the model's file says how many ranks there were."""
    models = {int(match[1]): path for name, path in names.items() if (match := _MODEL_STATES.search(name))}
    optimizers = {(int(match[1]), int(match[2])) for name in names if (match := _OPTIMIZER.search(name))}
    if not models:
        return "mp_rank_00_model_states.pt" if optimizers else None
    sizes = _world(models[min(models)])
    for model in range(sizes.get("mp_world_size", 0)):
        if model not in models:
            return f"mp_rank_{model:02d}_model_states.pt"
        # Without ZeRO the optimizer is in the model's file.
        for data in range(sizes.get("dp_world_size", 0) if optimizers or sizes.get("zero") else 0):
            if (data, model) not in optimizers:
                return f"zero_pp_rank_{data}_mp_rank_{model:02d}_optim_states.pt"
    return None


def _world(path: str) -> dict[str, int]:
    """Return what a model's file says of the ranks; `zero` is there where it has no optimizer of its own."""
    try:
        with Window(path) as data:
            member = next((one for one in zip.members(data) if one.name.endswith("/data.pkl")), None)
            state = pytorch.values(data, member) if member is not None else None
    except (Cut, HoldsArrays):
        return {}
    value = state.value if state is not None else None
    if not isinstance(value, dict):
        return {}
    sizes = {key: one for key, one in value.items() if key in ("dp_world_size", "mp_world_size") and isinstance(one, int)}
    return sizes | ({"zero": 1} if "optimizer" in value and value["optimizer"] is None else {})
