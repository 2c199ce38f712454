"""The decisions of the protocol, each with the history that tests/model found for it: these turns and answers, that verdict."""

from __future__ import annotations

from ckptrun.chain.ledger import Turn
from ckptrun.job import protocol
from ckptrun.job.protocol import Ask, Evidence, Fence, Following, Handed, Next, Result, Verdict
from ckptrun.slurm.answers import Answer
from ckptrun.slurm.parse import JobId, JobRecord, Queued


def turn(number: int, kind: str, **facts: object) -> Turn:
    """Return a turn."""
    return Turn(number, kind, {"link": 1, **facts})


START = turn(1, "start", job="5", restart=0, node="n1", batch_shell=True)
OURS = Evidence("c", 2, "6", 0, "n2", 1, (START,), siblings=(), predecessor="")
NEXT = "/c/links/2/script"


def judged(evidence: Evidence) -> Verdict:
    """Return the verdict; nothing may be left to ask."""
    found = protocol.judge(evidence)
    assert isinstance(found, Verdict)
    return found


def record(state: str, reason: str = "None", restarts: int = 0) -> JobRecord:
    """Return what the controller says of our job."""
    return JobRecord(state, reason, restarts, None, None, None, True, True, "/job.sh", "/", {"BatchHost": "n2"})


def test_what_must_be_asked_is_asked_in_turn() -> None:
    """First the siblings, then the predecessor; a later attempt asks for its successor instead."""
    assert protocol.judge(OURS._replace(siblings=None, predecessor=None)) is Ask.SIBLINGS
    assert protocol.judge(OURS._replace(predecessor=None)) is Ask.PREDECESSOR
    assert protocol.judge(OURS._replace(job="5", link=1, restart=1)) is Ask.FOLLOWING


def test_a_cancel_that_was_understood_and_not_recorded_as_the_end_is_a_cancel() -> None:
    """Killed a KillWait after the cancel, and Slurm has forgotten the job: its turn `term` says why it was told to end."""
    told = OURS._replace(turns=(START, turn(2, "term"), turn(3, "term", reason="the job was cancelled", course="cancel")))
    verdict = judged(told)
    assert not verdict.go and verdict.predecessor is not None and verdict.predecessor.outcome == "cancelled"
    asked = told._replace(turns=(START, turn(2, "term"), turn(3, "term", reason="the limit", course="go on")))
    assert judged(asked).go


def test_a_later_sigterm_counts() -> None:
    """The first meant: go on. Why the second came is not known, and nobody knows how the job ended: it may have been a cancel."""
    terms = (turn(2, "term"), turn(3, "term", reason="a person", course="go on"), turn(4, "term"))
    assert not judged(OURS._replace(turns=(START, *terms))).go
    assert judged(OURS._replace(turns=(START, *terms), predecessor="NODE_FAIL")).go


def test_the_fence_reaches_back_to_every_start_that_has_not_ended() -> None:
    """The last start waited behind its fence on our node and died there; the one before may still train on a lost node."""
    second = turn(2, "start", job="6", restart=0, node="n2", batch_shell=True)
    evidence = OURS._replace(job="7", link=3, base=3, turns=(START, second, turn(3, "resume", link=3)))
    assert judged(evidence).fence == Fence((JobId(6), JobId(5)))
    assert judged(evidence._replace(turns=(START, turn(2, "end", outcome="continued"), turn(3, "resume", link=3)))).fence is None
    untrained = (START, second, turn(3, "end", outcome="cancelled", trained=False), turn(4, "resume", link=3))
    assert judged(evidence._replace(turns=untrained, base=4)).fence == Fence((JobId(5),))


def test_a_later_attempt_goes_on_where_nothing_came_of_its_intent() -> None:
    """The queue would still show a successor that a person had cancelled; where it would not, nobody knows."""
    again = OURS._replace(job="5", link=1, restart=1, base=0)
    cancelled = Queued("6", "CANCELLED", "", "", NEXT)
    assert judged(again._replace(following=Following(True, (), recent=True))).go
    assert not judged(again._replace(following=Following(True, (), recent=False))).go
    assert not judged(again._replace(following=Following(True, (cancelled,), recent=True))).go


