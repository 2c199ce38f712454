"""PURE. What the successor is submitted with, so that it is the same job: options, script arguments, and what cannot be known.

The script's own `#SBATCH` lines go with the script. What was given elsewhere - on the sbatch command line, or in SBATCH_* - is read
from the job's record and given again on the command line, which wins over the script. An option that the script names with the
same effect is left to the script.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from ckptrun.slurm.parse import JobRecord

_SHORT = {
    "J": "job-name",
    "t": "time",
    "p": "partition",
    "N": "nodes",
    "n": "ntasks",
    "c": "cpus-per-task",
    "o": "output",
    "e": "error",
    "A": "account",
    "q": "qos",
    "D": "chdir",
    "G": "gpus",
    "d": "dependency",
    "a": "array",
    "b": "begin",
}
_NEVER = ("(null)", "N/A", "")


class Same(NamedTuple):
    """How the same job is submitted again. `learned` says for each option where it was learned; `doubts` are for the user."""

    options: tuple[str, ...]
    arguments: tuple[str, ...]
    directory: str
    learned: tuple[tuple[str, str], ...] = ()
    doubts: tuple[str, ...] = ()


def script_options(script: str) -> dict[str, str]:
    """Return the options of a script's `#SBATCH` lines, by long name; they end at the first command."""
    found: dict[str, str] = {}
    for line in script.splitlines():
        if line.strip() and not line.startswith("#"):
            break
        if line.startswith("#SBATCH"):
            found |= _options(_words(line[len("#SBATCH") :]))
    return found


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return text.split()


