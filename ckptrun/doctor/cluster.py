"""PURE. What a cluster's configuration means for a chain: one sentence for each thing that matters, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ckptrun import durations
from ckptrun.doctor.findings import Severity
from ckptrun.doctor.script import Limits
from ckptrun.slurm import parse
from ckptrun.slurm.read_back import minutes

_GOOD, _WARNING, _ERROR = Severity.GOOD, Severity.WARNING, Severity.ERROR
_OLDEST = (21, 8)
_WEEK_S = 7 * 86400.0
# What a clock that differs does: the end time is the controller's, the timer this machine's.
_CLOCK_S = 5.0


class Check(NamedTuple):
    """One thing that was looked at: its name, how it is, and what that means."""

    name: str
    severity: Severity
    what: str


class Said(NamedTuple):
    """What Slurm's commands printed, empty where one said nothing; `asked_at` is when, as Unix time."""

    config: str = ""
    partitions: str = ""
    reservations: str = ""
    associations: str = ""
    qualities: str = ""
    asked_at: float = 0.0


def limits_of(partitions: str) -> Limits:
    """Return the partitions' time limits."""
    records = parse.records(partitions)
    known = {one["PartitionName"]: _seconds(one.get("MaxTime", "")) for one in records if "PartitionName" in one}
    default = next((one["PartitionName"] for one in records if one.get("Default") == "YES" and "PartitionName" in one), None)
    return Limits("the partition's MaxTime", {name: limit for name, limit in known.items() if limit is not None}, default)


def judge(said: Said) -> tuple[Check, ...]:
    """Return what was found, in an order to be read."""
    config = parse.configuration(said.config)
    partitions = parse.records(said.partitions)
    checks = [
        _version(config),
        *_submitting(config, partitions),
        *_times(partitions),
        *_limits(said),
        *_ends(config),
        *_preemption(partitions),
        *_accounting(config),
        *_windows(said),
        *_clock(config, said.asked_at),
    ]
    return tuple(checks)


def _seconds(text: str) -> float | None:
    found = minutes(text)
    return found * 60.0 if found else None


def _version(config: dict[str, str]) -> Check:
    text = config.get("SLURM_VERSION", "unknown")
    found = re.match(r"(\d+)\.(\d+)", text)
    if found and (int(found[1]), int(found[2])) < _OLDEST:
        return Check(
            "version", _WARNING, f"Slurm {text} is older than 21.08: nobody has tried a chain with it; try `--rehearse` first"
        )
    return Check("version", _GOOD, f"Slurm {text}")


def _submitting(config: dict[str, str], partitions: tuple[dict[str, str], ...]) -> Iterator[Check]:
    """May a job submit its successor?"""
    closed = [one["PartitionName"] for one in partitions if not _may_submit(one)]
    if not closed:
        yield Check("submitting", _GOOD, "jobs may submit jobs: AllocNodes is open to the nodes of every partition")
        return
    names = ", ".join(closed)
    if config.get("JobRequeue", "1") == "1":
        what = (
            f"in {names} no job may submit another (AllocNodes): a chain goes on by requeue there, and waits two minutes each time"
        )
        yield Check("submitting", _WARNING, what)
    else:
        what = (
            f"in {names} no job may submit another (AllocNodes), and JobRequeue is off: a chain would be stranded; write --requeue "
        )
        yield Check("submitting", _ERROR, what + "into the script, or take another partition")


def _may_submit(partition: dict[str, str]) -> bool:
    allowed = partition.get("AllocNodes", "ALL")
    if allowed in ("ALL", "(null)", ""):
        return True
    return set(parse.host_names(partition.get("Nodes", ""))) <= set(parse.host_names(allowed))


def _times(partitions: tuple[dict[str, str], ...]) -> Iterator[Check]:
    default = next((one for one in partitions if one.get("Default") == "YES"), None)
    if default is None:
        if partitions:
            yield Check("partition", _WARNING, "no partition is the default: write --partition into the script")
        return
    longest, usual = _seconds(default.get("MaxTime", "")), _seconds(default.get("DefaultTime", ""))
    name = default["PartitionName"]
    told = f"at most {durations.show(longest)} a link" if longest else "no time limit of its own"
    yield Check("time limit", _GOOD, f"the default partition {name} has {told}")
    if usual is not None and usual != longest:
        what = f"a job without --time gets {durations.show(usual)} in {name}: write --time into every script"
        yield Check("default time", _WARNING, what)
    down = [one["PartitionName"] for one in partitions if one.get("State", "UP") != "UP"]
    if down:
        yield Check("partitions", _WARNING, f"closed at the moment: {', '.join(down)}; a successor there waits, or is refused")


def _limits(said: Said) -> Iterator[Check]:
    """What accounting allows the user: each line is an account, and the qualities of service that it may use."""
    qualities = {line.split("|")[0]: line.split("|") for line in said.qualities.splitlines() if line.count("|") >= 3}
    for line in said.associations.splitlines():
        if line.count("|") < 5:
            continue
        account, partition, names, jobs, submit, wall = line.split("|")[:6]
        where = f"account {account}" + (f" in {partition}" if partition else "")
        yield from _limit(where, wall, jobs, submit)
        for name in names.split(","):
            if name in qualities:
                yield from _limit(f"QOS {name}", *qualities[name][1:4])


