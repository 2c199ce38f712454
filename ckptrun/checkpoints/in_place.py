"""The copy of a checkpoint that is overwritten in place: a writer that dies in the middle has destroyed the only one.

Rules. A copy is made of what is whole only, to a temporary that is verified and renamed over the last copy, so there is always a
whole one. The temporary has the original's name, in a folder of its own: the form of a file is told by its name, too. Up to 2 GB,
and only where three times its size is free. The copy stands outside the folder, because programs list it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from ckptrun.checkpoints.find import find
from ckptrun.checkpoints.formats import verify
from ckptrun.checkpoints.set_aside import real
from ckptrun.words import Checkpoint, Verdict

LARGEST_COPY_BYTES = 2 * 1000**3
_ROOM = 3
_PIECE_BYTES = 1 << 24


class Copy(NamedTuple):
    """Where the copy is, None where none was made, and why not."""

    path: str | None
    why: str = ""


def in_place(root: str) -> Checkpoint | None:
    """Return the checkpoint that is overwritten in place under a `--checkpoint` path, None where there is none such.

    That is a file that the user named, or the only checkpoint of a folder, one file without a step in its name.
    """
    found = find([root])
    if len(found) != 1 or found[0].parts != (found[0].path,):
        return None
    return found[0] if not os.path.isdir(root) or found[0].step is None else None


def keep_copy(root: str, chain: str) -> Copy:
    """Copy the checkpoint that is overwritten in place under `root`, if there is one and it is whole. Never raises OSError."""
    root = real(root)
    found = in_place(root)
    if found is None:
        return Copy(None, "nothing is overwritten in place")
    if found.size > LARGEST_COPY_BYTES:
        return Copy(None, "larger than 2 GB")
    if verify(found).verdict is not Verdict.WHOLE:
        return Copy(None, "not known to be whole")
    target = _copy_path(root, found.path)
    try:
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        room = os.statvfs(os.path.dirname(target))
        if room.f_bavail * room.f_frsize < _ROOM * found.size:
            return Copy(None, "no room")
        return _copy(found, target, chain)
    except OSError as error:
        return Copy(None, error.strerror or str(error))


def _copy(found: Checkpoint, target: str, chain: str) -> Copy:
    folder = f"{target}.new"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    temporary = os.path.join(folder, os.path.basename(found.path))
    try:
        if not _copied(found, temporary):
            return Copy(None, "it was written to meanwhile")
        os.rename(temporary, target)
    finally:  # half a copy would take the room that the next save needs
        _remove(os.unlink, temporary)
        _remove(os.rmdir, folder)
    _write_owner(target, chain)
    return Copy(target)


def _copied(found: Checkpoint, target: str) -> bool:
    """Copy a file; return whether the copy is whole, and of what stands there still. Raises OSError."""
    with open(found.path, "rb") as source, open(target, "wb") as copy:
        before = os.fstat(source.fileno())
        os.fchmod(copy.fileno(), 0o600)
        while os.sendfile(copy.fileno(), source.fileno(), None, _PIECE_BYTES):
            pass
        os.fsync(copy.fileno())
        after = os.stat(found.path)
    same = (before.st_ino, before.st_size, before.st_mtime_ns) == (after.st_ino, after.st_size, after.st_mtime_ns)
    os.utime(target, ns=(before.st_mtime_ns, before.st_mtime_ns))
    return same and verify(found._replace(path=target, parts=(target,), size=before.st_size)).verdict is Verdict.WHOLE


def _remove(remove: Callable[[str], None], path: str) -> None:
    try:
        remove(path)
    except OSError:
        return


def adopt_copy(root: str, chain: str) -> None:
    """Make the copy this chain's own, because what it is a copy of is truncated and about to be set aside. Raises OSError.

    A kill between that and `bring_back` leaves a missing file; of another chain's copy nobody would know that it is to come back.
    """
    copy = _find_copy(real(root))
    if copy is not None and _owner(copy) != chain:
        _write_owner(copy, chain)


def bring_back(root: str, chain: str, missing: bool) -> Checkpoint | None:
    """Put the copy back where the checkpoint was; return the checkpoint, None where there is no copy to be used.

    `missing`: nothing stands there (instead of a truncated file, which was set aside): then only the chain that made the copy may
    have it back, because the user may have removed the file to begin anew. Raises OSError.
    """
    root = real(root)
    copy = _find_copy(root)
    if copy is None or (missing and _owner(copy) != chain):
        return None
    name = os.path.basename(copy).removesuffix(".ckptrun-last")
    target = os.path.join(os.path.dirname(copy), name) if not _is_folder_copy(copy) else os.path.join(root, name)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    temporary = os.path.join(os.path.dirname(copy), f".{name}.back")
    try:
        with open(copy, "rb") as source, open(temporary, "wb") as back:
            while os.sendfile(back.fileno(), source.fileno(), None, _PIECE_BYTES):
                pass
            os.fsync(back.fileno())
        os.utime(temporary, ns=(os.stat(copy).st_mtime_ns,) * 2)
        os.rename(temporary, target)
    finally:
        _remove(os.unlink, temporary)
    found = next((verify(one) for one in find([root]) if one.path == target), None)
    return found if found is not None and found.verdict is not Verdict.TRUNCATED else None


def forget_copy(root: str, chain: str) -> None:
    """Remove the copy that a chain made, where the checkpoint itself is whole and needs none. Never raises OSError."""
    root = real(root)
    copy, found = _find_copy(root), in_place(root)
    if copy is None or found is None or _owner(copy) != chain or verify(found).verdict is not Verdict.WHOLE:
        return
    try:
        os.unlink(copy)
        os.unlink(_owner_path(copy))
        if _is_folder_copy(copy):
            os.removedirs(os.path.dirname(copy))  # the folders that it alone needed
    except OSError:
        return


def _copy_path(root: str, path: str) -> str:
    if os.path.isdir(root):
        return os.path.join(f"{root.rstrip('/')}.set-aside", "last", os.path.basename(path))
    return f"{path}.ckptrun-last"


def _find_copy(root: str) -> str | None:
    beside = f"{root}.ckptrun-last"
    if os.path.isfile(beside):
        return beside
    folder = os.path.join(f"{root.rstrip('/')}.set-aside", "last")
    try:
        names = [name for name in os.listdir(folder) if not name.endswith((".chain", ".tmp", ".back"))]
    except OSError:
        return None
    names = [name for name in names if os.path.isfile(os.path.join(folder, name))]
    return os.path.join(folder, names[0]) if len(names) == 1 else None


def _is_folder_copy(copy: str) -> bool:
    return not copy.endswith(".ckptrun-last")


def _owner_path(copy: str) -> str:
    return f"{copy}.chain"


def _owner(copy: str) -> str | None:
    try:
        with open(_owner_path(copy), encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return None


def _write_owner(copy: str, chain: str) -> None:
    temporary = f"{_owner_path(copy)}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(chain + "\n")
    os.rename(temporary, _owner_path(copy))
