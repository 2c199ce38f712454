"""PURE. What names say: what is no checkpoint, what is still being made, which files belong together, and which step it is.

Rules. A folder is one checkpoint when the files in it say so, or its own name (`checkpoint-500`), unless what is in it has steps of
its own. Then all files below belong to it. The outermost such folder counts.
"""

from __future__ import annotations

import re
from collections.abc import Set

# Sets instead of one expression each: compiling that would cost every start two milliseconds.
_NOT_CHECKPOINTS = frozenset(
    [
        *("log", "txt", "md", "csv", "tsv", "yaml", "yml", "toml", "ini", "cfg", "py", "sh", "out", "err", "html", "png", "jpg"),
        *("svg", "pdf", "lock", "ckptrun-last", "chain", "jsonl", "pb", "pbtxt", "tfevents"),
    ]
)
# State files of TensorFlow, DeepSpeed and Megatron, and JSON that describes rather than holds.
_NOT_CHECKPOINT_NAMES = frozenset(
    [
        *("checkpoint", "latest", "latest_universal", "latest_checkpointed_iteration.txt", "readme", "zero_to_fp32.py"),
        *("config.json", "args.json", "metrics.json", "history.json", "generation_config.json", "tokenizer.json"),
        *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "trainer_state.json"),
        *("training_args.bin", "all_results.json", "train_results.json", "eval_results.json", "preprocessor_config.json"),
        *("adapter_config.json", "hparams.json", "commit_success.txt"),
    ]
)
_UNFINISHED = re.compile(
    r"\.tmp|\.temp|\.part(ial)?$|\.incomplete$|~$|_temp$|\.orbax-checkpoint-tmp|\.gstmp|\.ckptrun-last$", re.IGNORECASE
)
_HIDDEN = re.compile(r"^\.|^tmp|^temp-", re.IGNORECASE)
# What Python's tempfile and Hugging Face's Trainer call their temporaries; a folder `tmp_results` is a person's.
_TEMPORARY = re.compile(r"^tmp[a-z0-9_]{8}(?:\.|$)|^tmp-checkpoint-\d+$")
_SHARD_OF_BUNDLE = re.compile(r"\.data-\d{5}-of-\d{5}$")
_SHARD_OF_WEIGHTS = re.compile(r"^(.+)-\d{5}-of-\d{5}\.(safetensors|bin)$")
_INDEX_OF_WEIGHTS = re.compile(r"^(.+)\.(safetensors|bin)\.index(?:\.([\w-]+))?\.json$")

_RANK = re.compile(r"((?:^|[-_.])rank[-_=]?)(\d{1,6})(?=[-_.]|$)", re.IGNORECASE)
_STEP_FOLDER = re.compile(r"^(?:checkpoint|ckpt|global_step|step|epoch|iter)[-_=]?\d+$")
_OWN_STEP = re.compile(r"^(?:(?:checkpoint|ckpt|step|epoch|iter)[-_=]?)?\d+(?:\.|$)|^(?:checkpoint|ckpt|step|epoch|iter)[-_=]?\d+")
_FOLDER_ENDINGS = (".ckpt", ".pt", ".pth")
_RESUMED = re.compile(r"^(optimizer\.pt|scheduler\.pt|rng_state.*\.pth)$")
_STATES = re.compile(r"_(model|optim)_states\.pt$")
_ORBAX = frozenset({"_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt", "commit_success.txt"})

_ENDINGS = frozenset(
    [
        *("pt", "pth", "ckpt", "pkl", "pickle", "json", "keras", "h5", "hdf5", "npz", "npy", "safetensors", "bin", "index"),
        *("joblib", "tar", "gz", "zst", "xz", "bz2", "z", "lzma", "weights", "msgpack"),
    ]
)
_FRACTION = re.compile(r"\d+\.\d+")
_COPY = re.compile(r"-v\d+$")  # what Lightning appends where a name is taken
_SAID = tuple(
    re.compile(rf"(?:^|[^a-z]){word}s?[-_=]?(\d+)", re.IGNORECASE) for word in ("(?:global[-_]?)?step", "iter(?:ation)?", "epoch")
)
_LONGEST_STEP = 18


def is_temporary(name: str) -> bool:
    """Return whether a file's or folder's name is that of something still being made."""
    return _UNFINISHED.search(name) is not None or (_HIDDEN.search(name) is not None and name != ".metadata")


def is_unfinished(name: str) -> bool:
    """Return whether a name says so even inside a checkpoint's own folder, where a dot before a name is nothing special."""
    return _UNFINISHED.search(name) is not None


def is_leftover(name: str) -> bool:
    """Return whether a name is that of something whose writer must have died, once nobody writes to it.

    Hidden files may be anything, as may our copies and an editor's; only what says that it is no whole file yet counts.
    """
    if name.endswith((".ckptrun-last", "~")):
        return False
    return _UNFINISHED.search(name) is not None or _TEMPORARY.search(name) is not None


