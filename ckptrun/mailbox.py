"""The mailbox: asks for the training, and its words back, as small files of one folder.

Rules. A letter is a JSON object in a file of its own, private, written whole by a rename. `ask-<link>-<attempt>` is read by the
training of that start and by nobody else; a later ask overwrites it with a higher serial and never takes a stop back.
`word-<link>-<attempt>-<host>-<pid>-<kind>` is the last word of one kind from one process; every word says in `heard` the serial of
the highest ask that its writer has seen. What is torn, foreign or newer is passed over. Nothing of this is needed to go on: a
mailbox that fails stops neither the training nor the link.

The training's half of the format is `ckptrun/__init__.py`, which stands alone; tests/test_mailbox.py keeps the two the same.
"""

from __future__ import annotations

import json
import os
import re
import stat
import time
from typing import Any, NamedTuple

VERSION = 1
LONGEST_LETTER = 65536
# `ready`: it can be told; `progress`, `saved`, `done`: what the training says. `relay`: what a relay's branch can be told;
# `status`: how that branch ended.
KINDS = ("ready", "progress", "saved", "done", "relay", "status")
_NAME = r"\.?(?:ask|word)-(\d+)-(\d+)(?:[-.].*)?"


class Ask(NamedTuple):
    """What stands in an asking file. `stop` False means: save now and go on. `ending`, for relays: the time is over."""

    link: int
    attempt: int
    serial: int
    stop: bool
    reason: str
    at: float
    ending: bool = False


class Word(NamedTuple):
    """The last word of one kind from one process; `heard` is the serial of the last ask it had seen, 0 for none."""

    kind: str
    host: str
    pid: int
    at: float
    heard: int
    facts: dict[str, Any]


def ask(folder: str, link: int, attempt: int, *, stop: bool, reason: str, ending: bool = False) -> Ask:
    """Ask the training of one start to save, and with `stop` to end then. Raises OSError."""
    before = read_ask(folder, link, attempt)
    serial = before.serial + 1 if before is not None else 1
    stop, ending = stop or (before is not None and before.stop), ending or (before is not None and before.ending)
    found = Ask(link, attempt, serial, stop, reason, round(time.time(), 3), ending)
    _write(folder, _ask_name(link, attempt), found._asdict())
    return found


def read_ask(folder: str, link: int, attempt: int) -> Ask | None:
    """Return the ask that stands for this start; None where there is none, or none that can be understood."""
    letter = _read(os.path.join(folder, _ask_name(link, attempt)))
    if letter is None or (letter.get("link"), letter.get("attempt")) != (link, attempt):
        return None
    serial, stop = letter.get("serial"), letter.get("stop")
    if not isinstance(serial, int) or not isinstance(stop, bool):
        return None
    return Ask(link, attempt, serial, stop, str(letter.get("reason", "")), _instant(letter.get("at")), letter.get("ending") is True)


def say(folder: str, link: int, attempt: int, kind: str, **facts: object) -> None:
    """Say a word of this process about one start, in place of its last one of that kind. Raises OSError."""
    letter = {"link": link, "attempt": attempt, "kind": kind, "at": round(time.time(), 3), "heard": 0, **facts}
    _write(folder, f"word-{link}-{attempt}-{host()}-{os.getpid()}-{kind}", letter)


def words(folder: str, link: int, attempt: int) -> list[Word]:
    """Return the words about one start, oldest first."""
    return Words(folder, link, attempt).read()


def clear(folder: str, link: int, attempt: int) -> None:
    """Remove the letters of all starts but this one. What is not ours, or cannot be removed, stays."""
    for entry in _entries(folder):
        found = re.fullmatch(_NAME, entry.name)
        if found is not None and (int(found[1]), int(found[2])) != (link, attempt):
            try:
                os.unlink(entry.path)
            except OSError:
                continue


class Words:
    """The words about one start, for one who reads again and again: a file is opened only when it has changed."""

    def __init__(self, folder: str, link: int, attempt: int) -> None:
        self._folder, self._start = folder, (link, attempt)
        self._prefix = f"word-{link}-{attempt}-"
        self._known: dict[str, tuple[tuple[int, int], Word | None]] = {}

    def read(self) -> list[Word]:
        """Return the words that stand there now, oldest first."""
        now: dict[str, tuple[tuple[int, int], Word | None]] = {}
        for entry in _entries(self._folder):
            if not entry.name.startswith(self._prefix):
                continue
            try:
                seen = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            state = (seen.st_ino, seen.st_mtime_ns)
            known = self._known.get(entry.name)
            now[entry.name] = known if known is not None and known[0] == state else (state, self._word(entry))
        self._known = now
        return sorted((word for _, word in now.values() if word is not None), key=lambda word: word.at)

    def _word(self, entry: os.DirEntry[str]) -> Word | None:
        parts = entry.name[len(self._prefix) :].rsplit("-", 2)
        letter = _read(entry.path)
        if letter is None or len(parts) != 3 or not parts[1].isdecimal() or parts[2] not in KINDS:
            return None
        if (letter.get("link"), letter.get("attempt")) != self._start:
            return None
        heard = letter.get("heard")
        facts = {name: value for name, value in letter.items() if name not in ("v", "link", "attempt", "kind", "at", "heard")}
        return Word(parts[2], parts[0], int(parts[1]), _instant(letter.get("at")), heard if isinstance(heard, int) else 0, facts)


def highest_step(found: list[Word]) -> int | None:
    """Return how far the training says it is: the highest step that it saved; where it saved none, the highest it told of."""
    for kind in ("saved", "progress"):
        steps = [word.facts.get("step") for word in found if word.kind == kind]
        told = [step for step in steps if isinstance(step, int)]
        if told:
            return max(told)
    return None


def host() -> str:
    """Return this host's name as it stands in the names of letters."""
    return "".join(one if one.isalnum() or one in "._-" else "-" for one in os.uname().nodename)


def _ask_name(link: int, attempt: int) -> str:
    return f"ask-{link}-{attempt}"


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _instant(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _read(path: str) -> dict[str, Any] | None:
    """Return a letter of a version that we know, else None. What is no file does not hold us up: a pipe would."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        letter = json.loads(os.read(descriptor, LONGEST_LETTER))
    except (OSError, ValueError, RecursionError):
        return None
    finally:
        os.close(descriptor)
    return letter if isinstance(letter, dict) and letter.get("v") == VERSION else None


def _write(folder: str, name: str, letter: dict[str, Any]) -> None:
    # Two writers at once, a person and the leader, have temporaries of their own; the rename that comes last stands.
    temporary = os.path.join(folder, f".{name}.{host()}.{os.getpid()}.{time.monotonic_ns()}.tmp")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(json.dumps({"v": VERSION, **letter}).encode())
        os.replace(temporary, os.path.join(folder, name))
    except OSError:
        _remove(temporary)
        raise


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return
