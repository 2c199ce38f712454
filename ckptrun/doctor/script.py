"""PURE. A job script as the rules see it: its options with their places, its commands, what its variables hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ckptrun.doctor.findings import Edit
from ckptrun.doctor.shell import Command, Word, commands
from ckptrun.slurm import job_script, sbatch_options
from ckptrun.slurm.sbatch_options import Placed


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_STARTERS = _names("env nohup nice ionice setsid stdbuf timeout numactl taskset time exec command srun mpirun mpiexec")
# They never are a training, whatever stands behind them.
_TOOLS = _names(
    "module ml source . export echo cd mkdir set unset printf date nvidia-smi hostname ulimit umask test [ [[ sleep wait kill "
    "cp mv rm ls cat rsync tar unzip find grep egrep sed awk tee pip pip3 conda mamba which type nproc lscpu free df du "
    "squeue scontrol sinfo sacct sbatch scancel sstat trap exit return read shopt alias eval let local declare readonly true "
    "false : wget curl git ln touch chmod head tail sort uniq cut tr wc seq basename dirname realpath readlink mktemp pushd "
    "popd break continue for select case in tput pwd whoami id uname ps pgrep pkill flock shift getopts jobs disown builtin "
    "hash bc expr xargs nvcc gcc make cmake"
)
_TRIVIAL = frozenset({"echo", "printf", "exit", "wait", "date", "true", ":", "times", "sync"})
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh"})


class Limits(NamedTuple):
    """What a site allows: seconds by partition, GPUs of one job, and where that is known from. None: not known.

    `not_allowed` are options and why; `cpus_per_gpu` and `megabytes_per_gpu` are what is asked for and not always insisted on.
    """

    source: str = ""
    partitions: Mapping[str, float] = {}
    default_partition: str | None = None
    time_s: float | None = None
    gpus: int | None = None
    not_allowed: Mapping[str, str] = {}
    cpus_per_gpu: int | None = None
    megabytes_per_gpu: float | None = None

    def time_of(self, partition: str | None) -> float | None:
        """Return the longest time limit that a job may have in a partition, or in a list of them."""
        names = (partition or self.default_partition or "").split(",")
        known = [self.partitions[name] for name in names if name in self.partitions]
        return max(known) if known else self.time_s


class World(NamedTuple):
    """What of the world outside the script its judgement needs.

    `name` is what the script is called, `missing` the folders of `folders()` that do not exist, `own_mistakes` what ckptrun's own
    options in it do not mean, by line.
    """

    name: str = "job.sh"
    missing: frozenset[str] = frozenset()
    limits: Limits = Limits()
    own_mistakes: tuple[tuple[int, str], ...] = ()


class Script:
    """One script, read once. `text` has no carriage returns; `crlf` is the first line that had one, 0 for none."""

    def __init__(self, text: str, world: World) -> None:
        found = re.search(r"\r\n", text)
        self.crlf = text.count("\n", 0, found.start()) + 1 if found else 0
        self.text = text.replace("\r\n", "\n")
        self.world = world
        self.options: tuple[Placed, ...] = tuple(sbatch_options.placed_options(self.text))
        self.commands = commands(self.text) if self._is_shell() else ()
        self.ckptrun = next((one for one in self.commands if self.runs_ckptrun(one)), None)
        self.variables = {
            word.raw.partition("=")[0].rstrip("+"): word for one in self.commands for word in assigned(one) if "=" in word.raw
        }

    def _is_shell(self) -> bool:
        first = job_script.interpreter(self.text)
        return not first or any(word.rpartition("/")[2] in _SHELLS for word in " ".join(first).split())

    # --- options

    def option(self, name: str) -> Placed | None:
        """Return the option that counts of this name: the last."""
        return next((one for one in reversed(self.options) if one.given is not None and one.given.name == name), None)

    def value(self, name: str) -> str | None:
        """Return an option's value."""
        placed = self.option(name)
        return placed.given.value if placed is not None and placed.given is not None else None

    @property
    def is_array(self) -> bool:
        """Return whether the job is an array."""
        return self.option("array") is not None

    def without(self, placed: Placed) -> Edit:
        """Return the edit that takes an option away, and its line if nothing else stands there."""
        start, end = self.line_span(placed.line)
        rest = self.text[start : placed.start] + self.text[placed.end : end]
        if not rest.removeprefix("#SBATCH").partition("#")[0].strip():
            return Edit(start, min(end + 1, len(self.text)), "")
        blank = len(self.text[start : placed.start]) - len(self.text[start : placed.start].rstrip())
        return Edit(placed.start - blank, placed.end, "")

    def with_value(self, placed: Placed, value: str) -> Edit:
        """Return the edit that gives an option another value."""
        assert placed.given is not None
        quoted = f'"{value}"' if re.search(r"[\s#]", value) else value
        return Edit(placed.start, placed.end, f"--{placed.given.name}={quoted}")

    # --- lines

    def line_span(self, number: int) -> tuple[int, int]:
        """Return where a line begins and ends, without its newline."""
        lines = self.text.split("\n")
        start = sum(len(line) + 1 for line in lines[: number - 1])
        return start, start + len(lines[number - 1])

    @property
    def last_option_line(self) -> int:
        """Return the number of the line behind which an option can be added."""
        head = sbatch_options.head(self.text)
        found = [number for number, line in enumerate(head, 1) if line.startswith(("#SBATCH", "#CKPTRUN", "#!"))]
        return found[-1] if found else 1

    def add_line(self, line: str) -> Edit:
        """Return the edit that adds a line to the options."""
        place = self.line_span(self.last_option_line)[1]
        return Edit(place, place, f"\n{line}")

    # --- commands

    def main(self) -> Iterator[Command]:
        """Return the commands that the script itself runs: not those of functions and of `$(...)`."""
        return (one for one in self.commands if not one.function and not one.inner)

    def runs_ckptrun(self, command: Command) -> bool:
        """Return whether a command runs a training under ckptrun."""
        place = ckptrun_place(command)
        if place is None or place + 1 >= len(command.words):
            return False
        return command.words[place + 1].plain not in job_script.LOOKS

    def trains(self, command: Command) -> bool:
        """Return whether a command starts a program that may be the training."""
        words = program(command)
        if not words or not command.words:
            return self.runs_ckptrun(command)
        name = words[0].plain.rpartition("/")[2]
        if name in _TOOLS or name.startswith(("((", "$((")) or command.name in _TOOLS - {"eval"}:
            return False
        if re.fullmatch(r"python[\d.]*", name):
            follows = words[1].plain if len(words) > 1 else ""
            if follows in ("", "-c", "-V", "--version", "-"):
                return False
            return not (follows == "-m" and len(words) > 2 and words[2].plain in ("venv", "pip", "ensurepip", "virtualenv"))
        return True

    def after(self, command: Command) -> list[Command]:
        """Return what the script runs after a command, but for what only tells or ends."""
        return [one for one in self.main() if one.start > command.start and one.words and one.name not in _TRIVIAL]

    def without_command(self, command: Command, reason: str) -> Edit:
        """Return the edit that takes a command away: a command that does nothing, so that no group is left empty."""
        end = self.text.find("\n", command.end)
        rest = self.text[command.end : end if end >= 0 else len(self.text)]
        return Edit(command.start, command.end, f":  # {reason}" if not rest.strip() else ":")

    # --- what words hold

    def pieces(self, word: Word, seen: frozenset[str] = frozenset()) -> Iterator[Word]:
        """Return the words whose text makes up a word's value: itself, and those that its variables were given."""
        yield word
        bare = word.raw.startswith("((")  # in arithmetic a name needs no dollar
        for name in re.findall(r"\b([A-Za-z_]\w*)" if bare else r"\$\{?([A-Za-z_]\w*)", word.raw):
            source = self.variables.get(name)
            if source is not None and name not in seen:
                yield from self.pieces(source, seen | {name})

    def checkpoints(self) -> list[Word]:
        """Return the values of `--checkpoint`, in ckptrun's own command and in the `#CKPTRUN` lines."""
        found = own_values(self.ckptrun, "--checkpoint") if self.ckptrun is not None else []
        place = 0
        for number, line in enumerate(sbatch_options.head(self.text), 1):
            if line.startswith("#CKPTRUN "):
                begins = place + len("#CKPTRUN ")
                for value in re.finditer(r"--checkpoint(?:=|\s+)(\S+)", line[len("#CKPTRUN ") :]):
                    found.append(Word(value[1], begins + value.start(1), number))
            place += len(line) + 1
        return found


