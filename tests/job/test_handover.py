"""The hand-over as histories: these answers of Slurm's, that result. No controller gives most of them on demand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from ckptrun.chain.home import ChainFolder
from ckptrun.chain.links import LinkFiles
from ckptrun.job import handover
from ckptrun.job.handover import Handed, Moved, Office, Result
from ckptrun.link.errands import Pause, Procedure
from ckptrun.slurm import parse
from ckptrun.slurm.commands import Call, Said
from ckptrun.slurm.fidelity import Same
from ckptrun.slurm.parse import JobId, Queued

T = TypeVar("T")
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
    return Office(JobId(5), 0, "n1", files, same, {"HOME": "/"}, 1, lambda: False, lambda _text: None)


def queue(office: Office, *lines: str) -> Said:
    """Return what squeue says of these `job|state|reason|dependency` lines of link 2."""
    return Said(0, "".join(f"{line}|{office.files.script} two words\n" for line in lines) + "9|RUNNING|None||/other\n", "")


def play(procedure: Procedure[T], *answers: Said) -> tuple[T | None, list[str]]:
    """Give the answers one after the other; return the result (None where it would go on) and the programs that were run."""
    result, calls = carry_out(procedure, *answers)
    return result, [" ".join(word for word in call[:2] if not word.startswith("-")) for call in calls]


def carry_out(procedure: Procedure[T], *answers: Said) -> tuple[T | None, list[tuple[str, ...]]]:
    """Give the answers one after the other; return the result (None where it would go on) and the commands that were run."""
    left: Iterator[Said] = iter(answers)
    programs: list[tuple[str, ...]] = []
    said: Said | None = None
    while True:
        try:
            step = procedure.send(said)
        except StopIteration as end:
            assert next(left, None) is None, "not all answers were needed"
            result: T = end.value
            return result, programs
        said = None
        if isinstance(step, Pause):
            continue
        assert isinstance(step, Call)
        programs.append(step.argv)
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


def test_the_note_of_a_job_that_was_lost_is_taken_back_before_the_next_submission(office: Office) -> None:
    """Whoever is killed between the next answer and its note leaves a successor that would find another's id, and end."""
    office.files.note_job("6")
    assert play(handover.hand_over(office), OURS) == (None, ["scontrol", "sbatch"])
    assert office.files.job is None


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


POLICY = Said(
    1,
    "",
    "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job "
    "submit limit, user's size and/or time limits)\n",
)


def test_a_limit_is_tried_again_while_the_training_lives(office: Office) -> None:
    """There may be room when another of the user's jobs ends: nothing is looked for, and it is submitted again."""
    result, programs = play(handover.hand_over(office), OURS, POLICY, OURS, POLICY, OURS, ACCEPTED, queue(office, WAITS), DONE)
    assert result is not None and result.handed is Handed.QUEUED
    assert programs.count("sbatch") == 3 and programs.count("squeue") == 1


def test_a_limit_is_final_when_the_training_has_ended(office: Office) -> None:
    """A requeue needs no room: no time is lost. It is noted, so that the next attempt submits and does not look."""
    result, _ = play(handover.hand_over(office._replace(over=lambda: True)), OURS, POLICY)
    assert result is not None and result.handed is Handed.REFUSED and "AssocMaxSubmitJobLimit" in result.said
    assert office.files.refused


def test_the_pause_after_a_limit_ends_with_the_training(office: Office) -> None:
    """The training ends in the middle of a pause: it is tried once more at once, and no more."""
    ended: list[bool] = []
    procedure = handover.hand_over(office._replace(over=lambda: bool(ended)))
    procedure.send(None)
    procedure.send(OURS)
    step = procedure.send(POLICY)
    for _ in range(3):  # pauses of 1, 2 and 4 s, in steps of one second
        while isinstance(step, Pause):
            step = procedure.send(None)
        procedure.send(OURS)
        step = procedure.send(POLICY)
    assert step == Pause(1.0)
    ended.append(True)
    assert isinstance(procedure.send(None), Call)
    procedure.send(OURS)
    with pytest.raises(StopIteration) as over:
        procedure.send(POLICY)
    assert over.value.value.handed is Handed.REFUSED


