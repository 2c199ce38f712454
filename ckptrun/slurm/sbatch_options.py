"""PURE. The options of sbatch: their names, what they take, the variable that stands for them, and which a successor gets.

Read as sbatch reads them, with getopt_long: long names may be shortened as long as they stay clear, `-N2` is `-N 2`, an optional
value stands in the same word only, and the first word that is no option is the script. Names are those of Slurm 21.08 to 24.11:
a shortened name that a newer sbatch would not understand is not understood here either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import NamedTuple


class Takes(Enum):
    """What follows an option's name: nothing, a value, or a value that may be left out."""

    NOTHING = 0
    VALUE = 1
    MAYBE = 2


class Option(NamedTuple):
    """One option. `goes_on`: the successor gets it. `free`: its value is text, in which a blank may stand."""

    name: str
    takes: Takes = Takes.VALUE
    short: str = ""
    variable: str = ""
    goes_on: bool = True
    free: bool = False


def _flag(name: str, short: str = "", variable: str = "", *, goes_on: bool = True) -> Option:
    return Option(name, Takes.NOTHING, short, variable, goes_on)


def _maybe(name: str, short: str = "", variable: str = "") -> Option:
    return Option(name, Takes.MAYBE, short, variable)


def _text(name: str, short: str = "", variable: str = "") -> Option:
    return Option(name, Takes.VALUE, short, variable, free=True)


def _only_now(name: str, short: str = "", variable: str = "") -> Option:
    """An option that was meant for the first job's way through the queue, not for its successors."""
    return Option(name, Takes.VALUE, short, variable, goes_on=False)


