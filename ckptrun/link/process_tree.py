"""The only user of psutil: who is in the process tree, who catches what, who has which file open."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ckptrun.words import Process

if TYPE_CHECKING:
    from ckptrun.link.silence import Written


def warm_up() -> None:
    """Import psutil (23 ms) ahead of the moment in which milliseconds count."""
    import psutil  # noqa: F401


_NOBODY: frozenset[int] = frozenset()


def read(apart: frozenset[int] = _NOBODY) -> tuple[Process, ...]:
    """Return all living descendants of this process, orphans that we adopted included, but those `apart`."""
    return tuple(process for found in _descendants(apart) if (process := read_one(*found)))


def pids(apart: frozenset[int] = _NOBODY) -> tuple[int, ...]:
    """Return the pids of all living descendants but those `apart`."""
    return tuple(pid for pid, _, _ in _descendants(apart))


def _descendants(apart: frozenset[int]) -> list[tuple[int, int, float]]:
    import psutil

    found = []
    for process in psutil.Process().children(recursive=True):
        if process.pid in apart:
            continue
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append((process.pid, process.ppid(), process.create_time()))
        except psutil.Error:  # it has just ended, or is not ours to see
            continue
    return found


def catches(pid: int, number: int) -> bool:
    """Return whether the process catches the signal now: a Python on its way out has put its handlers back, and would die of it."""
    found = read_one(pid, 0, 0.0)
    return found is not None and number in found.caught


def read_one(pid: int, ppid: int, started: float) -> Process | None:
    """Return what /proc/PID says; None when the process has just ended."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as lines:
            status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines) if name in _FIELDS}
        with open(f"/proc/{pid}/cmdline", "rb") as raw:
            # A program that has renamed itself may have overwritten the last NUL, or left nothing but NULs.
            words = raw.read().rstrip(b"\0").split(b"\0")
    except OSError:
        return None
    argv = tuple(os.fsdecode(word) for word in words) if words != [b""] else (status.get("Name", ""),)
    return Process(pid, ppid, argv, _signals(status.get("SigCgt", "0")), _signals(status.get("SigIgn", "0")), started)


_FIELDS = ("Name", "SigCgt", "SigIgn")


def _signals(mask: str) -> frozenset[int]:
    bits = int(mask or "0", 16)
    return frozenset(number for number in range(1, 65) if bits >> (number - 1) & 1)


def written(by: Iterable[int]) -> dict[int, Written] | None:
    """Return what these processes have written, by pid; None where one of them does not let us see it, or has just ended."""
    from ckptrun.link.silence import Written

    found = {}
    for pid in by:
        try:
            with open(f"/proc/{pid}/io", encoding="ascii") as lines:
                sizes = [int(line.split()[1]) for line in lines if line.startswith("wchar:")]
        except OSError:
            return None
        files = (path for path in _written_by(pid, ("/",)) if not path.startswith("/dev/"))
        found[pid] = Written(sum(sizes), frozenset(files))
    return found


def open_for_writing(folders: tuple[str, ...], by: Iterable[int]) -> frozenset[str]:
    """Return the files below `folders` that one of these processes has open for writing."""
    prefixes = tuple(os.path.realpath(folder) for folder in folders)
    return frozenset(path for pid in by for path in _written_by(pid, prefixes))


def _written_by(pid: int, prefixes: tuple[str, ...]) -> list[str]:
    found = []
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            path = os.readlink(f"/proc/{pid}/fd/{number}")
            if path.startswith(prefixes) and _opened_to_write(pid, number):
                found.append(path)
    except OSError:
        pass  # the process, or the descriptor, is gone; what is gone is not being written
    return found


def _opened_to_write(pid: int, number: str) -> bool:
    with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as lines:
        flags = next((line.split()[1] for line in lines if line.startswith("flags:")), "0")
    return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY
