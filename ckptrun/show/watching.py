"""`chain watch`: a live screen of one chain, until it has ended or the person has seen enough.

Rule: the controller hears one `squeue` every ten seconds at most from all who watch this ledger: who asks writes the answer into a
file that the others read. The terminal is left as it was, however the watching ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from typing import TYPE_CHECKING

from ckptrun.chain.home import ChainFolder
from ckptrun.show import frame
from ckptrun.show.look import Looker, Queue, ask_for_standings, closely
from ckptrun.show.seen import SeenChain

if TYPE_CHECKING:
    from types import FrameType

EVERY_S, ASK_S = 1.0, 10.0
_TAIL_BYTES = 8192


def watch(folder: ChainFolder) -> SeenChain:
    """Show a chain until it has ended; return it. Raises KeyboardInterrupt where the person ends it, SystemExit on a signal."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console(highlight=False)
    home = os.path.dirname(os.path.dirname(folder.path))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            now = time.time()
            one, seen = closely(folder, Looker(now, lambda at: shared_queue(home, at)))
            size = console.size
            live.update(Text("\n".join(frame.lines(seen, _tail(seen), now, size.width, size.height)), no_wrap=True), refresh=True)
            if one.final is not None:
                return seen
            time.sleep(EVERY_S)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def shared_queue(home: str, now: float) -> Queue:
    """Return the queue as it was within the last ten seconds; of all who want to know one asks, the others take the last answer."""
    path = os.path.join(home, "queue.json")
    known = _read(path)
    if known is not None and 0 <= now - known[0] < ASK_S:
        return Queue(known[1], known[2], now)
    try:
        descriptor = os.open(f"{path}.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return Queue(*ask_for_standings(), now)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if known is not None else 0))
        again = _read(path)
        if again is not None and 0 <= now - again[0] < ASK_S:
            return Queue(again[1], again[2], now)
        text, silence = ask_for_standings()
        _write(path, [now, text, silence])
        return Queue(text, silence, now)
    except BlockingIOError:  # another is asking in this moment
        assert known is not None
        return Queue(known[1], known[2], now)
    finally:
        os.close(descriptor)


def _read(path: str) -> tuple[float, str | None, str] | None:
    try:
        with open(path, encoding="utf-8") as file:
            at, text, silence = json.load(file)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    if not isinstance(at, float) or not isinstance(text, (str, type(None))) or not isinstance(silence, str):
        return None
    return at, text, silence


def _write(path: str, content: list[object]) -> None:
    temporary = f"{path}.{os.uname().nodename}.{os.getpid()}"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as file:
            json.dump(content, file)
        os.replace(temporary, path)
    except OSError:
        return  # then everybody asks for himself


def _tail(seen: SeenChain) -> list[str]:
    """Return the last lines of the newest link's log."""
    path = seen.last.log if seen.last is not None else None
    if path is None:
        return []
    try:
        with open(path, "rb") as file:
            file.seek(max(os.fstat(file.fileno()).st_size - _TAIL_BYTES, 0))
            return file.read().decode(errors="replace").splitlines()[-40:]
    except OSError:
        return []
