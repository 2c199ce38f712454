"""Is there room for the next save? What the file system says, and the quota of the folder or the user where it is seen cheaply.

Rule: nothing here is sure, so nothing here stops anything. What cannot be asked is no shortage: NFS and Lustre keep their quotas to
themselves.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from ckptrun.words import Checkpoint

# linux/quota.h: QCMD(Q_GETQUOTA, USRQUOTA), struct if_dqblk, QIF_DQBLKSIZE. quotactl_fd has this number on every architecture.
_GET_USER_QUOTA, _QUOTA, _BLOCK_BYTES, _QUOTACTL_FD = 0x800007 << 8, "=8QI4x", 1024, 443


class Room(NamedTuple):
    """How many bytes and files may still come (None: no bound), and who says so: `the disk`, `your quota` ..."""

    free_bytes: int | None
    free_files: int | None
    where: str


def too_little(saved: Checkpoint) -> Room | None:
    """Return the room into which the next save may not fit, None where it fits.

    The next one needs as much as the last did, beside it: also one that is overwritten is, written with care, a temporary first.
    """
    folder = os.path.dirname(os.path.abspath(saved.path))
    found = (room for ask in (_disk, _folder_quota, _user_quota) if (room := ask(folder)) is not None)
    return next((room for room in found if lacks(room, saved.size, len(saved.parts))), None)


def lacks(room: Room, size: int, files: int) -> bool:
    """Return whether so many bytes in so many files do not fit."""
    return (room.free_bytes is not None and room.free_bytes < size) or (room.free_files is not None and room.free_files < files)


def _disk(folder: str) -> Room | None:
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return Room(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None, "the disk")


def _folder_quota(folder: str) -> Room | None:
    """Return what CephFS leaves in the nearest folder that has a quota. It is read like an attribute of the folder."""
    while True:
        most = _attribute(folder, "ceph.quota.max_bytes")
        if most:
            return Room(max(most - (_attribute(folder, "ceph.dir.rbytes") or 0), 0), None, f"the quota of {folder}")
        above = os.path.dirname(folder)
        if most is None or above == folder:
            return None
        folder = above


def _attribute(folder: str, name: str) -> int | None:
    """Return an attribute's number; 0 where a folder of CephFS has none, None on other file systems: they know no such names."""
    try:
        return int(os.getxattr(folder, name))
    except OSError as error:
        return 0 if error.errno == errno.ENODATA else None
    except ValueError:
        return None


def _user_quota(folder: str) -> Room | None:
    """Return what the user's quota leaves, where the kernel itself keeps it: ext4, XFS and the like, from Linux 5.14 on."""
    import ctypes
    import struct

    answer = ctypes.create_string_buffer(struct.calcsize(_QUOTA))
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        words = (ctypes.c_long(one) for one in (_QUOTACTL_FD, descriptor, _GET_USER_QUOTA, os.geteuid()))
        if ctypes.CDLL(None).syscall(*words, answer) != 0:
            return None
    finally:
        os.close(descriptor)
    return of_quota(struct.unpack(_QUOTA, answer.raw))


def of_quota(numbers: tuple[int, ...]) -> Room | None:
    """Return the room that a quota leaves: hard and soft limit in kB, bytes used, then limits and use in files; 0 is no limit."""
    hard, soft, used, hard_files, soft_files, used_files, *_ = numbers
    # A soft limit may be passed for some days, after which it is a hard one: the next link may come later than that.
    most, most_files = min(filter(None, (hard, soft)), default=None), min(filter(None, (hard_files, soft_files)), default=None)
    if most is None and most_files is None:
        return None
    free_bytes = None if most is None else max(most * _BLOCK_BYTES - used, 0)
    return Room(free_bytes, None if most_files is None else max(most_files - used_files, 0), "your quota")
