"""What a list said of chains that have ended, kept in `ended.json`: ten thousand records need not be read for each list.

Rule: an entry counts only while everything it was made of is untouched: the chain's folder, its record, its history, its turns and
its mailbox have the change times and sizes that they had before they were read, and these were old then: no later change can have
the same. Who goes on with a chain takes a turn, and that is a change. A file that is missing, damaged, or of another ckptrun
costs time and nothing else; two who write it at once leave one of two right ones.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

from ckptrun import __version__
from ckptrun.show.seen import Progress, SeenChain, SeenLink, Totals

NAME = "ended.json"
# The clock of a file system stands still for some milliseconds, that of a server may be some seconds behind.
_OLD_ENOUGH_NS = 5_000_000_000

Stamps = list[int]


def stamps_of(path: str) -> Stamps | None:
    """Return the change times and sizes of what a chain's folder holds, None where they cannot be told."""
    try:
        found = [_changed(f"{path}/chain.json"), _changed(f"{path}/events.jsonl"), _changed(path), _changed(f"{path}/mailbox")]
        # Opened, not only asked for: NFS answers for a minute what it knew, but asks the server when something is opened.
        turns = os.open(f"{path}/turns", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        seen = os.fstat(turns)
    finally:
        os.close(turns)
    return [number for pair in (*found, (seen.st_ctime_ns, seen.st_size)) for number in pair]


def _changed(path: str) -> tuple[int, int]:
    seen = os.stat(path)
    return seen.st_ctime_ns, seen.st_size


class Ended:
    """The chains of one ledger that have ended, as a list shows them; without `home` none is kept. `now` is Unix time."""

    def __init__(self, home: str | None, now: float) -> None:
        self._path = os.path.join(home, NAME) if home is not None else None
        self._old_ns = int(now * 1e9) - _OLD_ENOUGH_NS
        self._chains = _read(self._path) if self._path is not None else {}
        self._news = False

    def get(self, name: str, stamps: Stamps | None) -> SeenChain | None:
        """Return a chain as it was seen when its folder had these stamps, None where that is not kept."""
        kept = self._chains.get(name)
        if kept is None or stamps is None or kept[0] != stamps:
            return None
        return _restored(kept[1])

    def keep(self, one: SeenChain, stamps: Stamps | None) -> None:
        """Keep a chain that has ended, read after its folder had these stamps."""
        if stamps is not None and max(stamps[::2]) < self._old_ns:
            self._chains[one.id] = [stamps, one]
            self._news = True

    def write(self, ids: Iterable[str]) -> None:
        """Write what is new, without the chains that are none of `ids` any more. What cannot be written is found out again."""
        if self._path is None or not self._news:
            return
        there = self._chains.keys() & set(ids)
        text = json.dumps({name: self._chains[name] for name in sorted(there)}, separators=(",", ":")).encode()
        temporary = f"{self._path}.{os.uname().nodename}.{os.getpid()}"
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(_mark(text) + text)
            os.replace(temporary, self._path)
        except OSError:
            return


def forget(home: str) -> None:
    """Remove what is kept: of a chain whose record is removed nothing stays."""
    try:
        os.unlink(os.path.join(home, NAME))
    except OSError:
        return


def _mark(text: bytes) -> bytes:
    return f"ckptrun {__version__} {zlib.crc32(text):08x}\n".encode()


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            mark, text = file.readline(), file.read()
        found = json.loads(text) if mark == _mark(text) else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _restored(row: Sequence[Any]) -> SeenChain:
    one = SeenChain(*row)
    return one._replace(
        command=tuple(one.command),
        links=tuple(SeenLink(*link)._replace(saves=(), set_aside=()) for link in one.links),
        totals=Totals(*one.totals),
        progress=Progress(*one.progress),
        oddities=tuple(one.oddities),
    )
