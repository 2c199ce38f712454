"""Read chains from disk for people: one, all, or the one that a word names."""

from __future__ import annotations

import os

from ckptrun.chain.history import read_events
from ckptrun.chain.home import ChainFolder, chain_ids, open_chain, wanted_home
from ckptrun.chain.model import Chain, build
from ckptrun.chain.state import why_live
from ckptrun.errors import UsageError


def load(folder: ChainFolder) -> tuple[Chain, list[str]] | None:
    """Return a chain and the oddities of its history, None where its record cannot be read."""
    facts = folder.facts()
    if facts is None:
        return None
    events, oddities = read_events(folder.events)
    return build(facts, events, why_live(folder)), oddities


def load_all() -> list[Chain]:
    """Return all chains, the newest first."""
    home = wanted_home()
    found = (load(ChainFolder(os.path.join(home, "chains", chain_id))) for chain_id in chain_ids(home))
    return [one[0] for one in found if one is not None]


def find_chain(name: str | None) -> ChainFolder:
    """Return the chain that a word names: its id or a unique prefix of it; without a word the newest one of this directory.

    Raises UsageError that names the nearest.
    """
    home = wanted_home()
    ids = chain_ids(home)
    if name is None:
        return _newest_here(home, ids)
    if (exact := open_chain(home, name)) is not None:
        return exact
    matching = [one for one in ids if one.startswith(name)]
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
