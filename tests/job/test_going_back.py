"""The last resort: when a job can be requeued, in which order, and what becomes of its logs."""

from __future__ import annotations

from pathlib import Path

from ckptrun.job import going_back
from ckptrun.job.handover import Handed
from ckptrun.slurm import parse
from ckptrun.slurm.commands import Call, Said
from ckptrun.slurm.parse import JobId, JobRecord


def record(text: str) -> JobRecord:
    """Return a job's record."""
    found = parse.job_record(f"JobId=5 JobState=RUNNING {text}")
    assert found is not None
    return found


def test_what_cannot_be_requeued() -> None:
    """Ruled out by an option, without a script, or without the right to come back: a sentence each."""
    assert going_back.why_not(record("Requeue=1 BatchFlag=1"), "auto") is None
    assert "--continue-with resubmit" in str(going_back.why_not(record("Requeue=1 BatchFlag=1"), "resubmit"))
    assert "batch script" in str(going_back.why_not(record("Requeue=1 BatchFlag=0"), "auto"))
    assert "Requeue=0" in str(going_back.why_not(record("Requeue=0 BatchFlag=1"), "requeue"))


def test_a_right_that_was_given_up_is_taken_back_first() -> None:
    """A successor had been queued and was lost: the job had said that it would not come back."""
    procedure = going_back.requeue(JobId(5, 3), given_up=True)
    calls = [procedure.send(None), procedure.send(Said(0, "", ""))]
    assert [call.argv[1:] for call in calls if isinstance(call, Call)] == [
        ("update", "JobId=5_3", "Requeue=1"),
        ("requeue", "5_3"),
    ]
    try:
        procedure.send(Said(1, "", "Requested operation is presently disabled for job 5_3\n"))
    except StopIteration as end:
        assert end.value.handed is Handed.REFUSED and "presently disabled" in end.value.said


def test_the_logs_are_kept_and_come_back(tmp_path: Path) -> None:
    """Output and error each, once; where the requeue is refused they have their own names again. Appended logs stay."""
    out, err = tmp_path / "a.out", tmp_path / "a.err"
    out.write_text("so far")
    err.write_text("errors")
    fields = {"StdOut": str(out), "StdErr": str(err)}
    assert going_back.move_logs_away(fields, 1, appended=True) == going_back.Logs()
    logs = going_back.move_logs_away(fields, 2, appended=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.err.attempt-2", "a.out.attempt-2"]
    assert "a.out.attempt-2" in str(logs) and "a.err.attempt-2" in str(logs)
    logs.back()
    assert (out.read_text(), err.read_text()) == ("so far", "errors")
    same = going_back.move_logs_away({"StdOut": str(out), "StdErr": str(out)}, 1, appended=False)
    assert len(same.moved) == 1
    assert going_back.move_logs_away({"StdOut": "/dev/null"}, 1, appended=False) == going_back.Logs()
