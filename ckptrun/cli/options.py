"""The options of `ckptrun run`: one table, read by the command line, by CKPTRUN_OPTIONS, by configuration files and by `--help`.

A table of our own instead of click's decorators: the same options are read from several places, all mistakes are told at once,
and importing click would cost the start of every link three times what reading the words does.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from typing import Any, NamedTuple

from ckptrun import durations
from ckptrun.cli.settings import COMMAND_LINE, Setting
from ckptrun.errors import UsageError
from ckptrun.plan import Plan, swallowed_by_shell, to_json

# name -> what `--help` says; the module of the same name is imported only when the word is used.
SUBCOMMANDS = {
    "run": "Run one training command as a chain (the same as without the word).",
    "sbatch": "Submit an existing, unmodified batch script as a chain.",
    "template": "Write a job script and a training program to begin with.",
    "chain": "List chains and show what happened in them.",
    "verify": "Say whether checkpoints are whole.",
    "doctor": "Say whether a chain will work here, or what is wrong with a job script.",
    "demo": "A small real training, chained over its time limit, on this machine.",
}
_UNCATCHABLE = frozenset({"KILL", "STOP"})


class Option(NamedTuple):
    """One option: its name, what its value is called (None for a flag), how the value is read, the default in words, and help."""

    name: str
    value: str | None
    read: Callable[[str], Any]
    default: str
    help: str
    repeatable: bool = False
    short: str | None = None

    @property
    def word(self) -> str:
        """Return the name as it stands in a file, without the hyphens before it."""
        return self.name[2:]

    @property
    def key(self) -> str:
        """Return the name under which the value is kept."""
        return self.word.replace("-", "_")

    @property
    def is_path(self) -> bool:
        """Return whether the value is the name of a file or a folder."""
        return self.value in ("PATH", "FILE")


def _text(text: str) -> str:
    if not text:
        raise ValueError("nothing is no value")
    return text


def _count(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text) or int(text) < 1:
        raise ValueError(f"{text!r} is no number of at least 1")
    return int(text)


def _retries(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text):
        raise ValueError(f"{text!r} is no number of at least 0")
    return int(text)


def _exit_code(text: str) -> int:
    if not re.fullmatch(r"\d{1,3}", text) or int(text) > 255:
        raise ValueError(f"{text!r} is no exit code from 0 to 255")
    return int(text)


def _margin(text: str) -> float | None:
    return None if text == "auto" else durations.parse(text)


def _checkpoint(text: str) -> str:
    if re.search(r"[*?\[]", text) and not os.path.lexists(text):
        folder = os.path.dirname(re.split(r"[*?\[]", text)[0]) or "."
        raise ValueError(f"{text!r} has a pattern in it: name the folder, --checkpoint {shlex.quote(folder)}")
    if "%a" in text:
        task = os.environ.get("SLURM_ARRAY_TASK_ID")
        if task is None:
            raise ValueError(f"{text!r}: %a is the array task, and this is no array task")
        text = text.replace("%a", task)
    if not text:
        raise ValueError("an empty path names no checkpoint")
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID"):
        job = os.environ.get(name, "")
        if job and re.search(rf"(?<!\d){re.escape(job)}(?!\d)", text):
            raise ValueError(f"{text!r} holds this job's id: the next link is another job and could not find it")
    path = os.path.abspath(text)
    if os.getcwd().startswith(path.rstrip("/") + "/"):
        raise ValueError(f"{text!r} is a folder above the working directory, and holds more than checkpoints: name theirs")
    return path


def _path(text: str) -> str:
    if not text:
        raise ValueError("an empty path names no file")
    return os.path.abspath(text)


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is none of {', '.join(words)}")
        return text

    return read


def _chain(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text) or text in (".", ".."):
        raise ValueError(f"{text!r} is no chain name: 1 to 64 letters, digits, dots, underscores and hyphens")
    return text


def _signal(text: str) -> tuple[str, float | None]:
    """Return the signal's name without SIG and, from `USR1@120`, the margin in seconds."""
    import signal

    name, at, seconds = text.partition("@")
    if at and not re.fullmatch(r"\d{1,7}", seconds):
        raise ValueError(f"{text!r}: after the @ stands a number of seconds, as in USR1@120")
    if name.isdigit() and int(name) in {int(number) for number in signal.Signals}:
        name = signal.Signals(int(name)).name
    plain = name.upper().removeprefix("SIG")
    if plain != "AUTO" and (f"SIG{plain}" not in signal.Signals.__members__ or plain in _UNCATCHABLE):
        raise ValueError(f"{name!r} is no signal that a training can catch: write for instance USR1, USR2, TERM or auto")
    return ("auto" if plain == "AUTO" else plain), (float(seconds) if at else None)