OPTIONS = (
    Option("account", short="A", variable="SBATCH_ACCOUNT"),
    Option("acctg-freq", variable="SBATCH_ACCTG_FREQ"),
    _only_now("array", "a", "SBATCH_ARRAY_INX"),
    Option("batch", variable="SBATCH_BATCH"),
    _text("bb"),
    _text("bbf"),
    _only_now("begin", "b"),
    _text("chdir", "D"),
    _only_now("cluster"),
    Option("cluster-constraint"),
    _only_now("clusters", "M", "SBATCH_CLUSTERS"),
    _text("comment"),
    Option("consolidate-segments", Takes.NOTHING),
    Option("constraint", short="C", variable="SBATCH_CONSTRAINT"),
    _text("container", "", "SBATCH_CONTAINER"),
    _text("container-id", "", "SBATCH_CONTAINER_ID"),
    Option("context"),
    _flag("contiguous"),
    Option("core-spec", short="S", variable="SBATCH_CORE_SPEC"),
    Option("cores-per-socket"),
    Option("cpu-freq"),
    Option("cpus-per-gpu", variable="SBATCH_CPUS_PER_GPU"),
    Option("cpus-per-task", short="c"),
    _only_now("deadline"),
    Option("delay-boot", variable="SBATCH_DELAY_BOOT"),
    _only_now("dependency", "d"),
    Option("distribution", short="m", variable="SBATCH_DISTRIBUTION"),
    _text("error", "e", "SBATCH_ERROR"),
    Option("exclude", short="x"),
    _maybe("exclusive", "", "SBATCH_EXCLUSIVE"),
    _text("export", "", "SBATCH_EXPORT"),
    _text("export-file"),
    _text("extra"),
    Option("extra-node-info", short="B"),
    _maybe("get-user-env", "", "SBATCH_GET_USER_ENV"),
    Option("gid"),
    Option("gpu-bind", variable="SBATCH_GPU_BIND"),
    Option("gpu-freq", variable="SBATCH_GPU_FREQ"),
    Option("gpus", short="G", variable="SBATCH_GPUS"),
    Option("gpus-per-node", variable="SBATCH_GPUS_PER_NODE"),
    Option("gpus-per-socket"),
    Option("gpus-per-task", variable="SBATCH_GPUS_PER_TASK"),
    Option("gres", variable="SBATCH_GRES"),
    Option("gres-flags", variable="SBATCH_GRES_FLAGS"),
    _flag("help", "h", goes_on=False),
    Option("hint", variable="SBATCH_HINT"),
    _flag("hold", "H", goes_on=False),
    _flag("ignore-pbs", "", "SBATCH_IGNORE_PBS"),
    _text("input", "i", "SBATCH_INPUT"),
    _text("job-name", "J", "SBATCH_JOB_NAME"),
    Option("kill-on-invalid-dep"),
    Option("licenses", short="L"),
    Option("mail-type"),
    Option("mail-user"),
    Option("mcs-label"),
    Option("mem", variable="SBATCH_MEM_PER_NODE"),
    Option("mem-bind", variable="SBATCH_MEM_BIND"),
    Option("mem-per-cpu", variable="SBATCH_MEM_PER_CPU"),
    Option("mem-per-gpu", variable="SBATCH_MEM_PER_GPU"),
    Option("mincpus"),
    Option("network", variable="SBATCH_NETWORK"),
    _maybe("nice"),
    _maybe("no-kill", "k", "SBATCH_NO_KILL"),
    _flag("no-requeue", "", "SBATCH_NO_REQUEUE"),
    _text("nodefile", "F"),
    Option("nodelist", short="w"),
    Option("nodes", short="N"),
    Option("ntasks", short="n"),
    Option("ntasks-per-core"),
    Option("ntasks-per-gpu"),
    Option("ntasks-per-node"),
    Option("ntasks-per-socket"),
    Option("ntasks-per-tres"),
    _maybe("oom-kill-step", "", "SBATCH_OOM_KILL_STEP"),
    Option("open-mode", variable="SBATCH_OPEN_MODE"),
    _text("output", "o", "SBATCH_OUTPUT"),
    _flag("overcommit", "O", "SBATCH_OVERCOMMIT"),
    _flag("oversubscribe", "s"),
    _flag("parsable", goes_on=False),
    Option("partition", short="p", variable="SBATCH_PARTITION"),
    Option("power", variable="SBATCH_POWER"),
    Option("prefer"),
    Option("priority"),
    Option("profile", variable="SBATCH_PROFILE"),
    _maybe("propagate"),
    Option("qos", short="q", variable="SBATCH_QOS"),
    _flag("quiet", "Q", goes_on=False),
    _flag("reboot"),
    _flag("requeue", "", "SBATCH_REQUEUE"),
    Option("reservation", variable="SBATCH_RESERVATION"),
    _maybe("resv-ports"),
    Option("segment", variable="SBATCH_SEGMENT_SIZE"),
    Option("signal", variable="SBATCH_SIGNAL"),
    Option("sockets-per-node"),
    _flag("spread-job", "", "SBATCH_SPREAD_JOB"),
    _flag("stepmgr"),
    Option("switches"),
    Option("tasks-per-node"),
    _flag("test-only", goes_on=False),
    Option("thread-spec", variable="SBATCH_THREAD_SPEC"),
    Option("threads-per-core", variable="SBATCH_THREADS_PER_CORE"),
    Option("time", short="t", variable="SBATCH_TIMELIMIT"),
    Option("time-min"),
    Option("tmp"),
    Option("tres-bind", variable="SBATCH_TRES_BIND"),
    Option("tres-per-task", variable="SBATCH_TRES_PER_TASK"),
    Option("uid"),
    _flag("usage", goes_on=False),
    _flag("use-min-nodes", "", "SBATCH_USE_MIN_NODES"),
    _flag("verbose", "v", goes_on=False),
    _flag("version", "V", goes_on=False),
    _flag("wait", "W", "SBATCH_WAIT", goes_on=False),
    Option("wait-all-nodes", variable="SBATCH_WAIT_ALL_NODES"),
    Option("wckey", variable="SBATCH_WCKEY"),
    Option("wrap", goes_on=False, free=True),
)
BY_NAME = {option.name: option for option in OPTIONS}
_BY_SHORT = {option.short: option for option in OPTIONS if option.short}
_ALIASES = {"tasks-per-node": "ntasks-per-node"}
# Of these only one may be given, wherever it is given: a command line beside a script is refused, a variable wins over a script.
MEMORY = ("mem", "mem-per-cpu", "mem-per-gpu")
# What a variable says that belongs to another option's value.
_SWITCHES, _SWITCHES_WAIT = "SBATCH_REQ_SWITCH", "SBATCH_WAIT4SWITCH"


