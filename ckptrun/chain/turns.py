"""Turns: who starts, ends, resumes. The truth about who may do what.

Rule: a turn is the next number of one sequence, and one process only can take it. It is published whole: a complete, synced
temporary is given its number by `link()`, which fails when the number exists. So a reader never sees half a turn, two takers
never get the same number, and a kill at any line leaves either no turn or a whole one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from ckptrun.chain.ledger import Turn
from ckptrun.errors import Stranded, TurnTaken

PADDED_BYTES = 4096
# Another node's file may be listed before its content can be read (NFS attribute caches live for some seconds).
_PATIENCE_S = (0.05, 0.2, 0.5, 1.0, 2.0)


class PreparedTurn(NamedTuple):
    """A temporary that already has its 4 KiB on disk, so that its turn can be taken when the disk is full."""

    path: str


class Turns:
    """The turns of one chain."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def read(self) -> tuple[Turn, ...]:
        """Return all turns in order. Raises Stranded where one exists and cannot be read."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            return ()
        return tuple(self._read_one(number) for number in sorted(int(name) for name in names if name.isdigit()))

    def _read_one(self, number: int) -> Turn:
        path = os.path.join(self._folder, str(number))
        for patience_s in (*_PATIENCE_S, None):
            try:
                with open(path, encoding="utf-8") as file:
                    facts = json.load(file)
                return _turn(number, facts)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
                if patience_s is None:
                    break
                time.sleep(patience_s)
        raise Stranded(f"turn {path} exists and cannot be read: nobody can tell whose turn it is. Look at the file system")

    def newest_first(self) -> Iterator[Turn]:
        """Yield the turns for somebody who only looks, the newest first; the first that cannot be read ends it, at once."""
        try:
            names = os.listdir(self._folder)
        except OSError:
            return
        for number in sorted((int(name) for name in names if name.isdigit()), reverse=True):
            try:
                with open(os.path.join(self._folder, str(number)), encoding="utf-8") as file:
                    facts = json.load(file)
                turn = _turn(number, facts)
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
                return
            yield turn

    def passed(self, number: int) -> bool:
        """Return whether a turn after this one exists: its taker has replaced us. One stat."""
        return os.path.exists(os.path.join(self._folder, str(number + 1)))

    def take(self, kind: str, facts: dict[str, Any], after: int) -> Turn:
        """Publish the turn after number `after`. Raises TurnTaken when another has it, OSError when nothing can be written."""
        temporary = self._temporary(kind)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, _content(kind, facts))
            os.fsync(descriptor)
        except OSError:
            os.unlink(temporary)
            raise
        finally:
            os.close(descriptor)
        return self._publish(temporary, kind, facts, after)

    def prepare_end(self, link: int, attempt: int) -> PreparedTurn:
        """Write a padded temporary for the link's end. Raises OSError."""
        path = self._temporary(f"end-{link}-{attempt}")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b" " * PADDED_BYTES)
        finally:
            os.close(descriptor)
        return PreparedTurn(path)

    def take_prepared(self, prepared: PreparedTurn, kind: str, facts: dict[str, Any], after: int) -> Turn:
        """Publish the turn after `after` in the space that was prepared. Raises as `take` does."""
        content = _content(kind, facts)
        descriptor = os.open(prepared.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(descriptor, content.ljust(PADDED_BYTES - 1) + b"\n", 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return self._publish(prepared.path, kind, facts, after)

    def _temporary(self, word: str) -> str:
        return os.path.join(self._folder, f".{word}.{os.uname().nodename}.{os.getpid()}.{time.monotonic_ns()}")

    def _publish(self, temporary: str, kind: str, facts: dict[str, Any], after: int) -> Turn:
        target = os.path.join(self._folder, str(after + 1))
        try:
            os.link(temporary, target)
        except FileExistsError:
            # Over NFS the answer to a link that worked may be lost and the call repeated: then it is our own file that exists.
            if not os.path.samefile(temporary, target):
                os.unlink(temporary)
                raise TurnTaken(f"turn {after + 1} was taken by another process") from None
        os.unlink(temporary)
        return Turn(after + 1, kind, facts)


def _turn(number: int, facts: dict[str, Any]) -> Turn:
    """Return a turn as it was read. Raises KeyError or TypeError for one that is none of ours."""
    if not all(isinstance(facts.get(name, 0), int) for name in ("link", "attempt")):
        raise TypeError("a link and an attempt are numbers")
    return Turn(number, str(facts["kind"]), facts)


def _content(kind: str, facts: dict[str, Any]) -> bytes:
    return json.dumps({"v": 1, "kind": kind, "at": round(time.time(), 3), **facts}).encode()
