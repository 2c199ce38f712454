"""The hand-over as histories: these answers of Slurm's, that result. No controller gives most of them on demand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ckptrun.chain.home import ChainFolder
from ckptrun.chain.links import LinkFiles
from ckptrun.link import handover
from ckptrun.link.errands import Pause, Procedure
from ckptrun.link.handover import Handed, Office, Result
from ckptrun.slurm.commands import Call, Said
from ckptrun.slurm.fidelity import Same
from ckptrun.slurm.parse import JobId

OURS = Said(0, "JobId=5 JobState=RUNNING Restarts=0", "")
DONE = Said(0, "", "")
CONNECT = Said(1, "", "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)")
TIMED_OUT = Said(1, "", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
DENIED = Said(1, "", "sbatch: error: Batch job submission failed: Access/permission denied")
SILENT = Said(1, "", "slurm_load_jobs error: Socket timed out on send/recv operation")


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """The hand-over of link 1, job 5, to link 2."""
    return _office(tmp_path)


def _office(path: Path) -> Office:
    files = LinkFiles(ChainFolder(str(path / "chains" / "c")), 2)
    files.prepare("#!/bin/bash\n")
    same = Same(("--job-name=x",), ("two words",), str(path))
    return Office(JobId(5), 0, files, same, {"HOME": "/"}, 1, lambda: False, lambda _text: None)


def queue(office: Office, *lines: str) -> Said:
    """Return what squeue says of these `job|state|reason|dependency` lines of link 2."""
    return Said(0, "".join(f"{line}|{office.files.script} two words\n" for line in lines) + "9|RUNNING|None||/other\n", "")


def play(procedure: Procedure[Result], *answers: Said) -> tuple[Result | None, list[str]]:
    """Give the answers one after the other; return the result (None where it would go on) and the programs that were run."""
    left: Iterator[Said] = iter(answers)
    programs: list[str] = []
    said: Said | None = None
    while True:
        try:
            step = procedure.send(said)
        except StopIteration as end:
            assert next(left, None) is None, "not all answers were needed"
            result: Result = end.value
            return result, programs
        said = None
        if isinstance(step, Pause):
            continue
        assert isinstance(step, Call)
        programs.append(" ".join(word for word in step.argv[:2] if not word.startswith("-")))
        said = next(left, None)
        if said is None:
            procedure.close()
            return None, programs


ACCEPTED = Said(0, "6\n", "")
WAITS = "6|PENDING|Dependency|afterany:5(unfulfilled)"


def test_an_undisturbed_hand_over(office: Office) -> None:
    """Ours, submitted, seen, noted, and our right to come back given up: four calls."""
    result, programs = play(handover.hand_over(office), OURS, ACCEPTED, queue(office, WAITS), DONE)
    assert result == Result(Handed.QUEUED, JobId(6), "")
    assert programs == ["scontrol", "sbatch", "squeue", "scontrol update"]
    assert office.files.job == "6"


def test_the_submission_is_held_and_carries_its_base(office: Office) -> None:
    """afterany on our own job, the script's arguments as words, the turn that it builds on in its environment."""
    procedure = handover.hand_over(office)
    procedure.send(None)
    step = procedure.send(OURS)
    assert isinstance(step, Call)
    assert step.argv == ("sbatch", "--parsable", "--job-name=x", "--dependency=afterany:5", office.files.script, "two words")
    assert step.environment == {"HOME": "/", "SLURM_CKPTRUN_BASE": "1"}


def test_a_job_that_is_not_ours_any_more_submits_nothing(office: Office) -> None:
    """Requeued behind our back, or over: another start has the chain."""
    for text in (
        "JobId=5 JobState=RUNNING Restarts=1",
        "JobId=5 JobState=PENDING Restarts=1",
        "JobId=5 JobState=NODE_FAIL Restarts=0",
    ):
        result, programs = play(handover.hand_over(office), Said(0, text, ""))
        assert (result, programs) == (Result(Handed.NOT_OURS), ["scontrol"])


def test_a_certain_refusal_is_tried_again_at_once(office: Office) -> None:
    """Connect failure: no job came of it, nothing has to be looked for."""
    result, programs = play(handover.hand_over(office), OURS, CONNECT, SILENT, OURS, ACCEPTED, queue(office, WAITS), DONE)
    assert result is not None and result.handed is Handed.QUEUED
    assert programs.count("sbatch") == 2
    assert not office.files.refused


