"""PURE. One cluster as a value: what it has, what it limits, what it does not allow. `sites.py` reads it from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

CONTAINERS = ("none", "singularity", "apptainer", "pyxis")
GPU_OPTIONS = ("gres", "gpus-per-node")


class Limits(NamedTuple):
    """What no job of a site may exceed; None where the site says nothing. Seconds, and numbers of GPUs and of running jobs."""

    time_s: float | None = None
    gpus: int | None = None
    gpus_running: int | None = None
    jobs_running: int | None = None


class Advice(NamedTuple):
    """What a site asks for and does not always insist on: CPUs and memory (as sbatch reads it) for one GPU."""

    cpus_per_gpu: int | None = None
    mem_per_gpu: str | None = None


class Site(NamedTuple):
    """One cluster. `containers`: those it has, the first is the usual one; `not_allowed`: setting -> why."""

    name: str
    description: str = ""
    partition: str | None = None
    time: str = "12:00:00"
    gpu_option: str = "gres"
    containers: tuple[str, ...] = ("none",)
    images: Mapping[str, str] = {}
    limits: Limits = Limits()
    advice: Advice = Advice()
    service_windows: str | None = None
    not_allowed: Mapping[str, str] = {}