def test_pauses_grow_to_half_a_minute() -> None:
    """1, 2, 4, 8, 16, 30, 30 ... seconds: a controller in trouble is not called more often."""
    pauses = handover._pauses()
    assert [next(pauses) for _ in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_job_that_is_taken_away_before_the_submission_notes_that_there_is_none(office: Office) -> None:
    """The training requeues its job between the intent and sbatch: the next attempt must not look for a job that never was."""
    play(handover.hand_over(office), Said(0, "JobId=5 JobState=COMPLETING Restarts=1", ""))
    assert office.files.refused


def test_one_that_was_replaced_notes_nothing(office: Office) -> None:
    """Who has taken over may be submitting in this moment."""
    play(handover.hand_over(office._replace(replaced=lambda: True)), OURS)
    assert not office.files.refused


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
        (["6|DEADLINE|None|"], True, Handed.NEVER),
        (["6|PENDING|PartitionDown|afterany:5(unfulfilled)"], True, Handed.QUEUED),
        (["6|PENDING|JobHeldUser|afterany:5(unfulfilled)"], True, Handed.QUEUED),
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


# --- who waits for this job

DENIED_UPDATE = Said(1, "", "scontrol: error: Access/permission denied for job 7\n")
NO_LONGER = Said(1, "", "Job has already finished for job 7\n")
REPORT = "7|PENDING|Dependency|afterok:5(unfulfilled)|/home/report.sh"


def with_others(office: Office, *others: str) -> Said:
    """Return what squeue says of the waiting successor and of these whole lines."""
    seen = queue(office, WAITS)
    return seen._replace(out=seen.out + "".join(f"{line}\n" for line in others))


def lines_of(said: Said) -> tuple[Queued, ...]:
    """Return the queue that was seen."""
    return parse.queue(said.out)


def moving(office: Office, said: Said) -> Procedure[Moved]:
    """Begin to move who waits for job 5 to job 6."""
    return handover.move_dependents(office, JobId(6), lines_of(said))


def test_a_look_that_finds_nobody_costs_nothing(office: Office) -> None:
    """The look before the end has the queue already: with nobody who waits there is no further call."""
    seen = with_others(office, "7|PENDING|Priority|(null)|/home/report.sh")
    result, programs = play(handover.confirm(office, JobId(6), seen=True), seen)
    assert result is not None and programs == ["squeue"]
    assert play(moving(office, seen)) == (Moved(), [])
    assert lines_of(seen) == result.lines


def test_who_waits_is_moved_with_one_call(office: Office) -> None:
    """The successor, which waits for us too, stays; the report waits for the successor."""
    result, calls = carry_out(moving(office, with_others(office, REPORT)), DONE)
    assert result is not None and [move.job for move in result.moved] == ["7"] and not result.left
    assert calls == [("scontrol", "update", "JobId=7", "Dependency=afterok:6")]


def test_one_that_was_replaced_moves_nobody(office: Office) -> None:
    """Another start has the chain: whom its successor is for is not ours to say."""
    assert play(moving(office._replace(replaced=lambda: True), with_others(office, REPORT))) == (Moved(), [])


def test_one_that_cannot_be_moved_is_left_and_named(office: Office) -> None:
    """Refused, and a second look still shows it waiting for us: left, with what Slurm said; not tried again and again."""
    seen = with_others(office, REPORT)
    result, programs = play(moving(office, seen), DENIED_UPDATE, seen)
    assert programs == ["scontrol update", "squeue"]
    assert result is not None and not result.moved
    assert [(move.job, move.expression, move.why) for move in result.left] == [
        ("7", "afterok:6", "Access/permission denied for job 7")
    ]


def test_one_that_went_away_is_not_left(office: Office) -> None:
    """A person cancelled it between the look and the update: nobody waits for us any more."""
    gone = with_others(office, REPORT.replace("PENDING", "CANCELLED"))
    assert play(moving(office, with_others(office, REPORT)), NO_LONGER, gone)[0] == Moved()


def test_a_silent_controller_leaves_who_waits(office: Office) -> None:
    """Neither the update nor the look is answered: whether it was moved is not known, so that it counts as left."""
    result, programs = play(moving(office, with_others(office, REPORT)), SILENT, SILENT)
    assert result is not None and [move.job for move in result.left] == ["7"]
    assert programs == ["scontrol update", "squeue"]


def test_an_update_that_another_link_wrote_over_is_made_again(office: Office) -> None:
    """A report behind a whole array: the link of another task, which had looked before our update, wrote after it."""
    task = office._replace(job=JobId(5, 1), bare=5)
    whole = with_others(office, "7|PENDING|Dependency|afterok:5_*(unfulfilled)|/home/report.sh")
    theirs = whole._replace(out=whole.out.replace("afterok:5_*(unfulfilled)", "afterok:5_*(unfulfilled),afterok:8_2(unfulfilled)"))
    both = theirs._replace(out=theirs.out.replace("afterok:8_2", "afterok:6_1(unfulfilled),afterok:8_2"))
    procedure = handover.move_dependents(task, JobId(6, 1), lines_of(whole))
    result, calls = carry_out(procedure, DONE, theirs, DONE, both)
    assert [call[3] for call in calls if call[0] == "scontrol"] == [
        "Dependency=afterok:5_*,afterok:6_1",
        "Dependency=afterok:5_*,afterok:6_1,afterok:8_2",
    ]
    assert result is not None and len(result.moved) == 1 and not result.left


def test_one_that_others_change_all_the_time_is_left(office: Office) -> None:
    """Twelve times written over: then it is said, and this job releases nobody."""
    seen = with_others(office, REPORT.replace("afterok:5(", "afterok:4(unfulfilled),afterok:5("))
    result, programs = play(moving(office, seen), *[DONE, seen] * 12)
    assert programs.count("scontrol update") == 12
    assert result is not None and not result.moved and [move.job for move in result.left] == ["7"]


def test_a_complete_chain_lets_its_successor_go(office: Office) -> None:
    """Nobody waits for it: cancelled."""
    result, calls = carry_out(handover.let_go(office), with_others(office), OURS, DONE)
    assert result == (("6",), ())
    assert calls[-1] == ("scancel", "6")


def test_a_complete_chain_leaves_a_successor_that_is_waited_for(office: Office) -> None:
    """The report waits for it: it is to start, end with 0, and release the report."""
    seen = with_others(office, REPORT.replace("afterok:5", "afterok:6"))
    result, programs = play(handover.let_go(office), seen, OURS)
    assert (result, programs) == (((), ("6",)), ["squeue", "scontrol"])


def test_a_successor_that_is_taken_back_gives_back_who_waits_for_it(office: Office) -> None:
    """First the report waits for the job that still saves, then the successor is cancelled: a cancel counts as an end."""
    seen = with_others(office, REPORT.replace("afterok:5", "afterany:6"))
    result, calls = carry_out(handover.take_back(office), seen, OURS, DONE, DONE)
    assert result == ("6",)
    assert calls[2:] == [("scontrol", "update", "JobId=7", "Dependency=afterany:5"), ("scancel", "6")]


def test_a_successor_is_taken_back_though_nothing_is_answered(office: Office) -> None:
    """The controller falls silent: nobody else is given back, and the cancel goes out all the same."""
    seen = with_others(
        office, REPORT.replace("afterok:5", "afterany:6"), REPORT.replace("afterok:5", "afterok:6").replace("7|", "8|")
    )
    result, programs = play(handover.take_back(office), seen, SILENT, SILENT, DONE)
    assert (result, programs) == (("6",), ["squeue", "scontrol", "scontrol update", "scancel 6"])
