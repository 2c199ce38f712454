"""What Slurm's commands print, as recorded from 22.05.8, becomes values."""

from __future__ import annotations

import pytest

from ckptrun.slurm import parse
from ckptrun.slurm.parse import JobId

RECORD = (
    "JobId=104 JobName=two words UserId=alice(1001) GroupId=alice(1001) MCS_label=N/A Priority=4294901757 Nice=0 Account=(null) "
    "QOS=normal JobState=COMPLETING Reason=TimeLimit Dependency=(null) Requeue=1 Restarts=2 BatchFlag=1 Reboot=0 ExitCode=0:0 "
    "RunTime=00:00:00 TimeLimit=00:07:00 TimeMin=N/A SubmitTime=2026-11-24T14:06:11 EligibleTime=2026-11-24T14:06:11 "
    "StartTime=2026-11-24T14:06:12 EndTime=2026-11-24T14:13:12 Deadline=N/A PreemptEligibleTime=2026-11-24T14:06:12 "
    "PreemptTime=None Partition=batch AllocNode:Sid=localhost:0 NodeList=n1 BatchHost=n1 NumNodes=1 NumCPUs=1 NumTasks=1 "
    "CPUs/Task=1 ReqB:S:C:T=0:0:*:* Socks/Node=* NtasksPerN:B:S:C=0:0:*:* MinMemoryNode=2000M Features=(null) "
    "Command=/home/al ice/job.sh 1 A=b --x=C WorkDir=/home/al ice/x=y Z StdErr=/home/e StdIn=/dev/null StdOut=/home/e Power= "
    "TresPerNode=gres:gpu:1 \n"
)


def test_a_job_record() -> None:
    """State, reason, restarts, times in Unix seconds, and a command line with blanks and equals signs in it."""
    record = parse.job_record(RECORD)
    assert record is not None
    assert (record.state, record.reason, record.restarts) == ("COMPLETING", "TimeLimit", 2)
    assert (record.end_at, record.limit_s) == (1795529592.0, 420.0)
    assert record.preempt_at is None
    assert record.batch and record.requeue and record.at_work and not record.ended
    assert record.command == "/home/al ice/job.sh 1 A=b --x=C"
    assert record.directory == "/home/al ice/x=y Z"
    assert record.fields["JobName"] == "two words"
    assert record.fields["CPUs/Task"] == "1"
    assert record.fields["TresPerNode"] == "gres:gpu:1"


@pytest.mark.parametrize("text", ["", "slurm_load_jobs error: Invalid job id specified\n", "No jobs in the system\n"])
def test_what_is_no_record(text: str) -> None:
    """An error is no record."""
    assert parse.job_record(text) is None


def test_dates_far_and_near() -> None:
    """The days of leap years and of century ends; what is no date is None."""
    assert parse.utc("1970-01-01T00:00:00") == 0
    assert parse.utc("2000-02-29T12:00:00") == 951825600
    assert parse.utc("2026-11-24T14:06:12") == 1795529172
    assert parse.utc("2100-03-01T00:00:00") == 4107542400
    assert parse.utc("Unknown") is parse.utc("N/A") is parse.utc("None") is None


@pytest.mark.parametrize(
    ("text", "found"),
    [("12", JobId(12)), ("12_3", JobId(12, 3)), ("12_[1-3]", None), ("-1", None), ("", None), ("12;lab", None), ("../1", None)],
)
def test_job_ids(text: str, found: JobId | None) -> None:
    """A job or an array task; nothing else becomes an id, and so no path or option."""
    assert parse.job_id(text) == found


def test_the_queue() -> None:
    """One line a job; the script's path is compared, never split, and may hold the separator."""
    lines = parse.queue("7|PENDING|Dependency|afterany:6(unfulfilled)|/home/a|b/links/2/script 1 two\n8_3|RUNNING|None|(null)|/x\n")
    assert lines[0].runs("/home/a|b/links/2/script")
    assert not lines[0].runs("/home/a|b/links/2/scrip")
    assert lines[0].waiting and not lines[0].at_work
    assert lines[1].at_work and lines[1].job == "8_3"
    assert [line.job for line in parse.queue("9_[4]|PENDING|None||/x\n9_[5%2]|PENDING|None||/x\n")] == ["9_4", "9_5"]


def test_silence_and_ignorance() -> None:
    """A controller that does not answer is told from one that knows no such job."""
    silent = (
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
        "Socket timed out on send/recv operation",
    )
    assert all(parse.silent(1, text) for text in silent)
    assert parse.silent(None, "")
    assert not parse.silent(1, "slurm_load_jobs error: Invalid job id specified")
    assert parse.unknown_job(1, "slurm_load_jobs error: Invalid job id specified")


def test_settings_and_accounting() -> None:
    """KillWait and MinJobAge in seconds; the state of a cancelled job is one word."""
    text = "KillWait                = 30 sec\nMinJobAge               = 300 sec\nProctrackType           = proctrack/cgroup\n"
    assert parse.settings(text) == parse.Settings(30.0, 300.0, "proctrack/cgroup")
    assert parse.settings("") == parse.Settings()
    found = parse.accounted("CANCELLED by 1001|sbatch -J x|y job.sh\nCOMPLETED|sbatch z\n")
    assert found == (parse.Accounted("CANCELLED", "sbatch -J x|y job.sh"), parse.Accounted("COMPLETED", "sbatch z"))
