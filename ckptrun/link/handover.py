"""The hand-over: one successor, submitted once, whatever dies or stays silent.

Rules of this file, in the order in which they are kept:
- Nothing is submitted by one who has been replaced, or whose job is not his any more.
- The intent comes before the submission. Who finds it adopts what it led to and never repeats it.
- After a certain refusal (noted) it is submitted again; after an ambiguous answer only when the queue, asked twice, does not show
  it, and only while the queue would still show a job that had ended.
- A successor that a person has cancelled is not submitted again.
- Only when it is queued may this job lose its right to come back.

Each procedure is a generator (see `errands`): what crashes between two of its yields has done what stands above, and no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import Enum
from typing import NamedTuple

from ckptrun.chain.links import LinkFiles
from ckptrun.link.errands import Pause, Procedure
from ckptrun.slurm import commands, environment, parse
from ckptrun.slurm.fidelity import Same, reservation_of, without_reservation
from ckptrun.slurm.parse import Answer, JobId, Queued

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
_STILL_LISTENING_S = 3.0
_FIRST_LOOK_S = 10.0
# Reasons for which an accepted job never starts, however long it waits.
NEVER = frozenset(
    {
        *(
            "PartitionTimeLimit",
            "PartitionNodeLimit",
            "ReservationDeleted",
            "BadConstraints",
            "DependencyNeverSatisfied",
            "InvalidAccount",
            "InvalidQOS",
        ),
        *("AssocMaxWallDurationPerJobLimit", "QOSMaxWallDurationPerJobLimit"),
    }
)


class Handed(str, Enum):
    """What became of a hand-over."""

    QUEUED = "queued"
    CANCELLED = "cancelled by a person"
    NOT_OURS = "not ours"
    REFUSED = "refused"
    LOST = "lost"
    NEVER = "never starts"
    SILENT = "silent"


class Result(NamedTuple):
    """The result of one step of the hand-over: the successor's job where there is one, and what Slurm said."""

    handed: Handed
    job: JobId | None = None
    said: str = ""


class Office(NamedTuple):
    """Who hands over, and what: our job and its restart count, the successor's files, how the same job is submitted again."""

    job: JobId
    restart: int
    files: LinkFiles
    same: Same
    own_environment: Mapping[str, str]
    base: int
    replaced: Callable[[], bool]
    say: Callable[[str], None]
    min_job_age_s: float = 300.0
    delay_s: float = 0.0


