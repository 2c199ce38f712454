"""Which chain works on a checkpoint path, and which chain a command began: numbered claims, published as turns are.

The highest number is the truth. Two who find the same dead claim both try the next number, and one of them gets it.
A rehearsal claims nothing, because it leaves no chain: it holds a lock beside the claims, which the kernel takes back when it dies.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import NamedTuple

from ckptrun.chain.ledger import Turn
from ckptrun.chain.turns import Turns
from ckptrun.errors import Refused, TurnTaken

_OLD_CLAIMS_KEPT = 3
_LOCK = "rehearsal"


class Claimed(NamedTuple):
    """A path is ours; `previous` is the chain that had it and of which nothing lives, None where nobody else had."""

    previous: str | None


def claim(home: str, checkpoint_path: str, chain_id: str, is_live: Callable[[str], str | None]) -> Claimed:
    """Claim a checkpoint path for a chain. Raises Refused when a living chain has it; `is_live` says in words what lives."""
    path = os.path.realpath(checkpoint_path)
    folder = _folder(home, "paths", path)
    while True:
        newest = _newest(folder)
        holder = str(newest.facts.get("chain")) if newest else None
        if holder == chain_id:
            return Claimed(None)
        _refuse_taken(checkpoint_path, holder, is_live)
        if _is_rehearsed(folder):
            raise Refused(_REHEARSED.format(checkpoint_path))
        if _publish(folder, newest, {"chain": chain_id, "path": path}):
            return Claimed(holder)


_REHEARSED = (
    "a rehearsal is at work on {}, and two trainings there would overwrite each other: wait until it has ended, or use another "
    "--checkpoint"
)


def _refuse_taken(checkpoint_path: str, holder: str | None, is_live: Callable[[str], str | None]) -> None:
    if holder is not None and (living := is_live(holder)) is not None:
        raise Refused(
            f"{checkpoint_path} belongs to chain {holder}, which lives: {living}. Two chains on one checkpoint path would "
            "overwrite each other: stop that one first, or use another --checkpoint"
        )


class Held:
    """A checkpoint path that a rehearsal holds, until `release` or its death."""

    def __init__(self, path: str, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor

    def release(self) -> None:
        """Give the path up."""
        try:
            os.unlink(self._path)
        except OSError:
            pass
        os.close(self._descriptor)


def hold(home: str, checkpoint_path: str, is_live: Callable[[str], str | None]) -> Held:
    """Hold a checkpoint path for a rehearsal. Raises Refused when a living chain, or another rehearsal, has it.

    Where the file system has no locks, only chains are told apart.
    """
    import fcntl

    folder = _folder(home, "paths", os.path.realpath(checkpoint_path))
    path = os.path.join(folder, _LOCK)
    while True:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        held = Held(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            fcntl.flock(held._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held._descriptor)
            raise Refused(_REHEARSED.format(checkpoint_path)) from None
        except OSError:
            pass
        if os.fstat(held._descriptor).st_nlink:
            break
        os.close(held._descriptor)  # its holder has just given it up, and the file with it
    newest = _newest(folder)
    try:
        _refuse_taken(checkpoint_path, str(newest.facts.get("chain")) if newest else None, is_live)
    except Refused:
        held.release()
        raise
    return held


def _is_rehearsed(folder: str) -> bool:
    try:
        descriptor = os.open(os.path.join(folder, _LOCK), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def remember_command(home: str, key: str, chain_id: str) -> None:
    """Remember which chain a command, its options and its directory (the key) began last."""
    folder = _folder(home, "commands", key)
    while not _publish(folder, _newest(folder), {"chain": chain_id}):
        pass


def recall_command(home: str, key: str) -> str | None:
    """Return the chain that a command began last, None for a command that is new."""
    newest = _newest(_folder(home, "commands", key))
    return str(newest.facts.get("chain")) if newest else None


def _folder(home: str, room: str, key: str) -> str:
    raw = os.fsencode(key)
    # Two checksums of 32 bits: no secret, only a name; hashlib would cost the start 3 ms.
    return os.path.join(home, room, f"{zlib.crc32(raw):08x}{zlib.adler32(raw):08x}{len(raw):x}")


def _newest(folder: str) -> Turn | None:
    turns = Turns(folder).read()
    return turns[-1] if turns else None


def _publish(folder: str, newest: Turn | None, facts: dict[str, str]) -> bool:
    os.makedirs(folder, mode=0o700, exist_ok=True)
    number = newest.number if newest else 0
    try:
        Turns(folder).take("claim", facts, after=number)
    except TurnTaken:
        return False
    for old in range(1, number - _OLD_CLAIMS_KEPT):
        try:
            os.unlink(os.path.join(folder, str(old)))
        except OSError:
            continue
    return True
