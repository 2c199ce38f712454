"""PURE. How a link ended, what the chain does next, and why: the table of ends and the bounds."""

from __future__ import annotations

from typing import NamedTuple

from ckptrun import durations
from ckptrun.chain.model import ChainSoFar
from ckptrun.plan import Plan
from ckptrun.words import Course, Outcome, Status

UNFINISHED_EXIT = 75
STALLED_LINKS = 2
SHORT_LINKS = 5
TAKEN_AWAY_STARTS = 100
SHORT_WITHOUT_LIMIT_S = 10.0
LONGEST_DELAY_S = 3600.0


class End(NamedTuple):
    """What is known when the training is over.

    `asked` is None where nobody asked, and `asked_for` is the reason's sentence. `ours`: it ended by the asked signal or after our
    TERM or KILL. `done`: it said so itself, or the done-file stands. `new_checkpoint`: a whole one was written since the link's
    start. `progress` is None where none can be seen. `reached_ask`: the link came to its checkpoint time. `taken_away`: the cluster
    needed the nodes, or lost them.
    """

    status: Status
    asked: Course | None = None
    asked_for: str = ""
    ours: bool = False
    done: bool = False
    new_checkpoint: bool = False
    progress: bool | None = None
    reached_ask: bool = False
    out_of_memory: bool = False
    peak_bytes: int = 0
    seconds: float = 0.0
    limit_s: float | None = None
    stop_file: bool = False
    replaced: bool = False
    taken_away: bool = False


class Decision(NamedTuple):
    """What the chain does: its `outcome`, whether a `next` link follows and after how long, our exit code, and why."""

    outcome: Outcome
    next: bool
    exit_code: int
    why: str
    delay_s: float = 0.0
    short: bool = False
    unsaved: bool = False
    retried: bool = False


def is_short(end: End) -> bool:
    """Return whether a start lasted less than a tenth of its limit (without a limit: under 10 s)."""
    return end.seconds < (end.limit_s / 10 if end.limit_s is not None else SHORT_WITHOUT_LIMIT_S)


def decide(end: End, plan: Plan, so_far: ChainSoFar) -> Decision:
    """Return how the link ended and what comes next. `so_far` counts this start, but nothing of how it ended."""
    if end.replaced:
        return Decision(Outcome.REPLACED, False, UNFINISHED_EXIT, "another start has taken over this chain")
    if end.done:
        code = 0 if end.ours else end.status.exit_code  # a status that is our signal's says nothing of the training
        after = f", and then ended with {describe(end.status)}" if code else ""
        return Decision(Outcome.COMPLETE, False, code, f"the training said that it is done{after}")
    if end.asked in (Course.CANCEL, Course.STOP):
        return _ended_by_a_person(end)
    if end.asked is Course.UNKNOWN:
        return Decision(Outcome.LOST, False, UNFINISHED_EXIT, end.asked_for)
    if end.asked is Course.REQUEUE:
        return Decision(Outcome.REQUEUED, False, 0, end.asked_for)
    decision = _unasked(end, plan, so_far) if end.asked is None else _asked(end, plan, so_far)
    return _bounded(decision, end, plan, so_far) if decision.next else decision


def _ended_by_a_person(end: End) -> Decision:
    if end.asked is Course.STOP:
        return Decision(Outcome.STOPPED, False, UNFINISHED_EXIT, end.asked_for)
    code = end.status.exit_code or UNFINISHED_EXIT
    return Decision(Outcome.CANCELLED, False, code, end.asked_for)


def _unasked(end: End, plan: Plan, so_far: ChainSoFar) -> Decision:
    if plan.again_exit is not None and end.status.code == plan.again_exit:
        return _continued(plan, f"the training said with exit code {plan.again_exit} that it saved and is to be run again")
    if end.status.code == 0:
        if plan.done_file is None:
            return Decision(Outcome.COMPLETE, False, 0, "the training ended by itself with exit code 0")
        return _continued(plan, f"exit code 0, and {plan.done_file} does not exist yet")
    if end.out_of_memory:
        return _failed(end, f"out of memory (peak {end.peak_bytes / 1e9:.1f} GB)")
    if so_far.retries < plan.retries:
        text = f"the training failed ({describe(end.status)}): retry {so_far.retries + 1} of {plan.retries}"
        return _continued(plan, text)._replace(retried=True)
    return _failed(end, f"the training failed ({describe(end.status)})")


