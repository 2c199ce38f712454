"""PURE. The decisions of the protocol that hands a chain from job to job: each of them once, for the code and for its model.

Rules of this file. A decision stands on what was asked before it, and says by a value what is to be done next; what touches the
ledger or Slurm is done by `succession`, `handover` and `batch`; what a person does is decided in `revival`. tests/model explores
every order of those acts, with a crash after each, and shows for every rule what breaks without it: a rule is changed there first
(docs/explanation/protocol.md).

- A start is allowed once: by the first turn of the chain, by an earlier attempt of the same job, by the turn that it builds on, or
  by a later attempt of that turn's job. It takes the turn after the last one that it was judged by.
- Of several jobs of one link the noted one is the link; without a note the first to take its turn.
- Who was told to end, and does not say why, is not followed; nor is who was cancelled, whether he could record that or not.
- Nothing trains beside a start that has not ended: it waits for its job, and for the fencing time where that was on another node.
- An intent is adopted and never repeated, unless it is certain that no job came of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from ckptrun.chain.ledger import Turn, last_grant, last_number, outcome_after
from ckptrun.job.reason import of_record
from ckptrun.slurm.answers import Answer
from ckptrun.slurm.parse import JobId, JobRecord, Queued, job_id
from ckptrun.words import Course, Outcome

AT_WORK = frozenset({"RUNNING", "COMPLETING", "SIGNALING", "SUSPENDED", "STOPPED", "STAGE_OUT"})
# Pending reasons that no waiting ends, as squeue(1) has them: it is the job that asks for what it cannot have. Where a partition, a
# node or a reservation is closed it may be opened again. A job that waits for another one mostly shows `Dependency` instead.
NEVER = frozenset(
    {
        *("PartitionTimeLimit", "PartitionNodeLimit", "PartitionMinNodes", "PartitionMaxNodes", "BadConstraints"),
        *("DependencyNeverSatisfied", "ReservationDeleted", "DeadLine"),
        *("InvalidAccount", "InvalidQOS", "AccountNotAllowed", "QOSNotAllowed"),
        *("AssocMaxWallDurationPerJobLimit", "QOSMaxWallDurationPerJobLimit"),
        *("AssocMaxCpuPerJobLimit", "QOSMaxCpuPerJobLimit", "AssocMaxNodePerJobLimit", "QOSMaxNodePerJobLimit"),
        *("AssocMaxMemPerJob", "QOSMaxMemoryPerJob", "AssocMaxGRESPerJob", "QOSMaxGRESPerJob"),
    }
)
# Ended without having started: its own demand has become impossible, or Slurm took it away.
_ENDED_WAITING = frozenset({"DEADLINE", "REVOKED"})


# --- may this job start its link?


class Predecessor(NamedTuple):
    """How the link before ended, where it could not record that itself; `taken_away` as in `Reason`."""

    link: int
    outcome: str
    why: str
    taken_away: bool = False


class Fence(NamedTuple):
    """What a start waits for before it trains: until these jobs are over, and then the fencing time."""

    jobs: tuple[JobId, ...]


class Verdict(NamedTuple):
    """Whether to train. With `go` the start takes the turn behind `after`, and waits behind a `fence`. Else exit, and why.

    `attempt` counts the starts of a link by one job.
    """

    go: bool
    why: str = ""
    exit_code: int = 75
    after: int = 0
    fence: Fence | None = None
    predecessor: Predecessor | None = None
    attempt: int = 1


class Ask(Enum):
    """What must be asked before a start can be judged."""

    SIBLINGS = "the jobs of our own link in the queue"
    FOLLOWING = "what came of the intent to submit the next link"
    PREDECESSOR = "the state of the job that started last"


class Following(NamedTuple):
    """The next link as a later attempt finds it: whether it may have been submitted, and its jobs in the queue.

    `recent`: so short a time ago that the queue would still show a job that had ended.
    """

    submitted: bool
    jobs: tuple[Queued, ...] = ()
    recent: bool = False


class Evidence(NamedTuple):
    """What a start knows: itself, the chain's turns, and the job that was `noted` for its link. What was not asked yet is None.

    `base` is the turn that its submitter had taken, 0 for none. `predecessor` is a job's state, empty where nobody knows it.
    `batch_shell`: it is the process that the job's script became, of which a run of the job has one, on the node on which the
    controller says that the job runs.
    """

    chain: str
    link: int
    job: str
    restart: int
    node: str
    base: int
    turns: tuple[Turn, ...]
    noted: str | None = None
    siblings: tuple[Queued, ...] | None = None
    following: Following | None = None
    predecessor: str | None = None
    batch_shell: bool = False


def judge(evidence: Evidence) -> Verdict | Ask:
    """Return whether a job may start its link now, or what must be asked first."""
    last = last_grant(evidence.turns)
    if last is None:
        return Verdict(True, after=last_number(evidence.turns)) if evidence.link == 1 else _by_hand(evidence)
    if last.kind == "start" and last.facts.get("job") == evidence.job:
        return _judge_requeued(evidence, last)
    if not follows(evidence.turns, last, evidence.base):
        if evidence.base or any(turn.kind == "start" and turn.facts.get("job") == evidence.job for turn in evidence.turns):
            taken = f"link {last.facts.get('link')} of {evidence.chain} has taken over: this job is not needed any more"
            return Verdict(False, taken)
        return _by_hand(evidence)
    if evidence.siblings is None:
        return Ask.SIBLINGS
    if (why := another_is_it(evidence)) is not None:
        return Verdict(False, why)
    if last.kind == "resume":
        return Verdict(True, after=last_number(evidence.turns), fence=fence(evidence))
    return Ask.PREDECESSOR if evidence.predecessor is None else _judge_predecessor(evidence, last, evidence.predecessor)


def sees_its_base(turns: tuple[Turn, ...], base: int) -> bool:
    """Return whether the turn that a start builds on is among those that were read: another node's may stay unseen for a while."""
    return last_number(turns) >= base


