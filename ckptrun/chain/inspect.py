"""Which chain a word of a person names."""

from __future__ import annotations

import os

from ckptrun.chain import jobs
from ckptrun.chain.home import ChainFolder, chain_ids, open_chain, wanted_home
from ckptrun.errors import UsageError

_MOST_NAMED = 5


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
        more = ", ..." if len(matching) > _MOST_NAMED else ""
        named = ", ".join(matching[:_MOST_NAMED]) + more
        raise UsageError(f"'{name}' names {len(matching)} chains: {named}: say which")
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
    raise UsageError(
        f"no chain was started in {here}; a job that waits in the queue begins one when it starts. `ckptrun chain list` lists "
        "those of other directories"
    )
