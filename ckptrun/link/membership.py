"""Which chain a local start belongs to: a new one, the unfinished one that it goes on with, or none because it would double one."""

from __future__ import annotations

import json
import os
import time
from typing import NamedTuple

from ckptrun import __version__
from ckptrun.chain import claims, home
from ckptrun.chain.home import ChainFolder
from ckptrun.chain.ledger import final_outcome, highest_link
from ckptrun.chain.state import why_live
from ckptrun.chain.turns import Turns
from ckptrun.errors import CkptrunError, Refused
from ckptrun.link import messages
from ckptrun.plan import Plan, to_json


class Membership(NamedTuple):
    """The chain's folder and the number of the link that starts; `joined` for an unfinished chain that goes on.

    `after` is the last turn that was known when it was found that nothing of the chain lives: a turn since then is somebody's who
    was first.
    """

    folder: ChainFolder | None
    link: int
    joined: bool = False
    after: int = 0


def join_or_create(plan: Plan, state_home: str) -> Membership:
    """Return the chain that this command starts or goes on with. `folder` is None for a named chain that is complete.

    Raises Refused where a start would double a living one.
    """
    key = command_key(plan)
    name = plan.chain or claims.recall_command(state_home, key)
    known = home.open_chain(state_home, name) if name else None
    if known is not None:
        joined = _consider(plan, known)
        if joined is not None:
            if joined.folder is not None:
                _claim(plan, state_home, joined.folder.id)
            return joined
    folder = _create(plan, state_home)
    try:
        _claim(plan, state_home, folder.id)
    except Refused:
        home.remove_unborn(folder)
        raise
    claims.remember_command(state_home, key, folder.id)
    return Membership(folder, 1)


def command_key(plan: Plan) -> str:
    """Return what tells the same command, options and directory from others."""
    return json.dumps([to_json(plan), os.getcwd()], sort_keys=True)


def _consider(plan: Plan, known: ChainFolder) -> Membership | None:
    """Return the chain as one to join, or None for a new chain."""
    turns = Turns(known.turns).read()
    outcome = final_outcome(turns)
    if outcome == "complete":
        if plan.chain is None:
            return None
        messages.say(f"chain {known.id} is complete; nothing is started. Another --chain NAME begins a new one")
        return Membership(None, 0)
    living = why_live(known)
    if living is not None:
        if plan.chain is None and not plan.checkpoints:
            messages.say(f"chain {known.id} of the same command lives ({living}); this is a new chain beside it")
            return None
        raise Refused(f"chain {known.id} lives, and it is not doubled: {living}")
    return Membership(known, highest_link(turns) + 1, joined=True, after=turns[-1].number if turns else 0)


def is_live(state_home: str, chain: str) -> str | None:
    """Return in words what of a chain lives, None where nothing does or where there is no such chain."""
    folder = home.open_chain(state_home, chain)
    return why_live(folder) if folder is not None else None


def _claim(plan: Plan, state_home: str, chain: str) -> None:
    for path in plan.checkpoints:
        claimed = claims.claim(state_home, path, chain, lambda other: is_live(state_home, other))
        if claimed.previous is not None:
            messages.say(f"{os.path.relpath(path)} was chain {claimed.previous}'s, of which nothing lives: taken over")


def _create(plan: Plan, state_home: str) -> ChainFolder:
    now = time.time()
    wanted = plan.chain or home.make_id(os.path.basename(plan.command[0]), now)
    facts = {"created": now, "directory": os.getcwd(), "node": os.uname().nodename, "plan": to_json(plan)}
    try:
        return home.create_chain(state_home, wanted, {"version": __version__, **facts})
    except OSError as error:
        raise CkptrunError(
            f"no chain can be created in {state_home} ({error.strerror}). Set CKPTRUN_HOME to a folder with room that is yours"
        ) from None
