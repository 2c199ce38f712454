"""Find checkpoints by their form, newest first. Nothing is opened here, names and times are enough."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from ckptrun.checkpoints.forms import (
    folder_form,
    is_set_aside,
    is_temporary,
    is_unfinished,
    may_be_checkpoint,
    pattern,
    prefix,
    rank_of,
    says_checkpoint,
    says_step,
    step_of,
)
from ckptrun.words import Checkpoint, Verdict

# A checkpoint's own folders are not nested deeper in any form; a bound keeps a strange tree from being walked for ever.
_DEEPEST = 8
# How long a start waits for a file that cannot be read.
_PATIENCE_S = (0.2, 0.8, 2.0)


class Entry:
    """One file as `stat` saw it. `relative` is its path below the path under which it was found, its name where it is that path."""

    __slots__ = ("inode", "mtime_ns", "name", "path", "relative", "size")

    def __init__(self, path: str, found: os.stat_result, root: str | None = None) -> None:
        self.path, self.name = path, os.path.basename(path)
        self.relative = self.name if root is None else path[len(root.rstrip("/")) + 1 :]
        self.size, self.mtime_ns, self.inode = found.st_size, found.st_mtime_ns, found.st_ino

    def again(self, found: os.stat_result) -> Entry:
        """Return the same file as another `stat` saw it."""
        other = Entry(self.path, found)
        other.relative = self.relative
        return other

    @property
    def print(self) -> tuple[int, int, int]:
        """Return what changes when the file does: size, modification time, inode."""
        return self.size, self.mtime_ns, self.inode

    @property
    def temporary(self) -> bool:
        """Return whether it, or a folder that it is in, is still being made."""
        return is_temporary(self.name) or self.in_temporary_folder

    @property
    def in_temporary_folder(self) -> bool:
        """Return whether a folder that it is in is still being made."""
        return any(is_temporary(folder) for folder in self.relative.split("/")[:-1])


class Listing(NamedTuple):
    """What stands under the paths: the files, and the folders that were listed."""

    files: list[Entry]
    folders: list[str]


def entries(paths: Sequence[str]) -> list[Entry]:
    """Return all files under the paths, as `listing` does."""
    return listing(paths).files


def listing(paths: Sequence[str]) -> Listing:
    """Return files and folders under the paths: the folder's own level, one below, and all of a checkpoint that is a folder.

    What vanishes meanwhile is left out, as are FIFOs, sockets and devices. Links to folders are not followed.
    """
    files: list[Entry] = []
    folders: list[str] = []
    for path in paths:
        try:
            state = os.stat(path)
        except OSError:
            continue
        if stat.S_ISDIR(state.st_mode):
            _list(path, path, 0, False, files, folders)
        elif stat.S_ISREG(state.st_mode):
            files.append(Entry(path, state))
    return Listing(files, folders)


def _list(folder: str, root: str, depth: int, whole: bool, files: list[Entry], folders: list[str]) -> None:
    """Add what stands in a folder. `whole`: it is part of a checkpoint, all of it is wanted."""
    below: list[os.DirEntry[str]] = []
    own: set[str] = set()
    folders.append(folder)
    for item in _scan(folder):
        try:
            if item.is_dir(follow_symlinks=False):
                if not is_set_aside(item.name):
                    below.append(item)
            elif item.is_file():
                files.append(Entry(item.path, item.stat(), root))
                own.add(item.name)
        except OSError:
            continue
    if depth >= _DEEPEST or not below:
        return
    if not whole:
        name = os.path.basename(folder.rstrip("/"))
        whole = may_be_checkpoint(name, own | _below(name, below))
    if whole or depth == 0:
        for item in below:
            _list(item.path, root, depth + 1, whole, files, folders)


def _below(name: str, folders: list[os.DirEntry[str]]) -> set[str]:
    """Return the folders' names with a slash, and what is in those whose files tell something of the folder `name` above them."""
    telling = [folder for folder in folders if folder.name == "variables" or name.isdigit()]
    return {f"{one.name}/" for one in folders} | {f"{one.name}/{item.name}" for one in telling for item in _scan(one.path)}


