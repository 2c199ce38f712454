"""Completion of words, in the shells themselves: bash and zsh at a terminal, fish as it is asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from tests import install_debian
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
    (("--continue-with=req",), {"--continue-with=requeue"}),
    (("--checkpoint=tr",), {"--checkpoint=train.py"}),
    (("chain", "sh"), {"show"}),
    (("chain", "show", "mn"), {"mnist-1", "mnist-2"}),
    (("chain", "resume", ""), {"mnist-1", "mnist-2", "other"}),
    (("sbatch", "--part"), {"--partition"}),
    (("doctor", "--f"), {"--fix"}),
    (("doctor", "--site", "ai"), {"ai-lab"}),
    (("template", "new", "pytorch"), {"pytorch", "pytorch-ddp"}),
    (("template", "show", "keras", "--site", ""), {"ai-lab", "generic"}),
]


# What has to be set so that a list of words comes at once and unasked, and so that Ctrl-T shows the line as it stands.
BASH = """\
PS1='> '; bind 'set show-all-if-ambiguous on'; bind 'set page-completions off'; bind 'set completion-query-items -1'
bind 'set enable-bracketed-paste off'; line() { echo "<<$READLINE_LINE>>"; READLINE_LINE=; }; bind -x '"\\C-t": line'
eval "$(_CKPTRUN_COMPLETE=bash_source ckptrun)"; echo rea""dy
"""
ZSH = """\
PS1='> '; unset zle_bracketed_paste; LISTMAX=9999; unsetopt list_ambiguous
line() { print -r -- "<<$BUFFER>>"; BUFFER=; zle reset-prompt }; zle -N line; bindkey '^T' line
autoload -Uz compinit; compinit -u -D; eval "$(_CKPTRUN_COMPLETE=zsh_source ckptrun)"; print rea""dy
"""
SHELLS = {"bash": (["--norc", "--noprofile", "-i"], BASH), "zsh": (["-f", "-i"], ZSH)}
FILES = [(("python", "tr"), {"train.py"}), (("--retries", "3", "python", "tr"), {"train.py"}), (("doctor", "j"), {"job.sh"})]
FILES += [(("sbatch", "j"), {"job.sh"}), (("verify", "tr"), {"train.py"}), (("template", "new", "keras", "-o", "j"), {"job.sh"})]


def installed(program: str) -> str:
    """Return the path of a shell, installed where we may; without it the test is left out, or fails where all must run."""
    if (why_not := install_debian.ensure(program)) is not None:
        if os.environ.get("CKPTRUN_REQUIRE_SLURM"):
            pytest.fail(f"{program} is required here: {why_not}")
        pytest.skip(f"no {program}: {why_not}")
    found = shutil.which(program)
    assert found is not None
    return found


@pytest.mark.parametrize("name", SHELLS)
def test_a_person_presses_tab(shell: Ckptrun, name: str) -> None:
    """At a terminal: one word that fits is filled in, a blank behind it; of several, all are listed; files are the shell's own."""
    words, preparation = SHELLS[name]
    environment = shell.environment | {"TERM": "vt100", "HOME": str(shell.folder), "INPUTRC": "/dev/null"}
    settings = {"cwd": str(shell.folder), "env": environment, "encoding": "utf-8", "timeout": 60, "dimensions": (60, 200)}
    screen = pexpect.spawn(installed(name), words, **settings)
    screen.send(preparation.replace("\n", "\r"))
    screen.expect("ready\r")
    for typed, offered in LINES + FILES:
        *before, last = ("ckptrun", *typed)
        screen.send(" ".join((*before, last)) + "\t")
        if len(offered) > 1:
            seen = ""
            while not all(word in seen for word in offered):
                screen.expect("(?s).+")
                seen += screen.match.group()
        screen.send("\x14")
        screen.expect("<<(.*?)>>")
        line = screen.match.group(1)
        assert line.startswith(" ".join((*before, last)))
        assert len(offered) > 1 or line == " ".join((*before, *offered)) + " "
    screen.sendline("exit")
    screen.expect(pexpect.EOF)
    screen.close()


def test_fish(shell: Ckptrun) -> None:
    """What fish offers for a line, with descriptions that are whole, though they have commas."""
    ask = '_CKPTRUN_COMPLETE=fish_source ckptrun | source; for line in $argv; echo "== $line"; complete -C $line; end'
    lines = {" ".join(("ckptrun", *words)): offered for words, offered in LINES + FILES}
    environment = shell.environment | {"HOME": str(shell.folder), "TERM": "vt100"}
    command = [installed("fish"), "--no-config", "-c", ask, *lines]
    done = subprocess.run(command, env=environment, cwd=shell.folder, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    found = dict(part.split("\n", 1) for part in done.stdout.split("== ")[1:])
    for line, offered in lines.items():
        assert {row.partition("\t")[0] for row in found[line].splitlines()} == offered, line
    assert "a folder, or a file that is overwritten." in found["ckptrun --chec"]


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
