"""What stands in the way of the next job, found out in the first minute of a link and not at its end.

`AllocNodes` of the partition says from where it takes submissions; whether this node is among them, and what a site's own plugin
thinks of it, is told by `sbatch --test-only`. That is asked once in a chain, and again where a partition is closed to some.
"""

from __future__ import annotations

from typing import NamedTuple

from ckptrun import durations
from ckptrun.link.errands import Procedure
from ckptrun.slurm import answers, commands, parse
from ckptrun.slurm.answers import Answer, Submission
from ckptrun.slurm.parse import JobRecord, Partition, Window

REQUEUE_COSTS = "a requeue costs 121 s before the job may run again"


class Ahead(NamedTuple):
    """What was found: the partition's record, and how a submission would be refused; None for what nobody could say."""

    partition: Partition | None = None
    refusal: Submission | None = None


class Ways(NamedTuple):
    """How this link may go on: `resubmit` by sbatch; `no_requeue` says why not by requeue; `ready` is the ready command."""

    resubmit: bool
    no_requeue: str | None
    ready: str


def look_ahead(record: JobRecord, submission: commands.Call, *, first: bool) -> Procedure[Ahead]:
    """Ask what stands in the way of `submission`. `first`: nobody has asked in this chain yet."""
    said = yield commands.show_partition(record.fields.get("Partition", ""))
    assert said is not None
    partition = parse.partition(said.out) if said.code == 0 else None
    closed = partition is not None and partition.alloc_nodes != "ALL"
    if not (first or closed):
        return Ahead(partition)
    said = yield commands.try_to_submit(submission)
    assert said is not None
    return Ahead(partition, answers.would_be(said.code, said.out, said.err))


# A limit that Slurm or a person cut to fit before a window ends some seconds, at most a minute, before it.
_RIGHT_BEHIND_S = 90.0


def window_ahead(record: JobRecord, now: float) -> Procedure[Window | None]:
    """Ask which service window of this job's nodes begins while the job may run, or right behind its end; None for none."""
    said = yield commands.show_reservations()
    assert said is not None
    if said.code != 0 or record.end_at is None:
        return None
    known = parse.windows(said.out, record.fields.get("NodeList", ""))
    inside = record.fields.get("Reservation", "")
    ahead = (one for one in known if now < one.begins_at <= record.end_at + _RIGHT_BEHIND_S and one.name != inside)
    return next(ahead, None)


def sentences(ahead: Ahead, ways: Ways, time_limit: str) -> tuple[str, ...]:
    """Return what is to be said of it. `time_limit` is the job's own, as its record has it."""
    found = [_of_the_limit(ahead.partition, time_limit)]
    if not ways.resubmit:
        found.append(None if ways.no_requeue is None else f"{_STRANDED}: {ways.no_requeue}. Afterwards: {ways.ready}")
    elif ahead.refusal is not None:
        found.append(_of_the_refusal(ahead.refusal, ahead.partition, ways))
    return tuple(one for one in found if one is not None)


_STRANDED = "this chain will be stranded when this job is over"


def _of_the_refusal(refusal: Submission, partition: Partition | None, ways: Ways) -> str | None:
    if refusal.answer is Answer.LIMITED:
        else_ = f"the chain is stranded: {ways.no_requeue}" if ways.no_requeue else f"this job is requeued: {REQUEUE_COSTS}"
        return f"sbatch would be refused now ({refusal.said}). It is tried from the ask until the training has ended; then {else_}"
    if refusal.answer is not Answer.REFUSED:
        return None
    where = ""
    if partition is not None and partition.alloc_nodes != "ALL":
        where = f"; partition {partition.name} takes submissions from {partition.alloc_nodes} alone"
    refused = f"sbatch is refused on this node ({refusal.said}{where})"
    if ways.no_requeue is not None:
        return f"{_STRANDED}: {refused}, and {ways.no_requeue}. Afterwards, where sbatch works: {ways.ready}"
    return f"{refused}: this chain goes on by requeue of this job; {REQUEUE_COSTS}, unless somebody types then: {ways.ready}"


def _of_the_limit(partition: Partition | None, time_limit: str) -> str | None:
    """Say that the next job would wait for ever: while it waits for this one, its reason in the queue does not show that."""
    if partition is None:
        return None
    try:
        most_s, asked_s = durations.parse(partition.max_time), durations.parse(time_limit)
    except ValueError:  # UNLIMITED, INFINITE, Partition_Limit
        return None
    if asked_s <= most_s:
        return None
    return (
        f"partition {partition.name} allows {durations.show(most_s)} now, and this job has {durations.show(asked_s)}: unless its "
        "QOS allows more, the next job will wait for ever. Once it is queued, lower its limit: "
        "scontrol update JobId=JOB TimeLimit=MINUTES"
    )
