"""The hand-over: one successor, submitted once, whatever dies or stays silent.

Rules of this file, in the order in which they are kept:
- Nothing is submitted by one who has been replaced, or whose job is not his any more.
- The intent comes before the submission. Who finds it adopts what it led to and never repeats it.
- After a certain refusal (noted) it is submitted again; after an ambiguous answer only when the queue, asked twice, does not show
  it, and only while the queue would still show a job that had ended. A refusal after an ambiguous answer is certain after a look.
- What may pass is tried again, each time later: a limit only until the training has ended, because a requeue needs no room.
- A successor that a person has cancelled is not submitted again.
- Only when it is queued may this job lose its right to come back.
- Who waits for this job is moved to the successor only after that was seen in the queue: a job that was forgotten counts as over.

Each procedure is a generator (see `errands`): what crashes between two of its yields has done what stands above, and no more.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from ckptrun.chain.links import LinkFiles
from ckptrun.job import protocol
from ckptrun.job.protocol import Handed, Next, Result
from ckptrun.link.errands import Pause, Procedure
from ckptrun.slurm import answers, commands, dependents, environment, parse
from ckptrun.slurm.answers import Answer, Submission
from ckptrun.slurm.dependents import Move, Ours
from ckptrun.slurm.fidelity import Same, reservation_of, without_reservation
from ckptrun.slurm.parse import JobId, JobRecord, Queued

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
_STILL_LISTENING_S = 3.0
_FIRST_LOOK_S = 10.0
# From the look of another link to its update; and how often who collided tries again.
_OTHERS_UPDATE_S, _UPDATES = 0.5, 12


class Office(NamedTuple):
    """Who hands over, and what: our job, restart count and node, the successor's files, how the same job is submitted again.

    `bare` is the job id that an array task has of its own. `over` says whether the training has ended: then nothing is gained by
    waiting for room. `wanted`: whether there is to be a successor still.
    """

    job: JobId
    restart: int
    node: str
    files: LinkFiles
    same: Same
    own_environment: Mapping[str, str]
    base: int
    replaced: Callable[[], bool]
    say: Callable[[str], None]
    min_job_age_s: float = 300.0
    delay_s: float = 0.0
    bare: int | None = None
    over: Callable[[], bool] = lambda: False
    wanted: Callable[[], bool] = lambda: True


def hand_over(office: Office) -> Procedure[Result]:
    """Submit the successor and see it in the queue. It runs until that is certain, or until whoever waits abandons it."""
    files = office.files
    try:
        ours = files.intend(str(office.job), office.base)
    except OSError as error:
        return Result(Handed.REFUSED, said=f"the intent cannot be written to {files.path} ({error.strerror})")
    unknown_since = None if ours or files.refused else files.intended_at
    for pause_s in _pauses():
        if unknown_since is not None:
            found = yield from _look_until_answered(office)
            if found.handed is not Handed.LOST:
                return (yield from _secure(office, found))
            if not protocol.may_repeat(found, time.time() - unknown_since, office.min_job_age_s):
                return Result(Handed.REFUSED, said=_TOO_LONG_AGO)
            yield from _wait(pause_s - _FIRST_PAUSE_S, _nobody)
        if not (yield from _may_submit(office)):
            if unknown_since is None and not office.replaced():
                files.note_refused("not submitted: this job was not ours any more")  # else its next attempt would look for a job
            return Result(Handed.NOT_OURS)
        files.forget_refusal()
        files.forget_job()
        said = yield submission(office)
        assert said is not None
        answer = answers.submission(said.code, said.out, said.err)
        following = protocol.after_submission(answer.answer, in_doubt=unknown_since is not None)
        if following is Next.SECURE and answer.job is not None:
            job = answer.job._replace(task=office.job.task)
            return (yield from _secure(office, Result(Handed.QUEUED, job, answer.said)))
        if following is Next.LOOK_WHETHER_REFUSED:
            found = yield from _look_until_answered(office)
            if found.handed is not Handed.LOST:
                return (yield from _secure(office, found))
        unknown_since = time.time() if following is Next.LOOK else None
        if unknown_since is None:
            files.note_refused(answer.said)
        if answer.answer is Answer.REFUSED and reservation_of(office.same) is not None:
            office.say(f"sbatch: {answer.said}; trying without its reservation")
            office = office._replace(same=without_reservation(office.same))
            continue
        if answer.answer is Answer.REFUSED or (answer.answer is Answer.LIMITED and office.over()):
            return Result(Handed.REFUSED, said=answer.said)
        _say_again(office, answer)
        if answer.answer is not Answer.UNKNOWN:
            yield from _wait(pause_s, office.over if answer.answer is Answer.LIMITED else _nobody)
    raise AssertionError("the pauses have no end")


_TOO_LONG_AGO = "a submission was never answered, and it is too long ago to be seen in the queue"


def _pauses() -> Iterator[float]:
    """Return how long to wait after each answer: 1, 2, 4 ... s, at the most half a minute."""
    pause_s = _FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _nobody() -> bool:
    return False


def _wait(seconds: float, over: Callable[[], bool]) -> Procedure[None]:
    """Wait, but not on when it is over."""
    for _ in range(int(seconds)):
        if over():
            return
        yield Pause(1.0)


def _say_again(office: Office, answer: Submission) -> None:
    if answer.answer is Answer.UNKNOWN:
        office.say(f"the controller did not say whether it took the next job ({answer.said}): looking for it")
    elif answer.answer is Answer.LIMITED:
        office.say(f"sbatch: {answer.said}; trying again until the training has ended")
    else:
        office.say(f"sbatch: {answer.said}; trying again")


def _look_until_answered(office: Office) -> Procedure[Result]:
    for pause_s in _pauses():
        found = yield from _look_twice(office)
        if found is not None:
            return found
        yield Pause(pause_s)
    raise AssertionError("the pauses have no end")


def _may_submit(office: Office) -> Procedure[bool]:
    """Return whether this job is still ours and not replaced; wait until the controller says so."""
    for pause_s in _pauses():
        job_is_ours = yield from _job_is(protocol.may_go_on, office)
        if job_is_ours is False or office.replaced() or not office.wanted():
            return False
        if job_is_ours:
            return True
        office.say("the controller does not answer; trying again")
        yield Pause(pause_s)
    raise AssertionError("the pauses have no end")


def submission(office: Office) -> commands.Call:
    """Return the command that submits the successor, held by this job."""
    options = [*office.same.options, f"--dependency=afterany:{office.job}"]
    if office.job.task is not None:
        options.append(f"--array={office.job.task}")
    if office.delay_s:
        options.append(f"--begin=now+{office.delay_s:.0f}")
    same = office.same
    variables = environment.successors(office.own_environment, office.base, same.variables)
    return commands.submit(tuple(options), office.files.script, same.arguments, variables, same.directory)


def _job_is(rule: Callable[[JobRecord | None, int, str], bool], office: Office) -> Procedure[bool | None]:
    """Return what a rule says of the controller's record of this job; None where it does not answer."""
    said = yield commands.show_job(office.job)
    assert said is not None
    record = parse.job_record(said.out) if said.code == 0 else None
    if record is None and parse.silent(said.code, said.err):
        return None
    return rule(record, office.restart, office.node)


