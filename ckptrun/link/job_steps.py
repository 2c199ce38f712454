"""Which processes of this node belong to the steps of a job: read from their cgroups, else from their environments.

`srun`'s tasks are children of slurmstepd, not ours. With proctrack/cgroup the path of a task's cgroup names job and step
(`.../job_7/step_0`, cgroup v1 and v2 alike); with proctrack/linuxproc only the environment does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from ckptrun.link import process_tree
from ckptrun.link.steps import Step
from ckptrun.words import Process

_LISTENING = "0A"


def read(job: int) -> tuple[Step, ...]:
    """Return the steps of a job (its bare number) as far as they run here. What has just ended is left out."""
    own = [name for name in os.listdir("/proc") if name.isdigit() and _is_ours(name)]
    by_step: dict[str, list[int]] = {}
    in_cgroup = re.compile(rf"/job_{job}/step_(\d+)")
    for name in own:
        if (found := in_cgroup.search(_text(f"/proc/{name}/cgroup"))) is not None:
            by_step.setdefault(found[1], []).append(int(name))
    if not by_step:
        for name in own:
            facts = _environment(int(name))
            if facts.get("SLURM_JOB_ID") == str(job) and facts.get("SLURM_STEP_ID", "").isdigit():
                by_step.setdefault(facts["SLURM_STEP_ID"], []).append(int(name))
    return tuple(step for number, pids in by_step.items() if (step := _step(job, number, pids)) is not None)


def _step(job: int, number: str, pids: list[int]) -> Step | None:
    processes = tuple(process for pid in pids if (process := _process(pid)) is not None)
    if not processes:
        return None
    step = Step(f"{job}.{number}", False, None, processes)
    facts = _environment(step.tasks[0].pid)
    port = facts.get("SLURM_STEP_LAUNCHER_PORT") or facts.get("SLURM_SRUN_COMM_PORT") or ""
    return step._replace(whole=facts.get("SLURM_STEP_NUM_NODES") == "1", port=int(port) if port.isdigit() else None)


def listening_ports(pids: Iterable[int]) -> dict[int, frozenset[int]]:
    """Return the TCP ports on which each of these processes listens."""
    ports: dict[str, int] = {}
    for table in ("tcp", "tcp6"):
        for line in _text(f"/proc/net/{table}").splitlines()[1:]:
            words = line.split()
            if len(words) > 9 and words[3] == _LISTENING:
                ports[f"socket:[{words[9]}]"] = int(words[1].rpartition(":")[2], 16)
    return {pid: frozenset(ports[name] for name in _descriptors(pid) if name in ports) for pid in pids}


def _is_ours(name: str) -> bool:
    try:
        return os.stat(f"/proc/{name}").st_uid == os.getuid()
    except OSError:
        return False


def _process(pid: int) -> Process | None:
    fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 2 or fields[0] in ("Z", "X"):
        return None
    return process_tree.read_one(pid, int(fields[1]), 0.0)


def _environment(pid: int) -> dict[str, str]:
    pairs = (word.partition("=") for word in _text(f"/proc/{pid}/environ").split("\0"))
    return {name: value for name, _, value in pairs if name.startswith("SLURM_")}


def _descriptors(pid: int) -> list[str]:
    try:
        return [os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []  # it is gone, and listens to nobody


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
