"""PURE. What a signal, or an end that nobody asked for, means inside a job: asked of the controller, never guessed from the clock.

Source of every row: measured on Slurm 22.05, asked within the SIGTERM handler (docs/reference/signals.md has the table).
"""

from __future__ import annotations

from ckptrun.slurm.parse import JobRecord
from ckptrun.words import Course, Reason

SIGNALLED = "a person sent SIGTERM: save and go on in a new job"
_RUNNING = ("RUNNING", "SIGNALING")


def of_term(record: JobRecord | None, own_restarts: int) -> Reason:
    """Return what a SIGTERM means. `record` is what the controller says of our own job, None where it is silent."""
    if record is None:
        return Reason(Course.UNKNOWN, "SIGTERM arrived and the controller does not say why: no new job is submitted")
    found = of_record(record, own_restarts)
    if found is not None:
        return found
    if record.state in _RUNNING:
        return Reason(Course.GO_ON, SIGNALLED)
    return Reason(Course.CANCEL, "the job was cancelled")


def of_record(record: JobRecord, own_restarts: int) -> Reason | None:
    """Return what Slurm is doing with a job, None where nothing (or a cancel, which leaves no other trace than COMPLETING)."""
    # It waits, and was not requeued: a controller that came back has forgotten that it had begun.
    if record.restarts > own_restarts or record.state == "PENDING":
        return Reason(Course.REQUEUE, "Slurm requeues this job", taken_away=True)
    if record.reason == "TimeLimit" or record.state == "TIMEOUT":
        return Reason(Course.GO_ON, "the job's time limit is over")
    if record.preempt_at is not None:
        grace = "its grace has begun" if record.state in _RUNNING else "another job takes its place"
        return Reason(Course.GO_ON, f"the job is preempted: {grace}", taken_away=True)
    if record.state in ("NODE_FAIL", "PREEMPTED"):
        return Reason(Course.GO_ON, f"the job ended as {record.state}", taken_away=True)
    return None


def of_unasked_end(record: JobRecord | None, own_restarts: int) -> Reason | None:
    """Return why Slurm told the training first (steps hear before the batch shell), None where nobody did."""
    if record is None:
        return None
    found = of_record(record, own_restarts)
    if found is not None or record.state in _RUNNING:
        return found
    if record.state in ("COMPLETING", "CANCELLED"):
        return Reason(Course.CANCEL, "the job was cancelled")
    return None
