"""The only place that names sbatch, scontrol, squeue, sacct, sacctmgr and scancel: one function per call.

A function returns a `Call`; who carries it out is the caller's affair, because a controller that is frozen takes 20 s to say so,
and a link has signals to hear meanwhile. Client time-outs are longer than Slurm's own (MessageTimeout, 10 s, and twice that for
reading): a command that is cut before its own time-out has said nothing, and a submission may have been accepted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ckptrun.slurm.parse import NAMES_FORMAT, QUEUE_FORMAT, REMEMBERED_FIELDS, STANDING_FORMAT, JobId

_READ_S = 30.0
_SUBMIT_S = 40.0
# Asked on the way to the hand-over: a slurmdbd that hangs must not cost the successor.
_ACCOUNTING_S = 5.0
# A person looks: what the controller does not say in this time is told as not known, and the ledger without it.
_LOOK_S = 12.0


class Call(NamedTuple):
    """One command: its words, how long it may take, its environment (None for our own) and folder."""

    argv: tuple[str, ...]
    timeout_s: float
    environment: dict[str, str] | None = None
    directory: str | None = None


class Said(NamedTuple):
    """What a command said. `code` is None where it ran out of time, 127 where there is no such program."""

    code: int | None
    out: str
    err: str


def show_job(job: JobId) -> Call:
    """Ask for one job's record."""
    return Call(("scontrol", "-o", "-d", "show", "job", str(job)), _READ_S)


def batch_script(job: JobId) -> Call:
    """Ask for the script as Slurm runs it."""
    return Call(("scontrol", "write", "batch_script", str(job), "-"), _READ_S)


def show_config() -> Call:
    """Ask for the cluster's configuration."""
    return Call(("scontrol", "show", "config"), _READ_S)


def names(job: JobId) -> Call:
    """Ask for the names of output, error and input with their patterns, which `scontrol show job` fills in, and for the wckey."""
    return Call(("squeue", "-h", "-j", str(job), "-O", NAMES_FORMAT), _READ_S)


def show_reservation(name: str) -> Call:
    """Ask for one reservation's record."""
    return Call(("scontrol", "-o", "show", "reservation", name), _READ_S)


def show_partitions() -> Call:
    """Ask for all partitions' records."""
    return Call(("scontrol", "-o", "show", "partition"), _READ_S)


def show_reservations() -> Call:
    """Ask for all reservations' records."""
    return Call(("scontrol", "-o", "show", "reservation"), _READ_S)


def associations(user: str) -> Call:
    """Ask accounting what a user may do, one line for each account and partition. It may not exist."""
    fields = "account,partition,qos,maxjobs,maxsubmit,maxwall"
    return Call(("sacctmgr", "-n", "-P", "show", "assoc", f"user={user}", f"format={fields}"), _ACCOUNTING_S)


def qualities() -> Call:
    """Ask accounting for the limits of each quality of service. It may not exist."""
    fields = "name,maxwall,maxjobspu,maxsubmitpu"
    return Call(("sacctmgr", "-n", "-P", "show", "qos", f"format={fields}"), _ACCOUNTING_S)


def show_partition(name: str) -> Call:
    """Ask for one partition's record."""
    return Call(("scontrol", "-o", "show", "partition", name), _READ_S)


def submit_line(job: JobId) -> Call:
    """Ask accounting for the command line of a submission, which it learns some seconds late. It may not exist."""
    return Call(("sacct", "-n", "-P", "-X", "-j", str(job), "-o", "jobid,submitline"), _ACCOUNTING_S)


def queue_of_user() -> Call:
    """Ask for all jobs of this user, those that have ended within MinJobAge included."""
    return Call(("squeue", "--me", "-h", "-t", "all", "-o", QUEUE_FORMAT), _READ_S)


def standings() -> Call:
    """Ask for all jobs of this user with the times that people want to know: one question, however many chains there are."""
    return Call(("squeue", "--me", "-h", "-t", "all", "-o", STANDING_FORMAT), _LOOK_S)


def remembered(jobs: Sequence[str]) -> Call:
    """Ask accounting for these jobs at once. It may not exist, and learns of a job some seconds late."""
    return Call(("sacct", "-n", "-P", "-X", "-j", ",".join(jobs), "-o", REMEMBERED_FIELDS), _ACCOUNTING_S)


def accounting(job: JobId) -> Call:
    """Ask accounting for one job, every run of it. It may not exist, and learns of a job some seconds late."""
    return Call(("sacct", "-n", "-P", "-X", "-D", "-j", str(job), "-o", "state,submitline"), _READ_S)


def submit(options: tuple[str, ...], script: str, arguments: tuple[str, ...], environment: dict[str, str], directory: str) -> Call:
    """Submit a script. The words are an argument list: no shell reads them."""
    return Call(("sbatch", "--parsable", *options, script, *arguments), _SUBMIT_S, environment, directory)


def try_to_submit(call: Call) -> Call:
    """Ask how a submission would be answered: the same `sbatch`, which submits nothing."""
    program, *words = call.argv
    return call._replace(argv=(program, "--test-only", *words))


def submit_as_typed(words: tuple[str, ...], environment: dict[str, str] | None = None) -> Call:
    """Submit with the words that a person typed. He waits for it, as long as he likes: `--wait` lasts as long as the job."""
    return Call(("sbatch", *words), math.inf, environment)


def keep_from_requeue(job: JobId) -> Call:
    """Say that a running job must not come back."""
    return Call(("scontrol", "update", f"JobId={job}", "Requeue=0"), _READ_S)


def let_requeue(job: JobId) -> Call:
    """Give a running job the right to come back again."""
    return Call(("scontrol", "update", f"JobId={job}", "Requeue=1"), _READ_S)


def start_soon(job: JobId) -> Call:
    """Let a requeued job start as soon as it can, and not two minutes after it was taken away.

    Started in the second in which it was taken away it would fail: its node still refuses that job's credentials.
    """
    return Call(("scontrol", "update", f"JobId={job}", "StartTime=now+2"), _READ_S)


def wait_for(job: str, expression: str) -> Call:
    """Say what a waiting job, or the waiting tasks of an array, wait for; the whole expression is replaced."""
    return Call(("scontrol", "update", f"JobId={job}", f"Dependency={expression}"), _READ_S)


def requeue(job: JobId) -> Call:
    """Start a running job again, under its own id."""
    return Call(("scontrol", "requeue", str(job)), _READ_S)


def cancel(job: JobId) -> Call:
    """Cancel a job."""
    return Call(("scancel", str(job)), _READ_S)


def signal_batch_shell(job: JobId, name: str) -> Call:
    """Send a signal to a job's batch shell alone."""
    return Call(("scancel", "--batch", f"--signal={name}", str(job)), _READ_S)


def signal_step(address: str) -> Call:
    """Send TERM to the tasks of a step, JOB.STEP: sent to its srun it would make that kill them."""
    return Call(("scancel", "--signal=TERM", address), _READ_S)
