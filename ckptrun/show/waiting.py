"""Wait for a chain's end. The ledger is looked at every second; the controller is asked at the start and then every ten minutes."""

from __future__ import annotations

import os
import time

from ckptrun.chain.home import ChainFolder
from ckptrun.show.look import Looker, OnDisk, closely, read
from ckptrun.show.seen import SeenChain

UNFINISHED_EXIT = 75
LOOK_S, ASK_S, AGAIN_S = 1.0, 600.0, 10.0


def wait(folder: ChainFolder) -> SeenChain:
    """Return a chain when it has ended, or when nothing of it lives any more."""
    ask_at = 0.0
    gone = False
    while True:
        one = read(folder)
        if one is None or one.final is not None:
            return closely(folder, Looker())[1]
        now = time.monotonic()
        if now >= ask_at or not one.in_jobs:
            lives = Looker().life(one) is not None
            if not lives and gone and _unchanged(one):
                return closely(folder, Looker())[1]
            # What has just ended may not have written so; what is just starting may not be seen yet.
            gone, ask_at = not lives, now + (ASK_S if lives else AGAIN_S)
        _sleep_until_changed(folder, LOOK_S)


def exit_code(chain: SeenChain) -> int:
    """Return what a chain ended with: its last ckptrun's own exit code, 75 where it died without one."""
    last = chain.last
    if last is not None and last.outcome == chain.state and last.exits is not None:
        return last.exits
    if chain.state in ("complete", "failed") and last is not None and last.exit_code is not None:
        return last.exit_code
    return 0 if chain.state == "complete" else UNFINISHED_EXIT


def _unchanged(one: OnDisk) -> bool:
    again = read(one.folder)
    return again is not None and again.final is None and len(again.events) == len(one.events)


def _sleep_until_changed(folder: ChainFolder, seconds: float) -> None:
    before = _stamp(folder.turns)
    until = time.monotonic() + seconds
    while time.monotonic() < until and _stamp(folder.turns) == before:
        time.sleep(0.1)


def _stamp(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
