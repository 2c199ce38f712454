"""PURE. A person's batch script, and the job script that runs it under ckptrun.

The script is kept as it is and run by its own interpreter, from its first line to its last, below ckptrun. What Slurm gets is a job
script of a few lines: the options of the original, unchanged, so that they lose to the command line and to variables as ever; then
ckptrun by its absolute path. Nothing of a person's words stands in it unquoted, but for comments.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from ckptrun.slurm.sbatch_options import head

_OWN = "#CKPTRUN"
# In comments, sbatch reads its own options, those of PBS and LSF, and the burst buffer's lines.
_OPTIONS = re.compile(r"#(?:SBATCH|SLURM)|#(?:PBS|BSUB|BB|DW)\b")
_INTERPRETER = re.compile(r"#![ \t]*(\S+)[ \t]*(.*?)[ \t]*$")


class Wanted(NamedTuple):
    """What the job script is made of: the original, where it is kept, ckptrun's words, its options, its state folder."""

    script: str
    kept: str
    program: tuple[str, ...]
    options: tuple[str, ...]
    home: str


def interpreter(script: str) -> tuple[str, ...]:
    """Return the words of the first line as the kernel splits them: a program, and all the rest as one argument."""
    found = _INTERPRETER.match(script.partition("\n")[0])
    return tuple(word for word in found.groups() if word) if found else ()


def unfit(script: str) -> str | None:
    """Return why sbatch would not take a script, and what to do, as the end of a sentence that begins with its name."""
    if not script.strip():
        return "is empty: there is nothing to submit"
    if "\0" in script:
        return "is a program, not a script: write a script that starts it, or submit it with --wrap"
    if "\r\n" in script:
        return "has the line ends of DOS, which Slurm refuses: `dos2unix` or `sed -i 's/\\r$//'` takes them away"
    if not interpreter(script):
        return "does not say in its first line what runs it: write `#!/bin/bash` there"
    if any(re.match(r"#SBATCH[ \t]+(?:hetjob|packjob)\b", line) for line in head(script)):
        return "is a heterogeneous job, which cannot be submitted again as it was: make it one job with one set of options"
    return None


def wrapped(text: str) -> str:
    """Return the script that sbatch makes of the text of `--wrap`."""
    return f"#!/bin/sh\n# This script was created by sbatch --wrap.\n\n{text}\n"


def own_lines(script: str) -> Iterator[tuple[int, str]]:
    """Return number and text of each `#CKPTRUN` line: they end at the first command, as those of sbatch do."""
    for number, line in enumerate(head(script), 1):
        if line.startswith(_OWN) and not line[len(_OWN) :][:1].strip():
            yield number, line[len(_OWN) :]


def job_script(wanted: Wanted) -> str:
    """Return what is submitted in place of a script."""
    carried = [line for line in head(wanted.script) if _OPTIONS.match(line)]
    needed = [wanted.program[0], wanted.kept]
    run = [*wanted.program, "run", *wanted.options, "--", *interpreter(wanted.script), wanted.kept]
    lines = [
        "#!/bin/bash",
        *carried,
        "# Written by `ckptrun sbatch`: the script that was submitted runs under ckptrun, from its kept copy.",
        f"for needed in {shlex.join(needed)}; do",
        '    if [ ! -r "$needed" ]; then',
        "        printf 'ckptrun: %s is gone: put it back, or submit the script again with ckptrun sbatch\\n' \"$needed\" >&2",
        "        exit 127",
        "    fi",
        "done",
        f"export CKPTRUN_HOME={shlex.quote(wanted.home)}",
        f'exec {shlex.join(run)} "$@"',
    ]
    return "\n".join(lines) + "\n"


# --- does a script call ckptrun itself?

_SHELL = re.compile(r"(?:ba|da|z|k|a)?sh$")
_HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")
_TOKEN = re.compile(
    r"""(?P<comment>(?<![^\s;&|()`])\#[^\n]*)|(?P<end>\$\(|[;&|()`\n])|(?P<blank>(?:[^\S\n]|\\\n)+)
    |(?P<word>(?:\\.|"(?:\\.|[^"\\])*"|'[^']*'|(?!\$\()[^\s;&|()`"'\\]|["'\\])+)""",
    re.VERBOSE | re.DOTALL,
)
_ASSIGNMENT = re.compile(r"\w+\+?=")
_KEYWORDS = frozenset({"if", "then", "elif", "else", "do", "while", "until", "!", "{", "exec", "command", "time", "eval"})
# They start what stands behind them; options of theirs, with values, may stand between.
_STARTERS = frozenset(
    {
        *("env", "nohup", "nice", "ionice", "setsid", "stdbuf", "timeout", "numactl", "taskset", "srun", "mpirun", "mpiexec"),
        *("apptainer", "singularity", "xargs", "uv", "conda", "pixi", "poetry"),
    }
)
# What does not run a training.
LOOKS = frozenset({"chain", "verify", "demo", "doctor", "template", "sbatch", "--version", "--help", "-h"})


def calls_ckptrun(script: str) -> int | None:
    """Return the number of the line in which a shell script runs something under ckptrun, None where it does not."""
    first = [word.rpartition("/")[2] for word in " ".join(interpreter(script)).split()]
    if not any(_SHELL.fullmatch(word) for word in first):
        return None
    return next((number for number, words in _commands(_without_heredocs(script)) if _runs_ckptrun(words)), None)


def _runs_ckptrun(words: list[str]) -> bool:
    while words and (words[0] in _KEYWORDS or _ASSIGNMENT.match(words[0])):
        words = words[1:]
    if not words:
        return False
    name = words[0].rpartition("/")[2]
    if re.fullmatch(r"python[\d.]*", name):
        return any(pair == ("-m", "ckptrun") for pair in itertools.pairwise(words)) and _is_run(words, "ckptrun")
    if name in _STARTERS:
        return any(word.rpartition("/")[2] == "ckptrun" for word in words[1:]) and _is_run(words, "ckptrun")
    return name == "ckptrun" and _is_run(words, "ckptrun")


def _is_run(words: list[str], program: str) -> bool:
    place = next(place for place, word in enumerate(words) if word.rpartition("/")[2] == program)
    return words[place + 1 : place + 2] != [] and words[place + 1] not in LOOKS


def _commands(text: str) -> Iterator[tuple[int, list[str]]]:
    """Return the simple commands of a shell's text, each with the number of its first line."""
    words: list[str] = []
    line = begun = 1
    for token in _TOKEN.finditer(text):
        if token["end"]:
            if words:
                yield begun, words
            words = []
        elif token["word"]:
            begun = begun if words else line
            words.append(_plain(token["word"]))
        line += token[0].count("\n")
    if words:
        yield begun, words


def _plain(word: str) -> str:
    return re.sub(r"\\(.)|[\"']", lambda found: found[1] or "", word, flags=re.DOTALL)


def _without_heredocs(script: str) -> str:
    """Empty the lines of here-documents: they are data."""
    kept: list[str] = []
    until: str | None = None
    for line in script.split("\n"):
        kept.append("" if until is not None else line)
        if until is None:
            found = None if line.lstrip().startswith("#") else _HEREDOC.search(line)
            until = found[2] if found else None
        elif line.strip() == until:
            until = None
    return "\n".join(kept)
