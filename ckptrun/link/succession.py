"""Who this start is in its chain, and whether it may train: asked of the ledger, the controller and accounting, in that order.

Rules of this file. A link is known by its script's path, link 1 by its job's entry, never by the environment alone: a training that
submits another ckptrun job begins a new chain. While the controller is silent nothing is decided. A start is allowed once: by the
first turn of the chain, by an earlier attempt of the same job, by the turn that it builds on, or by a later attempt of that
turn's job.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import NamedTuple

from ckptrun.chain import jobs
from ckptrun.chain.home import ChainFolder
from ckptrun.chain.links import LinkFiles
from ckptrun.chain.turns import Turn, Turns
from ckptrun.errors import Stranded
from ckptrun.link.errands import Pause, Procedure
from ckptrun.link.handover import look
from ckptrun.slurm import commands, parse
from ckptrun.slurm.job import Here
from ckptrun.slurm.parse import JobId, JobRecord

FENCING_S = 25.0
_AGAIN_S = 5.0
_LINK_SCRIPT = re.compile(r"(/.*)/chains/([A-Za-z0-9._-]{1,64})/links/(\d{1,6})/script(?: |$)")


class Place(NamedTuple):
    """Which chain and link a job is; `folder` is None for a job that begins one."""

    record: JobRecord
    folder: ChainFolder | None
    link: int = 1


class Predecessor(NamedTuple):
    """How the link before ended, where it could not record that itself; `taken_away` as in `Reason`."""

    link: int
    outcome: str
    why: str
    taken_away: bool = False


class Verdict(NamedTuple):
    """Whether to train. With `go` the start builds on turn `after`; `fence` names a job to wait for first. Else exit, and why."""

    go: bool
    why: str = ""
    exit_code: int = 75
    after: int = 0
    fence: tuple[JobId | None, bool] | None = None
    predecessor: Predecessor | None = None


def find_place(here: Here, home: str, say: Callable[[str], None]) -> Procedure[Place | str]:
    """Return the place of this job in its chain; a sentence where the controller does not know the job."""
    said_so = False
    while True:
        said = yield commands.show_job(here.job)
        assert said is not None
        record = parse.job_record(said.out) if said.code == 0 else None
        if record is not None:
            return place_of(record, here, home)
        if not parse.silent(said.code, said.err):
            return f"the controller does not know job {here.job}: {said.err.strip()}"
        if not said_so:
            said_so = True
            say("the controller does not answer: waiting for it, nothing is started yet")
        yield Pause(_AGAIN_S)


def place_of(record: JobRecord, here: Here, home: str) -> Place:
    """Return the place that the job's script, or its entry, names. Raises Stranded where the chain of a link's script is gone."""
    found = _LINK_SCRIPT.match(record.command)
    if found:
        folder = ChainFolder(os.path.join(found[1], "chains", found[2]))
        facts = folder.facts()
        if facts is None or facts.get("id") != found[2] or os.stat(folder.json).st_uid != os.getuid():
            raise Stranded(
                f"this job is link {found[3]} of chain {found[2]}, whose record in {folder.path} is gone: it does not train. "
                "Put the record back, or submit the original script: it begins a new chain from the newest whole checkpoint"
            )
        return Place(record, folder, int(found[3]))
    entry = jobs.find(home, here.cluster, str(here.job))
    if entry is not None and entry.is_same_job(record.submitted_at, record.restarts, record.command, record.directory):
        folder = ChainFolder(os.path.join(home, "chains", entry.chain))
        if folder.facts() is not None:
            return Place(record, folder, entry.link)
    return Place(record, None)


def judge(place: Place, here: Here, base: int) -> Procedure[Verdict]:
    """Return whether a job may start its link now. `base` is the turn that its submitter had taken, 0 for none."""
    assert place.folder is not None
    turns = Turns(place.folder.turns).read()
    last = next((turn for turn in reversed(turns) if turn.kind in ("start", "resume")), None)
    job, restart = str(here.job), place.record.restarts
    number = turns[-1].number if turns else 0
    if last is None:
        return Verdict(True, after=0) if place.link == 1 else _by_hand(place)
    if last.kind == "start" and last.facts.get("job") == job:
        return (yield from _judge_requeued(place, here, turns, last, restart))
    if not _follows(turns, last, base):
        if any(turn.kind == "start" and turn.facts.get("job") == job for turn in turns) or base:
            return Verdict(
                False, f"link {last.facts.get('link')} of {place.folder.id} has taken over: this job is not needed any more"
            )
        return _by_hand(place)
    if (refusal := (yield from _is_not_the_one(place, here))) is not None:
        return refusal
    if last.kind == "resume":
        return Verdict(True, after=number, fence=_fence_after_resume(turns, here))
    return (yield from _judge_predecessor(turns, last, here, number))


def _by_hand(place: Place) -> Verdict:
    assert place.folder is not None
    return Verdict(
        False, f"this is the script of link {place.link}, submitted by hand. `ckptrun chain resume {place.folder.id}` goes on"
    )


def _follows(turns: tuple[Turn, ...], last: Turn, base: int) -> bool:
    """Return whether a start that builds on turn `base` may follow `last`: that turn itself, or a later attempt of its job."""
    if last.number == base:
        return True
    origin = next((turn for turn in turns if turn.number == base), None)
    return origin is not None and last.kind == "start" and origin.facts.get("job") == last.facts.get("job") is not None


def _is_not_the_one(place: Place, here: Here) -> Procedure[Verdict | None]:
    """Return why another job is this link: the one that was noted, or a sibling that came first or that a person cancelled."""
    assert place.folder is not None
    files = LinkFiles(place.folder, place.link)
    if files.job is not None and files.job != str(here.job):
        return Verdict(False, f"link {place.link} of {place.folder.id} is job {files.job}, not this one")
    while (found := (yield from look(files.script))) is None:
        yield Pause(_AGAIN_S)
    for one in found:
        if one.job == str(here.job):
            continue
        if one.state == "CANCELLED":
            return Verdict(False, f"job {one.job}, the same link, was cancelled")
        if one.at_work and int(one.job.split("_")[0]) < here.job.number:
            return Verdict(False, f"job {one.job} is this link already")
    return None


def _judge_requeued(place: Place, here: Here, turns: tuple[Turn, ...], last: Turn, restart: int) -> Procedure[Verdict]:
    """A later attempt of a job looks forward: how it ended before, and whether its successor lives."""
    assert place.folder is not None
    number = turns[-1].number
    if int(last.facts.get("restart", 0)) >= restart:
        return Verdict(
            False,
            f"job {last.facts.get('job')} has run ckptrun for chain {place.folder.id} already, and one ckptrun leads a job. Put "
            "the second training into a job of its own, or start it below the first one's command",
            exit_code=125,
        )
    outcome = _outcome_after(turns, last.number)
    if outcome == "complete":
        return Verdict(False, "the chain is complete", exit_code=0)
    if outcome in ("cancelled", "stopped", "failed", "continued"):
        return Verdict(False, f"this link has ended before: {outcome}")
    following = LinkFiles(place.folder, place.link + 1)
    if following.intended_at is not None and not following.refused:
        while (found := (yield from look(following.script))) is None:
            yield Pause(_AGAIN_S)
        if not any(one.waiting or one.at_work for one in found):
            return Verdict(False, f"the successor of this link was submitted and is not in the queue any more. {_resume(place)}")
    return Verdict(True, after=number, fence=None if outcome else (None, last.facts.get("node") != here.node))


def _resume(place: Place) -> str:
    assert place.folder is not None
    return f"`ckptrun chain resume {place.folder.id}` goes on"


def _judge_predecessor(turns: tuple[Turn, ...], last: Turn, here: Here, number: int) -> Procedure[Verdict]:
    link = int(last.facts.get("link", 0))
    outcome = _outcome_after(turns, last.number)
    if outcome == "complete":
        return Verdict(False, "the chain is complete", exit_code=0)
    if outcome in ("cancelled", "stopped", "failed"):
        return Verdict(False, f"link {link} ended as {outcome}")
    job = parse.job_id(str(last.facts.get("job")))
    state = (yield from state_of(job)) if job is not None else ""
    if state == "CANCELLED":
        return Verdict(
            False, f"job {job}, link {link}, was cancelled", predecessor=Predecessor(link, "cancelled", "its job was cancelled")
        )
    if outcome is None and state == "":
        terms = [turn for turn in turns if turn.kind == "term" and turn.number > last.number]
        if terms and not any(turn.facts.get("reason") for turn in terms):
            why = "it was told to end, and why is not known"
            return Verdict(False, f"link {link} is lost: {why}", predecessor=Predecessor(link, "lost", why))
        if not terms and not last.facts.get("batch_shell"):
            why = "it died without a word, and could not have heard a cancel"
            return Verdict(False, f"link {link} is lost: {why}", predecessor=Predecessor(link, "lost", why))
    lost = None
    if outcome is None:
        why = f"its job ended as {state}" if state else "it died without a word"
        lost = Predecessor(link, "lost", why, taken_away=state in ("NODE_FAIL", "PREEMPTED"))
    at_work = job if state in _AT_WORK else None
    other_node = last.facts.get("node") != here.node
    fence = (at_work, other_node or at_work is not None) if outcome is None and (other_node or at_work) else None
    return Verdict(True, after=number, fence=fence, predecessor=lost)


_AT_WORK = frozenset({"RUNNING", "COMPLETING", "SIGNALING", "SUSPENDED", "STOPPED", "STAGE_OUT"})


def _fence_after_resume(turns: tuple[Turn, ...], here: Here) -> tuple[JobId | None, bool] | None:
    starts = [turn for turn in turns if turn.kind == "start"]
    if not starts or _outcome_after(turns, starts[-1].number) is not None or starts[-1].facts.get("node") == here.node:
        return None
    return (parse.job_id(str(starts[-1].facts.get("job"))), True)


def _outcome_after(turns: tuple[Turn, ...], number: int) -> str | None:
    """Return the outcome of the first `end` after a turn, None where that start has not ended."""
    return next((str(turn.facts.get("outcome")) for turn in turns if turn.kind == "end" and turn.number > number), None)


def state_of(job: JobId) -> Procedure[str]:
    """Return a job's state from the controller, else from accounting, empty where neither knows it. Waits for the controller."""
    while True:
        said = yield commands.show_job(job)
        assert said is not None
        record = parse.job_record(said.out) if said.code == 0 else None
        if record is not None:
            return record.state
        if not parse.silent(said.code, said.err):
            break
        yield Pause(_AGAIN_S)
    said = yield commands.accounting(job)
    assert said is not None
    known = parse.accounted(said.out) if said.code == 0 else ()
    return known[-1].state if known else ""


def wait_behind(fence: tuple[JobId | None, bool]) -> Procedure[None]:
    """Wait until another job is over, and then the fencing time: a training on a lost node must have seen that it was replaced."""
    job, fenced = fence
    while job is not None and (yield from state_of(job)) in _AT_WORK:
        yield Pause(_AGAIN_S)
    if fenced:
        yield Pause(FENCING_S)
