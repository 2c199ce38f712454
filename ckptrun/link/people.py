"""What a person does to a chain from outside its jobs, and sees of it: stop it, what of it lives. `resume` is apart."""

from __future__ import annotations

import os
import re
from typing import NamedTuple, TypeVar

from ckptrun.chain.home import ChainFolder
from ckptrun.chain.ledger import final_outcome
from ckptrun.chain.state import set_stop_mark, why_live
from ckptrun.chain.turns import Turns
from ckptrun.early import HUP, INT, TERM, Handlers
from ckptrun.errors import Refused
from ckptrun.link.errands import Errands, Procedure
from ckptrun.link.handover import give_back
from ckptrun.link.revival import OfChain
from ckptrun.slurm import commands, parse
from ckptrun.slurm.parse import Queued

_AGAIN_S = 3.0
T = TypeVar("T")


class Stopped(NamedTuple):
    """What `chain stop` did: the waiting jobs it cancelled, and what still runs and will save and stop."""

    cancelled: tuple[str, ...]
    running: str | None


def stop(folder: ChainFolder) -> Stopped:
    """Stop a chain: no further link starts, the one that runs saves and ends. Raises Refused where it has ended already."""
    outcome = final_outcome(Turns(folder.turns).read())
    if outcome is not None:
        raise Refused(f"chain {folder.id} has ended already: {outcome}")
    set_stop_mark(folder)
    if not is_slurm(folder):
        return Stopped((), why_live(folder))
    return run(_stop_jobs(folder))


def is_slurm(folder: ChainFolder) -> bool:
    """Return whether the chain's links are jobs."""
    return bool((folder.facts() or {}).get("slurm"))


def _stop_jobs(folder: ChainFolder) -> Procedure[Stopped]:
    lines = yield from answered_queue()
    jobs = [(one, job) for one, _ in jobs_of(folder, lines) if (job := parse.job_id(one.job)) is not None]
    at_work = sorted((job for one, job in jobs if one.at_work), key=lambda job: job.number)
    waiting = [job for one, job in jobs if one.waiting]
    for job in waiting:
        if at_work:  # it may save for minutes yet, and a cancel would count as the end that others wait for
            yield from give_back(job, at_work[-1], lines, folder.links)
        yield commands.cancel(job)
    for job in at_work:
        if _is_batch_shell(folder, str(job)):  # it looks for the mark every ten seconds; a signal makes it look now
            yield commands.signal_batch_shell(job, "TERM")
    return Stopped(tuple(map(str, waiting)), f"job {at_work[-1]}" if at_work else None)


def _is_batch_shell(folder: ChainFolder, job: str) -> bool:
    starts = [turn for turn in Turns(folder.turns).read() if turn.kind == "start" and turn.facts.get("job") == job]
    return bool(starts and starts[-1].facts.get("batch_shell"))


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
            self._queue = run(_whole_queue())
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


def run(procedure: Procedure[T]) -> T:
    """Carry a procedure out to its end; a signal ends it."""
    errands = Errands()
    handlers = Handlers()

    def heard(number: int) -> None:
        if number in (HUP, INT, TERM):
            raise KeyboardInterrupt

    try:
        return errands.wait_for(procedure, handlers, heard)
    finally:
        handlers.restore()