class Given(NamedTuple):
    """An option as it was given: its full name, and its value; None where it has none."""

    name: str
    value: str | None

    @property
    def word(self) -> str:
        """Return the option as one word of a command line."""
        return f"--{self.name}" if self.value is None else f"--{self.name}={self.value}"


def named(text: str) -> Option | None:
    """Return the option of a long name, which may be shortened; None where there is none, or more than one."""
    exact = BY_NAME.get(text)
    if exact is not None:
        return exact
    found = [option for option in OPTIONS if option.name.startswith(text)] if text else []
    return found[0] if len(found) == 1 else None


class Opening(NamedTuple):
    """How a word begins an option: what stands before the option in its word, and the value so far (None: in the next word)."""

    before: tuple[Given, ...]
    option: Option
    value: str | None
    inside: bool


def opening(word: str) -> Opening | None:
    """Read a word that begins with `-`; None where sbatch would refuse it. `inside`: the value stands in the word itself."""
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        option = named(name)
        if option is None or (equals and option.takes is Takes.NOTHING):
            return None
        return Opening((), option, value if equals else None, bool(equals))
    before: list[Given] = []
    for place in range(1, len(word)):
        option = _BY_SHORT.get(word[place])
        if option is None:
            return None
        rest = word[place + 1 :]
        if option.takes is not Takes.NOTHING or not rest:
            takes_rest = option.takes is not Takes.NOTHING and bool(rest)
            return Opening(tuple(before), option, rest if takes_rest else None, takes_rest)
        before.append(Given(option.name, None))
    return None


def given(option: Option, value: str | None) -> Given:
    """Return the option under the name by which it is known here."""
    return Given(_ALIASES.get(option.name, option.name), value)


class Line(NamedTuple):
    """A command line of sbatch: its options in order, then the script and its arguments."""

    options: tuple[Given, ...]
    rest: tuple[str, ...]


def read(words: Iterable[str]) -> Line | None:
    """Read the words after `sbatch`; None where sbatch would refuse them."""
    left = list(words)
    found: list[Given] = []
    while left and left[0].startswith("-") and left[0] != "-":
        if left[0] == "--":
            return Line(tuple(found), tuple(left[1:]))
        taken = _take(left)
        if taken is None:
            return None
        found += taken
    return Line(tuple(found), tuple(left))


def _take(left: list[str]) -> tuple[Given, ...] | None:
    """Take one word with options from the front, and the word with its value."""
    opened = opening(left.pop(0))
    if opened is None:
        return None
    value = opened.value
    if opened.option.takes is Takes.VALUE and not opened.inside:
        if not left:
            return None
        value = left.pop(0)
    return (*opened.before, given(opened.option, value))


def misfit(words: Iterable[str]) -> str | None:
    """Return the word for which `read` refuses a command line, None where it does not."""
    left = list(words)
    while left and left[0].startswith("-") and left[0] not in ("-", "--"):
        word = left[0]
        if _take(left) is None:
            return word
    return None


def effective(options: Iterable[Given]) -> dict[str, str]:
    """Return what counts of options that may be repeated: the last of each name. An option without a value is the empty text."""
    return {option.name: option.value or "" for option in options}


def script_options(script: str) -> dict[str, str]:
    """Return the options of a script's `#SBATCH` lines, by long name; they end at the first command.

    As in sbatch the words of all lines are one command line: an option without its value takes the next line's first word.
    """
    return _options([word.plain for word in _script_words(script)])


class Placed(NamedTuple):
    """An option in a script: what was given (None where sbatch would refuse it), its words, its line, where it begins and ends."""

    given: Given | None
    text: str
    line: int
    start: int
    end: int


def placed_options(script: str) -> list[Placed]:
    """Return the options of a script's `#SBATCH` lines with their places in the text."""
    return list(_placed(script, list(_script_words(script))))


