"""PURE. What sbatch, scontrol, squeue and sacct print -> values.

Sources: the output of Slurm 22.05.8, recorded in tests/slurm. JSON is not used: it needs 21.08 or 23.02, depending on the command.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_ENDED = frozenset(
    {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE", "OUT_OF_MEMORY", "REVOKED"}
)
_AT_WORK = frozenset({"RUNNING", "COMPLETING", "SIGNALING", "SUSPENDED", "STOPPED", "STAGE_OUT", "CONFIGURING", "RESIZING"})


class JobId(NamedTuple):
    """A job's address: its id, or for an array task the array's id and the task's number.

    The bare id of an array task must never be used: that of the last task names the whole array.
    """

    number: int
    task: int | None = None

    def __str__(self) -> str:
        return str(self.number) if self.task is None else f"{self.number}_{self.task}"


def job_id(text: str) -> JobId | None:
    """Return the address that a text is, None for anything else (an array's `5_[1-3]`, words, an option)."""
    found = re.fullmatch(r"(\d{1,10})(?:_(\d{1,10}))?", text)
    return JobId(int(found[1]), int(found[2]) if found[2] else None) if found else None


class JobRecord(NamedTuple):
    """What the controller says of one job. Times are Unix seconds, None where they are not known; `fields` is all it said."""

    state: str
    reason: str
    restarts: int
    end_at: float | None
    submitted_at: float | None
    preempt_at: float | None
    requeue: bool
    batch: bool
    command: str
    directory: str
    fields: dict[str, str]

    @property
    def at_work(self) -> bool:
        """Return whether the job has nodes: running, about to, or on its way out."""
        return self.state in _AT_WORK

    @property
    def limit_s(self) -> float | None:
        """Return how long the job may run, from its start to its end; None where either is not known."""
        started_at = utc(self.fields.get("StartTime", ""))
        return self.end_at - started_at if self.end_at is not None and started_at is not None else None

    @property
    def ended(self) -> bool:
        """Return whether the job is over."""
        return self.state in _ENDED


def job_record(text: str) -> JobRecord | None:
    """Read one line of `scontrol -o show job`; None where it is none.

    Values may hold blanks and even ` Name=`; the names are known to begin with a capital letter and to follow a blank. What comes
    last wins nowhere that matters here: Command and WorkDir are read up to the name that is known to follow them.
    """
    if not text.startswith("JobId="):
        return None
    fields: dict[str, str] = {}
    for found in re.finditer(r"(?:^| )([A-Z][A-Za-z:/_]*)=(.*?)(?= [A-Z][A-Za-z:/_]*=|$)", text.strip()):
        fields.setdefault(found[1], found[2].strip())
    command = re.search(r" Command=(.*?) WorkDir=", text, re.DOTALL)
    directory = re.search(r" WorkDir=(.*?) (?:AdminComment=|Comment=|StdErr=|StdIn=|StdOut=|Power=|$)", text, re.DOTALL)
    restarts = fields.get("Restarts", "0")
    return JobRecord(
        state=fields.get("JobState", ""),
        reason=fields.get("Reason", ""),
        restarts=int(restarts) if restarts.isdigit() else 0,
        end_at=utc(fields.get("EndTime", "")),
        submitted_at=utc(fields.get("SubmitTime", "")),
        preempt_at=utc(fields.get("PreemptTime", "")),
        requeue=fields.get("Requeue") == "1",
        batch=fields.get("BatchFlag", "0") != "0",
        command=command[1] if command else "",
        directory=directory[1] if directory else "",
        fields=fields,
    )


def utc(text: str) -> float | None:
    """Return the Unix time of `2026-11-24T14:06:12`. Slurm's commands print the reader's time: `commands` asks them for UTC."""
    found = re.match(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)", text)
    if not found:
        return None
    year, month, day, hours, minutes, seconds = (int(part) for part in found.groups())
    # Days since 1970 in the Gregorian calendar, with years that begin in March; `calendar` would cost the start 3 ms.
    year, month = (year, month - 3) if month > 2 else (year - 1, month + 9)
    days = 365 * year + year // 4 - year // 100 + year // 400 + (153 * month + 2) // 5 + day - 1 - 719468
    return float(days * 86400 + hours * 3600 + minutes * 60 + seconds)


class Partition(NamedTuple):
    """What a partition's record says: its name and state, from where it takes submissions, and its longest time as Slurm has it."""

    name: str
    state: str
    alloc_nodes: str
    max_time: str


def partition(text: str) -> Partition | None:
    """Read one line of `scontrol -o show partition`; None where it is none."""
    fields = dict(re.findall(r"(?:^| )([A-Z][A-Za-z]*)=(\S*)", text))
    if "PartitionName" not in fields:
        return None
    names = ("PartitionName", "State", "AllocNodes", "MaxTime")
    return Partition(*(fields.get(name, "") for name in names))


class Queued(NamedTuple):
    """One line of the queue: a job, its state and pending reason, what it waits for, its name, and its script with arguments."""

    job: str
    state: str
    reason: str
    dependency: str
    command: str

    @property
    def waiting(self) -> bool:
        """Return whether the job is still to start."""
        return self.state in ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")

    @property
    def at_work(self) -> bool:
        """Return whether the job has nodes."""
        return self.state in _AT_WORK

    def runs(self, script: str) -> bool:
        """Return whether the job's script is this path. Arguments follow it unquoted: compare, never split."""
        return self.command == script or self.command.startswith(script + " ")


QUEUE_FORMAT = "%i|%T|%r|%E|%o"


def queue(text: str) -> tuple[Queued, ...]:
    """Read the lines of `squeue -h -o QUEUE_FORMAT`. A waiting array of one task, `7_[3]`, is that task, `7_3`."""
    lines = (re.sub(r"^(\d+)_\[(\d+)(?:%\d+)?\]", r"\1_\2", line).split("|", 4) for line in text.splitlines())
    return tuple(Queued(*(part.strip() for part in parts)) for parts in lines if len(parts) == 5)


class Standing(NamedTuple):
    """A job in the queue as people ask about it: times are Unix seconds, `starts_at` is Slurm's own estimate while it waits."""

    queued: Queued
    starts_at: float | None
    ends_at: float | None
    submitted_at: float | None
    node: str


STANDING_FORMAT = "%i|%T|%r|%E|%S|%e|%V|%N|%o"


def standings(text: str) -> tuple[Standing, ...]:
    """Read the lines of `squeue -h -o STANDING_FORMAT`. A reason may hold a comma, none of the other fields a bar."""
    found = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split("|", 8)]
        if len(parts) == 9:
            (queued,) = queue("|".join((*parts[:4], parts[8]))) or (None,)
            if queued is not None:
                found.append(Standing(queued, utc(parts[4]), utc(parts[5]), utc(parts[6]), parts[7]))
    return tuple(found)


