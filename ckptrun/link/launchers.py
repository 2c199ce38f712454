"""PURE. Which programs only start others: known by their name, an interpreter by the script or the module that it runs.

Rules:
- A program that stands on no list is a training. A launcher that is missing here leaves the training behind it unasked; a training
  taken for a launcher would have its helpers asked in its place, and that is the worse mistake.
- A name is a whole base name, never a part of one: `run.py`, `torchrun.py` and `torchrun/train.py` are a user's own programs.
- Tools that do more than start programs are launchers only with the word that starts one: `accelerate launch`, `conda run`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple


class Kind(str, Enum):
    """What a process is on its branch of the tree."""

    SHELL = "shell"
    LAUNCHER = "launcher"
    ATTENDANT = "attendant"
    PROGRAM = "program"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


SHELLS = _names("sh bash dash zsh ksh mksh fish ash csh tcsh rbash")
# They set something up, run one command, and pass its status on; some exec it, and then they are never seen.
WRAPPERS = _names(
    "env timeout nice ionice chrt taskset numactl stdbuf time setsid nohup script sudo doas su runuser setpriv gosu xargs parallel "
    "tee flock unbuffer prlimit cgexec make catchsegv strace ltrace perf nsys "
    "nsys-launcher ncu TreeLauncherSubreaper gdb rr py-spy"
)
# The first process of a pid namespace, or a subreaper: an orphan of the processes below becomes its child.
INITS = _names("tini dumb-init catatonit appinit sinit bwrap firejail")
CONTAINERS = _names(
    "unshare nsenter chroot apptainer singularity starter starter-suid enroot enroot-nsenter pyxis podman conmon crun runc proot "
    "ch-run shifter"
)
MPI = _names(
    "mpirun mpiexec mpiexec.hydra mpirun.openmpi mpiexec.openmpi mpirun.mpich mpiexec.mpich orterun prterun orted prted "
    "hydra_pmi_proxy hydra_bstrap_proxy srun"
)
_ALWAYS: frozenset[str] = frozenset()
_RUN = frozenset({"run"})
# Name of a program, a script or a module -> the words of which one makes it a launcher; none: it always is one.
TOOLS: dict[str, frozenset[str]] = {
    "torchrun": _ALWAYS,
    "torch.distributed.run": _ALWAYS,
    "torch.distributed.launch": _ALWAYS,
    "accelerate": frozenset({"launch", "test"}),
    "accelerate-launch": _ALWAYS,
    "accelerate.commands.launch": _ALWAYS,
    "accelerate.commands.accelerate_cli": frozenset({"launch", "test"}),
    "deepspeed": _ALWAYS,
    "deepspeed.launcher.runner": _ALWAYS,
    "deepspeed.launcher.launch": _ALWAYS,
    "uv": _RUN,
    "uvx": _ALWAYS,
    "conda": _RUN,
    "mamba": _RUN,
    "micromamba": _RUN,
    "poetry": _RUN,
    "pipenv": _RUN,
    "pixi": frozenset({"run", "exec"}),
    "hatch": _RUN,
    "pdm": _RUN,
    "udocker": _RUN,
    "horovodrun": _ALWAYS,
    "composer": _ALWAYS,
    "fabric": _RUN,
    "lightning": _RUN,
    "colossalai": _RUN,
    "wandb": frozenset({"agent"}),
}
# What a launcher keeps beside the training. Most catch TERM, and to obey is to take the training down: `squashfuse` unmounts the
# image that it runs from. `wandb-core` is a Go program, and Go's runtime catches every signal that there is.
ATTENDANTS = _names(
    "squashfuse squashfuse_ll fuse2fs fuse-overlayfs gocryptfs slirp4netns pasta passt dbus-daemon tensorboard tensorboard.main "
    "wandb-core gpu_stats nvidia-smi"
)
# Apptainer's and Singularity's starter call themselves "Apptainer runtime parent" in the list of processes.
_RUNTIME_PARENT = r"(?i)(apptainer|singularity) runtime parent"
_MULTICALL = frozenset({"busybox", "toybox"})
_PYTHON = r"(python|pypy)\d*(\.\d+)*[a-z]?"
# Some wrappers are scripts of these; their command line shows the interpreter first.
_INTERPRETER = r"(perl|tclsh|expect)\d*(\.\d+)*"
_SCRIPTS = frozenset({"parallel", "unbuffer", "catchsegv"})
# Python's options with a value of their own: in the same word, or else in the next.
_WITH_VALUE = "WXQ"
# A module that is run by its path instead of `-m`, as debuggers do.
_MODULE_FILES = r"(?:^|/)((?:torch/distributed|accelerate/commands|deepspeed/launcher)/(?:run|launch|runner))\.py$"


class Run(NamedTuple):
    """What a command line really runs: the name of a program, a script or a module, and the words after it."""

    name: str
    words: tuple[str, ...]
    interpreter: str = ""


def kind(argv: tuple[str, ...]) -> Kind:
    """Return what the process with this command line is."""
    run = _run(argv)
    if run.name in ATTENDANTS:
        return Kind.ATTENDANT
    if run.name in TOOLS:
        words = TOOLS[run.name]
        return Kind.LAUNCHER if not words or words & set(_before_dashes(run.words)) else Kind.PROGRAM
    if run.name in INITS or run.name in CONTAINERS or run.name in MPI or re.match(_RUNTIME_PARENT, run.name):
        return Kind.LAUNCHER
    if run.interpreter:  # a user's own script may be called `time` or `script`
        return Kind.LAUNCHER if run.name in _SCRIPTS else Kind.PROGRAM
    if run.name in SHELLS:
        return Kind.SHELL
    return Kind.LAUNCHER if run.name in WRAPPERS else Kind.PROGRAM


def adopts(argv: tuple[str, ...]) -> bool:
    """Return whether orphans from below become children of the process with this command line."""
    return _run(argv).name in INITS


def name(argv: tuple[str, ...]) -> str:
    """Return what people call the process with this command line: `torchrun`, `bash`, `python train.py`."""
    run = _run(argv)
    if run.interpreter and kind(argv) is Kind.PROGRAM and run.name != "ckptrun":
        return f"{run.interpreter} {run.name}"
    return run.name or "?"


def _run(argv: tuple[str, ...]) -> Run:
    if not argv:
        return Run("", ())
    # A login shell has a dash before its name.
    program, words = argv[0].rsplit("/", 1)[-1].removeprefix("-"), argv[1:]
    if program in _MULTICALL and words:
        return _run(words)
    if re.fullmatch(_PYTHON, program):
        return _python(program, words)
    if re.fullmatch(_INTERPRETER, program):
        script = next((place for place, word in enumerate(words) if not word.startswith("-")), len(words))
        return _script(program, words, script)
    return Run(program, words)


def _script(interpreter: str, words: tuple[str, ...], place: int) -> Run:
    if place >= len(words):  # typed at a prompt, or read from a pipe
        return Run(interpreter, ())
    return Run(words[place].rsplit("/", 1)[-1], words[place + 1 :], interpreter)


def _python(program: str, words: tuple[str, ...]) -> Run:
    """Walk over Python's own options (man python) to its script or its module."""
    place = 0
    while place < len(words):
        word = words[place]
        if word == "--":
            place += 1
            break
        if not word.startswith("-") or word == "-":
            break
        option, value = _option(word)
        place += 1
        if option == "c":
            return Run(program, words[place:])
        if option == "m" and value:
            return Run(value, words[place:], program)
        if option == "m":
            return Run(words[place], words[place + 1 :], program) if place < len(words) else Run(program, ())
        if (option in _WITH_VALUE and not value) or word == "--check-hash-based-pycs":
            place += 1
    if place < len(words) and (module := re.search(_MODULE_FILES, words[place])) is not None:
        return Run(module[1].replace("/", "."), words[place + 1 :], program)
    return _script(program, words, place)


def _option(word: str) -> tuple[str, str]:
    """Return the first letter of a word of options that ends it - `-c`, `-m` or one with a value - and what follows in the word."""
    if not word.startswith("--"):
        for place, letter in enumerate(word[1:], 2):
            if letter in "cm" + _WITH_VALUE:
                return letter, word[place:]
    return "-", ""


def _before_dashes(words: tuple[str, ...]) -> Iterable[str]:
    """Return the words before `--`: what follows belongs to the program that is started."""
    return words[: words.index("--")] if "--" in words else words