def _asked(end: End, plan: Plan, so_far: ChainSoFar) -> Decision:
    if end.ours or end.status.code == 0 or (plan.again_exit is not None and end.status.code == plan.again_exit):
        return _continued(plan, end.asked_for + _unsaved(end, plan))
    if end.out_of_memory:
        return _failed(end, f"out of memory while it was asked to save (peak {end.peak_bytes / 1e9:.1f} GB)")
    if end.new_checkpoint or not plan.checkpoints:
        return _continued(plan, f"{end.asked_for}; the training ended with {describe(end.status)}")
    if so_far.unsaved:
        return _failed(end, f"could not save: asked twice, it ended with {describe(end.status)} and wrote no checkpoint")
    text = f"{end.asked_for}; it ended with {describe(end.status)} and wrote no checkpoint: once more"
    return _continued(plan, text)._replace(unsaved=True)


def _unsaved(end: End, plan: Plan) -> str:
    """Return what is added where a link came to its checkpoint time and nothing stands that counts: a wrong path, or a name."""
    seen = not plan.checkpoints or not end.reached_ask or end.new_checkpoint or end.progress is not False
    return "" if seen else "; no new checkpoint stands under --checkpoint"


def _continued(plan: Plan, why: str) -> Decision:
    return Decision(Outcome.CONTINUED, True, plan.continued_exit, why)


def _failed(end: End, why: str) -> Decision:
    return Decision(Outcome.FAILED, False, end.status.exit_code, why)


def _bounded(decision: Decision, end: End, plan: Plan, so_far: ChainSoFar) -> Decision:
    """Return the decision to go on, unless a bound stops the chain; then with the delay after a short start."""
    # A start that the cluster took away counts for nothing but a bound of its own.
    short = is_short(end) and not end.taken_away
    shorts = so_far.short if end.taken_away else so_far.short + 1 if short else 0
    starts = so_far.starts - end.taken_away
    stalled = so_far.stalled + 1 if end.reached_ask and end.progress is False else 0
    running_s = so_far.running_s + end.seconds
    sees = bool(plan.checkpoints) or end.progress is not None or so_far.best_step is not None
    bound = plan.bound(sees_progress=sees)
    stop = None
    if end.stop_file:
        stop = f"the stop file {plan.stop_file} exists"
    elif end.taken_away and so_far.taken_away + 1 >= TAKEN_AWAY_STARTS:
        stop = f"the cluster has taken the job away {TAKEN_AWAY_STARTS} times"
    elif starts >= bound:
        stop = f"--max-links is {bound}, and so many were run"
        if plan.max_links is None and not sees:
            stop += " without --checkpoint, because progress cannot be seen"
    elif plan.max_time_s is not None and running_s >= plan.max_time_s:
        stop = f"the chain has run for {durations.show(running_s)}, and --max-time is {durations.show(plan.max_time_s)}"
    elif stalled >= STALLED_LINKS:
        stop = f"{stalled} links in a row came to their checkpoint time without progress{_unsaved(end, plan)}"
    elif shorts >= SHORT_LINKS:
        stop = f"{shorts} links in a row lasted less than a tenth of their limit"
    if stop is not None:
        return Decision(Outcome.STOPPED, False, UNFINISHED_EXIT, stop, short=short, unsaved=decision.unsaved)
    delay_s = min(60.0 * 2 ** (shorts - 1), LONGEST_DELAY_S) if short else 0.0
    return decision._replace(delay_s=delay_s, short=short)


def describe(status: Status) -> str:
    """Return how a process ended, in words."""
    return f"exit code {status.code}" if status.code is not None else f"signal {status.signal}"
