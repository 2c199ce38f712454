"""PURE. What a running job shows of the options that it was submitted with: its record, its environment, the names of its logs.

The table is the documentation. An option that is not in it cannot be read back; HIDDEN names those that people use. `fits` says
whether a value that somebody is said to have given can be what the job shows. Sources: Slurm 22.05.8, an option a job, recorded in
tests/slurm; `scontrol -o -d show job`, `squeue -O` for the logs with their patterns and for the wckey.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

# Options that no job shows. Where accounting does not tell the command line, they are lost unless the script has them.
HIDDEN = (
    "--signal=B:USR1@120",
    "--partition=batch,other",
    "--nodes=1-4",
    "--no-kill",
    "--propagate=NONE",
    "--wait-all-nodes=1",
    "--use-min-nodes",
    "--mail-user=NAME",
    "--batch=FEATURE",
)
_NOTHING = ("(null)", "N/A", "", "None", "Unknown")


class Shown(NamedTuple):
    """What there is to read. `environment` is the batch shell's where it is known; `logs` are output, error and input."""

    fields: Mapping[str, str]
    environment: Mapping[str, str]
    logs: tuple[str, str, str]
    wckey: str = ""
    directory: str = ""


class Readable(NamedTuple):
    """How one option is read back. `read` returns None where the job shows nothing of it.

    `same` compares a value as given with the one that is shown: True, False, or None where the forms do not let it tell.
    `telling`: a job to which nobody gave the option shows nothing, whatever the site's defaults are.
    """

    name: str
    where: str
    read: Callable[[Shown], str | None]
    same: Callable[[str, str], bool | None]
    telling: bool = False


# --- comparing


def _text(told: str, shown: str) -> bool | None:
    return told == shown


def _loosely(told: str, shown: str) -> bool | None:
    return True if told == shown else None


def _any_case(told: str, shown: str) -> bool | None:
    return told.lower() == shown.lower()


def _number(told: str, shown: str) -> bool | None:
    return int(told) == int(shown) if re.fullmatch(r"-?\d+", told) and re.fullmatch(r"-?\d+", shown) else None


def _minutes(told: str, shown: str) -> bool | None:
    return minutes(told) == minutes(shown) if minutes(told) is not None else False


def _memory(told: str, shown: str) -> bool | None:
    return megabytes(told) == megabytes(shown)


def _one_of(told: str, shown: str) -> bool | None:
    return shown in told.split(",")


def _node_count(told: str, shown: str) -> bool | None:
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", told)
    return int(found[1]) <= int(shown) <= int(found[2] or found[1]) if found and shown.isdigit() else None


def _path(told: str, shown: str) -> bool | None:
    if told == shown or (shown.endswith(f"/{told}") and not told.startswith("/")):
        return True
    return None if "." in told.split("/") or ".." in told.split("/") or "//" in told else False


def _devices(told: str, shown: str) -> bool | None:
    return devices(told) == devices(shown)


def devices(text: str) -> tuple[str, ...]:
    """Return devices in one form: `gpu`, `gpu:1`, `gres:gpu:1` and, where only GPUs are meant, `1` are the same."""
    parts = []
    for part in text.split(","):
        plain = part.removeprefix("gres:").removeprefix("gres/")
        plain = plain if re.match(r"[A-Za-z]", plain) else f"gpu:{plain}"
        parts.append(plain if re.search(r"[:=]\d+[KMGkmg]?$", plain) else f"{plain}:1")
    return tuple(sorted(parts))


def _gpus(told: str, shown: str) -> bool | None:
    def typed(text: str) -> tuple[str, ...]:
        return tuple(sorted(re.sub(r"^(?!gpu(?::|$))", "gpu:", part.removeprefix("gres:")) for part in text.split(",")))

    return typed(told) == typed(shown)


_MAIL_ALL = frozenset({"BEGIN", "END", "FAIL", "REQUEUE", "STAGE_OUT", "INVALID_DEPEND"})


def _mail_types(told: str, shown: str) -> bool | None:
    def types(text: str) -> set[str]:
        named = set(text.upper().split(","))
        return (named - {"ALL"}) | _MAIL_ALL if "ALL" in named else named

    return types(told) == types(shown)


def _switches(told: str, shown: str) -> bool | None:
    count, _, wait = told.partition("@")
    shown_count, _, shown_wait = shown.partition("@")
    return count == shown_count and (minutes(wait or "0") == minutes(shown_wait or "0"))


def minutes(text: str) -> int | None:
    """Return Slurm's time limit in minutes, seconds rounded up; 0 for no limit, None for what is no time (man sbatch, --time)."""
    if text.upper() in ("UNLIMITED", "INFINITE", "0", "-1"):
        return 0
    days, dash, rest = text.rpartition("-")
    parts = rest.split(":")
    if not all(re.fullmatch(r"\d+", part, re.ASCII) for part in parts) or (dash and not days.isdecimal()) or len(parts) > 3:
        return None
    numbers = [int(part) for part in parts]
    if dash:
        hours, mins, seconds = (numbers + [0, 0])[:3]
    elif len(numbers) == 3:
        hours, mins, seconds = numbers
    else:
        hours, mins, seconds = 0, numbers[0], (numbers + [0])[1]
    return int(days or 0) * 1440 + hours * 60 + mins + (seconds > 0)


