"""What is said of the next job in the first minute: these answers of Slurm's, those sentences."""

from __future__ import annotations

from ckptrun.job import foresight
from ckptrun.job.foresight import Ahead, Ways
from ckptrun.link.errands import Procedure
from ckptrun.slurm import parse
from ckptrun.slurm.answers import Answer, Submission
from ckptrun.slurm.commands import Call, Said
from ckptrun.slurm.parse import JobRecord, Partition

SUBMIT = Call(("sbatch", "--parsable", "--dependency=afterany:5", "script"), 40.0, {"A": "b"}, "/work")
CLOSED = Partition("gpu", "UP", "login1", "UNLIMITED")
DENIED = Submission(Answer.REFUSED, None, "Access/permission denied")
BOTH = Ways(True, None, "READY")
RECORD = (
    "PartitionName=gpu AllowGroups=ALL AllocNodes={} Default=YES QoS=N/A MaxNodes=UNLIMITED MaxTime={} MinNodes=0 State=UP "
    "TotalCPUs=128 JobDefaults=(null)\n"
)


def record() -> JobRecord:
    """Return the record of a job in partition gpu."""
    found = parse.job_record("JobId=5 JobState=RUNNING Partition=gpu TimeLimit=00:05:00")
    assert found is not None
    return found


def ask(procedure: Procedure[Ahead], *answers: Said) -> tuple[Ahead, list[Call]]:
    """Give the answers; return what was found and what was asked."""
    asked = []
    step = procedure.send(None)
    for said in answers:
        assert isinstance(step, Call)
        asked.append(step)
        try:
            step = procedure.send(said)
        except StopIteration as end:
            found: Ahead = end.value
            return found, asked
    raise AssertionError(f"it asks for more: {step}")


def test_a_partition_is_read() -> None:
    """Name, state, from where it takes submissions, and its longest time; an error is none."""
    assert parse.partition(RECORD.format("login[1-2]", "1-00:00:00")) == Partition("gpu", "UP", "login[1-2]", "1-00:00:00")
    assert parse.partition("Partition gpu not found\n") is None


def test_what_is_asked() -> None:
    """At the chain's start both; later sbatch only where the partition is closed to some. Nothing is submitted by asking."""
    opened, closed = (Said(0, RECORD.format(nodes, "UNLIMITED"), "") for nodes in ("ALL", "login1"))
    taken = Said(0, "", "sbatch: Job 9 to start at 2026-11-24T23:40:44 using 1 processors on nodes n1 in partition gpu\n")
    refused = Said(1, "", "allocation failure: Access/permission denied\n")
    found, calls = ask(foresight.look_ahead(record(), SUBMIT, first=True), opened, taken)
    assert found.refusal is None
    assert calls[1].argv == ("sbatch", "--test-only", "--parsable", "--dependency=afterany:5", "script")
    assert calls[1][1:] == SUBMIT[1:]
    assert len(ask(foresight.look_ahead(record(), SUBMIT, first=False), opened)[1]) == 1
    assert ask(foresight.look_ahead(record(), SUBMIT, first=False), closed, refused)[0] == Ahead(CLOSED, DENIED)


def test_nothing_in_the_way_is_not_mentioned() -> None:
    """An open partition, and a controller that could not say."""
    assert foresight.sentences(Ahead(), BOTH, "00:05:00") == ()
    assert foresight.sentences(Ahead(CLOSED), BOTH, "00:05:00") == ()
    unknown = Submission(Answer.UNKNOWN, None, "Socket timed out on send/recv operation")
    assert foresight.sentences(Ahead(CLOSED, unknown), BOTH, "UNLIMITED") == ()


def test_refused_here() -> None:
    """By requeue, and what that costs; where that is not possible either, stranded, with the command that helps."""
    (said,) = foresight.sentences(Ahead(CLOSED, DENIED), BOTH, "00:05:00")
    assert said.startswith(
        "sbatch is refused on this node (Access/permission denied; partition gpu takes submissions from login1 alone)"
    )
    assert "goes on by requeue of this job" in said and "121 s" in said and said.endswith("READY")
    (said,) = foresight.sentences(Ahead(CLOSED, DENIED), Ways(True, "this job cannot", "READY"), "00:05:00")
    assert said.startswith("this chain will be stranded") and "and this job cannot. " in said and said.endswith("READY")


