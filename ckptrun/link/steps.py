"""PURE. The tasks of `srun`: they are no descendants of ours, and yet they are the training.

Rules of this file.
- A step whose tasks are all on this node is part of our tree: its trainings are asked directly, past every launcher, and `srun`
  hears nothing.
- A step that spans nodes is asked through its `srun`, which hands USR1, USR2 and (with SLURM_DISABLE_STATUS=1) a single INT on to
  every task. TERM, HUP and QUIT make srun kill its tasks at once: for TERM `scancel -s TERM JOB.STEP`. What is handed on reaches
  the first process of each task (with proctrack/linuxproc all of its processes): that is done only where those of this node's
  tasks catch it, and are no launchers. They stand for the tasks of the other nodes.
- Of a step about whose tasks nothing is known its srun is signalled only if the user named the signal.

Sources: measured on Slurm 22.05.8 (docs/reference/who-is-asked.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ckptrun.link.launchers import Kind, kind
from ckptrun.words import Process

INT, USR1, USR2, TERM = 2, 10, 12, 15
# TERM reaches the tasks through the controller.
_HANDED_ON_BY_SRUN = frozenset({INT, USR1, USR2})


class Step(NamedTuple):
    """One step of our job as far as it runs on this node.

    `address` is JOB.STEP; `whole`: no other node has tasks of it; `port`: where its srun listens, None where that is not known;
    `processes`: those of this node.
    """

    address: str
    whole: bool
    port: int | None
    processes: tuple[Process, ...]

    @property
    def tasks(self) -> tuple[Process, ...]:
        """Return the first process of each task."""
        pids = {process.pid for process in self.processes}
        return tuple(process for process in self.processes if process.ppid not in pids)


class Seen(NamedTuple):
    """The tree with its steps: `processes` as `audience` reads them, `through` names the step of each srun whose tasks span nodes.

    `sruns` are the srun processes, which no TERM may reach; `local` are the pids of our steps' processes on this node.
    """

    processes: tuple[Process, ...]
    through: Mapping[int, str]
    sruns: frozenset[int]
    local: frozenset[int]


def is_srun(process: Process) -> bool:
    """Return whether a process is Slurm's srun."""
    return bool(process.argv) and process.argv[0].rsplit("/", 1)[-1] == "srun"


def graft(
    processes: Sequence[Process], steps: Sequence[Step], ports: Mapping[int, frozenset[int]], wanted: int | None, *, all_hear: bool
) -> Seen:
    """Return the tree with its steps.

    `ports` are those on which each srun listens; `wanted` is the signal that the user named; `all_hear`: a signal to a task reaches
    all of its processes, not its first alone.
    """
    sruns = {process.pid: process for process in processes if is_srun(process)}
    # srun forks: the outer one takes the signals, and both hold the sockets.
    outer = {pid: process for pid, process in sruns.items() if process.ppid not in sruns}
    by_srun = _matched(steps, sruns, outer, ports)
    grafted = [process for process in processes if process.pid not in sruns]
    through: dict[int, str] = {}
    for pid, srun in outer.items():
        own = by_srun.get(pid, [])
        spanning = [step for step in own if not step.whole]
        if spanning:
            through[pid] = spanning[0].address
        grafted.append(_stand_in(srun, spanning, all_hear=all_hear) if own else _unknown(srun, wanted))
        for step in own:
            if step.whole:
                grafted += _below(pid, step)
    local = frozenset(process.pid for own in by_srun.values() for step in own for process in step.processes)
    return Seen(tuple(grafted), through, frozenset(sruns), local)


def _matched(
    steps: Sequence[Step], sruns: Mapping[int, Process], outer: Mapping[int, Process], ports: Mapping[int, frozenset[int]]
) -> dict[int, list[Step]]:
    """Return the steps of each srun. Others are left out: a person may look into the job with an srun of his own."""
    found: dict[int, list[Step]] = {}
    for step in steps:
        holder = next((pid for pid in sruns if step.port is not None and step.port in ports.get(pid, ())), None)
        if holder is None and step.port is None and len(outer) == 1:
            holder = next(iter(outer))
        if holder is not None:
            found.setdefault(holder if holder in outer else sruns[holder].ppid, []).append(step)
    return found


def _below(pid: int, step: Step) -> list[Process]:
    firsts = {process.pid for process in step.tasks}
    return [process._replace(ppid=pid) if process.pid in firsts else process for process in step.processes]


def _unknown(srun: Process, wanted: int | None) -> Process:
    """Return an srun of whose tasks nothing is known: it hands on what the user named, and nothing else."""
    if wanted not in _HANDED_ON_BY_SRUN:
        return srun._replace(caught=frozenset())
    return srun._replace(caught=frozenset({wanted}), stands_for="its tasks on other nodes")


def _stand_in(srun: Process, spanning: list[Step], *, all_hear: bool) -> Process:
    """Return srun as what it can hand on to tasks on other nodes, too: nothing that could kill one of them."""
    hearing = [process for step in spanning for process in (step.processes if all_hear else step.tasks)]
    firsts = [process for step in spanning for process in step.tasks]
    if not hearing or any(kind(process.argv) is not Kind.PROGRAM for process in firsts):
        return srun._replace(caught=frozenset())
    caught = frozenset.intersection(*(process.caught for process in hearing)) & (_HANDED_ON_BY_SRUN | {TERM})
    return srun._replace(caught=caught, stands_for=f"the tasks of step {spanning[0].address}")