def megabytes(text: str) -> float | None:
    """Return Slurm's memory in megabytes, its default unit; None for what is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)B?", text.strip().upper(), re.ASCII)
    return float(found[1]) * {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024 * 1024}[found[2]] if found else None


_MODES = {"a": "append", "t": "truncate"}


def _mode(told: str, shown: str) -> bool | None:
    return told.lower()[:1] == shown[:1]


# --- reading


def _field(*names: str, nothing: tuple[str, ...] = ()) -> Callable[[Shown], str | None]:
    def read(shown: Shown) -> str | None:
        value = next((shown.fields[name] for name in names if name in shown.fields), "")
        return None if value in _NOTHING or value in nothing else value

    return read


def _variable(name: str, nothing: tuple[str, ...] = ()) -> Callable[[Shown], str | None]:
    def read(shown: Shown) -> str | None:
        value = shown.environment.get(name, "")
        return None if value in _NOTHING or value in nothing else value

    return read


def _flag_field(value: str, *names: str) -> Callable[[Shown], str | None]:
    """A flag is read back as the empty text."""
    return lambda shown: "" if any(shown.fields.get(name) == value for name in names) else None


def _gres_flags(shown: Shown) -> str | None:
    return "enforce-binding" if shown.fields.get("GresEnforceBind") == "Yes" else None


def _per(name: str, place: int) -> Callable[[Shown], str | None]:
    """Return a part of a field like `NtasksPerN:B:S:C=2:0:*:*`; 0 and * are what nobody asked for."""

    def read(shown: Shown) -> str | None:
        parts = shown.fields.get(name, "").split(":")
        value = parts[place] if place < len(parts) else "*"
        return value if value not in ("*", "0", "") else None

    return read


def _gpus_of(field: str) -> Callable[[Shown], str | None]:
    def read(shown: Shown) -> str | None:
        value = shown.fields.get(field, "")
        return ",".join(part.removeprefix("gres:").removeprefix("gpu:") for part in value.split(",")) if value else None

    return read


def _amount_of_gpu(field: str) -> Callable[[Shown], str | None]:
    return lambda shown: shown.fields.get(field, "").rpartition(":")[2] or None


def _gres(shown: Shown) -> str | None:
    value = shown.fields.get("TresPerNode", "")
    if not value or "SLURM_GPUS_PER_NODE" in shown.environment:
        return None
    return ",".join(part.removeprefix("gres:") for part in value.split(","))


def _gpus_per_node(shown: Shown) -> str | None:
    return _gpus_of("TresPerNode")(shown) if "SLURM_GPUS_PER_NODE" in shown.environment else None


def _job_name(shown: Shown) -> str | None:
    # The record's own form of a name with blanks and equals signs in it cannot be told from further fields.
    return shown.environment.get("SLURM_JOB_NAME") or shown.fields.get("JobName")


def _time(shown: Shown) -> str | None:
    """With --time-min the limit in force says nothing of the one that was asked for."""
    if shown.fields.get("TimeMin", "N/A") not in _NOTHING:
        return None
    return shown.fields.get("TimeLimit", "").replace("UNLIMITED", "0") or None


def _cpus_per_task(shown: Shown) -> str | None:
    """The variable is there only where the option was given; the field is 1 without it."""
    return _variable("SLURM_CPUS_PER_TASK")(shown) or _field("CPUs/Task", nothing=("1",))(shown)


def _mincpus(shown: Shown) -> str | None:
    """Below what tasks and their CPUs need on a node, the field says nothing of its own."""
    needed = 1
    for part in (shown.fields.get("CPUs/Task", "1"), shown.fields.get("NtasksPerN:B:S:C", "").partition(":")[0]):
        needed *= max(int(part), 1) if part.isdigit() else 1
    value = shown.fields.get("MinCPUsNode", "1")
    return value if value.isdigit() and int(value) > needed else None


def _mem(shown: Shown) -> str | None:
    value = shown.fields.get("MinMemoryNode", "")
    return None if "MemPerTres" in shown.fields or not value else value


def _ntasks(shown: Shown) -> str | None:
    """A number of tasks that others imply (tasks per node, per GPU) is theirs."""
    if _per("NtasksPerN:B:S:C", 0)(shown) or "NtasksPerTRES" in shown.fields:
        return None
    return _variable("SLURM_NTASKS")(shown)


def _ntasks_per_gpu(shown: Shown) -> str | None:
    value = shown.fields.get("NtasksPerTRES", "")
    return value if value not in ("", "0") else None


def _exclusive(shown: Shown) -> str | None:
    return {"NO": "", "USER": "user", "MCS": "mcs", "TOPO": "topo"}.get(shown.fields.get("OverSubscribe", ""))


def _same_exclusive(told: str, shown: str) -> bool | None:
    return told.lower().replace("exclusive", "") == shown


def _distribution(shown: Shown) -> str | None:
    value = _variable("SLURM_DISTRIBUTION")(shown)
    size = shown.environment.get("SLURM_DIST_PLANESIZE")
    return f"plane={size}" if value == "plane" and size else value


def _threads(place: int, name: str) -> Callable[[Shown], str | None]:
    """A hint sets these fields itself, and excludes the options for them."""
    read = _per(name, place)
    return lambda shown: None if "SLURM_HINT" in shown.environment else read(shown)


def _logs(place: int) -> Callable[[Shown], str | None]:
    def read(shown: Shown) -> str | None:
        value = shown.logs[place]
        if value in _NOTHING or (value == "/dev/null" and place == 2) or (place == 1 and value == shown.logs[0]):
            return None
        return None if place == 0 and is_default_log(value, shown.fields) else value

    return read


def is_default_log(path: str, fields: Mapping[str, str]) -> bool:
    """Return whether a log has the name that Slurm gives where nobody named one: it is shown filled in."""
    task = f"{fields.get('ArrayJobId', '')}_{fields.get('ArrayTaskId', '')}"
    return path.rpartition("/")[2] in (
        f"slurm-{fields.get('JobId', '')}.out",
        f"slurm-{task}.out",
        "slurm-%j.out",
        "slurm-%A_%a.out",
    )


def _get_user_env(shown: Shown) -> str | None:
    """Every form of --export but ALL sets its variable too."""
    said = shown.environment.get("SLURM_EXPORT_ENV", "ALL")
    return "" if "SLURM_GET_USER_ENV" in shown.environment and said == "ALL" else None


RECORD = "the job's record"
READABLE = (
    Readable("job-name", RECORD, _job_name, _text),
    Readable("time", RECORD, _time, _minutes),
    Readable("time-min", RECORD, _field("TimeMin"), _minutes, True),
    Readable("partition", RECORD, _field("Partition"), _one_of),
    Readable("nodes", RECORD, _field("NumNodes"), _node_count),
    Readable("ntasks", "SLURM_NTASKS", _ntasks, _number),
    Readable("cpus-per-task", RECORD, _cpus_per_task, _number, True),
    Readable("ntasks-per-node", RECORD, _per("NtasksPerN:B:S:C", 0), _number, True),
    Readable("ntasks-per-socket", RECORD, _per("NtasksPerN:B:S:C", 2), _number, True),
    Readable("ntasks-per-core", RECORD, _threads(3, "NtasksPerN:B:S:C"), _number, True),
    Readable("ntasks-per-gpu", RECORD, _ntasks_per_gpu, _number, True),
    Readable("mincpus", RECORD, _mincpus, _number),
    Readable("mem", RECORD, _mem, _memory),
    Readable("mem-per-cpu", RECORD, _field("MinMemoryCPU"), _memory),
    Readable("mem-per-gpu", RECORD, _amount_of_gpu("MemPerTres"), _memory, True),
    Readable("gres", RECORD, _gres, _devices),
    Readable("gpus-per-node", RECORD, _gpus_per_node, _gpus),
    Readable("gpus", RECORD, _gpus_of("TresPerJob"), _gpus, True),
    Readable("gpus-per-task", RECORD, _gpus_of("TresPerTask"), _gpus, True),
    Readable("gpus-per-socket", RECORD, _gpus_of("TresPerSocket"), _gpus, True),
    Readable("cpus-per-gpu", RECORD, _amount_of_gpu("CpusPerTres"), _number, True),
    Readable("gpu-bind", "SLURM_GPU_BIND", _variable("SLURM_GPU_BIND"), _loosely),
    Readable("gpu-freq", "SLURM_GPU_FREQ", _variable("SLURM_GPU_FREQ"), _loosely),
    Readable("gres-flags", RECORD, _gres_flags, _loosely),
    Readable("output", "squeue -O STDOUT", _logs(0), _path),
    Readable("error", "squeue -O STDERR", _logs(1), _path),
    Readable("input", "squeue -O STDIN", _logs(2), _path, True),
    Readable("open-mode", "SLURM_OPEN_MODE", lambda shown: _MODES.get(shown.environment.get("SLURM_OPEN_MODE", "")), _mode),
    Readable("account", RECORD, _field("Account"), _any_case),
    Readable("qos", RECORD, _field("QOS", nothing=("normal",)), _any_case),
    Readable("wckey", "squeue -O wckey", lambda shown: None if shown.wckey in _NOTHING else shown.wckey.lstrip("*"), _loosely),
    Readable("reservation", RECORD, _field("Reservation"), _one_of, True),
    Readable("constraint", RECORD, _field("Features"), _text, True),
    Readable("cluster-constraint", RECORD, _field("ClusterFeatures"), _text, True),
    Readable("batch", RECORD, _field("BatchFeatures"), _text, True),
    Readable("nodelist", RECORD, _field("ReqNodeList"), _loosely, True),
    Readable("exclude", RECORD, _field("ExcNodeList"), _loosely, True),
    Readable("licenses", RECORD, _field("Licenses"), _loosely, True),
    Readable("network", RECORD, _field("Network"), _text, True),
    Readable("comment", RECORD, _field("Comment"), _text, True),
    Readable("container", RECORD, _field("Container"), _path, True),
    Readable("bb", RECORD, _field("BurstBuffer"), _loosely),
    Readable("mcs-label", RECORD, _field("MCS_label"), _text, True),
    Readable("mail-type", RECORD, _field("MailType", nothing=("NONE",)), _mail_types, True),
    Readable("mail-user", RECORD, _field("MailUser"), _loosely),
    Readable("nice", RECORD, _field("Nice", nothing=("0",)), lambda told, shown: _number(told or "100", shown), True),
    Readable("contiguous", RECORD, _flag_field("1", "Contiguous"), _text, True),
    Readable("spread-job", RECORD, _flag_field("Yes", "SpreadJob"), _text, True),
    Readable("oversubscribe", RECORD, _flag_field("YES", "OverSubscribe"), _text),
    Readable("exclusive", RECORD, _exclusive, _same_exclusive),
    Readable("switches", RECORD, _field("Switches"), _switches, True),
    Readable("delay-boot", RECORD, _field("DelayBoot", nothing=("00:00:00",)), _minutes),
    Readable("power", RECORD, _field("Power"), _any_case, True),
    Readable("core-spec", RECORD, _field("CoreSpec", nothing=("*",)), _number),
    Readable("tmp", RECORD, _field("MinTmpDiskNode", nothing=("0",)), _memory, True),
    Readable("no-requeue", RECORD, _flag_field("0", "Requeue"), _text),
    Readable(
        "kill-on-invalid-dep",
        RECORD,
        lambda shown: (_field("KillOInInvalidDependent", "KillOnInvalidDependent")(shown) or "").lower() or None,
        _any_case,
        True,
    ),
    Readable("cores-per-socket", RECORD, _threads(2, "ReqB:S:C:T"), _number, True),
    Readable("threads-per-core", RECORD, _threads(3, "ReqB:S:C:T"), _number, True),
    Readable("sockets-per-node", RECORD, _threads(0, "Socks/Node"), _number, True),
    Readable("hint", "SLURM_HINT", _variable("SLURM_HINT"), _loosely),
    Readable("distribution", "SLURM_DISTRIBUTION", _distribution, _loosely),
    Readable("cpu-freq", "SLURM_CPU_FREQ_REQ", _variable("SLURM_CPU_FREQ_REQ"), _loosely),
    Readable("acctg-freq", "SLURM_ACCTG_FREQ", _variable("SLURM_ACCTG_FREQ"), _loosely),
    Readable("mem-bind", "SLURM_MEM_BIND", _variable("SLURM_MEM_BIND"), _loosely),
    Readable("profile", "SLURM_PROFILE", _variable("SLURM_PROFILE"), _loosely),
    Readable("overcommit", "SLURM_OVERCOMMIT", lambda shown: "" if "SLURM_OVERCOMMIT" in shown.environment else None, _text),
    Readable("export", "SLURM_EXPORT_ENV", _variable("SLURM_EXPORT_ENV", nothing=("ALL",)), _loosely, True),
    Readable("get-user-env", "SLURM_GET_USER_ENV", _get_user_env, _loosely),
    Readable("chdir", RECORD, lambda shown: shown.directory or None, _path),
)
BY_NAME = {readable.name: readable for readable in READABLE}


# Values that ask for what a job shows when nobody asked for anything.
_AS_USUAL = frozenset({"0", "none", "no", "*", "/dev/null", "normal", "off"})
# What one option sets of what another one shows.
PROVIDERS: Mapping[str, tuple[str, ...]] = {
    "constraint": ("prefer",),
    "threads-per-core": ("extra-node-info", "hint"),
    "cores-per-socket": ("extra-node-info", "hint"),
    "sockets-per-node": ("extra-node-info", "hint"),
    "ntasks-per-core": ("hint",),
    "ntasks-per-gpu": ("ntasks-per-tres",),
    "nodelist": ("nodefile",),
    "bb": ("bbf",),
    "core-spec": ("thread-spec",),
    "gpus-per-task": ("tres-per-task",),
}


def fits(name: str, value: str, shown: Shown) -> bool | None:
    """Return whether a value that is said to have been given can be what the job shows; None where the job cannot tell."""
    readable = BY_NAME.get(name)
    if readable is None:
        return None
    seen = readable.read(shown)
    if seen is None:
        return False if readable.telling and value.lower() not in _AS_USUAL else None
    return readable.same(value, seen)


def unexplained(given: Iterable[str], shown: Shown) -> tuple[str, ...]:
    """Return the options that the job shows and that are not among those given: somebody gave them."""
    names = set(given)
    return tuple(
        one.name
        for one in READABLE
        if one.telling and one.name not in names and not names & {*PROVIDERS.get(one.name, ())} and one.read(shown) is not None
    )
