"""The mailbox as one start of a link uses it: ask by file, and take in the words that come back.

Rule: a mailbox that fails is said once and stops nothing; the signals, where the training catches one, do without it.
"""

from __future__ import annotations

import os

from ckptrun import mailbox
from ckptrun.link import messages
from ckptrun.mailbox import Word
from ckptrun.words import Checkpoint, Hearing, Sight, Status, Verdict


class Post:
    """The letters of one start. It is also what a link without `--checkpoint` sees of saves: what the training says of them."""

    def __init__(self, folder: str, link: int, attempt: int) -> None:
        self._folder, self._link, self._attempt = folder, link, attempt
        self._words = mailbox.Words(folder, link, attempt)
        self._serial = 0
        self._failed = self._ending = False
        self._saved_at: list[float] = []
        self._newest: Checkpoint | None = None

    def clear_others(self) -> None:
        """Remove what earlier starts have left."""
        mailbox.clear(self._folder, self._link, self._attempt)

    def ask_to_stop(self, reason: str) -> bool:
        """Ask the training to save and stop, once; return whether the ask stands there."""
        if self._serial:
            return True
        try:
            self._serial = mailbox.ask(self._folder, self._link, self._attempt, stop=True, reason=reason).serial
        except OSError as error:
            if not self._failed:
                self._failed = True
                messages.say(f"the training cannot be asked by file: {self._folder}: {error.strerror}; it goes on")
            return False
        return True

    def tell_relays_to_end(self, reason: str) -> None:
        """Tell the relays, if there are any, that their trainings have had their time."""
        if self._ending or self.relays_hear() is None:
            return
        try:
            self._serial = mailbox.ask(self._folder, self._link, self._attempt, stop=True, reason=reason, ending=True).serial
            self._ending = True
        except OSError:
            return  # they end by themselves at the end time

    def relays_hear(self) -> Hearing | None:
        """Return the most that the branch of any relay can be told; None where no relay has said a word."""
        said = [word.facts.get("hearing") for word in self._words.read() if word.kind == "relay"]
        known = [hearing for hearing in Hearing if hearing.value in said]
        return known[0] if known else None

    def statuses(self) -> list[Status]:
        """Return how the branches of relays have ended."""
        return [_status(word) for word in self._words.read() if word.kind == "status"]

    def can_be_told(self, *, saves_unasked: bool) -> bool:
        """Return whether a process that lives will see the ask.

        One that has not looked for an ask yet may be in a long first step; where it saves all the same, it is one that never looks.
        """
        if self.relays_hear() is Hearing.HEARS:
            return True
        ready = [word for word in self._words.read() if word.kind == "ready" and lives(word)]
        return any(word.facts.get("looks") is True or not saves_unasked for word in ready)

    def has_heard(self) -> bool:
        """Return whether anybody has seen our ask."""
        return self._serial > 0 and any(word.heard >= self._serial for word in self._words.read())

    def is_done(self) -> bool:
        """Return whether the training has said that it is finished."""
        return any(word.kind == "done" for word in self._words.read())

    def step(self) -> int | None:
        """Return how far the training says it is."""
        return mailbox.highest_step(self._words.read())

    def look(self, monotonic: float, unix: float, open_for_writing: frozenset[str] = frozenset()) -> Sight:
        """Return what the training says of its saves since it saw the ask; a save that began before is no answer to it."""
        for word in self._words.read():
            answers = word.kind == "saved" and 0 < self._serial <= word.heard
            if answers and word.at not in self._saved_at:
                self._saved_at.append(word.at)
                self._newest = _told_of(word) or self._newest
        return Sight(self._newest, bool(self._saved_at), written_at=tuple(min(at, unix) for at in sorted(self._saved_at)))


def _status(word: Word) -> Status:
    code, signal = word.facts.get("code"), word.facts.get("signal")
    if isinstance(signal, int):
        return Status(None, signal)
    return Status(code if isinstance(code, int) else 1, None)


def lives(word: Word) -> bool:
    """Return whether the process that said this lives. In another pid namespace, or on another host, it is believed to."""
    if word.host != mailbox.host() or word.facts.get("namespace") != _namespace():
        return True
    return os.path.exists(f"/proc/{word.pid}")


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _told_of(word: Word) -> Checkpoint | None:
    """Return the checkpoint that a word tells of, None where it cannot be seen from here: a container may name it otherwise."""
    path, step = word.facts.get("path"), word.facts.get("step")
    try:
        size = os.stat(path).st_size if isinstance(path, str) else 0
    except (OSError, ValueError):
        return None
    if not isinstance(path, str):
        return None
    return Checkpoint(path, (path,), step if isinstance(step, int) else None, word.at, size, Verdict.NOT_CHECKED)
