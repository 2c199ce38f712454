"""`chain save`: ask the training of a link that runs to save now and go on, and wait for its answer.

Rule: this ask goes through the mailbox alone. A signal says "save and stop" to every program that catches one; "save and go on" can
only be said to a training that reads `checkpoint_requested`.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from ckptrun import mailbox
from ckptrun.chain.home import ChainFolder
from ckptrun.chain.state import why_live
from ckptrun.chain.turns import Turns
from ckptrun.errors import Refused
from ckptrun.job import people
from ckptrun.link import post
from ckptrun.mailbox import Ask, Word

_LOOK_EVERY_S = 0.2


class Saved(NamedTuple):
    """What came of it. `path` None: it has not saved yet; `heard`: whether it has seen the ask; `looks`: whether it ever looked.

    `stands`: whether something of that name is to be seen, as far as that can be told here. `stops`: it was asked to stop since.
    """

    path: str | None
    after_s: float
    heard: bool
    looks: bool
    ended: bool = False
    stands: bool = True
    stops: bool = False


def save(folder: ChainFolder, wait_s: float) -> Saved:
    """Ask for a checkpoint and wait so long for it.

    Raises Refused where nothing of the chain runs, where it is stopping already, or where no process of it can hear; OSError where
    the mailbox cannot be written.
    """
    link, attempt = _running_start(folder)
    known = _ready(folder, link, attempt)
    standing = mailbox.read_ask(folder.mailbox, link, attempt)
    if standing is not None and standing.stop:
        raise Refused(f"link {link} of chain {folder.id} is asked to save and stop already ({standing.reason})")
    if not known:
        raise Refused(
            f"the training of chain {folder.id} does not say that it listens: only one that imports ckptrun and reads "
            "`checkpoint_requested` can be asked to save and go on. One that has just been started may say so in a moment; "
            f"`ckptrun chain stop {folder.id}` makes any training save and stop"
        )
    asked = mailbox.ask(folder.mailbox, link, attempt, stop=False, reason="a person wants a checkpoint")
    return _wait(folder, asked, wait_s)


def _running_start(folder: ChainFolder) -> tuple[int, int]:
    """Return link and attempt of the start that runs. Raises Refused where none does."""
    known = Turns(folder.turns).read()
    starts = [turn for turn in known if turn.kind == "start"]
    if not starts or known[-1].kind == "end" or not _lives(folder):
        raise Refused(f"nothing of chain {folder.id} runs: there is no training that could save. `ckptrun chain show {folder.id}`")
    return int(starts[-1].facts["link"]), int(starts[-1].facts["attempt"])


def _lives(folder: ChainFolder) -> bool:
    return (people.running_job(folder) if people.is_slurm(folder) else why_live(folder)) is not None


def _ready(folder: ChainFolder, link: int, attempt: int) -> list[Word]:
    return [word for word in mailbox.words(folder.mailbox, link, attempt) if word.kind == "ready" and post.lives(word)]


def _wait(folder: ChainFolder, asked: Ask, wait_s: float) -> Saved:
    """Wait for a save that answers the ask, or for the end of the link."""
    words = mailbox.Words(folder.mailbox, asked.link, asked.attempt)
    start_at = time.monotonic()
    while True:
        ended = Turns(folder.turns).read()[-1].kind == "end"
        found = [word for word in words.read() if word.heard >= asked.serial]
        saves = [word for word in found if word.kind == "saved"]
        # Of several processes each may say that it saved, also one that has left the writing to another, a step ahead of it.
        standing = [word for word in saves if _stands(word.facts.get("path"))]
        after_s = time.monotonic() - start_at
        if standing or ended or after_s >= wait_s:
            first = next(iter(standing or saves), None)
            path = os.fspath(first.facts.get("path") or "a checkpoint") if first is not None else None
            looks = any(word.facts.get("looks") is True for word in _ready(folder, asked.link, asked.attempt))
            latest = mailbox.read_ask(folder.mailbox, asked.link, asked.attempt)
            stops = latest is not None and latest.stop
            return Saved(path, after_s, bool(found), looks, ended, bool(standing), stops)
        time.sleep(min(_LOOK_EVERY_S, max(0.0, wait_s - after_s)))


def _stands(path: object) -> bool:
    """Return whether a file of this name, or that begins with it, is there; True where its place is not to be seen from here."""
    if not isinstance(path, str) or os.path.lexists(path):
        return True
    folder, name = os.path.split(path)
    try:
        return any(one.startswith(name) for one in os.listdir(folder))
    except OSError:  # a folder that nobody has made yet, or one of another machine
        return not os.path.isdir(os.path.dirname(folder))