def _words(text: str) -> str:
    """Return a command in one text that can be split as a shell would."""
    if not shlex.split(text):
        raise ValueError("an empty text is no command")
    return text


def _flag(text: str) -> bool:
    return True


OPTIONS: tuple[Option, ...] = (
    Option(
        "--checkpoint",
        "PATH",
        _checkpoint,
        "none",
        "Where checkpoints appear: a folder, or a file that is overwritten. May be given several times.",
        repeatable=True,
    ),
    Option(
        "--resume-flag",
        "TEXT",
        _text,
        "none",
        "Appended to the command when resuming. {checkpoint}, {link} and {chain} are filled in.",
    ),
    Option("--signal", "NAME|auto", _signal, "auto", "The checkpoint signal. USR1@120 sets the margin too."),
    Option("--margin", "DURATION|auto", _margin, "auto", "How long before the end time to ask the training to save."),
    Option("--time-limit", "DURATION", durations.parse, "the job's; none outside Slurm", "The length of one link."),
    Option(
        "--continue-with",
        "auto|resubmit|requeue",
        _one_of("auto", "resubmit", "requeue"),
        "auto",
        "How the next link comes: a new job through sbatch, or this job again (it waits two minutes). auto: sbatch where it can.",
    ),
    Option(
        "--successor",
        "checkpoint|start",
        _one_of("checkpoint", "start"),
        "checkpoint; start in a job with --no-requeue",
        "When the next job is submitted: with the ask, or at the start, as a net under every death of this one.",
    ),
    Option("--max-links", "N", _count, "20, without --checkpoint 5", "At most so many starts in the chain."),
    Option("--max-time", "DURATION", durations.parse, "none", "At most so much running time in the chain."),
    Option(
        "--retries",
        "N",
        _retries,
        "0",
        "Go on after the training failed by itself, N times without progress in between.",
    ),
    Option("--done-file", "PATH", _path, "none", "Only this file means finished; exit 0 without it means: go on."),
    Option("--again-exit", "CODE", _exit_code, "none", "This exit code means: saved, run me again."),
    Option("--continued-exit", "CODE", _exit_code, "0", "Exit with this code when the chain goes on in another job."),
    Option("--fresh", None, _flag, "off", "Once per chain: set older checkpoints aside (nothing is deleted)."),
    Option("--stop-file", "PATH", _path, "none", "When this file exists, no further link starts."),
    Option(
        "--on-end",
        "CMD",
        _words,
        "none",
        "Run once when the chain ends, for at most 60 s, with facts in CKPTRUN_ variables. Split as by a shell, run without one.",
    ),
    Option("--chain", "NAME", _chain, "made from the program and the time", "The chain's id."),
    Option("--config", "FILE", _path, "none", "Read further options from this YAML file."),
    Option(
        "--rehearse",
        "DURATION",
        durations.parse,
        "off",
        "Ask after so long, verify what was saved, start once more, say whether it was heard, saved and resumed, and exit.",
    ),
    Option("--dry-run", None, _flag, "off", "Say what would happen, and do nothing."),
    Option("--verbose", None, _flag, "off", "Say more.", short="-v"),
    Option("--help", None, _flag, "off", "Show this help.", short="-h"),
)
BY_NAME = {option.name: option for option in OPTIONS} | {option.short: option for option in OPTIONS if option.short}
BY_KEY = {option.word: option for option in OPTIONS}
REPEATABLE = frozenset(option.key for option in OPTIONS if option.repeatable)
# What a file may say, and what a site may set limits to.
CONFIGURABLE = tuple(option for option in OPTIONS if option.key not in ("config", "help"))
LIMITED = tuple(BY_KEY[word] for word in ("max-links", "max-time", "retries"))


class Read(NamedTuple):
    """What stood on a line: the options, the words after them, and whether `--` came before those."""

    given: tuple[Setting, ...]
    rest: tuple[str, ...]
    settled: bool

    @property
    def values(self) -> dict[str, Any]:
        """Return the values by key: a list for an option that may be given several times."""
        from ckptrun.cli.settings import layered, values

        return values(layered([self.given]), REPEATABLE)