def _placed(script: str, words: list[_Word]) -> Iterator[Placed]:
    while words:
        word = words.pop(0)
        end = word.end
        if word.plain == "--":
            return
        if not word.plain.startswith("-") or word.plain == "-":
            continue
        opened = opening(word.plain)
        if opened is None:
            yield Placed(None, script[word.start : end], word.line, word.start, end)
            continue
        value = opened.value
        if opened.option.takes is Takes.VALUE and not opened.inside:
            if not words:
                yield Placed(None, script[word.start : end], word.line, word.start, end)
                continue
            behind = words.pop(0)
            value, end = behind.plain, (behind.end if behind.line == word.line else end)
        for one in (*opened.before, given(opened.option, value)):
            yield Placed(one, script[word.start : end], word.line, word.start, end)


def head(script: str) -> list[str]:
    """Return the lines up to the first command, in which sbatch looks for options: blank ones and comments, indented or not."""
    lines = script.split("\n")
    commands = (place for place, line in enumerate(lines) if line.strip(_SPACE) and not line.lstrip(_SPACE).startswith("#"))
    return lines[: next(commands, len(lines))]


def _options(words: list[str]) -> dict[str, str]:
    """Return the options among words; what is none is passed over, and `--` ends them."""
    found: list[Given] = []
    while words and words[0] != "--":
        if words[0].startswith("-") and words[0] != "-":
            found += _take(words) or ()
        else:
            words.pop(0)
    return effective(found)


# What C's isspace() takes for a blank.
_SPACE = " \t\n\v\f\r"
# The second is out of use, and read by sbatch all the same, with a warning (Slurm 22.05).
MAGIC = ("#SBATCH", "#SLURM")


class _Word(NamedTuple):
    """A word of a `#SBATCH` line without its quotes, the line's number, and where it begins and ends in the script."""

    plain: str
    line: int
    start: int
    end: int


def _script_words(script: str) -> Iterator[_Word]:
    place = 0
    for number, line in enumerate(head(script), 1):
        if (magic := next((word for word in MAGIC if line.startswith(word)), None)) is not None:
            at = len(magic)
            while (word := _script_word(line, at)) is not None:
                plain, start, at = word
                yield _Word(plain, number, place + start, place + at)
        place += len(line) + 1


def _script_word(line: str, at: int) -> tuple[str, int, int] | None:
    """Return the next word of a line as sbatch cuts it, its beginning and its end (get_argument in sbatch's opt.c).

    A backslash takes the next character as it is, also between quotes of either kind; but a blank outside of them ends the word. A
    `#` outside of quotes begins a comment, also inside a word. A word of which nothing is left ends the line.
    """
    while at < len(line) and line[at] in _SPACE:
        at += 1
    start, quote, escaped, plain = at, "", False, ""
    while at < len(line) and (quote or line[at] not in _SPACE):
        character = line[at]
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
            at += 1
            continue
        elif quote and character == quote:
            quote = ""
            at += 1
            continue
        elif not quote and character in "\"'":
            quote = character
            at += 1
            continue
        elif not quote and character == "#":
            break
        plain += character
        at += 1
    return (plain, start, at) if plain else None


def variable_options(environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return what the SBATCH_* variables say, by option: the variable and its value. Only those that a successor gets."""
    found = {}
    for option in OPTIONS:
        value = environment.get(option.variable) if option.variable else None
        if value is not None and option.goes_on and (value or option.takes is not Takes.VALUE):
            found[option.name] = (option.variable, "" if option.takes is Takes.NOTHING else value)
    if environment.get(_SWITCHES):
        wait = environment.get(_SWITCHES_WAIT)
        found["switches"] = (_SWITCHES, f"{environment[_SWITCHES]}@{wait}" if wait else environment[_SWITCHES])
    return found


def variables_of(name: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that stand for an option."""
    names = (_SWITCHES, _SWITCHES_WAIT) if name == "switches" else (BY_NAME[name].variable,)
    return {variable: environment[variable] for variable in names if variable in environment}


def exported_names(value: str) -> str:
    """Return a value of `--export` without the values of its variables: sbatch takes them from the environment it is run in.

    Values are secrets now and then, and none is written down. A comma inside single quotes is part of a value.
    """
    parts = re.findall(r"(?:[^,']|'[^']*')+", value)
    return ",".join(part.partition("=")[0] for part in parts)
