"""PURE. What sbatch's answer to a submission means: whether there is a job, and when it is worth trying again.

Sources: the answers of Slurm 22.05.8, recorded; for what the test lab cannot be made to say, the error texts in its library. A text
that is not in the table, of an sbatch that ended with an error, is final: Slurm has told what is wrong with the submission.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from ckptrun.slurm.parse import JobId, job_id, said


class Answer(str, Enum):
    """What became of a submission."""

    ACCEPTED = "accepted"
    REFUSED = "refused"  # certainly no job, and the same again would be refused again
    LATER = "later"  # certainly no job: nobody has looked at it, so that the same may work as long as there is time
    LIMITED = "limited"  # certainly no job: there is no room for one more now. A requeue of our own job needs none
    UNKNOWN = "unknown"  # there may be a job: look before anything is tried again


class Submission(NamedTuple):
    """The answer to one `sbatch`: what became of it, the job where it was accepted, and what was said."""

    answer: Answer
    job: JobId | None
    said: str


# In this order; compared with the last line alone, because an sbatch that tries again by itself has said more before it.
TABLE: tuple[tuple[Answer, tuple[str, ...]], ...] = (
    (
        Answer.LATER,
        (
            "Unable to contact slurm controller (connect failure)",
            "Communication connection failure",
            "Connection refused",
            "No route to host",
            "Network is unreachable",
            "Can't find an address, check slurm.conf",
            "Could not establish a configuration source",
            "Slurm backup controller in standby mode",
            "Controller is in standby mode",
        ),
    ),
    (
        Answer.UNKNOWN,
        (
            "timed out",
            "Connection reset",
            "Broken pipe",
            "Zero Bytes",
            "zero length message",
            "message length",
            "Message send failure",
            "Message receive failure",
            "(send failure)",
            "(receive failure)",
            "(shutdown failure)",
            "Communication shutdown failure",
            "Unexpected message received",
            # The answer may be what could not be authenticated.
            "Protocol authentication error",
            "Invalid authentication credential",
            "Failed to connect to authentication agent",
            # The job exists, and has failed.
            "I/O error writing script/environment to file",
        ),
    ),
    (
        Answer.LIMITED,
        (
            "Job violates accounting/QOS policy",
            "Requested account has breached requested QOS usage threshold",
            "Unable to create job record, try again",
            "Resource temporarily unavailable",
            "Requested nodes are busy",
            "Required partition not available (inactive or drain)",
            "Required node not available (down, drained or reserved)",
            "Partition in DOWN state",
            "System submissions disabled",
            "Unable to connect to database",
            "Burst Buffer resource limit exceeded",
            "Slurm internal error, contact system administrator",
            "Unspecified error",  # so a site's own plugin refuses: it may count jobs
        ),
    ),
)
# The line before says which limit it was. One that this very job is above, whatever else runs, stays.
_PER_JOB = re.compile(r"PerJob|PerNode|MaxWall|QOSMin|TimeLimit$")
_LIMIT = re.compile(r"^sbatch: error: ((?:Assoc|QOS)\w+)$", re.MULTILINE)


def submission(code: int | None, out: str, err: str) -> Submission:
    """Read what `sbatch --parsable` did. `code` is None where it was killed or ran out of time without an answer."""
    text = said(err)
    first = out.strip().splitlines()[0].split(";")[0] if out.strip() else ""
    if code == 0 and (job := job_id(first)) is not None:
        return Submission(Answer.ACCEPTED, job, text)
    if code is None or code < 0 or (code >= 128 and code != 255) or code == 0:
        return Submission(Answer.UNKNOWN, None, text or "sbatch ended without an answer")
    return _refusal(text or f"sbatch ended with exit code {code}", err)


def would_be(code: int | None, out: str, err: str) -> Submission | None:
    """Read what `sbatch --test-only` did: how a submission would be refused, None where it would be taken or nobody can say."""
    if code in (0, None) or code < 0 or code >= 128:
        return None
    return _refusal(said(err), err)


def _refusal(text: str, err: str) -> Submission:
    answer = next((answer for answer, known in TABLE if any(one in text for one in known)), Answer.REFUSED)
    limit = _LIMIT.findall(err)
    if answer is Answer.LIMITED and limit:
        text = f"{text}: {limit[-1]}"
        answer = Answer.REFUSED if _PER_JOB.search(limit[-1]) else answer
    return Submission(answer, None, text)