def _limit(where: str, wall: str, jobs: str, submit: str) -> Iterator[Check]:
    if submit == "1":
        what = f"{where} lets one job be submitted at a time: a successor cannot wait beside its job; write --continue-with requeue"
        yield Check("jobs", _WARNING, what)
    elif submit:
        what = f"{where} lets {submit} jobs be submitted at a time: a chain needs two, one that runs and one that waits"
        yield Check("jobs", _GOOD, what)
    if jobs:
        yield Check("running jobs", _GOOD, f"{where} lets {jobs} jobs run at a time: each chain needs one")
    limit_s = _seconds(wall)
    if limit_s:
        yield Check("wall time", _GOOD, f"{where}: a link may last {durations.show(limit_s)} at most")


def _ends(config: dict[str, str]) -> Iterator[Check]:
    wait_s = parse.settings("\n".join(f"{name} = {value}" for name, value in config.items())).kill_wait_s
    told = f"between Slurm's SIGTERM and the kill are {durations.show(wait_s)} (KillWait)"
    if wait_s < 10:
        yield Check("KillWait", _WARNING, f"{told}: a cancelled training may not have saved by then")
    else:
        yield Check("KillWait", _GOOD, f"{told}: what a cancelled or preempted training has to save in")
    if config.get("JobRequeue", "1") == "1":
        yield Check("JobRequeue", _GOOD, "a job that loses its node is started again by Slurm (JobRequeue=1), two minutes later")
    else:
        what = "a job that loses its node is not started again (JobRequeue=0): `--successor start` is the net under that"
        yield Check("JobRequeue", _WARNING, what)
    plugin = config.get("ProctrackType", "")
    if plugin.endswith("cgroup"):
        what = "Slurm tells only the batch shell and the tasks of steps (proctrack/cgroup): write `exec` before ckptrun"
    else:
        what = f"Slurm signals every process of a job ({plugin or 'proctrack unknown'}): the training may be told before ckptrun is"
    yield Check("proctrack", _GOOD, what)


def _preemption(partitions: tuple[dict[str, str], ...]) -> Iterator[Check]:
    modes: dict[tuple[str, str], list[str]] = {}
    for one in partitions:
        mode = one.get("PreemptMode", "OFF")
        if mode not in ("OFF", "GANG"):
            modes.setdefault((mode, one.get("GraceTime", "0")), []).append(one["PartitionName"])
    for (mode, grace), names in modes.items():
        seconds = float(grace) if grace.isdigit() else 0.0
        then = {"CANCEL": "ended; its successor goes on", "REQUEUE": "started again later"}.get(mode, "suspended")
        told = f"a preempted job in {', '.join(names)} is {then} (PreemptMode={mode})"
        if mode in ("CANCEL", "REQUEUE"):
            told += f", with {durations.show(seconds)} of grace to save" if seconds else ", without grace: it has KillWait to save"
        yield Check("preemption", _GOOD, told)


def _accounting(config: dict[str, str]) -> Iterator[Check]:
    kind = config.get("AccountingStorageType", "")
    if not kind.endswith("slurmdbd"):
        what = "no accounting: the next link knows the options of a command line only after `ckptrun sbatch`"
        yield Check("accounting", _WARNING, what)
    else:
        flags = config.get("AccountingStoreFlags", "(null)")
        kept = f", and keeps {flags}" if flags not in ("(null)", "none", "NONE") else ""
        yield Check("accounting", _GOOD, f"accounting knows how each job was submitted and how it ended{kept}")
    age = re.match(r"\d+", config.get("MinJobAge", ""))
    if age and int(age[0]) < 60:
        what = f"the controller forgets a job {age[0]} s after its end (MinJobAge): a link that starts later must ask accounting"
        yield Check("MinJobAge", _WARNING if not kind.endswith("slurmdbd") else _GOOD, what)
    if config.get("PriorityType", "priority/basic").endswith("multifactor"):
        always = "ACCRUE_ALWAYS" in config.get("PriorityFlags", "")
        what = "gains age while it waits (ACCRUE_ALWAYS): it soon starts" if always else "gains no age while it waits"
        yield Check("priority", _GOOD, f"a successor {what}")


def _windows(said: Said) -> Iterator[Check]:
    for one in parse.records(said.reservations):
        begins, ends = parse.utc(one.get("StartTime", "")), parse.utc(one.get("EndTime", ""))
        if begins is None or ends is None or ends < said.asked_at or "MAINT" not in one.get("Flags", ""):
            continue
        name, clock = one.get("ReservationName", "?"), one["StartTime"].replace("T", " ")
        if begins <= said.asked_at:
            yield Check(
                "service window",
                _WARNING,
                f"{name} is on, for {durations.show(ends - said.asked_at)} more: nothing starts till then",
            )
        else:
            what = f"{name} begins in {durations.show(begins - said.asked_at)} ({clock} UTC) for {durations.show(ends - begins)}: "
            what += "a job whose limit reaches into it waits until it is over; one with a shorter --time starts before it"
            yield Check("service window", _WARNING if begins - said.asked_at < _WEEK_S else _GOOD, what)


def _clock(config: dict[str, str], asked_at: float) -> Iterator[Check]:
    theirs = parse.utc(config.get("as of", ""))
    if theirs is None or not asked_at:
        return
    apart = abs(theirs - asked_at)
    if apart > _CLOCK_S:
        what = (
            f"this machine's clock and the controller's are {durations.show(apart)} apart: the training is asked so much too early "
        )
        what += "or too late; tell the administrators, and set a larger --margin"
        yield Check("clock", _WARNING if apart < 60 else _ERROR, what)
    else:
        yield Check("clock", _GOOD, "this machine's clock and the controller's agree")