def test_of_siblings_the_noted_one_is_the_link() -> None:
    """One that came first leaves when another was noted; nobody leaves because another came first: both would."""
    first = Queued("4", "RUNNING", "", "", NEXT)
    assert judged(OURS._replace(siblings=(first,))).go
    assert judged(OURS._replace(siblings=(first,), noted="6")).go
    assert not judged(OURS._replace(noted="4")).go


def test_a_start_waits_for_the_turn_that_it_builds_on() -> None:
    """Another node's turn may stay unseen for a while."""
    assert not protocol.sees_its_base((), 1)
    assert protocol.sees_its_base((START,), 1) and protocol.sees_its_base((), 0)


def test_a_refusal_says_nothing_of_an_earlier_submission() -> None:
    """One without an answer may have been accepted, and fill the limit for which the second is refused."""
    for answer in (Answer.REFUSED, Answer.LIMITED, Answer.LATER):
        assert protocol.after_submission(answer, in_doubt=True) is Next.LOOK_WHETHER_REFUSED
        assert protocol.after_submission(answer, in_doubt=False) is Next.REFUSED
    assert protocol.after_submission(Answer.UNKNOWN, in_doubt=False) is Next.LOOK


def test_a_job_that_is_being_cancelled_is_ours_and_has_no_future() -> None:
    """Its successor is ours to cancel; it is not requeued, and nothing is submitted. The limit is another matter."""
    assert protocol.is_ours(record("COMPLETING"), 0, "n2") and not protocol.may_go_on(record("COMPLETING"), 0, "n2")
    assert protocol.may_go_on(record("COMPLETING", "TimeLimit"), 0, "n2") and protocol.may_go_on(record("RUNNING"), 0, "n2")
    assert not protocol.is_ours(record("RUNNING", restarts=1), 0, "n2") and not protocol.is_ours(None, 0, "n2")


def test_a_leader_among_the_tasks_of_a_step_may_stand_on_another_node() -> None:
    """Its job's script runs where it ran when it began; a batch shell's runs where that stands."""
    assert protocol.script_node(record("RUNNING"), "n1", in_step=True) == "n2"
    assert protocol.script_node(record("RUNNING"), "n1", in_step=False) == "n1"


def test_a_job_that_runs_on_another_node_is_not_ours() -> None:
    """A controller that has forgotten a start begins the job again elsewhere: the first run hands nothing over any more."""
    assert protocol.is_ours(record("RUNNING"), 0, "n2") and not protocol.is_ours(record("RUNNING"), 0, "n1")
    assert not protocol.may_go_on(record("RUNNING"), 0, "n1")


def test_a_second_run_that_slurm_has_not_counted() -> None:
    """The script became ckptrun again, on the node where its job runs: it goes on, behind a fence. Else it is a second leader."""
    again = OURS._replace(job="5", link=1, base=0, following=Following(False))
    second_leader = judged(again)
    assert (second_leader.go, second_leader.exit_code) == (False, 125)
    verdict = judged(again._replace(batch_shell=True))
    assert (verdict.go, verdict.fence, verdict.attempt) == (True, Fence(()), 2)
    beside = turn(1, "start", job="5", restart=0, node="n1", batch_shell=False)
    assert judged(again._replace(batch_shell=True, turns=(beside,))).exit_code == 125
    ended = (START, turn(2, "end", outcome="complete"))
    assert judged(again._replace(batch_shell=True, turns=ended)).exit_code == 0


def test_an_attempt_has_a_number_of_its_own() -> None:
    """The third run of a job that Slurm has restarted once: its mailbox and its events are nobody else's."""
    second = turn(2, "start", job="5", restart=0, attempt=2, node="n1", batch_shell=True)
    again = OURS._replace(job="5", link=1, restart=1, base=0, turns=(START, second), following=Following(False))
    assert judged(again).attempt == 3


def test_a_cancelled_sibling_takes_ours_with_it() -> None:
    """A person cancelled one job of the link; where the controller is silent that is not known."""
    ours = Result(Handed.QUEUED, JobId(7))
    cancelled = Queued("6", "CANCELLED", "", "", NEXT)
    assert protocol.with_siblings(ours, (cancelled,)).handed is Handed.CANCELLED
    assert protocol.with_siblings(ours, None) == ours
