"""events.jsonl: what happened, for people. Turns decide; events tell.

Rules: one write a line, at most 4 KiB, appended; nothing is ever rewritten. Writing never raises: a ledger that fails while the
training runs is said once and stops nothing. Reading takes what it can: torn, repeated, foreign and newer lines are passed over
and said once.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any, BinaryIO

LONGEST_LINE = 4096
VERSION = 1


class History:
    """The history of one chain: `events` holds what stands in the file and what could not be written."""

    def __init__(self, path: str, say: Callable[[str], None]) -> None:
        self._path, self._say = path, say
        self._failed = False
        self.events, oddities = read_events(path)
        self._torn = any("torn" in oddity for oddity in oddities)
        for oddity in oddities:
            say(oddity)

    def record(self, event: str, link: int, attempt: int, **facts: object) -> None:
        """Append one event."""
        at = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03d}Z"
        entry: dict[str, Any] = {"v": VERSION, "at": stamp, "link": link, "attempt": attempt, "event": event, **facts}
        self.events.append(entry)
        try:
            self._append(_line(entry))
        except OSError as error:
            if not self._failed:
                self._failed = True
                self._say(f"the history {self._path} cannot be written ({error.strerror}); the training goes on")

    def _append(self, line: bytes) -> None:
        if self._torn:  # the last writer died in the middle of its line
            line, self._torn = b"\n" + line, False
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            written = os.write(descriptor, line)
            self._torn = written != len(line)
        finally:
            os.close(descriptor)


def _line(entry: dict[str, Any]) -> bytes:
    """Return the entry as one line; facts that make it too long are shortened, and the entry says so."""
    line = json.dumps(entry, separators=(",", ":")).encode() + b"\n"
    if len(line) <= LONGEST_LINE:
        return line
    short = {name: _shortened(value) for name, value in entry.items()} | {"shortened": True}
    line = json.dumps(short, separators=(",", ":")).encode() + b"\n"
    if len(line) <= LONGEST_LINE:
        return line
    kept = {name: entry[name] for name in ("v", "at", "link", "attempt", "event")}
    return json.dumps(kept | {"shortened": True}, separators=(",", ":")).encode() + b"\n"


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return value[:300]
    if isinstance(value, (list, tuple)):
        return [_shortened(one) for one in value[:5]]
    return value


def read_events(path: str, pause: Callable[[float], None] = time.sleep) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the events that can be understood, in the order of the file without repeats, and the oddities in words.

    A last line that is just being written is waited for, with `pause`.
    """
    events: list[dict[str, Any]] = []
    counts = {"torn": 0, "foreign": 0, "newer": 0, "repeated": 0}
    known: set[bytes] = set()
    try:
        with open(path, "rb") as file:
            while lines := file.readlines(_BLOCK_BYTES):
                if not lines[-1].endswith(b"\n"):
                    lines[-1] = _finished(lines[-1], file, pause)
                if not lines[-1].endswith(b"\n"):
                    counts["torn"] += _alone(lines[-1]) is not _TORN  # whole but for its end: taken, and said
                    lines[-1] += b"\n"
                _take(lines, known, events, counts)
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return events, [f"the history {path} cannot be read ({error.strerror})"]
    words = {"torn": "torn", "foreign": "not ours", "newer": "written by a newer ckptrun", "repeated": "repeated"}
    return events, [f"the history {path} has {number} line(s) that are {words[kind]}" for kind, number in counts.items() if number]


# So much is read at once: what is kept of a history of thousands of links is its events, and neither its text nor its lines.
_BLOCK_BYTES = 1 << 16
# A write shows in a file piece by piece. A line without an end is being written as long as it grows.
_LOOK_AGAIN_S, _STILL_S = 0.05, 10.0


def _finished(line: bytes, file: BinaryIO, pause: Callable[[float], None]) -> bytes:
    """Return the last line of a file with what its writer has added meanwhile. What has been still for long is not waited for."""
    while not line.endswith(b"\n") and abs(time.time() - os.fstat(file.fileno()).st_mtime) < _STILL_S:
        pause(_LOOK_AGAIN_S)
        more = file.readline()
        if not more:
            break
        line += more
    return line


def _take(lines: list[bytes], known: set[bytes], events: list[dict[str, Any]], counts: dict[str, int]) -> None:
    """Add what a block of lines tells."""
    if not known.isdisjoint(lines) or len(set(lines)) < len(lines):
        fresh = [line for line in dict.fromkeys(lines) if line not in known]
        counts["repeated"] += sum(not line.isspace() for line in lines) - sum(not line.isspace() for line in fresh)
        lines = fresh
    known.update(lines)
    for entry in map(_judged, _together(lines) or [_alone(line) for line in lines if not line.isspace()]):
        if isinstance(entry, str):
            counts[entry] += 1
        else:
            events.append(entry)


_TORN = object()


def _together(lines: list[bytes]) -> list[Any] | None:
    """Return the lines' values, read as one array: four times as fast as one by one. None where any line is not one whole value."""
    try:
        found = json.loads(b"[" + b",".join(lines) + b"]")
    except (ValueError, RecursionError):
        return None
    return found if len(found) == len(lines) else None


def _alone(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return _TORN


def _judged(entry: Any) -> dict[str, Any] | str:
    """Return one event, or in one word why the line is none."""
    if entry is _TORN:
        return "torn"
    if not isinstance(entry, dict):
        return "foreign"
    get = entry.get
    if not isinstance(get("event"), str) or not isinstance(get("link"), int):
        return "foreign"
    if not isinstance(get("v"), int) or not isinstance(get("attempt", 1), int):
        return "foreign"
    if not _is_duration(get("seconds")) or not _is_duration(get("ended_at")):
        return "foreign"
    return entry if entry["v"] <= VERSION else "newer"


def _is_duration(value: Any) -> bool:
    """Return whether a value can be counted: nothing, or a number (JSON has no infinity; Python's reader takes it all the same)."""
    return value is None or (isinstance(value, (int, float)) and abs(value) < 1e12)