def test_no_room_now() -> None:
    """A limit may have passed when the next job is needed: it is said what happens in both cases."""
    limit = Submission(Answer.LIMITED, None, "AssocMaxSubmitJobLimit")
    assert "then this job is requeued" in foresight.sentences(Ahead(None, limit), BOTH, "")[0]
    assert "then the chain is stranded: why" in foresight.sentences(Ahead(None, limit), Ways(True, "why", "READY"), "")[0]


def test_a_chain_that_is_to_go_on_by_requeue() -> None:
    """sbatch is no matter then; a job that may not come back is."""
    assert foresight.sentences(Ahead(CLOSED, DENIED), Ways(False, None, "READY"), "") == ()
    assert "will be stranded" in foresight.sentences(Ahead(), Ways(False, "Requeue=0", "READY"), "")[0]


def test_a_limit_above_the_partitions() -> None:
    """The next job would be taken and wait for ever, and the queue would not say so while it waits for this one."""
    assert "partition gpu allows 2 min now" in foresight.sentences(Ahead(CLOSED._replace(max_time="00:02:00")), BOTH, "00:05:00")[0]
    assert foresight.sentences(Ahead(CLOSED._replace(max_time="00:05:00")), BOTH, "00:05:00") == ()


WINDOWS = """\
ReservationName=course StartTime=2026-11-25T02:00:00 EndTime=2026-11-25T10:00:00 Nodes=n[1-3] Flags=SPEC_NODES TRES=cpu=192
ReservationName=late StartTime=2026-11-25T05:00:00 EndTime=2026-11-25T10:00:00 Nodes=n[1-3] Flags=MAINT,SPEC_NODES TRES=cpu=192
ReservationName=early StartTime=2026-11-25T03:00:00 EndTime=2026-11-25T04:00:00 Nodes=n2,n7 Flags=MAINT,IGNORE_JOBS TRES=cpu=192
ReservationName=mine StartTime=2026-11-25T02:30:00 EndTime=2026-11-25T04:00:00 Nodes=n2 Flags=MAINT TRES=cpu=192
"""
MIDNIGHT = 1_795_564_800.0  # 2026-11-25T00:00:00Z


def window(nodes: str, ends: str, hours: float, said: Said | None = None, inside: str = "(null)") -> str | None:
    """Return the window that a job on these nodes finds so many hours after midnight."""
    found = parse.job_record(f"JobId=5 JobState=RUNNING EndTime=2026-11-25T{ends} NodeList={nodes} Reservation={inside}")
    assert found is not None
    procedure = foresight.window_ahead(found, MIDNIGHT + hours * 3600)
    procedure.send(None)
    try:
        procedure.send(said or Said(0, WINDOWS, ""))
    except StopIteration as end:
        return end.value.name if end.value is not None else None
    raise AssertionError("one question is enough")


def test_which_service_window_is_ahead() -> None:
    """The earliest of the job's own nodes that begins before its end or right behind it; none that is on, or that it runs in."""
    assert window("n[1-3]", "12:00:00", 1.0) == "mine"
    assert window("n[1-3]", "12:00:00", 1.0, inside="mine") == "early"
    assert window("n[1-3]", "12:00:00", 3.5) == "late"
    assert window("n1", "12:00:00", 1.0) == "late"
    assert window("n1", "04:59:00", 1.0) == "late" and window("n1", "04:50:00", 1.0) is None
    assert window("n9", "12:00:00", 1.0) is None
    assert window("n1", "12:00:00", 1.0, Said(1, "", "Unable to contact slurm controller")) is None
    assert window("n1", "12:00:00", 1.0, Said(0, "No reservations in the system\n", "")) is None
