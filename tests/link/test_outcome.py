"""Every cell of the table of ends, and every bound."""

from __future__ import annotations

import pytest

from ckptrun.chain.model import ChainSoFar, so_far
from ckptrun.link.outcome import End, decide
from ckptrun.plan import Plan
from ckptrun.words import Course, Outcome, Status

PLAN = Plan(("train",), checkpoints=("/ck",), done_file="/done", again_exit=85)
FRESH = so_far([])
OK, AGAIN, BAD, SEGV = Status(0, None), Status(85, None), Status(3, None), Status(None, 11)
GO, CANCEL, STOP, REQUEUE = Course.GO_ON, Course.CANCEL, Course.STOP, Course.REQUEUE
NO_DONE_FILE = PLAN._replace(done_file=None)


def end(status: Status, asked: Course | None = None, **facts: object) -> End:
    """Return an end of a link that lasted long enough."""
    return End(status, asked, "because", seconds=100.0, limit_s=100.0, **facts)  # type: ignore[arg-type]


TABLE = [
    ("done, not asked", PLAN, end(OK, done=True), Outcome.COMPLETE, 0),
    ("done, asked to go on", PLAN, end(OK, GO, done=True), Outcome.COMPLETE, 0),
    ("done, requeued", PLAN, end(OK, REQUEUE, done=True), Outcome.COMPLETE, 0),
    ("done, cancelled", PLAN, end(OK, CANCEL, done=True), Outcome.COMPLETE, 0),
    ("done with another code keeps its status", PLAN, end(BAD, done=True), Outcome.COMPLETE, 3),
    ("done, ended by our TERM", PLAN, end(Status(None, 15), GO, done=True, ours=True), Outcome.COMPLETE, 0),
    ("exit 0, not asked", NO_DONE_FILE, end(OK), Outcome.COMPLETE, 0),
    ("exit 0, not asked, done-file missing", PLAN, end(OK), Outcome.CONTINUED, 0),
    ("exit 0, asked", NO_DONE_FILE, end(OK, GO), Outcome.CONTINUED, 0),
    ("exit 0, requeued", PLAN, end(OK, REQUEUE), Outcome.REQUEUED, 0),
    ("exit 0, cancelled", PLAN, end(OK, CANCEL), Outcome.CANCELLED, 75),
    ("exit 0, stopped", PLAN, end(OK, STOP), Outcome.STOPPED, 75),
    ("by our signal, asked", PLAN, end(Status(None, 10), GO, ours=True), Outcome.CONTINUED, 0),
    ("by our signal, requeued", PLAN, end(Status(None, 10), REQUEUE, ours=True), Outcome.REQUEUED, 0),
    ("by our signal, cancelled", PLAN, end(Status(None, 15), CANCEL, ours=True), Outcome.CANCELLED, 143),
    ("by our signal, stopped", PLAN, end(Status(None, 15), STOP, ours=True), Outcome.STOPPED, 75),
    ("again-exit, not asked", PLAN, end(AGAIN), Outcome.CONTINUED, 0),
    ("again-exit, asked", PLAN, end(AGAIN, GO), Outcome.CONTINUED, 0),
    ("again-exit, requeued", PLAN, end(AGAIN, REQUEUE), Outcome.REQUEUED, 0),
    ("again-exit, cancelled", PLAN, end(AGAIN, CANCEL), Outcome.CANCELLED, 85),
    ("other exit, not asked", PLAN, end(BAD), Outcome.FAILED, 3),
    ("signal, not asked", PLAN, end(SEGV), Outcome.FAILED, 139),
    ("other exit, asked, saved", PLAN, end(BAD, GO, new_checkpoint=True), Outcome.CONTINUED, 0),
    ("other exit, asked, none can be seen", PLAN._replace(checkpoints=()), end(BAD, GO), Outcome.CONTINUED, 0),
    ("other exit, asked, nothing saved: once more", PLAN, end(BAD, GO), Outcome.CONTINUED, 0),
    ("other exit, requeued", PLAN, end(BAD, REQUEUE), Outcome.REQUEUED, 0),
    ("other exit, cancelled", PLAN, end(BAD, CANCEL), Outcome.CANCELLED, 3),
    ("other exit, stopped", PLAN, end(BAD, STOP), Outcome.STOPPED, 75),
    ("out of memory, not asked", PLAN, end(Status(None, 9), out_of_memory=True), Outcome.FAILED, 137),
    ("out of memory, asked", PLAN, end(Status(None, 9), GO, out_of_memory=True), Outcome.FAILED, 137),
    ("out of memory, requeued", PLAN, end(Status(None, 9), REQUEUE, out_of_memory=True), Outcome.REQUEUED, 0),
    ("replaced", PLAN, end(OK, STOP, replaced=True), Outcome.REPLACED, 75),
]