def is_set_aside(name: str) -> bool:
    """Return whether a folder is one of ours, with what was set aside."""
    return name.endswith(".set-aside")


def folder_form(name: str, inside: Set[str]) -> str | None:
    """Return which form of checkpoint a folder is, None for one that is none.

    `inside` are the files of the folder and of the folders in it, relative to it.
    """
    own = {path.partition("/")[0] for path in inside}
    files = {path for path in inside if "/" not in path}
    if ".metadata" in files or any(path.endswith(".distcp") for path in files):
        return "distributed"
    if {"saved_model.pb", "saved_model.pbtxt"} & files or "variables/variables.index" in inside:
        return "saved-model"
    if _ORBAX & files or (name.isdigit() and any(path.partition("/")[2] in _ORBAX for path in inside)):
        return "orbax"
    if any(_STATES.search(path) for path in files):
        return "deepspeed"
    if any(_OWN_STEP.search(path) for path in own):
        return None
    if {"trainer_state.json", "training_args.bin"} & files and any(_RESUMED.search(path) for path in files):
        return "hugging-face"
    if _STEP_FOLDER.search(name) or name.endswith(_FOLDER_ENDINGS):
        return "hugging-face" if "trainer_state.json" in files else "folder"
    return None


def may_be_checkpoint(name: str, inside: Set[str]) -> bool:
    """Return whether all folders below a folder are to be looked at: it is a checkpoint, one in the making, or part of one."""
    return is_unfinished(name) or folder_form(name, inside) is not None


def says_checkpoint(name: str) -> bool:
    """Return whether a name has an ending of a checkpoint's: where other things stand, too, nothing else tells them apart."""
    return any(ending in _ENDINGS for ending in name.lower().split(".")[1:])


def prefix(path: str) -> tuple[str, str] | None:
    """Return the checkpoint that a file in no checkpoint's folder belongs to, and its form; None where it belongs to none."""
    folder, slash, name = path.rpartition("/")
    if is_temporary(name) or name.lower() in _NOT_CHECKPOINT_NAMES:
        return None
    if name.endswith(".index"):
        return path[: -len(".index")], "tensorflow"
    if name.endswith(".meta"):  # the graph that TensorFlow 1 writes beside them
        return path[: -len(".meta")], "tensorflow"
    if (shard := _SHARD_OF_BUNDLE.search(path)) is not None:
        return path[: shard.start()], "tensorflow"
    if _INDEX_OF_WEIGHTS.search(name):
        return path, "sharded"
    if (weights := _SHARD_OF_WEIGHTS.search(name)) is not None:
        return f"{folder}{slash}{_index_name(weights[1], weights[2])}", "sharded"
    if name.lower().rpartition(".")[2] in _NOT_CHECKPOINTS or name.startswith("events.out.tfevents"):
        return None
    if rank_of(name) is not None:
        return folder + slash + _RANK.sub(r"\1#", name, count=1), "ranked"
    return path, ""


def rank_of(name: str) -> int | None:
    """Return the rank that a name says, None without one: each rank writes a file, and all of one step are one checkpoint."""
    found = _RANK.search(name)
    return int(found[2]) if found is not None else None


def _index_name(stem: str, ending: str) -> str:
    """Return the name of the index of shards; a variant, as in `model.fp16-00001-of-00002`, stands at another place there."""
    base, dot, variant = stem.partition(".")
    return f"{base}.{ending}.index.{variant}.json" if dot else f"{stem}.{ending}.index.json"


def step_of(path: str) -> int | None:
    """Return the step that a name says: the number behind `step`, `iter` or `epoch`, else the last one. Fractions are none.

    `ckpt-0012.pt` -> 12, `step=400-epoch=2.ckpt` -> 400, `weights.05-0.25.h5` -> 5, `model.pt` -> None.
    """
    stem = _stem(path)
    said = next((found[1] for word in _SAID if (found := word.search(stem))), None)
    numbers = re.findall(r"\d+", stem) if said is None else [said]
    return int(numbers[-1]) if numbers and len(numbers[-1]) <= _LONGEST_STEP else None


def says_step(path: str) -> bool:
    """Return whether a name has the word: its number is a step then, and cannot be a slot's."""
    return any(word.search(_stem(path)) for word in _SAID)


def pattern(path: str) -> str:
    """Return a name with all numbers made equal: names of one pattern are written by one program in turn."""
    return re.sub(r"\d+", "#", _stem(path))


def _stem(path: str) -> str:
    """Return a name without its endings, fractions, and what says that it was taken."""
    name = path.rpartition("/")[2]
    while (cut := name.rpartition("."))[1] and cut[2] in _ENDINGS:
        name = cut[0]
    return _COPY.sub("", _FRACTION.sub("", name))
