"""Completion of words: in a real bash, and as zsh and fish ask for it."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.end_to_end.harness import Ckptrun


@pytest.fixture
def shell(ckptrun: Ckptrun) -> Ckptrun:
    """A folder with two chains and a few files, and `ckptrun` on PATH."""
    for name in ("mnist-1", "mnist-2", "other"):
        (ckptrun.home / "chains" / name).mkdir(parents=True)
    for name in ("job.sh", "train.py"):
        (ckptrun.folder / name).write_text("")
    program = ckptrun.folder / "bin" / "ckptrun"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ckptrun "$@"\n')
    program.chmod(0o755)
    ckptrun.environment["PATH"] = f"{program.parent}:/usr/bin:/bin"
    return ckptrun


LINES = [
    (("",), {"run", "sbatch", "template", "chain", "verify", "doctor", "demo"}),
    (("ver",), {"verify"}),
    (("--chec",), {"--checkpoint"}),
    (("--continue-with", ""), {"auto", "resubmit", "requeue"}),
    (("--retries", "3", "--succ"), {"--successor"}),
    (("run", "--successor", "s"), {"start"}),
    (("chain", "sh"), {"show"}),
    (("chain", "show", "mn"), {"mnist-1", "mnist-2"}),
    (("chain", "resume", ""), {"mnist-1", "mnist-2", "other"}),
    (("sbatch", "--part"), {"--partition"}),
    (("doctor", "--f"), {"--fix"}),
    (("doctor", "--site", "ai"), {"ai-lab"}),
    (("template", "new", "pytorch"), {"pytorch", "pytorch-ddp"}),
    (("template", "show", "keras", "--site", ""), {"ai-lab", "generic"}),
]


def in_bash(shell: Ckptrun, words: tuple[str, ...]) -> set[str]:
    """Return what bash's own function offers for a line."""
    script = (
        'eval "$(_CKPTRUN_COMPLETE=bash_source ckptrun)"; COMP_WORDS=(ckptrun "$@"); COMP_CWORD=$#; compopt() { echo "$2"; }; '
        '_ckptrun_completion ckptrun; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    bash = shutil.which("bash")
    assert bash is not None
    import subprocess

    done = subprocess.run(
        [bash, "-c", script, "bash", *words], env=shell.environment, cwd=shell.folder, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize(("words", "offered"), LINES, ids=[" ".join(words) or "nothing" for words, _ in LINES])
def test_bash(shell: Ckptrun, words: tuple[str, ...], offered: set[str]) -> None:
    """Subcommands, options though the word `run` is left out, their choices, chain ids."""
    assert offered <= in_bash(shell, words)
    assert all(one.startswith(words[-1]) for one in in_bash(shell, words))


@pytest.mark.parametrize("words", [("python", "tr"), ("--retries", "3", "python", "tr"), ("doctor", "j"), ("sbatch", "j")])
def test_files_are_left_to_the_shell(shell: Ckptrun, words: tuple[str, ...]) -> None:
    """The training command, and scripts: the shell completes file names itself."""
    assert in_bash(shell, words) == {"default"}


@pytest.mark.parametrize("kind", ["zsh", "fish"])
@pytest.mark.parametrize(("words", "offered"), LINES, ids=[" ".join(words) or "nothing" for words, _ in LINES])
def test_as_others_ask(shell: Ckptrun, kind: str, words: tuple[str, ...], offered: set[str]) -> None:
    """The same, asked with the variables that the functions for zsh and fish set."""
    shell.environment |= {
        "_CKPTRUN_COMPLETE": f"{kind}_complete",
        "COMP_WORDS": " ".join(["ckptrun", *words]),
        "COMP_CWORD": str(len(words)) if kind == "zsh" else words[-1],
    }
    said = shell.run(code=0).stdout
    found = {line.partition(",")[2].partition("\t")[0] for line in said.splitlines()} | set(said.splitlines())
    assert offered <= {one.split("\\t")[0] for one in found}, said


@pytest.mark.parametrize("kind", ["bash", "zsh", "fish"])
def test_the_function_of_a_shell(shell: Ckptrun, kind: str) -> None:
    """It names the variable, and the command."""
    shell.environment["_CKPTRUN_COMPLETE"] = f"{kind}_source"
    said = shell.run(code=0).stdout
    assert f"_CKPTRUN_COMPLETE={kind}_complete" in said and "ckptrun" in said


def test_the_variable_alone_starts_nothing(shell: Ckptrun) -> None:
    """With a command behind it, ckptrun runs the command, whatever the variable says."""
    shell.environment["_CKPTRUN_COMPLETE"] = "bash_complete"
    assert shell.run("--", sys.executable, "-c", "print(6 * 7)", code=0).stdout == "42\n"
    assert Path(shell.home, "chains").is_dir()
