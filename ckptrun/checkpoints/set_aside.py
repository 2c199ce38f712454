"""Set checkpoints aside: moved, never deleted, and out of the folder, because programs list it.

Rule: files are only renamed, on the same file system, so a kill at any line leaves each of them whole in one of two places.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ckptrun.checkpoints.find import entries, find
from ckptrun.checkpoints.formats import verify
from ckptrun.checkpoints.state_file import STATE_FILES, mend, named_newest
from ckptrun.words import Checkpoint, Verdict


def set_aside(checkpoint: Checkpoint, root: str, link: int) -> str:
    """Move a checkpoint with its parts to `<root>.set-aside/link-<n>/`; return where it is now. Raises OSError.

    `root` is the `--checkpoint` path under which it was found. TensorFlow's `checkpoint` file, or DeepSpeed's `latest`, that names
    it is mended. Where it was the last one and nothing else stands in the folder, the folder itself moves: some programs fail on
    an empty one.
    """
    place = _fresh_folder(f"{root.rstrip('/')}.set-aside", f"link-{link}")
    folder = os.path.dirname(checkpoint.path)
    if os.path.isdir(root) and _is_all_there_is(checkpoint, root) and not _holds_working_directory(root):
        target = _free(os.path.join(place, os.path.basename(root.rstrip("/"))))
        os.rename(root, target)
        return os.path.normpath(os.path.join(target, os.path.relpath(checkpoint.path, root)))
    moved = _move(checkpoint, place)
    named = named_newest(folder, checkpoint.form)
    if named is not None and os.path.basename(named) == os.path.basename(checkpoint.path):
        mend(folder, checkpoint.form, _newest_of(folder, checkpoint.form))
    return moved


def _move(checkpoint: Checkpoint, place: str) -> str:
    """Move a checkpoint into a folder; return where it is now. One that is a folder moves as such, unless we stand in it."""
    if not os.path.isdir(checkpoint.path):
        for part in checkpoint.parts:
            os.rename(part, _free(os.path.join(place, os.path.basename(part))))
        return os.path.join(place, os.path.basename(checkpoint.path))
    target = _free(os.path.join(place, os.path.basename(checkpoint.path.rstrip("/"))))
    if not _holds_working_directory(checkpoint.path):
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
        place = _fresh_folder(f"{path.rstrip('/')}.set-aside", label)
        if os.path.isdir(path) and _holds_working_directory(path):
            for checkpoint in find([path]):
                _move(checkpoint, place)
        else:
            os.rename(path, _free(os.path.join(place, os.path.basename(path.rstrip("/")))))
        places.append(place)
    return places


def _is_all_there_is(checkpoint: Checkpoint, root: str) -> bool:
    """Return whether nothing but this checkpoint, temporaries and a state file stands in the folder."""
    parts = set(checkpoint.parts)
    for entry in entries([root]):
        if entry.path not in parts and entry.name not in STATE_FILES and not entry.temporary:
            return False
    return all(not item.is_symlink() for item in os.scandir(root))


def _holds_working_directory(folder: str) -> bool:
    here, folder = os.path.realpath(os.getcwd()), os.path.realpath(folder)
    return here == folder or here.startswith(folder.rstrip("/") + "/") or folder == "/"


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