def count_of_gpus(option: str, value: str) -> tuple[int, re.Match[str]] | None:
    """Return how many GPUs an option asks for, and where the number stands in its value: `gpu:2`, `gpu:l4:2`, `2`."""
    if option == "gres" and "gpu" not in value:
        return None
    found = re.search(r"(?:^|[:,])(\d+)(?:\(|$|,)", value)
    return (int(found[1]), found) if found else None


def assigned(command: Command) -> tuple[Word, ...]:
    """Return the words of a command that give a variable its value, those behind `export` too."""
    named = command.words[1:] if command.name in ("export", "declare", "local", "readonly") else ()
    return (*command.assignments, *(word for word in named if re.match(r"[A-Za-z_]\w*\+?=", word.raw)))


def ckptrun_place(command: Command) -> int | None:
    """Return which of a command's words is ckptrun, where it is the program or what a starter starts."""
    for place, word in enumerate(command.words):
        name = word.plain.rpartition("/")[2]
        if name == "ckptrun":
            before = [one.plain.rpartition("/")[2] for one in command.words[:place]]
            starts = before[-2:] if before[-1:] == ["-m"] else before
            python = before[-1:] == ["-m"] and bool(re.fullmatch(r"python[\d.]*", (starts or [""])[0]))
            return place if not before or python or before[0] in _STARTERS else None
    return None


