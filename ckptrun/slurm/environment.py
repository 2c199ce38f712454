"""PURE. Which variables go on to the next job.

Slurm's own must not: a nested sbatch inherits SBATCH_TIMELIMIT as its limit, SLURM_RESTART_COUNT as its own, and SLURM_CPU_BIND has
cost people days. Ranks and devices belong to the job that ends. Only SBATCH_* variables that had a part in the first submission go
on, as `fidelity` found them. Values are never written down.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_PREFIXES = re.compile(r"(?:SLURM|SLURMD|SBATCH|SRUN|SALLOC|PMI|PMIX|PMI2|OMPI|MPIRUN|CKPTRUN)_|PMI\d?$")
_NAMES = frozenset(
    {
        *("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK"),
        *("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ZE_AFFINITY_MASK"),
        *("SHLVL", "CKPTRUN", "ENVIRONMENT", "TMPDIR_JOB"),
    }
)
_KEPT = frozenset({"SLURM_CONF", "CKPTRUN_HOME", "CKPTRUN_OPTIONS"})
_LISTS = re.compile(r"(?:.*_)?PATH$|.*_DIRS$|LOADEDMODULES|_LMFILES_")
# With --export=NONE, or a list, sbatch passes on SLURM_* and nothing else.
BASE = "SLURM_CKPTRUN_BASE"
# What an array task knows of its array. A successor is an array of one task, for which Slurm would say so.
_ARRAY = ("SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX", "SLURM_ARRAY_TASK_STEP")


def successors(own: Mapping[str, str], base: int, variables: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Return the environment of a successor that builds on turn `base`. Lists of folders lose their repeats, not their order."""
    kept = {name: value for name, value in own.items() if name in _KEPT or not (_PREFIXES.match(name) or name in _NAMES)}
    return {name: without_repeats(name, value) for name, value in kept.items()} | dict(variables) | {BASE: str(base)}


def without_repeats(name: str, value: str) -> str:
    """Return a variable's value, which for a list of folders holds each of them once."""
    return ":".join(dict.fromkeys(value.split(":"))) if _LISTS.fullmatch(name) else value


def shortened(own: Mapping[str, str]) -> dict[str, str]:
    """Return the lists of folders that hold one of them twice, without the repeats."""
    lists = {name: without_repeats(name, value) for name, value in own.items()}
    return {name: value for name, value in lists.items() if value != own[name]}


def base_of(own: Mapping[str, str]) -> int:
    """Return the turn that a job builds on, 0 for none."""
    text = own.get(BASE, "")
    return int(text) if re.fullmatch(r"\d{1,9}", text, re.ASCII) else 0


def of_the_array(own: Mapping[str, str]) -> dict[str, str]:
    """Return what an array task knows of its array: how many tasks, from where to where, in which steps."""
    return {name: own[name] for name in _ARRAY if name in own}
