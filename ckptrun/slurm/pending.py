"""PURE. Why a job waits, in plain words, and whether waiting helps.

Source: squeue(1) and Slurm's page of reason codes.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Pending(NamedTuple):
    """A pending reason for people. `helps`: time alone ends it; else somebody has to do something."""

    sentence: str
    helps: bool = True


_WORDS: dict[str, Pending] = {
    "None": Pending("Slurm has not looked at it yet"),
    "": Pending("Slurm has not looked at it yet"),
    "Priority": Pending("jobs with a higher priority come first"),
    "Resources": Pending("no node is free for it yet"),
    "Dependency": Pending("the link before is still at work"),
    "DependencyNeverSatisfied": Pending("what it waits for can never come true", helps=False),
    "BeginTime": Pending("it may not begin before its begin time"),
    "JobHeldUser": Pending("its owner holds it: `scontrol release JOB` lets it go", helps=False),
    "JobHeldAdmin": Pending("an administrator holds it", helps=False),
    "launch failed requeued held": Pending("its start failed, and Slurm holds it: `scontrol release JOB` lets it go", helps=False),
    "job requeued in held state": Pending("it was requeued and is held: `scontrol release JOB` lets it go", helps=False),
    "Cleaning": Pending("its last start is still being cleared away"),
    "ReqNodeNotAvail": Pending("a node that it needs is not available: down, drained, or reserved for a service window"),
    "Reservation": Pending("it waits for its reservation to begin"),
    "ReservationDeleted": Pending("its reservation is gone", helps=False),
    "NodeDown": Pending("a node that it needs is down"),
    "BadConstraints": Pending("no node can ever give what it asks for", helps=False),
    "PartitionDown": Pending("its partition is closed for the time being"),
    "PartitionInactive": Pending("its partition takes no jobs", helps=False),
    "PartitionNodeLimit": Pending("it asks for more nodes than its partition allows", helps=False),
    "PartitionTimeLimit": Pending("its time limit is above its partition's", helps=False),
    "PartitionConfig": Pending("its partition cannot give what it asks for", helps=False),
    "JobArrayTaskLimit": Pending("so many tasks of its array run as may run at a time"),
    "Licenses": Pending("all licences that it needs are taken"),
    "InactiveLimit": Pending("its partition's inactivity limit was reached", helps=False),
    "InvalidAccount": Pending("its account is not valid", helps=False),
    "InvalidQOS": Pending("its QOS is not valid", helps=False),
    "AccountNotAllowed": Pending("its account may not use its partition", helps=False),
    "QOSNotAllowed": Pending("its QOS may not use its partition", helps=False),
    "QOSUsageThreshold": Pending("its QOS has been used too much; the use counts less with time"),
    "TimeLimit": Pending("its time limit has passed", helps=False),
    "NonZeroExitCode": Pending("its last start failed", helps=False),
    "Prolog": Pending("its node is being made ready"),
    "FrontEndDown": Pending("no front end is up"),
    "DeadLine": Pending("it cannot end before its deadline any more", helps=False),
    "BurstBufferResources": Pending("the burst buffer is full"),
    "BurstBufferStageIn": Pending("its data are being staged in"),
    "MaxMemPerLimit": Pending("it asks for more memory per core than is allowed", helps=False),
    "NodesDown": Pending("a node that it needs is down"),
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions": Pending(
        "its nodes are down, drained, or kept for more important jobs"
    ),
}
_THINGS = {
    "Cpu": "processor cores",
    "CPU": "processor cores",
    "GRES": "GPUs",
    "GRESMinutes": "GPU time",
    "Node": "nodes",
    "Mem": "memory",
    "Memory": "memory",
    "MemMinutes": "memory time",
    "Jobs": "running jobs",
    "JobsRunMinutes": "job time",
    "Submit": "submitted jobs",
    "SubmitJobs": "submitted jobs",
    "CpuMinutes": "processor time",
    "CPUMinutes": "processor time",
    "CPURunMinutes": "processor time of running jobs",
    "CpuRunMinutes": "processor time of running jobs",
    "NodeMinutes": "node time",
    "Wall": "wall time",
    "WallDuration": "wall time",
    "WallDurationPerJob": "wall time of one job",
    "BB": "burst buffer",
    "License": "licences",
    "Billing": "billing units",
}
_SCOPES = {"PerUser": "you", "PerUserLimit": "you", "PerAccount": "your account", "PerJob": "one job", "PerNode": "one node"}


def in_words(code: str) -> Pending:
    """Return a pending reason in plain words. One that nobody has translated is shown as Slurm writes it."""
    plain = code.strip().strip("()")
    word = plain.split(",")[0].strip()
    if (known := _WORDS.get(plain) or _WORDS.get(word)) is not None:
        return known
    limit = re.fullmatch(r"(Assoc|QOS)(Grp|Max|Min)?([A-Za-z]+?)(PerUserLimit|PerUser|PerAccount|PerJob|PerNode)?(?:Limit)?", word)
    return _limit(limit, plain) if limit else Pending(f"Slurm says {plain}")


def _limit(found: re.Match[str], plain: str) -> Pending:
    whose = "your account's" if found[1] == "Assoc" else "its QOS's"
    thing = _THINGS.get(found[3].removesuffix("Limit"), found[3])
    if found[4] in ("PerJob", "PerNode") or found[2] == "Min":
        return Pending(f"it breaks {whose} limit on {thing} of {_SCOPES.get(found[4] or '', 'one job')} ({plain})", helps=False)
    scope = f" for {_SCOPES[found[4]]}" if found[4] in _SCOPES else ""
    return Pending(f"{whose} limit on {thing}{scope} is used up for now ({plain})")
