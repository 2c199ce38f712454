"""What sbatch answers, as recorded from 22.05.8 and from the texts in its library, and what it means for the next job."""

from __future__ import annotations

import pytest

from ckptrun.slurm import answers
from ckptrun.slurm.answers import Answer
from ckptrun.slurm.parse import JobId

FAILED = "sbatch: error: Batch job submission failed: "
POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


@pytest.mark.parametrize(
    ("code", "out", "err", "answer"),
    [
        (0, "123\n", "", Answer.ACCEPTED),
        (0, "123;lab\n", "sbatch: warning: something\n", Answer.ACCEPTED),
        (0, "", "", Answer.UNKNOWN),
        (None, "", "", Answer.UNKNOWN),
        (None, "", "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n", Answer.UNKNOWN),
        (-9, "", "", Answer.UNKNOWN),
        (-15, "", "", Answer.UNKNOWN),
        (137, "", "", Answer.UNKNOWN),
        (143, "", "", Answer.UNKNOWN),
        (124, "", "", Answer.REFUSED),
        (1, "", "sbatch: error: Unable to open file x\n", Answer.REFUSED),
        (1, "", "sbatch: fatal: --mem, --mem-per-cpu, and --mem-per-gpu are mutually exclusive.\n", Answer.REFUSED),
        (1, "", "sbatch: fatal: Could not establish a configuration source\n", Answer.LATER),
        (255, "", "sbatch: unrecognized option '--foo'\n", Answer.REFUSED),
        (127, "", "sbatch: not found", Answer.REFUSED),
    ],
)
def test_what_became_of_an_sbatch(code: int | None, out: str, err: str, answer: Answer) -> None:
    """An id is a job; an sbatch that was killed, or said nothing, may have led to one; its own mistakes did not."""
    found = answers.submission(code, out, err)
    assert found.answer is answer
    assert found.job == (JobId(123) if answer is Answer.ACCEPTED else None)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        # nobody has looked at it
        ("Unable to contact slurm controller (connect failure)", Answer.LATER),
        ("Slurm backup controller in standby mode", Answer.LATER),
        ("Can't find an address, check slurm.conf", Answer.LATER),
        # somebody may have
        ("Socket timed out on send/recv operation", Answer.UNKNOWN),
        ("Connection reset by peer", Answer.UNKNOWN),
        ("Connection timed out", Answer.UNKNOWN),
        ("Zero Bytes were transmitted or received", Answer.UNKNOWN),
        ("Unable to contact slurm controller (send failure)", Answer.UNKNOWN),
        ("Unable to contact slurm controller (receive failure)", Answer.UNKNOWN),
        ("Unable to contact slurm controller (shutdown failure)", Answer.UNKNOWN),
        ("Protocol authentication error", Answer.UNKNOWN),
        ("I/O error writing script/environment to file", Answer.UNKNOWN),
        # no room for one more now
        (POLICY, Answer.LIMITED),
        ("Required partition not available (inactive or drain)", Answer.LIMITED),
        ("Resource temporarily unavailable", Answer.LIMITED),
        ("Unable to create job record, try again", Answer.LIMITED),
        ("System submissions disabled", Answer.LIMITED),
        ("Unspecified error", Answer.LIMITED),
        # the same again would be refused again
        ("Access/permission denied", Answer.REFUSED),
        ("Requested node configuration is not available", Answer.REFUSED),
        ("Invalid partition name specified", Answer.REFUSED),
        ("Invalid node name specified", Answer.REFUSED),
        ("Invalid feature specification", Answer.REFUSED),
        ("Invalid license specification", Answer.REFUSED),
        ("Requested reservation is invalid", Answer.REFUSED),
        ("Access denied to requested reservation", Answer.REFUSED),
        ("User's group not permitted to use this partition", Answer.REFUSED),
        ("Invalid job array specification", Answer.REFUSED),
        ("Invalid account or account/partition combination specified", Answer.REFUSED),
        ("Invalid qos specification", Answer.REFUSED),
        ("Node count specification invalid", Answer.REFUSED),
        ("Requested time limit is invalid (missing or exceeds some limit)", Answer.REFUSED),
        ("Something that a later Slurm says", Answer.REFUSED),
    ],
)
def test_the_table_of_refusals(text: str, answer: Answer) -> None:
    """Each text of Slurm's, as it stands behind sbatch's own words."""
    found = answers.submission(1, "", f"{FAILED}{text}\n")
    assert found == (answer, None, text)


def test_only_the_last_line_counts() -> None:
    """An sbatch that tries again by itself says so first; what became of its last try stands at the end."""
    first = "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying\n"
    err = f"{first}{FAILED}Socket timed out on send/recv operation\n"
    assert answers.submission(1, "", err).answer is Answer.UNKNOWN


@pytest.mark.parametrize(
    ("limit", "answer"),
    [
        ("AssocMaxSubmitJobLimit", Answer.LIMITED),
        ("QOSMaxSubmitJobPerUserLimit", Answer.LIMITED),
        ("AssocGrpSubmitJobsLimit", Answer.LIMITED),
        ("QOSMaxWallDurationPerJobLimit", Answer.REFUSED),
        ("AssocMaxNodePerJobLimit", Answer.REFUSED),
        ("QOSMaxCpuPerJobLimit", Answer.REFUSED),
    ],
)
def test_which_limit_it_was(limit: str, answer: Answer) -> None:
    """The line before names it: one on how many jobs there are passes, one that this very job is above stays."""
    assert answers.submission(1, "", f"sbatch: error: {limit}\n{FAILED}{POLICY}\n") == (answer, None, f"{POLICY}: {limit}")


@pytest.mark.parametrize(
    ("code", "err", "answer"),
    [
        (0, "sbatch: Job 12 to start at 2026-11-24T23:40:44 using 1 processors on nodes n1 in partition batch\n", None),
        (None, "", None),
        (143, "", None),
        (1, "allocation failure: Access/permission denied\n", (Answer.REFUSED, None, "Access/permission denied")),
        (
            1,
            f"sbatch: error: AssocMaxSubmitJobLimit\nallocation failure: {POLICY}\n",
            (Answer.LIMITED, None, f"{POLICY}: AssocMaxSubmitJobLimit"),
        ),
        (
            1,
            "allocation failure: Socket timed out on send/recv operation\n",
            (Answer.UNKNOWN, None, "Socket timed out on send/recv operation"),
        ),
    ],
)
def test_a_submission_that_is_only_tried(code: int | None, err: str, answer: object) -> None:
    """`--test-only` says beforehand how a submission would be refused."""
    assert answers.would_be(code, "", err) == answer