_FIELD = "\x1f"
NAMES_FORMAT = f"STDOUT:4000{_FIELD},STDERR:4000{_FIELD},STDIN:4000{_FIELD},wckey:400"


def names(text: str) -> tuple[str, str, str, str]:
    """Read the line of `squeue -h -O NAMES_FORMAT`: output, error, input, wckey. What is not known is empty."""
    parts = [part.strip() for part in text.partition("\n")[0].split(_FIELD)]
    output, error, stdin, wckey = parts if len(parts) == 4 else ["", "", "", ""]
    return output, error, stdin, wckey


def submit_line(text: str, job: JobId) -> str | None:
    """Read the line of `sacct -n -P -X -o jobid,submitline`; None where accounting does not have it, or not yet.

    The line may hold anything that an argument can, a newline too, so that the text of one job is read as one.
    """
    line = text.removeprefix(f"{job}|").removesuffix("\n") if text.startswith(f"{job}|") else ""
    return line or None


def reservation_ends_at(code: int | None, out: str, err: str) -> float | None:
    """Return when a reservation ends (Unix time): 0 for one that is gone, None where that was not told."""
    found = re.search(r" EndTime=(\S+)", out)
    if code == 0 and found:
        return utc(found[1])
    return 0.0 if "not found" in out + err else None


def said(err: str) -> str:
    """Return the last line that a command said, without its own name."""
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    text = re.sub(r"^(?:\w+: (?:error|fatal)|allocation failure): ", "", lines[-1]) if lines else ""
    return re.sub(r"^Batch job submission failed: ", "", text)


def silent(code: int | None, err: str) -> bool:
    """Return whether a command failed because the controller did not answer."""
    if code == 0:
        return False
    return code is None or code < 0 or re.search(r"timed out|Unable to contact|connect|Connection|receive failure", err) is not None


def unknown_job(code: int | None, err: str) -> bool:
    """Return whether the controller answered that it knows no such job."""
    return code not in (0, None) and "Invalid job id" in err