def _by_hand(evidence: Evidence) -> Verdict:
    return Verdict(False, f"this is the script of link {evidence.link}, submitted by hand. {_resume(evidence)}")


def _resume(evidence: Evidence) -> str:
    return f"`ckptrun chain resume {evidence.chain}` goes on"


def follows(turns: tuple[Turn, ...], last: Turn, base: int) -> bool:
    """Return whether a start that builds on turn `base` may follow `last`: that turn itself, or a later attempt of its job."""
    if last.number == base:
        return True
    origin = next((turn for turn in turns if turn.number == base), None)
    return origin is not None and last.kind == "start" and origin.facts.get("job") == last.facts.get("job") is not None


def another_is_it(evidence: Evidence) -> str | None:
    """Return why another job is this link, the one that was noted, or none is: a person cancelled a sibling.

    Of siblings that nobody has noted the first to take its turn is the link. That one came first decides nothing: it may have
    read a note that this node does not see yet, and leave.
    """
    if evidence.noted is not None and evidence.noted != evidence.job:
        return f"link {evidence.link} of {evidence.chain} is job {evidence.noted}, not this one"
    for one in evidence.siblings or ():
        if one.job != evidence.job and one.state == "CANCELLED":
            return f"job {one.job}, the same link, was cancelled"
    return None


def _number(job: str) -> int:
    return int(job.split("_")[0])


def _judge_requeued(evidence: Evidence, last: Turn) -> Verdict | Ask:
    """A later attempt of a job looks forward: how it ended before, and whether its successor lives."""
    if not _is_another_run(evidence, last):
        return Verdict(
            False,
            f"job {last.facts.get('job')} has run ckptrun for chain {evidence.chain} already, and one ckptrun leads a job. Put "
            "the second training into a job of its own, or start it below the first one's command",
            exit_code=125,
        )
    outcome = outcome_after(evidence.turns, last.number)
    if outcome == "complete":
        return Verdict(False, "the chain is complete", exit_code=0)
    if outcome in ("cancelled", "stopped", "failed", "continued"):
        return Verdict(False, f"this link has ended before: {outcome}")
    if evidence.following is None:
        return Ask.FOLLOWING
    if _is_gone(evidence.following):
        gone = "the successor of this link was submitted and is not in the queue any more"
        return Verdict(False, f"{gone}. {_resume(evidence)}")
    attempt = max(int(last.facts.get("attempt", 1)), evidence.restart) + 1
    return Verdict(True, after=last_number(evidence.turns), fence=fence(evidence), attempt=attempt)


def _is_another_run(evidence: Evidence, last: Turn) -> bool:
    """Return whether the job runs again since its last start, so that we are no second ckptrun beside the one that took it.

    Slurm counts its restarts, but for one of which the controller has forgotten that it had begun: the script that becomes
    ckptrun a second time says so then.
    """
    counted = evidence.restart > int(last.facts.get("restart", 0))
    return counted or bool(evidence.batch_shell and last.facts.get("batch_shell"))


def _is_gone(following: Following) -> bool:
    """Return whether a successor was there and is not any more: a person may have cancelled it."""
    if any(one.state == "CANCELLED" for one in following.jobs):
        return True
    if not following.submitted or any(one.waiting or one.at_work for one in following.jobs):
        return False
    # An intent of which the queue shows nothing, while it would show a cancelled job: nothing came of it.
    return bool(following.jobs) or not following.recent


