"""Which job this process is in, as the environment says: job, array task, restart, node, and whether we are the batch shell."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import NamedTuple

from ckptrun.slurm.parse import JobId, job_id


class Here(NamedTuple):
    """The job around us. `restart` is only a hint: it is inherited by jobs that a requeued job submits."""

    job: JobId
    cluster: str
    node: str
    batch_shell: bool
    step: str | None


def here(environment: Mapping[str, str]) -> Here | None:
    """Return the job that this process is in, None outside Slurm."""
    bare = job_id(environment.get("SLURM_JOB_ID", ""))
    if bare is None:
        return None
    array = job_id(f"{environment.get('SLURM_ARRAY_JOB_ID', '')}_{environment.get('SLURM_ARRAY_TASK_ID', '')}")
    step = environment.get("SLURM_STEP_ID")
    # After `exec ckptrun` we have the pid that slurmstepd gave the batch shell. In a step the variable names the step's task.
    batch_shell = step is None and environment.get("SLURM_TASK_PID") == str(os.getpid())
    node = environment.get("SLURMD_NODENAME") or os.uname().nodename
    return Here(array or bare, environment.get("SLURM_CLUSTER_NAME", "cluster"), node, batch_shell, step)


class BatchShell(NamedTuple):
    """The program that runs the job's script: its environment, which is that of the submission and what Slurm set.

    `words` are the script's arguments, None where they cannot be told from its command line.
    """

    environment: dict[str, str]
    words: tuple[str, ...] | None


def batch_shell(environment: Mapping[str, str]) -> BatchShell | None:
    """Return the batch shell where it still is one; None after `exec ckptrun`, in a step, and where /proc does not show it."""
    pid = environment.get("SLURM_TASK_PID", "")
    if not pid.isdecimal() or int(pid) == os.getpid() or "SLURM_STEP_ID" in environment:
        return None
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = _strings(file.read())
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = _strings(file.read())
    except OSError:
        return None
    found = dict(part.partition("=")[::2] for part in variables)
    # A pid that was given to another process is not in this job, or in another run of it.
    if any(found.get(name) != environment.get(name) for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "SLURM_TASK_PID")):
        return None
    script = next((place for place, word in enumerate(words) if word.endswith("/slurm_script")), None)
    return BatchShell(found, tuple(words[script + 1 :]) if script is not None else None)


def _strings(content: bytes) -> list[str]:
    return [os.fsdecode(part) for part in content.split(b"\0")[:-1]]


def has_clients() -> bool:
    """Return whether Slurm's commands can be run here; in a container they often cannot."""
    return shutil.which("scontrol") is not None and shutil.which("sbatch") is not None