def hand_over(office: Office) -> Procedure[Result]:
    """Submit the successor and see it in the queue. It runs until that is certain, or until whoever waits abandons it."""
    files = office.files
    try:
        ours = files.intend(str(office.job), office.base)
    except OSError as error:
        return Result(Handed.REFUSED, said=f"the intent cannot be written to {files.path} ({error.strerror})")
    unknown_since = None if ours or files.refused else files.intended_at
    pause_s = _FIRST_PAUSE_S
    while True:
        if unknown_since is not None:
            found = yield from _look_twice(office)
            if found is not None and found.handed is not Handed.LOST:
                return (yield from _secure(office, found))
            if found is None:
                yield Pause(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            if time.time() - unknown_since > office.min_job_age_s:
                return Result(
                    Handed.REFUSED, said="a submission was never answered, and it is too long ago to be seen in the queue"
                )
        job_is_ours = yield from _job_is_ours(office)
        if job_is_ours is False or office.replaced():
            return Result(Handed.NOT_OURS)
        if job_is_ours is None:
            office.say("the controller does not answer; trying again")
            yield Pause(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            continue
        files.forget_refusal()
        said = yield _submission(office)
        assert said is not None
        answer = parse.submission(said.code, said.out, said.err)
        if answer.answer is Answer.ACCEPTED and answer.job is not None:
            job = answer.job._replace(task=office.job.task)
            return (yield from _secure(office, Result(Handed.QUEUED, job, answer.said)))
        if answer.answer is Answer.UNKNOWN:
            unknown_since = time.time()
            office.say(f"the controller did not say whether it took the next job ({answer.said}): looking for it")
            continue
        files.note_refused(answer.said)
        unknown_since = None
        if answer.answer is Answer.REFUSED and reservation_of(office.same) is not None:
            office.say(f"sbatch: {answer.said}; trying without its reservation")
            office = office._replace(same=without_reservation(office.same))
            continue
        if answer.answer is Answer.REFUSED:
            return Result(Handed.REFUSED, said=answer.said)
        office.say(f"sbatch: {answer.said}; trying again")
        yield Pause(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _submission(office: Office) -> commands.Call:
    options = [*office.same.options, f"--dependency=afterany:{office.job}"]
    if office.job.task is not None:
        options.append(f"--array={office.job.task}")
    if office.delay_s:
        options.append(f"--begin=now+{office.delay_s:.0f}")
    same = office.same
    variables = environment.successors(office.own_environment, office.base, same.variables)
    return commands.submit(tuple(options), office.files.script, same.arguments, variables, same.directory)


def _job_is_ours(office: Office) -> Procedure[bool | None]:
    """Return whether the controller says that this job is still ours; None where it does not answer."""
    said = yield commands.show_job(office.job)
    assert said is not None
    record = parse.job_record(said.out) if said.code == 0 else None
    if record is None:
        return None if parse.silent(said.code, said.err) else False
    return record.at_work and record.restarts == office.restart


def _look_twice(office: Office) -> Procedure[Result | None]:
    """Look for the job of a submission without an answer; it may stand in the controller's listen queue still, so look again."""
    found = yield from look(office.files.script)
    if found is None or found:
        return _result_of(found)
    yield Pause(_STILL_LISTENING_S)
    return _result_of((yield from look(office.files.script)))


def _result_of(found: tuple[Queued, ...] | None) -> Result | None:
    if found is None:
        return None
    if any(one.state == "CANCELLED" for one in found):
        return Result(Handed.CANCELLED)
    alive = [one for one in found if one.waiting or one.at_work]
    if not alive:
        return Result(Handed.LOST)
    first = min(alive, key=lambda one: int(one.job.split("_")[0]))
    return Result(Handed.QUEUED, parse.job_id(first.job))


def look(script: str) -> Procedure[tuple[Queued, ...] | None]:
    """Return all jobs of a script in the queue, those that have ended included; None where the controller does not answer."""
    said = yield commands.queue_of_user()
    assert said is not None
    if said.code != 0:
        return None
    return tuple(one for one in parse.queue(said.out) if one.runs(script))


def _secure(office: Office, found: Result) -> Procedure[Result]:
    """After an answer: look for siblings, note the job, and give up this job's right to come back."""
    if found.handed is not Handed.QUEUED or found.job is None:
        return found
    siblings = yield from look(office.files.script)
    if siblings is not None and any(one.state == "CANCELLED" for one in siblings):
        yield commands.cancel(found.job)
        return Result(Handed.CANCELLED)
    office.files.note_job(str(found.job))
    yield commands.keep_from_requeue(office.job)
    return found


def confirm(office: Office, job: JobId, *, seen: bool, pause_s: float = 0.0) -> Procedure[Result]:
    """Look at the successor again, after `pause_s`. `seen`: an earlier look showed it, so that a person must have taken it away.

    An accepted job can be lost with the controller, its id given to another, its limit above the partition's.
    """
    if pause_s:
        yield Pause(pause_s)
    found = yield from look(office.files.script)
    if found is None:
        return Result(Handed.SILENT, job)
    alive = [one for one in found if one.waiting or one.at_work]
    if any(one.state == "CANCELLED" for one in found) or (not alive and seen):
        return Result(Handed.CANCELLED, job)
    if not alive:
        return Result(Handed.LOST, job)
    never = next((one.reason for one in alive if one.waiting and one.reason in NEVER), None)
    if never is not None:
        return Result(Handed.NEVER, job, never)
    return Result(Handed.QUEUED, parse.job_id(alive[0].job))


def first_look(office: Office, job: JobId) -> Procedure[Result]:
    """Look at the successor some seconds after its submission: by then a controller that crashed has forgotten it."""
    return confirm(office, job, seen=False, pause_s=_FIRST_LOOK_S)


def take_back(script: str) -> Procedure[tuple[str, ...]]:
    """Cancel the jobs of a script that wait; return their ids."""
    found = yield from look(script)
    waiting = tuple(one.job for one in found or () if one.waiting)
    for one in waiting:
        job = parse.job_id(one)
        if job is not None:
            yield commands.cancel(job)
    return waiting


def requeue(job: JobId) -> Procedure[Result]:
    """Start this job again under its own id; it waits two minutes before it runs."""
    said = yield commands.requeue(job)
    assert said is not None
    if said.code == 0:
        return Result(Handed.QUEUED, job)
    return Result(Handed.REFUSED, said=said.err.strip().splitlines()[-1] if said.err.strip() else "no answer")