def _judge_predecessor(evidence: Evidence, last: Turn, state: str) -> Verdict:
    link = int(last.facts.get("link", 0))
    outcome = outcome_after(evidence.turns, last.number)
    if outcome == "complete":
        return Verdict(False, "the chain is complete", exit_code=0)
    if outcome in ("cancelled", "stopped", "failed"):
        return Verdict(False, f"link {link} ended as {outcome}")
    if state == "CANCELLED":
        why = "its job was cancelled"
        return Verdict(
            False, f"job {last.facts.get('job')}, link {link}, was cancelled", predecessor=Predecessor(link, "cancelled", why)
        )
    if outcome is None and (untold := _told_to_end(evidence.turns, last, state)) is not None:
        return Verdict(False, f"link {link} is {untold.outcome}: {untold.why}", predecessor=untold)
    lost = None
    if outcome is None:
        why = f"its job ended as {state}" if state else "it died without a word"
        lost = Predecessor(link, "lost", why, taken_away=state in ("NODE_FAIL", "PREEMPTED"))
    found = fence(evidence, at_work=lost is not None and state in AT_WORK)
    return Verdict(True, after=last_number(evidence.turns), fence=found, predecessor=lost)


def _told_to_end(turns: tuple[Turn, ...], last: Turn, state: str) -> Predecessor | None:
    """Return why a start without an end must not be followed: a person told it to end, or may have done so."""
    link = int(last.facts.get("link", 0))
    terms = [turn for turn in turns if turn.kind == "term" and turn.number > last.number]
    # It knew why and could not record its end: it was killed first, which Slurm does a KillWait after every cancel.
    told = terms[-1].facts if terms else {}
    if told.get("course") in (Course.CANCEL.value, Course.STOP.value):
        outcome = "cancelled" if told["course"] == Course.CANCEL.value else "stopped"
        return Predecessor(link, outcome, str(told.get("reason")))
    if state:
        return None
    if terms and not told.get("reason"):
        return Predecessor(link, "lost", "it was told to end, and why is not known")
    if not terms and not last.facts.get("batch_shell"):
        return Predecessor(link, "lost", "it died without a word, and could not have heard a cancel")
    return None


def fence(evidence: Evidence, *, at_work: bool = False) -> Fence | None:
    """Return what of the starts before may still be at work: every one back to the last that trained and ended.

    One that waited behind a fence itself, and ended or died there, has waited for nobody to the end.
    """
    unended = _unended_starts(evidence.turns)
    if not at_work and all(start.facts.get("node") == evidence.node for start in unended):
        return None
    jobs = dict.fromkeys(str(start.facts.get("job")) for start in unended)
    return Fence(tuple(job for name in jobs if name != evidence.job and (job := job_id(name)) is not None))


def _unended_starts(turns: tuple[Turn, ...]) -> list[Turn]:
    """Return the last starts that have no end on record, newest first."""
    found: list[Turn] = []
    ended = False
    for turn in reversed(turns):
        if turn.kind == "end":
            ended = True
            if turn.facts.get("trained", True):
                break
        elif turn.kind == "start":
            found += [] if ended else [turn]
            ended = False
    return found


# --- the hand-over


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
    """The result of one step of the hand-over: the successor's job where there is one, what Slurm said, and the queue as seen."""

    handed: Handed
    job: JobId | None = None
    said: str = ""
    lines: tuple[Queued, ...] = ()


def is_ours(record: JobRecord | None, restart: int, node: str) -> bool:
    """Return whether a job is still the one that we run in, its script on this node. `record` is None where it is not known."""
    return record is not None and record.at_work and record.restarts == restart and runs_on(record, node)


def runs_on(record: JobRecord, node: str) -> bool:
    """Return whether a job's script runs on this node. A controller that has forgotten a start begins it again on another."""
    return record.fields.get("BatchHost", node) == node


def script_node(record: JobRecord, node: str, *, in_step: bool) -> str:
    """Return the node on which this start's script runs: ours, or, where a task of a step leads, the one that the job began on."""
    return record.fields.get("BatchHost", node) if in_step else node


def may_go_on(record: JobRecord | None, restart: int, node: str) -> bool:
    """Return whether our job may be followed or requeued: it is ours, and it is not being cancelled.

    On a node that Slurm has lost nobody hears a cancel; and Slurm requeues a cancelled job as willingly as another.
    """
    if record is None or not is_ours(record, restart, node):
        return False
    return record.state != "COMPLETING" or of_record(record, restart) is not None