def _scan(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as inside:
            return list(inside)
    except OSError:
        return []


def find(paths: Sequence[str]) -> tuple[Checkpoint, ...]:
    """Return the checkpoints under the paths, newest first, not verified. A path that does not exist holds none."""
    return arrange(entries(paths), frozenset(paths))


def find_named(path: str) -> tuple[Checkpoint, ...] | None:
    """Return what a path names, newest first: a file, a folder, or a checkpoint of several files by its prefix, index or a shard.

    None where nothing of that name exists. What is no regular file is returned as it is, to be called not checked.
    """
    group = prefix(path) if not os.path.isdir(path) else None
    if group is not None and group[1]:
        found = tuple(one for one in find([os.path.dirname(path) or "."]) if os.path.abspath(one.path) == os.path.abspath(group[0]))
        if found:
            return found
    if os.path.exists(path):
        found = find([path])
        return found if found or os.path.isdir(path) else (Checkpoint(path, (path,), step_of(path), 0.0, 0),)
    folder = os.path.dirname(path) or "."
    found = tuple(one for one in find([folder]) if os.path.abspath(one.path) == os.path.abspath(path))
    return found or (_unfinished(path, folder) or None)


def _unfinished(path: str, folder: str) -> tuple[Checkpoint, ...]:
    """Return a checkpoint of which only shards stand, by its prefix."""
    parts = [one for one in entries([folder]) if prefix(one.path) == (os.path.join(folder, os.path.basename(path)), "tensorflow")]
    return (_checkpoint(_Owner(path, "tensorflow"), parts),) if parts else ()


class _Owner(NamedTuple):
    """The checkpoint that a file belongs to, and its form."""

    path: str
    form: str


def arrange(files: Sequence[Entry], named: frozenset[str]) -> tuple[Checkpoint, ...]:
    """Return files as checkpoints, newest first. `named` are the paths that the user named: a file among them counts in any form.

    A single file in the working directory counts where its ending is a checkpoint's: programs and data stand there, too.
    """
    folders = _folder_forms(files)
    mixed = tuple(f"{path.rstrip('/')}/" for path in named if holds_working_directory(path))
    groups: dict[_Owner, list[Entry]] = {}
    for entry in files:
        owner = _Owner(entry.path, "") if entry.path in named else _owner(entry, folders)
        if mixed and owner is not None and not owner.form and entry.path.startswith(mixed) and not says_checkpoint(entry.name):
            continue
        if owner is not None:
            groups.setdefault(owner, []).append(entry)
    found = [_checkpoint(owner, parts) for owner, parts in groups.items() if _counts(owner, parts)]
    return tuple(sorted(found, key=_order(found), reverse=True))


def holds_working_directory(folder: str) -> bool:
    """Return whether a folder is the working directory or above it."""
    try:
        here = os.path.realpath(os.getcwd())
    except OSError:  # it has been removed
        return False
    folder = os.path.realpath(folder)
    return here == folder or here.startswith(folder.rstrip("/") + "/")


def _folder_forms(files: Iterable[Entry]) -> dict[str, str]:
    """Return the folders that are checkpoints, with their forms."""
    inside: dict[str, set[str]] = {}
    for entry in files:
        for folder in _folders_of(entry):
            below = entry.path[len(folder.rstrip("/")) + 1 :]
            # Two levels are enough to tell, and what is not finished tells nothing.
            if below.count("/") <= 1 and not is_unfinished(below):
                inside.setdefault(folder, set()).add(below)
    forms = {folder: folder_form(os.path.basename(folder.rstrip("/")), names) for folder, names in inside.items()}
    return {folder: form for folder, form in forms.items() if form is not None}


def _folders_of(entry: Entry) -> Iterator[str]:
    """Yield the folders that a file is in, from the path under which it was found on inwards."""
    steps = entry.relative.split("/")
    folder = os.path.dirname(entry.path)
    for _ in steps[:-2]:
        folder = os.path.dirname(folder)
    if len(steps) > 1:
        folder = os.path.dirname(folder)
    yield folder
    for step in steps[:-1]:
        folder = os.path.join(folder, step)
        yield folder


def _owner(entry: Entry, folders: dict[str, str]) -> _Owner | None:
    """Return what a file belongs to, None where it belongs to no checkpoint, or to one that is still being made."""
    if entry.in_temporary_folder and not _inside_checkpoint(entry, folders):
        return None
    for folder in _folders_of(entry):
        if folder in folders:
            return None if is_unfinished(entry.relative) else _Owner(folder, folders[folder])
    found = prefix(entry.path)
    return _Owner(*found) if found is not None else None


def _inside_checkpoint(entry: Entry, folders: dict[str, str]) -> bool:
    """Return whether the first folder that looks temporary is inside a checkpoint, where a dot before a name says nothing."""
    for folder, step in zip(_folders_of(entry), entry.relative.split("/"), strict=False):
        if folder in folders:
            return True
        if is_temporary(step):
            return False
    return False


def _counts(owner: _Owner, parts: list[Entry]) -> bool:
    """Shards alone, before their index is written, are a checkpoint in the making; they count once the index stands."""
    if owner.form == "tensorflow":
        return any(part.name.endswith(".index") for part in parts)
    return owner.form != "sharded" or any(part.path == owner.path for part in parts)


def _checkpoint(owner: _Owner, parts: list[Entry]) -> Checkpoint:
    paths = tuple(sorted(part.path for part in parts))
    at = max(part.mtime_ns for part in parts) / 1e9
    # Files of ranks have no name in common that exists: the first rank's stands for all.
    path = min(paths, key=lambda one: rank_of(os.path.basename(one)) or 0) if owner.form == "ranked" else owner.path
    return Checkpoint(path, paths, step_of(owner.path), at, sum(part.size for part in parts), form=owner.form)


def _order(found: list[Checkpoint]) -> Callable[[Checkpoint], tuple[float, float, str]]:
    """Return the key by which the newest is the greatest: the step where names say it, else the time, then the other of both."""
    if _names_decide(found):
        return lambda one: (one.step or 0, one.at, one.path)
    return lambda one: (one.at, one.step if one.step is not None else -1, one.path)


def _names_decide(found: list[Checkpoint]) -> bool:
    """Return whether the numbers in the names are steps: all have one, in one pattern, in one folder, and they are no slots.

    A slot is written in turn with others: `ckpt-0`, `ckpt-1`, `ckpt-0`. Numbers without the word `step` or the like that count the
    files from 0 or 1, while the times say something else, are slots.
    """
    steps = [one.step for one in found]
    if not steps or None in steps or len({pattern(one.path) for one in found}) > 1:
        return False
    by_time = [one.step for one in sorted(found, key=lambda one: (one.at, one.step))]
    if by_time == sorted(by_time, key=lambda step: step or 0):
        return True
    if len({os.path.dirname(one.path) for one in found}) > 1:
        return False
    return all(says_step(one.path) for one in found) or sorted(steps, key=lambda step: step or 0) not in (
        list(range(len(steps))),
        list(range(1, len(steps) + 1)),
    )


def newest_whole(paths: Sequence[str]) -> tuple[Checkpoint | None, tuple[Checkpoint, ...]]:
    """Return the newest checkpoint that is whole (or in a format that is not checked), and the truncated ones newer than it."""
    return first_whole(find(paths))


def first_whole(found: Sequence[Checkpoint]) -> tuple[Checkpoint | None, tuple[Checkpoint, ...]]:
    """Return the first that is whole (or in a format that is not checked), and the truncated ones before it.

    One whose format is proved only by reading it is read. One that cannot be read is tried again for some seconds, because a file
    server may be away for a moment; one that has vanished meanwhile is neither.
    """
    truncated: list[Checkpoint] = []
    for candidate in found:
        checked = _checked(candidate)
        if checked.verdict is not Verdict.TRUNCATED:
            return checked, tuple(truncated)
        if any(os.path.lexists(part) for part in candidate.parts):
            truncated.append(checked)
    return None, tuple(truncated)


def _checked(candidate: Checkpoint) -> Checkpoint:
    from ckptrun.checkpoints.formats import UNREADABLE, verify

    checked = verify(candidate)
    for pause_s in _PATIENCE_S:
        if UNREADABLE not in checked.why or not os.path.lexists(candidate.path):
            break
        time.sleep(pause_s)
        checked = verify(candidate)
    if checked.verdict is Verdict.NOT_CHECKED and checked.form:
        checked = verify(candidate, full=True)
    return checked