@pytest.mark.parametrize(("plan", "ended", "outcome", "exit_code"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_table_of_ends(plan: Plan, ended: End, outcome: Outcome, exit_code: int) -> None:
    """One cell of the table: the outcome, the exit code, and a next link only after `continued`."""
    decision = decide(ended, plan, FRESH)
    assert (decision.outcome, decision.exit_code) == (outcome, exit_code)
    assert decision.next == (outcome is Outcome.CONTINUED)
    assert decision.why


def test_could_not_save_twice_is_failed() -> None:
    """Asked twice in a row, ended with another code and without a new checkpoint: the training's own fault."""
    decision = decide(end(BAD, GO), PLAN, FRESH._replace(unsaved=1))
    assert decision.outcome is Outcome.FAILED
    assert "could not save" in decision.why


def test_a_crash_after_done_is_said() -> None:
    """Complete all the same, and nobody is left to believe that all went well; a signal of ours is no crash."""
    assert decide(end(OK, done=True), PLAN, FRESH).why == "the training said that it is done"
    assert decide(end(BAD, done=True), PLAN, FRESH).why == "the training said that it is done, and then ended with exit code 3"
    assert decide(end(Status(None, 9), done=True), PLAN, FRESH).why.endswith("ended with signal 9")
    assert decide(end(Status(None, 15), GO, done=True, ours=True), PLAN, FRESH).why == "the training said that it is done"


def test_continued_exit_is_used_only_when_the_chain_goes_on() -> None:
    """`--continued-exit` tells a waiting script that the chain is not finished."""
    plan = NO_DONE_FILE._replace(continued_exit=99)
    assert decide(end(OK, GO), plan, FRESH).exit_code == 99
    assert decide(end(OK), plan, FRESH).exit_code == 0


def test_retries_go_on_after_a_failure_until_they_are_used_up() -> None:
    """Two retries: the third failure without progress in between is the chain's end."""
    plan = NO_DONE_FILE._replace(retries=2)
    assert decide(end(BAD), plan, FRESH._replace(retries=1)).retried
    assert decide(end(BAD), plan, FRESH._replace(retries=2)).outcome is Outcome.FAILED


BOUNDS = [
    ("links", FRESH._replace(starts=20), end(OK, GO), "--max-links"),
    ("time", FRESH._replace(running_s=1000.0), end(OK, GO), "--max-time"),
    ("no progress", FRESH._replace(stalled=1), end(OK, GO, reached_ask=True, progress=False), "without progress"),
    ("stop file", FRESH, end(OK, GO, stop_file=True), "stop file"),
    ("short", FRESH._replace(short=4), end(OK, GO)._replace(seconds=1.0), "lasted less"),
]


@pytest.mark.parametrize(("known", "ended", "word"), [row[1:] for row in BOUNDS], ids=[row[0] for row in BOUNDS])
def test_bounds_stop_the_chain_and_say_which(known: ChainSoFar, ended: End, word: str) -> None:
    """At a bound the chain is stopped with 75, never silently."""
    decision = decide(ended, PLAN._replace(max_time_s=1050.0, stop_file="/stop"), known)
    assert (decision.outcome, decision.next, decision.exit_code) == (Outcome.STOPPED, False, 75)
    assert word in decision.why


def test_a_link_that_left_no_checkpoint_says_so() -> None:
    """In its last line, before a second one is spent: --checkpoint names another folder, or what stands there does not count."""
    lost = end(OK, GO, reached_ask=True, progress=False)
    assert decide(lost, PLAN, FRESH).why.endswith("; no new checkpoint stands under --checkpoint")
    assert decide(lost, PLAN, FRESH._replace(stalled=1)).why.endswith(
        "without progress; no new checkpoint stands under --checkpoint"
    )
    stands = "--checkpoint"
    assert stands not in decide(lost._replace(new_checkpoint=True), PLAN, FRESH).why
    assert stands not in decide(lost._replace(reached_ask=False), PLAN, FRESH).why, "it was not asked yet"
    assert stands not in decide(lost, Plan(("train",)), FRESH).why, "nobody has named a folder"


def test_a_start_that_the_cluster_took_away_counts_for_a_bound_of_its_own() -> None:
    """Preempted at the last link, and early: neither the links nor short starts count it; after a hundred the chain stops."""
    taken = end(OK, GO)._replace(seconds=1.0, taken_away=True)
    decision = decide(taken, PLAN, FRESH._replace(starts=20, short=4))
    assert (decision.next, decision.short, decision.delay_s) == (True, False, 0.0)
    assert decide(taken, PLAN, FRESH._replace(starts=21)).outcome is Outcome.STOPPED, "twenty others were run before it"
    worn = decide(taken, PLAN, FRESH._replace(taken_away=99))
    assert (worn.outcome, "100 times" in worn.why) == (Outcome.STOPPED, True)


def test_without_checkpoints_five_links_are_the_default_bound() -> None:
    """Where progress cannot be seen the default bound is 5."""
    plan = Plan(("train",))
    assert decide(end(OK, GO), plan, FRESH._replace(starts=4)).next
    assert decide(end(OK, GO), plan, FRESH._replace(starts=5)).outcome is Outcome.STOPPED


def test_told_steps_lift_the_bound_of_five() -> None:
    """Progress that the training tells, in this link or in an earlier one: the bound is 20, and standing still counts."""
    plan = Plan(("train",))
    told = end(OK, GO, progress=True)
    assert decide(told, plan, FRESH._replace(starts=5)).next
    assert decide(end(OK, GO), plan, FRESH._replace(starts=5, best_step=9)).next
    assert decide(told, plan, FRESH._replace(starts=20)).outcome is Outcome.STOPPED
    still = end(OK, GO, progress=False, reached_ask=True)
    assert "without progress" in decide(still, plan, FRESH._replace(stalled=1)).why


@pytest.mark.parametrize(("shorts", "delay_s"), [(0, 60.0), (1, 120.0), (2, 240.0), (3, 480.0)])
def test_a_short_start_delays_the_next(shorts: int, delay_s: float) -> None:
    """1, 2, 4 ... minutes after starts that lasted less than a tenth of their limit."""
    ended = end(OK, GO)._replace(seconds=9.0)
    assert decide(ended, PLAN, FRESH._replace(short=shorts)).delay_s == delay_s
