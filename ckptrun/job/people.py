"""What of a chain lives, as a person sees it from outside its jobs."""

from __future__ import annotations

import os
import re

from ckptrun.chain.home import ChainFolder
from ckptrun.chain.ledger import final_outcome
from ckptrun.chain.state import why_live
from ckptrun.chain.turns import Turns
from ckptrun.errors import Refused
from ckptrun.job.revival import OfChain
from ckptrun.link.errands import Procedure, carry_out
from ckptrun.slurm import commands, parse
from ckptrun.slurm.parse import Queued


def is_slurm(folder: ChainFolder) -> bool:
    """Return whether the chain's links are jobs."""
    return bool((folder.facts() or {}).get("slurm"))


def answered_queue() -> Procedure[tuple[Queued, ...]]:
    """Return the user's whole queue. Raises Refused where the controller does not answer."""
    said = yield commands.queue_of_user()
    assert said is not None
    if said.code != 0:
        raise Refused(f"the controller does not answer ({said.err.strip().splitlines()[-1] if said.err.strip() else 'no answer'})")
    return parse.queue(said.out)


def _foreign(one: Queued) -> bool:
    """Return whether a job of a known id is a link of another chain: an id that was handed out again."""
    return "/chains/" in one.command and "/links/" in one.command


def running_job(folder: ChainFolder) -> str | None:
    """Return the job of a chain that is at work, None for none. Raises Refused where the controller does not answer."""
    return next((one.job for one, _ in jobs_of(folder, carry_out(answered_queue())) if one.at_work), None)


class Onlooker:
    """Tells what of a chain lives. The queue is asked once, and only if a chain of jobs has not ended."""

    def __init__(self) -> None:
        self._queue: tuple[Queued, ...] | None = None
        self._asked = False

    def living(self, folder: ChainFolder) -> str | None:
        """Return in words what of a chain lives, None for nothing."""
        if not is_slurm(folder):
            return why_live(folder)
        if final_outcome(Turns(folder.turns).read()) is not None:
            return None
        if not self._asked:
            self._asked = True
            self._queue = carry_out(_whole_queue())
        if self._queue is None:
            return "whether one of its jobs lives is not known: the controller does not answer"
        return live_job(folder, self._queue)


def _whole_queue() -> Procedure[tuple[Queued, ...] | None]:
    said = yield commands.queue_of_user()
    assert said is not None
    return parse.queue(said.out) if said.code == 0 else None


def live_job(folder: ChainFolder, queue: tuple[Queued, ...]) -> str | None:
    """Return in words which job of a chain waits or runs, None for none. One that waits for a complete chain will not train."""
    complete = final_outcome(Turns(folder.turns).read()) == "complete"
    for one, _ in jobs_of(folder, queue):
        if one.at_work or (one.waiting and not complete):
            return f"job {one.job} {'waits' if one.waiting else 'runs'}; `ckptrun chain stop {folder.id}` stops it"
    return None


def jobs_of(folder: ChainFolder, queue: tuple[Queued, ...]) -> tuple[OfChain, ...]:
    """Return the chain's jobs in the queue, each with its link: known by its script's path, else by its start."""
    links = {str((folder.facts() or {}).get("slurm", {}).get("job")): 1}
    links |= {
        str(turn.facts.get("job")): int(turn.facts.get("link", 0)) for turn in Turns(folder.turns).read() if turn.kind == "start"
    }
    own = re.compile(re.escape(folder.links + os.sep) + r"(\d{1,9})/script(?: |$)")
    found = []
    for one in queue:
        if path := own.match(one.command):
            found.append(OfChain(one, int(path[1])))
        elif one.job in links and not _foreign(one):
            found.append(OfChain(one, links[one.job]))
    return tuple(found)
