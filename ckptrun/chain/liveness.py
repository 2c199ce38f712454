"""Who lives: a process is named by its node, the boot, its pid and its start time, so that a reused pid is nobody's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any


def boot_id() -> str:
    """Return the kernel's id of this boot, empty where /proc does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def process_started(pid: int) -> int | None:
    """Return when a process started, in clock ticks since the boot; None for one that is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name stands in parentheses and may hold blanks and parentheses itself: read behind the last one.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def me() -> tuple[str, str, int, int]:
    """Return what names this process: node, boot id, pid, start time in ticks."""
    pid = os.getpid()
    return os.uname().nodename, boot_id(), pid, process_started(pid) or 0


def alive(node: str, boot: str, pid: int, pid_started: int) -> bool | None:
    """Return whether this very process lives; None where it was on another node and cannot be seen from here."""
    if node != os.uname().nodename:
        return None
    return boot == boot_id() and process_started(pid) == pid_started


def survivors(mailbox: str, events: Sequence[dict[str, Any]]) -> list[tuple[int, tuple[str, ...]]]:
    """Return the processes of a chain that still live on this machine, as (pid, argv): the recorded child first.

    A process belongs to the chain if its environment names the chain's mailbox: that finds a child which was started and not yet
    on record when ckptrun was killed. (An id would not do: another state folder may have the same one.) Ourselves and our ancestors
    do not count: a ckptrun that is started from within a training is no survivor of it.
    """
    found = {}
    children = [event for event in events if event.get("event") == "child_started"]
    if children and (child := _recorded(children[-1])) is not None:
        found[child] = _argv(child)
    marker = b"CKPTRUN_MAILBOX=" + os.fsencode(mailbox)
    own = _family()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in own and marker in _environment(name):
            found.setdefault(int(name), _argv(int(name)))
    return [(pid, argv) for pid, argv in found.items() if pid not in own and process_started(pid) is not None]


def _recorded(event: dict[str, Any]) -> int | None:
    pid, started = event.get("pid"), event.get("pid_started")
    if not isinstance(pid, int) or not isinstance(started, int):
        return None
    return pid if alive(str(event.get("node")), str(event.get("boot_id")), pid, started) else None


def _environment(pid: str) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _argv(pid: int) -> tuple[str, ...]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return tuple(os.fsdecode(word) for word in file.read().split(b"\0")[:-1])
    except OSError:
        return ()


def _family() -> set[int]:
    """Return our own pid and those of our ancestors."""
    own = {os.getpid()}
    pid = os.getppid()
    while pid > 1 and pid not in own:
        own.add(pid)
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                pid = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return own