def _options(words: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
        elif re.match(r"-[A-Za-z]", word):
            name, value = _SHORT.get(word[1], word[1]), word[2:].removeprefix("=")
            equals = value
        else:
            continue
        if not equals and place < len(words) and not words[place].startswith("-"):
            value, place = words[place], place + 1
        found[name] = value
    return found


def same_job(script: str, record: JobRecord, logs: tuple[str, str], environment: Mapping[str, str], argv: tuple[str, ...]) -> Same:
    """Return how the job that runs now is submitted again.

    `logs` are the names of output and error with their patterns, `environment` is the batch shell's, `argv` the words of our own
    command: the script's arguments are often at their end.
    """
    said = script_options(script)
    wanted = _from_record(record, logs, environment, said)
    options = tuple(f"--{name}={value}" for name, value, _ in wanted)
    arguments, doubt = _arguments(record, script, argv)
    doubts = [doubt] if doubt else []
    learned = tuple((f"--{name}={value}", where) for name, value, where in wanted)
    return Same(options, arguments, record.directory, learned, tuple(doubts))


def _from_record(
    record: JobRecord, logs: tuple[str, str], environment: Mapping[str, str], said: Mapping[str, str]
) -> list[tuple[str, str, str]]:
    fields = record.fields
    wanted: list[tuple[str, str, str]] = []

    def give(name: str, value: str | None, where: str = "the job's record") -> None:
        if value is not None and value not in _NEVER:
            wanted.append((name, value, where))

    # The record's own form of a name with blanks and equals signs in it cannot be told from further fields.
    give("job-name", environment.get("SLURM_JOB_NAME") or fields.get("JobName"))
    if fields.get("TimeMin", "N/A") in _NEVER and not _same_time(said.get("time"), fields.get("TimeLimit", "")):
        give("time", fields.get("TimeLimit", "").replace("UNLIMITED", "0"))
    if fields.get("Partition") not in said.get("partition", "").split(","):
        give("partition", fields.get("Partition"))
    if "nodes" not in said and fields.get("NumNodes", "1") != "1":
        give("nodes", fields.get("NumNodes"))
    if not any(name.startswith("ntasks") for name in said):
        give("ntasks", environment.get("SLURM_NTASKS"), "SLURM_NTASKS")
    if said.get("cpus-per-task") != environment.get("SLURM_CPUS_PER_TASK"):
        give("cpus-per-task", environment.get("SLURM_CPUS_PER_TASK"), "SLURM_CPUS_PER_TASK")
    _give_memory(fields, said, give)
    _give_devices(fields, said, give)
    output, error = logs
    give("output", output, "squeue -O STDOUT")
    if error not in (output, ""):
        give("error", error, "squeue -O STDERR")
    if output and not re.search(r"%[0-9]*[jA]", output):
        give("open-mode", "append", "its log has a fixed name")
    if fields.get("Account") != said.get("account"):
        give("account", fields.get("Account"))
    if fields.get("QOS") not in (said.get("qos"), "normal"):
        give("qos", fields.get("QOS"))
    give("chdir", record.directory)
    return wanted


def _give_memory(fields: Mapping[str, str], said: Mapping[str, str], give: Any) -> None:
    for field, name in (("MinMemoryNode", "mem"), ("MinMemoryCPU", "mem-per-cpu")):
        value = fields.get(field, "0")
        if value != "0" and _megabytes(said.get(name, "")) != _megabytes(value):
            give(name, value)


def _give_devices(fields: Mapping[str, str], said: Mapping[str, str], give: Any) -> None:
    for field, names in (
        ("TresPerNode", ("gres", "gpus-per-node")),
        ("TresPerJob", ("gpus",)),
        ("TresPerTask", ("gpus-per-task",)),
        ("TresPerSocket", ("gpus-per-socket",)),
    ):
        value = fields.get(field, "").replace("gres:", "")
        if value and not any(_devices(said.get(name, ""), name) == _devices(value, names[0]) for name in names):
            give(names[0], value if names[0] == "gres" else value.replace("gpu:", ""))


def _devices(text: str, name: str) -> tuple[str, ...]:
    """Return devices in one form: `gpu`, `gpu:1` and, for `--gpus`, `1` are the same."""
    parts = []
    for part in text.split(","):
        plain = part.replace("gres:", "")
        if name != "gres" and not plain.startswith("gpu"):
            plain = f"gpu:{plain}"
        parts.append(plain if re.search(r":\d+$", plain) else f"{plain}:1")
    return tuple(sorted(parts))


def _same_time(said: str | None, limit: str) -> bool:
    return said is not None and minutes(said) is not None and minutes(said) == minutes(limit)


def minutes(text: str) -> int | None:
    """Return Slurm's time limit in minutes, seconds rounded up; None for none. Forms: man sbatch, --time."""
    if text.upper() in ("UNLIMITED", "INFINITE", "0", "-1"):
        return 0
    days, dash, rest = text.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdigit() for part in parts) or (dash and not days.isdigit()) or len(parts) > 3:
        return None
    numbers = [int(part) for part in parts]
    if dash:
        hours, mins, seconds = (numbers + [0, 0])[:3]
    elif len(numbers) == 3:
        hours, mins, seconds = numbers
    else:
        hours, mins, seconds = 0, numbers[0], (numbers + [0])[1]
    return int(days or 0) * 1440 + hours * 60 + mins + (seconds > 0)


def _megabytes(text: str) -> float | None:
    found = re.fullmatch(r"([\d.]+)([KMGT]?)B?", text.strip().upper())
    return float(found[1]) * {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024 * 1024}[found[2]] if found else None


_USES_ARGUMENTS = re.compile(r"\$(?:[@*#1-9]|\{[@*#1-9])")


def _arguments(record: JobRecord, script: str, argv: tuple[str, ...]) -> tuple[tuple[str, ...], str | None]:
    """Return the script's arguments, and a doubt where they are not certain: the controller shows them without quotes."""
    text = record.command
    if text in ("(null)", ""):
        return (), None
    for place in range(len(argv) + 1):
        tail = argv[place:]
        if tail and text.endswith(" " + " ".join(tail)):
            return tail, None
    _path, _, rest = text.partition(" ")
    words = tuple(rest.split(" ")) if rest else ()
    if not words or not _USES_ARGUMENTS.search(script):
        return words, None
    return words, (
        f"the script's arguments were read as {len(words)} words ({shlex.join(words)}), because Slurm shows them without quotes; "
        "if one of them holds a blank, put it into the script"
    )