def _look_twice(office: Office) -> Procedure[Result | None]:
    """Look for the job of a submission without an answer; it may stand in the controller's listen queue still, so look again."""
    found = yield from _look_for(office)
    if found is None or found.handed is not Handed.LOST:
        return found
    yield Pause(_STILL_LISTENING_S)
    return (yield from _look_for(office))


def _look_for(office: Office) -> Procedure[Result | None]:
    found = yield from look(office.files.script)
    return None if found is None else protocol.successor_in(found)


def look(script: str) -> Procedure[tuple[Queued, ...] | None]:
    """Return all jobs of a script in the queue, those that have ended included; None where the controller does not answer."""
    lines = yield from _queue()
    return None if lines is None else tuple(one for one in lines if one.runs(script))


def _queue() -> Procedure[tuple[Queued, ...] | None]:
    said = yield commands.queue_of_user()
    assert said is not None
    return parse.queue(said.out) if said.code == 0 else None


def _secure(office: Office, found: Result) -> Procedure[Result]:
    """After an answer: look for siblings, note the job, and give up this job's right to come back."""
    if found.handed is not Handed.QUEUED or found.job is None:
        return found
    job = found.job
    siblings = yield from look(office.files.script)
    found = protocol.with_siblings(found, siblings)
    if found.handed is Handed.CANCELLED:
        # By its script: a controller that crashed may have forgotten it, and given its id to somebody else.
        if any(one.job == str(job) for one in siblings or ()):
            yield commands.cancel(job)
        return found
    office.files.note_job(str(job))
    yield commands.keep_from_requeue(office.job)
    return found


def confirm(office: Office, job: JobId, *, seen: bool, pause_s: float = 0.0) -> Procedure[Result]:
    """Look at the successor again, after `pause_s`. `seen`: an earlier look showed it, so that a person must have taken it away.

    An accepted job can be lost with the controller, its id given to another, its limit above the partition's.
    """
    if pause_s:
        yield Pause(pause_s)
    return protocol.seen_again(job, (yield from _queue()), office.files.script, seen=seen)