def read(words: list[str], source: str = COMMAND_LINE, mistakes: list[str] | None = None) -> Read:
    """Read options up to the first word that is none. Mistakes are added to the list, or raised together as UsageError."""
    given: list[Setting] = []
    raising, mistakes = mistakes is None, [] if mistakes is None else mistakes
    origin = "" if source == COMMAND_LINE else f"{source}: "
    place, settled = 0, False
    while place < len(words):
        word = words[place]
        if word == "--":
            settled, place = True, place + 1
            break
        if not word.startswith("-") or word == "-":
            break
        place += 1
        name, equals, value = word.partition("=")
        option = BY_NAME.get(name)
        if option is None:
            mistakes.append(f"{origin}{name}: no such option{_nearest(name) or '.'} `ckptrun run --help` lists them")
            continue
        if option.value is None:
            if equals:
                mistakes.append(f"{origin}{name} takes no value")
            value = ""
        elif not equals:
            if place >= len(words):
                mistakes.append(f"{origin}{name} needs a value: {name} {option.value}")
                break
            value, place = words[place], place + 1
        try:
            given.append(Setting(option.key, value, option.read(value), source))
        except ValueError as error:
            mistakes.append(f"{origin}{option.name} {error}")
    if mistakes and raising:
        raise UsageError(*mistakes)
    return Read(tuple(given), tuple(words[place:]), settled)


def _nearest(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, [option.name for option in OPTIONS], n=1)
    return f", did you mean {close[0]}?" if close else ""


def to_plan(values: dict[str, Any], command: tuple[str, ...]) -> Plan:
    """Return the plan of these options for this command. Raises UsageError where they do not fit together."""
    signal, signal_margin_s = values.get("signal", ("auto", None))
    plan = Plan(
        command=command,
        checkpoints=tuple(dict.fromkeys(values.get("checkpoint", ()))),
        resume_flag=values.get("resume_flag"),
        signal=signal,
        margin_s=values.get("margin", signal_margin_s),
        limit_s=values.get("time_limit"),
        max_links=values.get("max_links"),
        most_links=values.get("most_links"),
        max_time_s=values.get("max_time"),
        retries=values.get("retries", 0),
        done_file=values.get("done_file"),
        again_exit=values.get("again_exit"),
        continued_exit=values.get("continued_exit", 0),
        fresh=values.get("fresh", False),
        stop_file=values.get("stop_file"),
        chain=values.get("chain"),
        continue_with=values.get("continue_with", "auto"),
        successor=values.get("successor"),
        on_end=values.get("on_end"),
    )
    mistakes = _misfits(plan)
    if mistakes:
        raise UsageError(*mistakes)
    return plan


# The options whose field in the plan is called otherwise, and those that belong to one start alone.
_FIELDS = {"checkpoint": "checkpoints", "margin": "margin_s", "time_limit": "limit_s", "max_time": "max_time_s"}
_OF_ONE_START = ("chain", "config", "fresh", "rehearse", "dry_run", "verbose", "help")


def overrides(values: dict[str, Any], command: tuple[str, ...]) -> dict[str, Any]:
    """Return what these options change in a chain's plan, by the plan's names. Raises UsageError for one that a chain keeps."""
    kept = [name for name in _OF_ONE_START if name in values]
    if kept:
        raise UsageError(*(f"--{name.replace('_', '-')} cannot be changed when a chain goes on" for name in kept))
    plan = to_json(to_plan(values, command))
    names = [_FIELDS.get(name, name) for name in values]
    if values.get("signal", ("", None))[1] is not None:
        names.append("margin_s")
    return {name: plan[name] for name in names}


def _misfits(plan: Plan) -> list[str]:
    mistakes = []
    if plan.resume_flag is not None:
        mistakes += _resume_flag_misfits(plan)
    if plan.margin_s is not None and plan.limit_s is not None and plan.margin_s >= plan.limit_s:
        margin, limit = durations.show(plan.margin_s), durations.show(plan.limit_s)
        mistakes.append(f"--margin {margin} is not shorter than --time-limit {limit}: nothing would be left to train in")
    if plan.again_exit == 0:
        mistakes.append("--again-exit 0 would make success mean unfinished: use --done-file")
    return mistakes


def _resume_flag_misfits(plan: Plan) -> list[str]:
    assert plan.resume_flag is not None
    try:
        shlex.split(plan.resume_flag)
    except ValueError as error:
        return [f"--resume-flag {plan.resume_flag!r}: {error}"]
    if "{checkpoint}" in plan.resume_flag and not plan.checkpoints:
        return ["--resume-flag with {checkpoint} needs --checkpoint PATH: else nobody knows which one it is"]
    corrected = swallowed_by_shell(plan.command)
    if corrected is not None:
        return [f"--resume-flag: the shell would swallow the appended words. Write the command as: {corrected}"]
    return []
