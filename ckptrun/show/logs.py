"""The logs of a chain's jobs, joined: each under one line that names its link, and followed into the next one.

Followed is by looking at files, at most ten times a second and once a second while they are quiet: notices of the kernel do not
come from other nodes. The controller is never asked: which job comes next, and when the chain has ended, stands in the ledger.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

from ckptrun.chain.home import ChainFolder
from ckptrun.errors import Refused
from ckptrun.show import phrases
from ckptrun.show.building import build
from ckptrun.show.look import OnDisk, link_of, read
from ckptrun.show.seen import Known, SeenChain, SeenLink

_QUICK_S, _QUIET_S = 0.1, 1.0
_BLOCK = 1 << 20


class Log(NamedTuple):
    """One file and the starts that wrote it: with a name without %j, all links write one."""

    path: str | None
    links: tuple[SeenLink, ...]


def print_logs(folder: ChainFolder, number: str | None, *, follow: bool, out: BinaryIO) -> None:
    """Print the logs of a chain, or of one link. Raises Refused where there are none, UsageError for a link that is not there."""
    try:
        Follower(folder, number, out).run(follow=follow)
    except BrokenPipeError:  # who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def logs_of(links: Sequence[SeenLink]) -> list[Log]:
    """Return the files that the starts wrote, in order."""
    found: list[Log] = []
    for link in links:
        path = _kept(link)
        if path is not None and found and found[-1].path == path:
            found[-1] = Log(path, (*found[-1].links, link))
        else:
            found.append(Log(path, (link,)))
    return found


def _kept(link: SeenLink) -> str | None:
    """Return where a start's log is: that of a job that was requeued was moved away, because Slurm begins it anew."""
    if link.log is None:
        return None
    moved = f"{link.log}.attempt-{link.attempt}"
    return moved if os.path.exists(moved) else link.log


def header(log: Log, now: float) -> str:
    """Return the line above a log: its links, its job, when it began, its path or what is wrong with it."""
    first = log.links[0]
    names = ", ".join(phrases.number(link) for link in log.links)
    who = f"link{'s' if len(log.links) > 1 else ''} {names}"
    job = f", job {first.job}" if first.job else ""
    node = f" on {first.node}" if first.node else ""
    return phrases.clean(f"==> {who}{job}{node}, began {phrases.clock(first.started_at, now)}: {_state(log.path)} <==")


def _state(path: str | None) -> str:
    if path is None:
        return "no log is on record"
    if not os.path.isfile(path):
        return f"{path} is missing"
    return path if os.access(path, os.R_OK) else f"{path} may not be read"


class Follower:
    """Prints logs as they are, and as they grow."""

    def __init__(self, folder: ChainFolder, number: str | None, out: BinaryIO) -> None:
        self._folder, self._number, self._out = folder, number, out
        self._stamp: tuple[float, ...] = ()
        self._chain: SeenChain | None = None
        self._final = False
        self._at: dict[str, int] = {}
        self._named: set[tuple[int, int]] = set()
        self._printing: str | None = None

    def run(self, *, follow: bool) -> None:
        """Print what stands there; with `follow` go on until the chain, or the one link, is over."""
        self._look()
        chain = self._chain
        if chain is not None and not chain.in_jobs:
            raise Refused(f"chain {chain.id} ran without Slurm: its output went where its command was typed, no log was kept")
        pause_s = _QUICK_S
        while True:
            over = self._is_over()  # before the last bytes are read: they were written before the end was
            moved = self._print()
            if not follow or over:
                return
            pause_s = _QUICK_S if moved else min(pause_s * 1.5, _QUIET_S)
            time.sleep(pause_s)
            self._look()

    def _look(self) -> None:
        stamp = tuple(_stamp(path) for path in (self._folder.events, self._folder.turns))
        if stamp == self._stamp:
            return
        one = read(self._folder)
        if one is not None:
            self._stamp, self._final, self._chain = stamp, one.final is not None, _as_told(one)

    def _links(self) -> tuple[SeenLink, ...]:
        if self._chain is None:
            return ()
        return self._chain.links if self._number is None else (link_of(self._chain, self._number),)

    def _is_over(self) -> bool:
        links = self._links()
        if self._number is not None and links:
            later = self._chain is not None and self._chain.links[-1] != links[0]
            return later or links[0].ended_by != "" or self._final
        return self._final

    def _print(self) -> bool:
        moved = False
        for log in logs_of(self._links()):
            new = [link for link in log.links if (link.number, link.attempt) not in self._named]
            there = log.path is not None and os.path.isfile(log.path)
            if new and (there or log.path is None or not self._at_work(log)):
                self._named |= {(link.number, link.attempt) for link in new}
                self._say(header(Log(log.path, tuple(new)), time.time()))
                moved = True
            if there and log.path is not None:
                moved = self._copy(log.path) or moved
        self._out.flush()
        return moved

    def _at_work(self, log: Log) -> bool:
        """Return whether a log may still appear: that of the newest start, before the chain is over."""
        return not self._final and self._chain is not None and log.links[-1] == self._chain.links[-1]

    def _copy(self, path: str) -> bool:
        at = self._at.get(path, 0)
        try:
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < at:
                    self._say(f"==> {path} was cut: from its beginning again <==")
                    at = 0
                file.seek(at)
                while block := file.read(_BLOCK):
                    self._out.write(block)
                    at += len(block)
        except OSError:
            return False
        moved = at != self._at.get(path, 0)
        self._at[path] = at
        return moved

    def _say(self, line: str) -> None:
        self._out.write(f"{line}\n".encode(errors="replace"))


def _stamp(path: str) -> float:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0.0


def _as_told(one: OnDisk) -> SeenChain:
    return build(Known(one.facts, one.events, ended_as=one.final), time.time())
