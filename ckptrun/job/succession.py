"""Who this start is in its chain, and whether it may train: asked of the ledger, the controller and accounting, in that order.

Rules of this file. A link is known by its script's path, link 1 by its job's entry, never by the environment alone: a training that
submits another ckptrun job begins a new chain. While the controller is silent nothing is decided. What is decided on the answers
stands in `protocol`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import NamedTuple

from ckptrun.chain import jobs
from ckptrun.chain.home import ChainFolder
from ckptrun.chain.ledger import last_grant
from ckptrun.chain.links import LinkFiles
from ckptrun.chain.turns import Turns
from ckptrun.errors import Stranded
from ckptrun.job import protocol
from ckptrun.job.handover import look
from ckptrun.job.protocol import Ask, Evidence, Fence, Following, Verdict
from ckptrun.link.errands import Pause, Procedure
from ckptrun.slurm import commands, parse
from ckptrun.slurm.job import Here
from ckptrun.slurm.parse import JobId, JobRecord, Queued

FENCING_S = 25.0
_AGAIN_S = 5.0
# How often the ledger is read until our submitter's turn is visible: NFS keeps a listing for a minute.
_LOOKS = 13
_LINK_SCRIPT = re.compile(r"(/.*)/chains/([A-Za-z0-9._-]{1,64})/links/(\d{1,6})/script(?: |$)")


class Place(NamedTuple):
    """Which chain and link a job is; `folder` is None for a job that begins one."""

    record: JobRecord
    folder: ChainFolder | None
    link: int = 1


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
    folder = place.folder
    assert folder is not None
    turns = Turns(folder.turns).read()
    for _ in range(_LOOKS):
        if protocol.sees_its_base(turns, base):
            break
        yield Pause(_AGAIN_S)
        turns = Turns(folder.turns).read()
    noted = LinkFiles(folder, place.link).job
    evidence = Evidence(folder.id, place.link, str(here.job), place.record.restarts, here.node, base, turns, noted)
    evidence = evidence._replace(batch_shell=here.batch_shell and protocol.runs_on(place.record, here.node))
    while isinstance(found := protocol.judge(evidence), Ask):
        evidence = yield from _asked(found, folder, evidence)
    return found


def _asked(ask: Ask, folder: ChainFolder, evidence: Evidence) -> Procedure[Evidence]:
    """Return the evidence with what was to be asked."""
    if ask is Ask.SIBLINGS:
        return evidence._replace(siblings=(yield from _seen(LinkFiles(folder, evidence.link).script)))
    if ask is Ask.FOLLOWING:
        return evidence._replace(following=(yield from _following(folder, LinkFiles(folder, evidence.link + 1))))
    last = last_grant(evidence.turns)
    job = parse.job_id(str(last.facts.get("job"))) if last is not None else None
    return evidence._replace(predecessor=(yield from state_of(job)) if job is not None else "")


def _following(folder: ChainFolder, files: LinkFiles) -> Procedure[Following]:
    intended_at = files.intended_at
    if intended_at is None:
        return Following(False)
    settings = ((folder.facts() or {}).get("slurm") or {}).get("settings") or {}
    found = yield from _seen(files.script)
    return Following(not files.refused, found, time.time() - intended_at < settings.get("min_job_age_s", 0.0))


def _seen(script: str) -> Procedure[tuple[Queued, ...]]:
    """Return the jobs of a script, once the controller answers."""
    while (found := (yield from look(script))) is None:
        yield Pause(_AGAIN_S)
    return found


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


def wait_behind(fence: Fence) -> Procedure[None]:
    """Wait until other jobs are over, and then the fencing time: a training on a lost node must have seen that it was replaced."""
    for job in fence.jobs:
        while (yield from state_of(job)) in protocol.AT_WORK:
            yield Pause(_AGAIN_S)
    yield Pause(FENCING_S)