def ckptrun_start(command: Command) -> int:
    """Return which word begins ckptrun's own command: itself, or the Python before `-m ckptrun`."""
    place = ckptrun_place(command)
    assert place is not None
    return place - 2 if place >= 2 and command.words[place - 1].plain == "-m" else place


def program(command: Command) -> tuple[Word, ...]:
    """Return the words of a command from its program on, past `exec`, `env A=b`, `nohup` and the like."""
    words = command.words
    while words and (words[0].plain in _STARTERS - {"srun", "mpirun", "mpiexec"} or re.match(r"\w+=", words[0].raw)):
        words = words[1:]
        while words and words[0].plain.startswith("-"):
            words = words[1:]
        if words and re.fullmatch(r"[\d.]+[smhd]?", words[0].plain):  # timeout's
            words = words[1:]
    return words


def own_words(command: Command) -> tuple[Word, ...]:
    """Return the words between ckptrun and its training command, options as far as can be told, and the rest."""
    place = ckptrun_place(command)
    assert place is not None
    rest = command.words[place + 1 :]
    return rest[1:] if rest[:1] and rest[0].plain == "run" else rest


def own_values(command: Command, name: str) -> list[Word]:
    """Return the values of one of ckptrun's own options."""
    found = []
    words = own_words(command)
    for place, word in enumerate(words):
        if word.plain == "--" or not (word.raw.startswith("-") or (place and words[place - 1].raw.startswith("-"))):
            break
        if word.plain == name and place + 1 < len(words):
            found.append(words[place + 1])
        elif word.raw.startswith(f"{name}="):
            found.append(Word(word.raw[len(name) + 1 :], word.start + len(name) + 1, word.line))
    return found


def folders(text: str) -> tuple[str, ...]:
    """Return the folders that the script's options need: of its logs, and its working folder. Relative ones stand as they are."""
    script = Script(text, World())
    found = []
    for name in ("output", "error"):
        folder = (script.value(name) or "").rpartition("/")[0]
        if folder and "%" not in folder:
            found.append(folder)
    chdir = script.value("chdir")
    return (*found, *([chdir] if chdir and "%" not in chdir else []))
