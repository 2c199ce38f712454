"""Find checkpoints by their form, newest first. Nothing is opened here, names and times are enough."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence

from ckptrun.words import Checkpoint, Verdict

_NOT_CHECKPOINTS = frozenset(
    [
        ".log",
        ".txt",
        ".md",
        ".csv",
        ".tsv",
        ".yaml",
        ".yml",
        ".toml",
        ".ini",
        ".cfg",
        ".py",
        ".sh",
        ".out",
        ".err",
        ".html",
        ".png",
        ".jpg",
        ".svg",
        ".pdf",
        ".lock",
        ".ckptrun-last",
        ".chain",
    ]
)
# The state file of TensorFlow, DeepSpeed's, and JSON that describes rather than holds.
_NOT_CHECKPOINT_NAMES = frozenset({"checkpoint", "latest", "config.json", "args.json", "metrics.json", "history.json", "readme"})
_TEMPORARY = re.compile(r"(^\.)|(^tmp)|(\.tmp)|(\.temp)|(\.part(ial)?$)|(\.incomplete$)|(~$)|(_temp/)|(\.tempstate)", re.IGNORECASE)
_SHARD = re.compile(r"\.data-\d{5}-of-\d{5}$")


class Entry:
    """One file as `stat` saw it."""

    __slots__ = ("inode", "mtime_ns", "name", "path", "size")

    def __init__(self, path: str, found: os.stat_result) -> None:
        self.path, self.name = path, os.path.basename(path)
        self.size, self.mtime_ns, self.inode = found.st_size, found.st_mtime_ns, found.st_ino

    @property
    def print(self) -> tuple[int, int, int]:
        """Return what changes when the file does: size, modification time, inode."""
        return self.size, self.mtime_ns, self.inode


def entries(paths: Sequence[str]) -> list[Entry]:
    """Return all files under the paths, the folder's own level and one below. What vanishes meanwhile is left out."""
    found: list[Entry] = []
    for path in paths:
        try:
            state = os.stat(path)
        except OSError:
            continue
        if os.path.isdir(path):
            found.extend(_in_folder(path, deeper=True))
        else:
            found.append(Entry(path, state))
    return found


def _in_folder(path: str, *, deeper: bool) -> Iterator[Entry]:
    try:
        with os.scandir(path) as inside:
            for item in inside:
                try:
                    if item.is_dir():
                        if deeper and not item.name.endswith(".set-aside"):
                            yield from _in_folder(item.path, deeper=False)
                    elif item.is_file():
                        yield Entry(item.path, item.stat())
                except OSError:
                    continue
    except OSError:
        return


def is_temporary(name: str) -> bool:
    """Return whether a file's name is that of something still being made."""
    return _TEMPORARY.search(name) is not None


def find(paths: Sequence[str]) -> tuple[Checkpoint, ...]:
    """Return the checkpoints under the paths, newest first, not verified. A path that does not exist holds none."""
    return arrange(entries(paths), frozenset(paths))


def arrange(files: Sequence[Entry], named: frozenset[str]) -> tuple[Checkpoint, ...]:
    """Return files as checkpoints, newest first. `named` are files that the user named himself: whatever their form, they count."""
    groups: dict[str, list[Entry]] = {}
    for entry in files:
        prefix = _prefix(entry, named)
        if prefix is not None:
            groups.setdefault(prefix, []).append(entry)
    found = [_checkpoint(prefix, parts) for prefix, parts in groups.items() if _counts(prefix, parts)]
    return tuple(sorted(found, key=_order(found), reverse=True))


def _prefix(entry: Entry, named: frozenset[str]) -> str | None:
    """Return the path of the checkpoint that a file belongs to, None where it belongs to none."""
    if entry.path in named:
        return entry.path
    name = entry.name
    if is_temporary(name) or name.lower() in _NOT_CHECKPOINT_NAMES or ".ckptrun-last" in name:
        return None
    if name.endswith(".index"):
        return entry.path[: -len(".index")]
    if (shard := _SHARD.search(entry.path)) is not None:
        return entry.path[: shard.start()]
    if os.path.splitext(name)[1].lower() in _NOT_CHECKPOINTS or name.startswith("events.out.tfevents"):
        return None
    return entry.path


def _counts(prefix: str, parts: list[Entry]) -> bool:
    """Shards alone, before their index is written, are a checkpoint in the making; they count once the index stands."""
    return any(part.path == prefix or part.name.endswith(".index") for part in parts)


def _checkpoint(prefix: str, parts: list[Entry]) -> Checkpoint:
    paths = tuple(sorted(part.path for part in parts))
    at = max(part.mtime_ns for part in parts) / 1e9
    return Checkpoint(prefix, paths, step_of(prefix), at, sum(part.size for part in parts))


def step_of(path: str) -> int | None:
    """Return the last number in a name, without its ending: `ckpt-0012.pt` -> 12, `model.pt` -> None."""
    name = os.path.basename(path)
    stem = re.sub(
        r"(\.(pt|pth|ckpt|pkl|pickle|json|keras|h5|npz|npy|safetensors|bin|index|joblib|tar|gz|zst|weights))+$",
        "",
        name,
    )
    numbers = re.findall(r"\d+", re.sub(r"(?<=\d)\.\d+", "", stem))
    return int(numbers[-1]) if numbers and len(numbers[-1]) <= 18 else None


def _order(found: list[Checkpoint]) -> Callable[[Checkpoint], tuple[float, float, str]]:
    """Steps decide where all names say them and times do not contradict; else time does: a number that falls is a slot's."""
    by_time = sorted(found, key=lambda one: one.at)
    steps = [one.step for one in by_time]
    said = [step for step in steps if step is not None]
    if len(said) == len(steps) and len({_pattern(one.path) for one in found}) == 1 and said == sorted(said):
        return lambda one: (one.step or 0, one.at, one.path)
    return lambda one: (one.at, one.step if one.step is not None else -1, one.path)


def _pattern(path: str) -> str:
    return re.sub(r"\d+", "#", os.path.basename(path))


def newest_whole(paths: Sequence[str]) -> tuple[Checkpoint | None, tuple[Checkpoint, ...]]:
    """Return the newest checkpoint that is whole (or in a format that is not checked), and the truncated ones newer than it."""
    from ckptrun.checkpoints.formats import verify

    truncated: list[Checkpoint] = []
    for candidate in find(paths):
        checked = verify(candidate)
        if checked.verdict is not Verdict.TRUNCATED:
            return checked, tuple(truncated)
        truncated.append(checked)
    return None, tuple(truncated)
