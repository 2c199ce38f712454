"""Read chains from disk for people: one, all, or the one that a word names."""

from __future__ import annotations

import os
from collections.abc import Callable

from ckptrun.chain import jobs
from ckptrun.chain.history import read_events
from ckptrun.chain.home import ChainFolder, chain_ids, open_chain, wanted_home
from ckptrun.chain.model import Chain, build
from ckptrun.chain.ready import kept
from ckptrun.chain.state import why_live
from ckptrun.errors import UsageError

Living = Callable[[ChainFolder], str | None]


def load(folder: ChainFolder, living: Living = why_live) -> tuple[Chain, list[str]] | None:
    """Return a chain and the oddities of its history, None where its record cannot be read. `living` says what of it lives."""
    facts = folder.facts()
    if facts is None:
        return None
    events, oddities = read_events(folder.events)
    found = build(facts, events, living(folder))
    return found._replace(ready=kept(folder) if found.state not in ("running", "complete") else None), oddities


def load_all(living: Living = why_live) -> list[Chain]:
    """Return all chains, the newest first."""
    home = wanted_home()
    found = (load(ChainFolder(os.path.join(home, "chains", chain_id)), living) for chain_id in chain_ids(home))
    return [one[0] for one in found if one is not None]


def find_chain(name: str | None) -> ChainFolder:
    """Return the chain that a word names: its id, a job in it, or a unique prefix of its id.

    Without a word it is the newest one that was started in this directory.

    Raises UsageError that names the nearest.
    """
    home = wanted_home()
    ids = chain_ids(home)
    if name is None:
        return _newest_here(home, ids)
    if (exact := open_chain(home, name)) is not None:
        return exact
    matching = jobs.all_of(home, name) if name.replace("_", "").isdigit() else []
    matching = [one for one in matching if one in ids] or [one for one in ids if one.startswith(name)]
    if len(matching) == 1:
        return ChainFolder(os.path.join(home, "chains", matching[0]))
    if matching:
        raise UsageError(f"{name} begins the id of {len(matching)} chains: {', '.join(matching[:5])}. Write more of it")
    import difflib

    close = difflib.get_close_matches(name, ids, n=3, cutoff=0.4)
    hint = f" Near it: {', '.join(close)}." if close else ""
    raise UsageError(f"no chain is called {name} in {home}.{hint} `ckptrun chain list` lists them")


def _newest_here(home: str, ids: list[str]) -> ChainFolder:
    here = os.getcwd()
    for chain_id in ids:
        folder = ChainFolder(os.path.join(home, "chains", chain_id))
        if (folder.facts() or {}).get("directory") == here:
            return folder
    raise UsageError(f"no chain was started in {here}. `ckptrun chain list` lists those of other directories")