def first_look(office: Office, job: JobId) -> Procedure[Result]:
    """Look at the successor some seconds after its submission: by then a controller that crashed has forgotten it."""
    return confirm(office, job, seen=False, pause_s=_FIRST_LOOK_S)


def take_back(office: Office) -> Procedure[tuple[str, ...]]:
    """Cancel the successor where it waits; return its ids. One whose job is not his any more leaves it to who has taken over.

    Who waits for it is given back to this job before: a cancel counts as an end, and the training may still be saving.
    """
    lines = yield from _queue()
    found = [one for one in lines or () if one.waiting and one.runs(office.files.script)]
    if found and not (yield from is_ours(office)):
        return ()
    for one in found:
        job = parse.job_id(one.job)
        if job is not None:
            yield from give_back(job, office.job, lines or (), office.files.chain)
            yield commands.cancel(job)
    return tuple(one.job for one in found)


def is_ours(office: Office) -> Procedure[bool]:
    """Return whether nobody has taken over: else the job, and its successor, are not ours to cancel or to requeue.

    Where the controller is silent it will not hear what comes of it either.
    """
    return (yield from _job_is(protocol.is_ours, office)) is not False and not office.replaced()


def may_come_back(office: Office) -> Procedure[bool]:
    """Return whether this job may be requeued: it is ours, and not being cancelled."""
    return (yield from _job_is(protocol.may_go_on, office)) is not False and not office.replaced()


def give_back(successor: JobId, job: JobId, lines: tuple[Queued, ...], chain: str) -> Procedure[None]:
    """Let those who wait for a successor that will not be wait for the job that still runs; as far as the controller answers."""
    for move in dependents.moves(lines, Ours(successor, successor.number), job, chain):
        if not move.expression:
            continue
        said = yield commands.wait_for(move.job, move.expression)
        assert said is not None
        if parse.silent(said.code, said.err):
            return


def let_go(office: Office) -> Procedure[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Cancel the successors that wait and for which nobody waits; return those, and the ones that are left to start.

    One that is left finds the chain complete, ends with 0 and so releases who waits for it.
    """
    lines = yield from _queue()
    found = [one for one in lines or () if one.waiting and one.runs(office.files.script)]
    if found and not (yield from is_ours(office)):
        return (), ()
    cancelled, left = [], []
    for one in found:
        job = parse.job_id(one.job)
        if job is None or dependents.waited_for(lines or (), job, office.files.chain):
            left.append(one.job)
        else:
            yield commands.cancel(job)
            cancelled.append(one.job)
    return tuple(cancelled), tuple(left)


class Moved(NamedTuple):
    """Who waits for the successor now, and who is left waiting for this job, with the reason in `why`."""

    moved: tuple[Move, ...] = ()
    left: tuple[Move, ...] = ()


def move_dependents(office: Office, successor: JobId, lines: tuple[Queued, ...]) -> Procedure[Moved]:
    """Let the user's jobs that wait for this one wait for its successor. `lines` is the queue in which that was seen.

    An update replaces all that a job waits for, and Slurm has no way to change a part of it: of two links that do so at the same
    time one is forgotten. So where there is anything else in it, it is looked at again, once the other's update must have come.
    """
    if office.replaced() or not office.wanted():
        return Moved()
    ours, chain = Ours(office.job, office.bare), office.files.chain
    done: dict[str, Move] = {}
    refused: dict[str, str] = {}
    left = dependents.moves(lines, ours, successor, chain)
    for turn in range(1, _UPDATES + 1):
        tries = [move for move in left if move.expression and move.job not in refused]
        for move in tries:
            said = yield commands.wait_for(move.job, move.expression)
            assert said is not None
            if said.code == 0:
                done[move.job] = move
            else:
                refused[move.job] = parse.said(said.err) or "no answer"
        left = tuple(move for move in left if not move.expression or move.job in refused)
        if not any(move.shared or move.job in refused for move in tries):
            break
        if any(move.shared for move in tries):
            # Two that collided must not do so again: by chance one of them looks again while the other waits.
            yield Pause(_OTHERS_UPDATE_S * (1 + min(turn, 4) * os.urandom(1)[0] / 255))
        found = yield from _queue()
        if found is None:
            break
        left = dependents.moves(found, ours, successor, chain)
    why = {move.job: refused.get(move.job) or move.why or "other links change it at the same time" for move in left}
    moved = (move for job, move in done.items() if job not in why)
    return Moved(tuple(moved), tuple(move._replace(why=why[move.job]) for move in left))
