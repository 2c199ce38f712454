"""The only user of psutil: who is in the process tree, who catches what, who has which file open."""

from __future__ import annotations

import os

from ckptrun.words import Process


def warm_up() -> None:
    """Import psutil (23 ms) ahead of the moment in which milliseconds count."""
    import psutil  # noqa: F401


_NOBODY: frozenset[int] = frozenset()


def read(apart: frozenset[int] = _NOBODY) -> tuple[Process, ...]:
    """Return all living descendants of this process, orphans that we adopted included, but those `apart`."""
    return tuple(process for pid, ppid in _descendants(apart) if (process := _process(pid, ppid)))


def pids(apart: frozenset[int] = _NOBODY) -> tuple[int, ...]:
    """Return the pids of all living descendants but those `apart`."""
    return tuple(pid for pid, _ in _descendants(apart))


def _descendants(apart: frozenset[int]) -> list[tuple[int, int]]:
    import psutil

    found = []
    for process in psutil.Process().children(recursive=True):
        if process.pid in apart:
            continue
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append((process.pid, process.ppid()))
        except psutil.Error:  # it has just ended, or is not ours to see
            continue
    return found


def _process(pid: int, ppid: int) -> Process | None:
    """Return what /proc/PID says; None when the process has just ended."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as lines:
            masks = {name: _signals(value) for name, _, value in (line.partition(":") for line in lines) if name in _MASKS}
        with open(f"/proc/{pid}/cmdline", "rb") as raw:
            argv = tuple(os.fsdecode(word) for word in raw.read().split(b"\0")[:-1])
    except OSError:
        return None
    return Process(pid, ppid, argv, masks.get("SigCgt", frozenset()), masks.get("SigIgn", frozenset()))


_MASKS = ("SigCgt", "SigIgn")


def _signals(mask: str) -> frozenset[int]:
    bits = int(mask.strip() or "0", 16)
    return frozenset(number for number in range(1, 65) if bits >> (number - 1) & 1)


def open_for_writing(folders: tuple[str, ...], apart: frozenset[int] = _NOBODY) -> frozenset[str]:
    """Return the files below `folders` that a process of the tree has open for writing."""
    prefixes = tuple(os.path.realpath(folder) for folder in folders)
    return frozenset(path for pid in pids(apart) for path in _written_by(pid, prefixes))


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
