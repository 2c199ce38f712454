"""Which chain works on a checkpoint path, and which chain a command began: numbered claims, published as turns are.

The highest number is the truth. Two who find the same dead claim both try the next number, and one of them gets it.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from typing import NamedTuple

from ckptrun.chain.turns import Turn, Turns
from ckptrun.errors import Refused, TurnTaken

_OLD_CLAIMS_KEPT = 3


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
        if holder is not None and (living := is_live(holder)) is not None:
            raise Refused(
                f"{checkpoint_path} belongs to chain {holder}, which lives: {living}. Two chains on one checkpoint path would "
                "overwrite each other: stop that one first, or use another --checkpoint"
            )
        if _publish(folder, newest, {"chain": chain_id, "path": path}):
            return Claimed(holder)


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
