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


def has_clients() -> bool:
    """Return whether Slurm's commands can be run here; in a container they often cannot."""
    return shutil.which("scontrol") is not None and shutil.which("sbatch") is not None