def successor_in(found: Sequence[Queued]) -> Result:
    """Return what became of a submission, by the jobs of its script in the queue, those that have ended included."""
    if any(one.state == "CANCELLED" for one in found):
        return Result(Handed.CANCELLED)
    alive = [one for one in found if one.waiting or one.at_work]
    if not alive:
        return Result(Handed.LOST)
    return Result(Handed.QUEUED, job_id(min(alive, key=lambda one: _number(one.job)).job))


def may_repeat(found: Result, age_s: float, min_job_age_s: float) -> bool:
    """Return whether a submission without an answer may be made again: the queue would still show a job that had ended."""
    return found.handed is Handed.LOST and age_s <= min_job_age_s


class Next(Enum):
    """What follows an answer of sbatch."""

    SECURE = "take the job"
    LOOK = "there may be a job: look for it before anything else"
    LOOK_WHETHER_REFUSED = "no job of this submission; look whether an earlier one, without an answer, has led to one"
    REFUSED = "no job, and there is none of any other submission"


def after_submission(answer: Answer, *, in_doubt: bool) -> Next:
    """Return what follows an answer. `in_doubt`: an earlier submission of the same link was never answered.

    Then a refusal says nothing of that one: its job may be the very one that takes the last place under a limit.
    """
    if answer is Answer.ACCEPTED:
        return Next.SECURE
    if answer is Answer.UNKNOWN:
        return Next.LOOK
    return Next.LOOK_WHETHER_REFUSED if in_doubt else Next.REFUSED


def with_siblings(found: Result, siblings: Sequence[Queued] | None) -> Result:
    """Return the successor, unless a person has cancelled a job of the same link: then ours must go, too. None: not answered."""
    if siblings is not None and any(one.state == "CANCELLED" for one in siblings):
        return Result(Handed.CANCELLED)
    return found


def seen_again(job: JobId, lines: tuple[Queued, ...] | None, script: str, *, seen: bool) -> Result:
    """Return what the whole queue shows of the successor. `seen`: an earlier look showed it, so that a person took it away.

    An accepted job can be lost with the controller, its id given to another, its limit above the partition's.
    """
    if lines is None:
        return Result(Handed.SILENT, job)
    found = [one for one in lines if one.runs(script)]
    alive = [one for one in found if one.waiting or one.at_work]
    if any(one.state == "CANCELLED" for one in found):
        return Result(Handed.CANCELLED, job)
    ended = next((one.state for one in found if one.state in _ENDED_WAITING), None)
    if not alive and ended is not None:
        return Result(Handed.NEVER, job, f"it has ended as {ended} before it could start")
    if not alive:
        return Result(Handed.CANCELLED if seen else Handed.LOST, job)
    never = next((one.reason for one in alive if one.waiting and one.reason in NEVER), None)
    if never is not None:
        return Result(Handed.NEVER, job, never)
    return Result(Handed.QUEUED, job_id(alive[0].job), lines=lines)


# --- the end of a link


class Duty(Enum):
    """What has to be true of the successor before the turn `end` is taken."""

    QUEUED = "one stands in the queue"
    LET_GO = "none waits, unless others wait for it"
    TAKEN_BACK = "none waits"
    NONE = "nothing"


def duty(outcome: Outcome) -> Duty:
    """Return what a link that ends so owes the next one."""
    if outcome is Outcome.CONTINUED:
        return Duty.QUEUED
    if outcome is Outcome.COMPLETE:
        return Duty.LET_GO
    return Duty.TAKEN_BACK if outcome in (Outcome.CANCELLED, Outcome.STOPPED, Outcome.FAILED) else Duty.NONE


def takes_end_turn(outcome: Outcome) -> bool:
    """Return whether a link that ends so says it: one that was told to end and does not know why leaves it to be judged."""
    return outcome not in (Outcome.LOST, Outcome.REPLACED)


class Conclusion(Enum):
    """What the end of a hand-over means for a link that wants to go on."""

    CONTINUED = "the next link stands in the queue"
    STOPPED = "a person cancelled it"
    REPLACED = "the job is not ours any more"
    NEVER = "it would never start"
    REQUEUE = "no job can be submitted: start this one again"
    AGAIN = "the job was accepted and lost"


_CONCLUSIONS = {
    Handed.QUEUED: Conclusion.CONTINUED,
    Handed.SILENT: Conclusion.CONTINUED,
    Handed.CANCELLED: Conclusion.STOPPED,
    Handed.NOT_OURS: Conclusion.REPLACED,
    Handed.NEVER: Conclusion.NEVER,
    Handed.REFUSED: Conclusion.REQUEUE,
    Handed.LOST: Conclusion.AGAIN,
}


def conclusion(handed: Handed) -> Conclusion:
    """Return what a hand-over has come to. The controller silent at the last look: what it said before counts."""
    return _CONCLUSIONS[handed]
