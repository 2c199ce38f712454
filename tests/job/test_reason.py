"""What a SIGTERM, or an end that nobody asked for, means: the rows of the table, from the job's record."""

from __future__ import annotations

import pytest

from ckptrun.job import reason
from ckptrun.slurm.parse import JobRecord, job_record
from ckptrun.words import Course

NOW = "2026-11-24T14:06:11"


def record(state: str, why: str = "None", restarts: int = 0, preempted: str = "None") -> JobRecord:
    """Return a job's record."""
    found = job_record(f"JobId=7 JobState={state} Reason={why} Restarts={restarts} PreemptTime={preempted} BatchFlag=1")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("found", "course"),
    [
        (record("RUNNING"), Course.GO_ON),
        (record("SIGNALING"), Course.GO_ON),
        (record("COMPLETING", "TimeLimit"), Course.GO_ON),
        (record("COMPLETING", restarts=1), Course.REQUEUE),
        (record("PENDING", "BeginTime", restarts=1), Course.REQUEUE),
        (record("PENDING"), Course.REQUEUE),
        (record("COMPLETING", preempted=NOW), Course.GO_ON),
        (record("RUNNING", preempted=NOW), Course.GO_ON),
        (record("NODE_FAIL", "NodeDown"), Course.GO_ON),
        (record("COMPLETING"), Course.CANCEL),
        (record("CANCELLED"), Course.CANCEL),
        (None, Course.UNKNOWN),
    ],
)
def test_a_sigterm(found: JobRecord | None, course: Course) -> None:
    """Limit, requeue, a start that was forgotten, preemption, a person's signal, a cancel, and a controller that is silent."""
    assert reason.of_term(found, own_restarts=0).course is course


@pytest.mark.parametrize(
    ("found", "course"),
    [
        (record("RUNNING"), None),
        (record("RUNNING", preempted=NOW), Course.GO_ON),
        (record("COMPLETING", restarts=1), Course.REQUEUE),
        (record("COMPLETING", "TimeLimit"), Course.GO_ON),
        (record("COMPLETING"), Course.CANCEL),
        (None, None),
    ],
)
def test_an_end_that_nobody_asked_for(found: JobRecord | None, course: Course | None) -> None:
    """Slurm may have told the training first; a silent controller means that nobody did."""
    why = reason.of_unasked_end(found, own_restarts=0)
    assert (why.course if why else None) is course
