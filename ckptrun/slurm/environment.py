"""PURE. Which variables go on to the next job.

Slurm's own must not: a nested sbatch inherits SBATCH_TIMELIMIT as its limit, SLURM_RESTART_COUNT as its own, and SLURM_CPU_BIND has
cost people days. Ranks and devices belong to the job that ends. Values are never written down.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

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


def successors(own: Mapping[str, str], base: int) -> dict[str, str]:
    """Return the environment of a successor that builds on turn `base`. Lists of folders lose their repeats, not their order."""
    kept = {name: value for name, value in own.items() if name in _KEPT or not (_PREFIXES.match(name) or name in _NAMES)}
    return {name: _once(name, value) for name, value in kept.items()} | {"CKPTRUN_BASE": str(base)}


def _once(name: str, value: str) -> str:
    return ":".join(dict.fromkeys(value.split(":"))) if _LISTS.fullmatch(name) else value
