"""Which chains a list shows: all that live in the queue and the newest of the others, or those that filters name."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from typing import NamedTuple

from ckptrun.chain.home import chain_ids
from ckptrun.show.ended import Ended
from ckptrun.show.look import Looker
from ckptrun.show.seen import SeenChain

SHOWN_AT_FIRST = 30
# From so many chains on it is cheaper to read what was kept of those that have ended.
WORTH_KEEPING = 100


class Wanted(NamedTuple):
    """What a person wants to see. Without `everything` and filters the list is short; `age_s` is since the last sign of life."""

    everything: bool = False
    states: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    age_s: float | None = None

    @property
    def filters(self) -> bool:
        """Return whether anything is filtered."""
        return bool(self.states or self.names or self.age_s is not None)


class Listing(NamedTuple):
    """The chains to show, the newest first, and how many others there are."""

    chains: list[SeenChain]
    hidden: int


def listing(home: str, wanted: Wanted, looker: Looker) -> Listing:
    """Return the chains of a ledger that are wanted."""
    ids = chain_ids(home)
    chosen = _chosen(home, ids, wanted, looker)
    places = {name: place for place, name in enumerate(ids)}
    ended = Ended(home if len(chosen) >= WORTH_KEEPING else None, looker.now)
    found = [one for one in looker.see_many((_path(home, name) for name in chosen), ended) if _fits(one, wanted, looker.now)]
    ended.write(ids)
    hidden = 0 if wanted.filters else len(ids) - len(chosen)
    return Listing(sorted(found, key=lambda one: places.get(one.id, len(places))), hidden)


def _path(home: str, name: str) -> str:
    return os.path.join(home, "chains", name)


def _chosen(home: str, ids: list[str], wanted: Wanted, looker: Looker) -> list[str]:
    if wanted.names:
        ids = [name for name in ids if any(one in name or fnmatchcase(name, one) for one in wanted.names)]
    if wanted.everything or wanted.filters or len(ids) <= SHOWN_AT_FIRST:
        return ids
    heard = {name: _heard_at(home, name) for name in ids}
    newest = set(sorted(ids, key=lambda name: heard[name], reverse=True)[:SHOWN_AT_FIRST])
    newest |= {os.path.basename(path) for path in looker.living_folders()}
    return [name for name in ids if name in newest]


def _heard_at(home: str, name: str) -> float:
    try:
        return os.stat(os.path.join(home, "chains", name, "events.jsonl")).st_mtime
    except OSError:
        return 0.0


def _fits(one: SeenChain, wanted: Wanted, now: float) -> bool:
    if wanted.states and one.state not in wanted.states:
        return False
    return wanted.age_s is None or (one.heard_at is not None and now - one.heard_at <= wanted.age_s) or one.life is not None
