"""Remove the records of chains that have long ended. Checkpoints and logs are the user's own and stay.

Rule: what may still be wanted stays - a chain of which anything lives or may live, a submission whose script a chain that stays, or
a job in the queue, would start. A record is taken out of sight by one rename before it is removed.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from typing import NamedTuple

from ckptrun.chain import jobs
from ckptrun.chain.home import ChainFolder, chain_ids
from ckptrun.chain.turns import Turns
from ckptrun.show import ended, phrases
from ckptrun.show.look import Looker, read


class Old(NamedTuple):
    """A chain whose record may go: its folder, how it ended, when it was last heard of, its newest turn, its jobs by cluster."""

    folder: ChainFolder
    state: str
    heard_at: float
    turn: int
    cluster: str
    jobs: tuple[str, ...]


class Prunable(NamedTuple):
    """What may be removed: chains, and submissions of `ckptrun sbatch`."""

    folders: list[Old]
    submissions: list[str]
    silent: bool


def find(home: str, older_than_s: float, *, unfinished: bool) -> Prunable:
    """Return what of a ledger was last heard of longer ago and is not needed any more."""
    looker = Looker()
    before = looker.now - older_than_s
    found: list[Old] = []
    for name in chain_ids(home):
        folder = ChainFolder(os.path.join(home, "chains", name))
        heard_at = max(_time(folder.events), _time(folder.turns), _time(folder.json))
        if heard_at < before and (old := _old(folder, heard_at, looker, unfinished=unfinished)) is not None:
            found.append(old)
    submissions = _submissions(home, before, {old.folder.id for old in found}, looker)
    return Prunable(found, submissions, looker.silent())


def _old(folder: ChainFolder, heard_at: float, looker: Looker, *, unfinished: bool) -> Old | None:
    one = read(folder)
    if one is None or (one.final != "complete" and not unfinished) or looker.life(one) is not None:
        return None
    turn = next(Turns(folder.turns).newest_first(), None)
    slurm = one.facts.get("slurm")
    cluster = str(slurm.get("cluster", "cluster")) if isinstance(slurm, dict) else ""
    return Old(folder, one.final or "lost", heard_at, turn.number if turn else 0, cluster, tuple(one.known_jobs))


def _submissions(home: str, before: float, going: set[str], looker: Looker) -> list[str]:
    room = os.path.join(home, "submissions")
    try:
        old = [entry.name for entry in os.scandir(room) if entry.is_dir() and entry.stat().st_mtime < before]
    except OSError:
        return []
    if not old:
        return []
    wanted = set()
    for name in chain_ids(home):
        if name not in going:
            wanted |= _submissions_in(os.path.join(home, "chains", name, "script"))
    commands = looker.queued_commands()
    if commands is None:  # a job that waits may need one of them
        return []
    wanted |= {found for command in commands for found in re.findall(r"/submissions/([A-Za-z0-9._-]+)/", command)}
    return sorted(name for name in old if name not in wanted)


def _submissions_in(script: str) -> set[str]:
    try:
        with open(script, encoding="utf-8", errors="replace") as file:
            return set(re.findall(r"/submissions/([A-Za-z0-9._-]+)/", file.read()))
    except OSError:
        return set()


def described(found: Prunable) -> list[str]:
    """Return what may be removed, a line each."""
    now = time.time()
    lines = [f"{old.folder.id}: {old.state}, last heard of {phrases.seconds(now - old.heard_at)} ago" for old in found.folders]
    lines += [f"submission {name}, of which no chain is left" for name in found.submissions]
    if found.silent:
        lines.append("the controller does not answer: what may have a job in the queue stays")
    return lines or ["nothing is old enough to be removed"]


def remove(home: str, found: Prunable) -> str:
    """Remove it, except what has gone on meanwhile; return in words what was removed."""
    room = os.path.join(home, "removing")
    os.makedirs(room, mode=0o700, exist_ok=True)
    chains = sum(_remove_chain(home, room, old) for old in found.folders)
    for name in found.submissions:
        _take_away(os.path.join(home, "submissions", name), room)
    shutil.rmtree(room, ignore_errors=True)
    ended.forget(home)
    return f"{phrases.plural(chains, 'chain')} and {phrases.plural(len(found.submissions), 'submission')}"


def _remove_chain(home: str, room: str, old: Old) -> bool:
    if Turns(old.folder.turns).passed(old.turn):
        return False
    for job in old.jobs:
        if re.fullmatch(r"\d{1,10}(_\d{1,10})?", job):
            entry = jobs.find(home, old.cluster, job)
            if entry is not None and entry.chain == old.folder.id:
                jobs.forget(home, old.cluster, job)
    return _take_away(old.folder.path, room)


def _take_away(path: str, room: str) -> bool:
    try:
        os.rename(path, os.path.join(room, os.path.basename(path)))
    except OSError:
        return False
    return True


def _time(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
