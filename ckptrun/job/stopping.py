"""What a person stops: the job that waits is cancelled, what runs saves and ends, or runs to its checkpoint time, and none follows.

Rules. The mark first: a link that is just submitting its successor sees it before it ends, and takes the successor back. After the
queue the turns are read once more: tests/model shows what the first reading may have missed.
"""

from __future__ import annotations

import os
from enum import Enum
from typing import NamedTuple

from ckptrun.chain import liveness
from ckptrun.chain.home import ChainFolder
from ckptrun.chain.ledger import final_outcome
from ckptrun.chain.state import set_stop_mark, stop_mark
from ckptrun.chain.turns import Turns
from ckptrun.early import INT, TERM
from ckptrun.errors import Refused
from ckptrun.job.handover import give_back
from ckptrun.job.people import answered_queue, is_slurm, jobs_of
from ckptrun.link import child
from ckptrun.link.errands import Procedure, carry_out
from ckptrun.slurm import commands, parse


class How(str, Enum):
    """When what runs is to end."""

    NOW = "now"
    CHECKPOINT = "checkpoint"
    LINK = "link"


class Stopped(NamedTuple):
    """What `chain stop` did: the waiting jobs it cancelled, and in words what becomes of what runs, None where nothing does."""

    cancelled: tuple[str, ...]
    running: str | None


def stop(folder: ChainFolder, how: How = How.CHECKPOINT) -> Stopped:
    """Stop a chain: no further link starts. Raises Refused where it has ended already, or the controller is silent."""
    outcome = final_outcome(Turns(folder.turns).read())
    if outcome is not None:
        raise Refused(f"chain {folder.id} has ended already: {outcome}")
    set_stop_mark(folder, after_link=how is How.LINK)
    return carry_out(_stop_jobs(folder, how)) if is_slurm(folder) else Stopped((), _stop_process(folder, how))


def to_go_on(folder: ChainFolder) -> str:
    """Return how a person goes on with a stopped chain."""
    if is_slurm(folder):
        return f"`ckptrun chain resume {folder.id}` goes on"
    return f"the same command again, in {(folder.facts() or {}).get('directory')}, goes on"


_WILL = {
    How.NOW: "is cancelled: the training is asked to save, and ends with Slurm's KillWait at the latest",
    How.CHECKPOINT: "saves and ends within about ten seconds of its next look",
    How.LINK: "runs on to its checkpoint time, and is the last",
}


def _stop_jobs(folder: ChainFolder, how: How) -> Procedure[Stopped]:
    lines = yield from answered_queue()
    if stop_mark(folder) is None:
        # A resume that this node did not see yet had made the mark void: its job is in this queue, or finds the new mark.
        set_stop_mark(folder, after_link=how is How.LINK)
    jobs = [(one, job) for one, _ in jobs_of(folder, lines) if (job := parse.job_id(one.job)) is not None]
    at_work = sorted((job for one, job in jobs if one.at_work), key=lambda job: job.number)
    waiting = [job for one, job in jobs if one.waiting]
    for job in waiting:
        if at_work:  # it may save for minutes yet, and a cancel would count as the end that others wait for
            yield from give_back(job, at_work[-1], lines, folder.links)
        yield commands.cancel(job)
    for job in at_work:
        if how is How.NOW:
            yield commands.cancel(job)
        elif how is How.CHECKPOINT and _is_batch_shell(folder, str(job)):
            yield commands.signal_batch_shell(job, "TERM")  # it looks for the mark every ten seconds; a signal makes it look now
    return Stopped(tuple(map(str, waiting)), f"job {at_work[-1]} {_WILL[how]}" if at_work else None)


def _is_batch_shell(folder: ChainFolder, job: str) -> bool:
    starts = (turn for turn in Turns(folder.turns).newest_first() if turn.kind == "start" and turn.facts.get("job") == job)
    return bool((found := next(starts, None)) and found.facts.get("batch_shell"))


def _stop_process(folder: ChainFolder, how: How) -> str | None:
    start = next((turn.facts for turn in Turns(folder.turns).newest_first() if turn.kind == "start"), None)
    if start is None:
        return None
    pid, node = start["pid"], start["node"]
    alive = liveness.alive(node, start["boot_id"], pid, start["pid_started"])
    if alive is None:
        return f"it was last started on {node}: if it runs there, the link that runs is the last; `kill {pid}` there stops it"
    if not alive or pid == os.getpid():
        return None
    if how is How.LINK:
        return f"its ckptrun, process {pid}, runs on to the end of this link, which is the last"
    child.send(pid, INT if how is How.NOW else TERM)
    return f"its ckptrun, process {pid}, was told: it asks the training to save, and ends with it"