class Settings(NamedTuple):
    """What of the cluster's configuration a link needs, in seconds."""

    kill_wait_s: float = 30.0
    min_job_age_s: float = 300.0
    proctrack: str = ""


def settings(text: str) -> Settings:
    """Read `scontrol show config`; what is missing keeps Slurm's own default."""

    def number(name: str, default: float) -> float:
        found = re.search(rf"^{name}\s*=\s*(\d+)", text, re.MULTILINE)
        return float(found[1]) if found else default

    proctrack = re.search(r"^ProctrackType\s*=\s*(\S+)", text, re.MULTILINE)
    return Settings(number("KillWait", 30.0), number("MinJobAge", 300.0), proctrack[1] if proctrack else "")


def cluster(text: str) -> str | None:
    """Return the cluster's name from `scontrol show config`; None where it has none."""
    found = re.search(r"^ClusterName\s*=\s*(\S+)", text, re.MULTILINE)
    return found[1] if found else None


def configuration(text: str) -> dict[str, str]:
    """Read `scontrol show config` by name; `as of` is when the controller answered."""
    found = {name.strip(): value.strip() for name, _, value in (line.partition("=") for line in text.splitlines()) if value.strip()}
    said = re.match(r"Configuration data as of (\S+)", text)
    return found | ({"as of": said[1]} if said else {})


def records(text: str) -> tuple[dict[str, str], ...]:
    """Read lines of `scontrol -o show partition` and the like: `Name=value` with blanks between."""
    return tuple(dict(re.findall(r"(\S+?)=(\S*)", line)) for line in text.splitlines() if "=" in line)


class Window(NamedTuple):
    """A reservation for maintenance: its name, and from when to when its nodes run no jobs (Unix seconds)."""

    name: str
    begins_at: float
    ends_at: float


def windows(text: str, nodes: str) -> tuple[Window, ...]:
    """Read `scontrol -o show reservation`: the service windows that any of these nodes is in, the earliest first.

    `nodes` is a list as Slurm writes it.
    """
    ours = set(host_names(nodes))
    found = []
    for one in records(text):
        begins_at, ends_at = utc(one.get("StartTime", "")), utc(one.get("EndTime", ""))
        if begins_at is None or ends_at is None or "MAINT" not in one.get("Flags", "").split(","):
            continue
        if ours & set(host_names(one.get("Nodes", ""))):
            found.append(Window(one.get("ReservationName", "?"), begins_at, ends_at))
    return tuple(sorted(found, key=lambda window: window.begins_at))


def host_names(text: str) -> tuple[str, ...]:
    """Return the hosts of a list as Slurm writes it, `n[1-3,7],login`; several brackets in a name are multiplied out."""
    found: list[str] = []
    for part in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", text):
        found += _host_names(part)
    return tuple(found)


def _host_names(part: str) -> list[str]:
    bracket = re.search(r"\[([^\]]*)\]", part)
    if bracket is None:
        return [part]
    numbers: list[str] = []
    for piece in bracket[1].split(","):
        first, dash, last = piece.partition("-")
        ends = first.isdigit() and last.isdigit()
        if ends and dash and int(last) - int(first) < 100_000:
            numbers += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
        else:
            numbers.append(piece)
    head, tail = part[: bracket.start()], part[bracket.end() :]
    return [name for number in numbers for name in _host_names(f"{head}{number}{tail}")]


class Accounted(NamedTuple):
    """What accounting says of a job: its state in one word, and how it was submitted."""

    state: str
    submit_line: str


def accounted(text: str) -> tuple[Accounted, ...]:
    """Read `sacct -n -P -X -o state,submitline`, one line a run of the job, the newest last."""
    lines = (line.partition("|") for line in text.splitlines() if line.strip())
    return tuple(Accounted(state.split(" ")[0], line) for state, _, line in lines)


class Remembered(NamedTuple):
    """What accounting remembers of a job: its state with who cancelled it, and when it was submitted, started and ended."""

    job: str
    state: str
    submitted_at: float | None
    started_at: float | None
    ended_at: float | None
    node: str


REMEMBERED_FIELDS = "jobid,state,submit,start,end,nodelist"


def remembered(text: str) -> dict[str, Remembered]:
    """Read `sacct -n -P -X -o REMEMBERED_FIELDS`: the newest run of each job."""
    found = {}
    for line in text.splitlines():
        parts = line.split("|")
        if len(parts) == 6:
            found[parts[0]] = Remembered(parts[0], parts[1], utc(parts[2]), utc(parts[3]), utc(parts[4]), parts[5])
    return found