def test_a_final_refusal_is_noted(office: Office) -> None:
    """Access denied: nothing is tried again, and whoever comes next may submit."""
    result, _ = play(handover.hand_over(office), OURS, DENIED)
    assert result == Result(Handed.REFUSED, said="Access/permission denied")
    assert office.files.refused


def test_an_answer_that_was_lost_is_looked_for(office: Office) -> None:
    """Timed out and accepted all the same: found in the queue, not submitted again."""
    seen = queue(office, WAITS)
    result, programs = play(handover.hand_over(office), OURS, TIMED_OUT, seen, seen, DONE)
    assert result is not None and result.job == JobId(6)
    assert programs.count("sbatch") == 1


def test_a_lost_answer_is_submitted_again_only_after_two_looks(office: Office) -> None:
    """The queue answers twice and shows nothing: then, and only then, once more."""
    nothing = queue(office)
    result, programs = play(
        handover.hand_over(office), OURS, TIMED_OUT, nothing, nothing, OURS, ACCEPTED, queue(office, WAITS), DONE
    )
    assert result is not None and result.handed is Handed.QUEUED
    assert programs == ["scontrol", "sbatch", "squeue", "squeue", "scontrol", "sbatch", "squeue", "scontrol update"]


def test_while_the_queue_is_silent_nothing_is_submitted_again(office: Office) -> None:
    """A lost answer and a queue that cannot be asked: wait."""
    result, programs = play(handover.hand_over(office), OURS, TIMED_OUT, SILENT, SILENT, SILENT)
    assert result is None
    assert programs.count("sbatch") == 1


def test_who_finds_the_intent_adopts(office: Office, tmp_path: Path) -> None:
    """A later attempt of the same job finds the intent of the earlier one: it looks before it does anything."""
    play(handover.hand_over(office), OURS)  # died in sbatch
    later = _office(tmp_path)
    seen = queue(later, WAITS)
    result, programs = play(handover.hand_over(later), seen, seen, DONE)
    assert result is not None and result.job == JobId(6)
    assert "sbatch" not in programs


def test_a_sibling_that_a_person_cancelled(office: Office) -> None:
    """Two jobs came of one link and a person cancelled one: ours is cancelled too, and the chain stops."""
    both = queue(office, "4|CANCELLED|None|", WAITS)
    result, programs = play(handover.hand_over(office), OURS, ACCEPTED, both, DONE)
    assert result == Result(Handed.CANCELLED)
    assert programs[-1].startswith("scancel")


@pytest.mark.parametrize(
    ("lines", "seen", "handed"),
    [
        ([WAITS], False, Handed.QUEUED),
        ([], False, Handed.LOST),
        ([], True, Handed.CANCELLED),
        (["6|CANCELLED|None|"], False, Handed.CANCELLED),
        (["6|PENDING|PartitionTimeLimit|afterany:5(unfulfilled)"], True, Handed.NEVER),
        (["6|RUNNING|None|"], True, Handed.QUEUED),
    ],
)
def test_the_look_before_the_exit(office: Office, lines: list[str], seen: bool, handed: Handed) -> None:
    """Queued; lost with the controller; taken away by a person; accepted and never to start."""
    result, _ = play(handover.confirm(office, JobId(6), seen=seen), queue(office, *lines))
    assert result is not None and result.handed is handed


def test_an_id_that_was_handed_out_again_is_not_ours(office: Office) -> None:
    """Job 6 is somebody else's script now: ours is lost, and 6 is not touched."""
    foreign = Said(0, "6|PENDING|Priority||/home/other/job.sh\n", "")
    result, programs = play(handover.confirm(office, JobId(6), seen=False), foreign)
    assert (result, programs) == (Result(Handed.LOST, JobId(6)), ["squeue"])


def test_a_reservation_that_is_gone_is_left(office: Office) -> None:
    """sbatch refuses it: submitted again at once without it, and the script's own name of it taken back; once."""
    gone = Said(1, "", "sbatch: error: Batch job submission failed: Requested reservation is invalid")
    inside = office._replace(same=office.same._replace(options=("--reservation=course", "--job-name=x")))
    procedure = handover.hand_over(inside)
    procedure.send(None)
    procedure.send(OURS)
    procedure.send(gone)
    step = procedure.send(OURS)
    assert isinstance(step, Call)
    assert step.argv[2:5] == ("--job-name=x", "--reservation=", "--dependency=afterany:5")
    with pytest.raises(StopIteration) as ended:
        procedure.send(gone)
    assert ended.value.value.handed is Handed.REFUSED
