"""Set checkpoints aside: moved, never deleted, and out of the folder, because programs list it.

Rules. Files are only renamed, on the same file system, so a kill at any line leaves each of them whole in one of two places. A
`--checkpoint` path that is a symbolic link, to where there is room, stays one: what it leads to is moved, beside where that stands.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ckptrun.checkpoints.find import Entry, entries, find, holds_working_directory
from ckptrun.checkpoints.formats import verify
from ckptrun.checkpoints.forms import is_leftover, says_checkpoint
from ckptrun.checkpoints.state_file import STATE_FILES, mend, named_newest
from ckptrun.words import Checkpoint, Verdict


def real(root: str) -> str:
    """Return the `--checkpoint` path where its files are: what it leads to, where it is a symbolic link."""
    bare = root.rstrip("/") or root
    return os.path.realpath(bare) if os.path.islink(bare) else root


def set_aside(checkpoint: Checkpoint, root: str, link: int) -> str:
    """Move a checkpoint with its parts to `<root>.set-aside/link-<n>/`; return where it is now. Raises OSError.

    `root` is the `--checkpoint` path under which it was found. TensorFlow's `checkpoint` file, or DeepSpeed's `latest`, that names
    it is mended. Where it was the last one and nothing else stands in the folder, the folder itself moves: some programs fail on
    an empty one.
    """
    may_move = real(root) == root and not holds_working_directory(root)
    checkpoint, root = _below(checkpoint, root, real(root)), real(root)
    place = _fresh_folder(f"{root.rstrip('/')}.set-aside", f"link-{link}")
    folder = os.path.dirname(checkpoint.path)
    if may_move and os.path.isdir(root) and _is_all_there_is(checkpoint, root):
        target = _free(os.path.join(place, os.path.basename(root.rstrip("/"))))
        os.rename(root, target)
        return os.path.normpath(os.path.join(target, os.path.relpath(checkpoint.path, root)))
    moved = _move(checkpoint, place)
    named = named_newest(folder, checkpoint.form)
    if named is not None and os.path.basename(named) == os.path.basename(checkpoint.path):
        mend(folder, checkpoint.form, _newest_of(folder, checkpoint.form))
    return moved


def _below(checkpoint: Checkpoint, root: str, other: str) -> Checkpoint:
    """Return a checkpoint that was found under one path as it is found under another one of the same folder."""
    if root == other:
        return checkpoint
    length = len(root.rstrip("/"))
    parts = tuple(other + part[length:] for part in checkpoint.parts)
    return checkpoint._replace(path=other + checkpoint.path[length:], parts=parts)


def _move(checkpoint: Checkpoint, place: str) -> str:
    """Move a checkpoint into a folder; return where it is now. One that is a folder moves as such, unless we stand in it."""
    if not os.path.isdir(checkpoint.path):
        for part in checkpoint.parts:
            os.rename(part, _free(os.path.join(place, os.path.basename(part))))
        return os.path.join(place, os.path.basename(checkpoint.path))
    target = _free(os.path.join(place, os.path.basename(checkpoint.path.rstrip("/"))))
    if not holds_working_directory(checkpoint.path):
        os.rename(checkpoint.path, target)
        return target
    for part in checkpoint.parts:
        moved = os.path.join(target, os.path.relpath(part, checkpoint.path))
        os.makedirs(os.path.dirname(moved), exist_ok=True)
        os.rename(part, moved)
    return target


def set_all_aside(paths: Sequence[str], label: str) -> list[str]:
    """Move everything that stands under the paths to `<path>.set-aside/<label>/`; return where it is now. Raises OSError."""
    places = []
    for path in paths:
        if not os.path.lexists(path) or (os.path.isdir(path) and not os.listdir(path)):
            continue
        linked, path = real(path) != path, real(path)  # noqa: PLW2901  # where its files are
        place = _fresh_folder(f"{path.rstrip('/')}.set-aside", label)
        target = _free(os.path.join(place, os.path.basename(path.rstrip("/"))))
        if os.path.isdir(path) and holds_working_directory(path):
            for checkpoint in find([path]):
                _move(checkpoint, place)
        elif linked and os.path.isdir(path):
            os.mkdir(target, 0o700)
            for name in os.listdir(path):
                os.rename(os.path.join(path, name), os.path.join(target, name))
        else:
            os.rename(path, target)
        places.append(place)
    return places


def set_leftovers_aside(root: str, link: int, older_than_unix: float) -> list[str]:
    """Move temporaries that a dead writer left under a `--checkpoint` folder to where truncated ones go; return their names.

    A program that lists its folder to find its newest checkpoint would trip over them. Those inside a checkpoint's own folder stay,
    as do those that were written to at or after `older_than_unix`. Where nothing else stands in the folder, it moves as a whole:
    some programs fail on an empty one. In the working directory only those move whose names say that they were to be
    checkpoints. Raises OSError.
    """
    may_move, mixed = real(root) == root, holds_working_directory(root)
    root = real(root)
    found = _leftovers(root, older_than_unix)
    if mixed:
        found = [path for path in found if says_checkpoint(os.path.basename(path))]
    if not found:
        return []
    place = _fresh_folder(f"{root.rstrip('/')}.set-aside", f"link-{link}")
    if may_move and not mixed and {one.path for one in os.scandir(root)} <= set(found):
        os.rename(root, _free(os.path.join(place, os.path.basename(root.rstrip("/")))))
    else:
        for path in found:
            os.rename(path, _free(os.path.join(place, os.path.basename(path))))
    return [os.path.relpath(path, root) for path in found]


def _leftovers(root: str, older_than_unix: float) -> list[str]:
    """Return the temporaries under a folder, a temporary folder as one, that were not written to since then."""
    if not os.path.isdir(root):
        return []
    at: dict[str, float] = {}
    for entry in entries([root]):
        top = _temporary_of(entry, root)
        if top is not None:
            at[top] = max(at.get(top, 0.0), entry.mtime_ns / 1e9)
    for item in os.scandir(root):  # a folder in which nothing stands yet
        if item.path not in at and is_leftover(item.name) and item.is_dir(follow_symlinks=False):
            at[item.path] = item.stat(follow_symlinks=False).st_mtime
    found = find([root])
    kept = {part for one in found for part in one.parts}
    whole = tuple(f"{one.path}/" for one in found)
    return sorted(
        top for top, written in at.items() if written < older_than_unix and not _holds(top, kept) and not top.startswith(whole)
    )


def _temporary_of(entry: Entry, root: str) -> str | None:
    """Return the outermost part of a file's path below the root whose name is a temporary's."""
    steps = entry.relative.split("/")
    place = next((number for number, step in enumerate(steps) if is_leftover(step)), None)
    return None if place is None else os.path.join(root, *steps[: place + 1])


def _holds(top: str, kept: set[str]) -> bool:
    return any(part == top or part.startswith(f"{top}/") for part in kept)


def _is_all_there_is(checkpoint: Checkpoint, root: str) -> bool:
    """Return whether nothing but this checkpoint, temporaries and a state file stands in the folder."""
    parts = set(checkpoint.parts)
    for entry in entries([root]):
        if entry.path not in parts and entry.name not in STATE_FILES and not entry.temporary:
            return False
    return all(not item.is_symlink() for item in os.scandir(root))


def _newest_of(folder: str, form: str) -> str | None:
    """Return the newest whole checkpoint of a folder in a format."""
    candidates = (verify(one) for one in find([folder]) if one.form == form and os.path.dirname(one.path) == folder)
    return next((one.path for one in candidates if one.verdict is Verdict.WHOLE), None)


def _fresh_folder(parent: str, name: str) -> str:
    place = os.path.join(parent, name)
    os.makedirs(place, mode=0o700, exist_ok=True)
    return place


def _free(path: str) -> str:
    """Return the path, or the path with a number where it is taken."""
    number, free = 1, path
    while os.path.lexists(free):
        number += 1
        free = f"{path}.{number}"
    return free
