"""PURE. Who gets the ask, with which signal, and why.

The training is, on each branch of the tree, the first process that is not a launcher. A launcher would swallow the signal or
die of it. Nobody is sent a signal that he does not catch: it would kill him.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from ckptrun.words import Process

INT, USR1, USR2, TERM = 2, 10, 12, 15
ASKING = (USR1, USR2, TERM)

_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "fish", "ash", "busybox"})
_WRAPPERS = frozenset(
    {
        "env",
        "timeout",
        "nice",
        "ionice",
        "chrt",
        "taskset",
        "numactl",
        "stdbuf",
        "time",
        "setsid",
        "nohup",
        "script",
        "sudo",
    }
    | {"xargs", "tee", "flock", "unbuffer", "prlimit", "catchsegv", "strace", "perf"}
)


class Hearing(str, Enum):
    """What the training can be told."""

    HEARS = "hears"
    ONLY_INT = "only INT"
    DEAF = "cannot be told"


class Target(NamedTuple):
    """One process that gets the ask."""

    pid: int
    signal: int
    why: str


class Audience(NamedTuple):
    """The trainings of a tree: who they are, what they hear, and who gets which signal."""

    hearing: Hearing
    targets: tuple[Target, ...]
    trainings: tuple[int, ...]


def audience(processes: tuple[Process, ...], root: int, wanted: int | None, candidate: int = 0) -> Audience:
    """Return who is asked with what.

    `wanted` is the signal that the user named, None for auto: the first of USR1, USR2, TERM that the training catches, else INT.
    `candidate` counts the earlier tries: 1 takes the next signal that the training catches, where there is one.
    """
    found = _trainings(processes, root)
    targets = tuple(target for process in found if (target := _target(process, wanted, candidate)))
    return Audience(_hearing(targets, wanted), targets, tuple(process.pid for process in found))


def _hearing(targets: tuple[Target, ...], wanted: int | None) -> Hearing:
    if not targets:
        return Hearing.DEAF
    told = wanted is not None or any(target.signal != INT for target in targets)
    return Hearing.HEARS if told else Hearing.ONLY_INT


def _target(process: Process, wanted: int | None, candidate: int) -> Target | None:
    if wanted is not None:
        signals = [wanted] if wanted in process.caught else []
    else:
        signals = [number for number in ASKING if number in process.caught]
        if not signals and INT in process.caught and not is_launcher(process):
            signals = [INT]
    if candidate >= len(signals):
        return None
    return Target(process.pid, signals[candidate], f"{_name(process)} catches it")


def _trainings(processes: tuple[Process, ...], root: int) -> list[Process]:
    by_pid = {process.pid: process for process in processes}
    children: dict[int, list[Process]] = {}
    for process in processes:
        children.setdefault(process.ppid, []).append(process)
    # An orphan of the tree has us, not the root, as its parent now: it is a branch of its own.
    tops = [process for process in processes if process.ppid not in by_pid]
    found: list[Process] = []
    for top in sorted(tops, key=lambda process: process.pid != root):
        _descend(top, children, found)
    return found


def _descend(process: Process, children: dict[int, list[Process]], found: list[Process]) -> None:
    if not is_launcher(process):
        found.append(process)
        return
    below: list[Process] = []
    for child in children.get(process.pid, ()):
        _descend(child, children, below)
    # A shell script with a trap is itself the training: what it runs (`sleep`, `cp`) catches nothing.
    if not any(_asking(child) for child in below) and _asking(process):
        found.append(process)
    else:
        found.extend(below)


def _asking(process: Process) -> bool:
    return any(number in process.caught for number in ASKING)


def is_launcher(process: Process) -> bool:
    """Return whether the process only starts others and hands their status back."""
    name = _name(process)
    if name in _SHELLS:
        return True
    return name in _WRAPPERS


def _name(process: Process) -> str:
    if not process.argv:
        return "?"
    return re.sub(r"^-", "", process.argv[0].rsplit("/", 1)[-1])


def told_by_file(found: Audience) -> Audience:
    """Return the audience of a training that looks for asks in its mailbox: it hears, and is spared an INT that would end it."""
    return found if found.hearing is Hearing.HEARS else found._replace(hearing=Hearing.HEARS, targets=())
