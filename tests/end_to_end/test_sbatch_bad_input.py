"""Bad input to `ckptrun sbatch`: one sentence, exit code 2, sbatch is not called and nothing is kept."""

from __future__ import annotations

import subprocess

import pytest

from tests.end_to_end.harness import Ckptrun

GOOD = "#!/bin/sh\necho\n"
# The script's text (None: there is none), the words, and the sentence.
BAD = {
    "no script": (None, [], "no script: write its name behind the options"),
    "not found": (None, ["nosuch.sh"], "'nosuch.sh': there is no such script, neither here nor on PATH"),
    "a path": (None, ["./nosuch.sh"], "'./nosuch.sh': there is no such script"),
    "a folder": (None, ["folder"], "'folder' is a folder"),
    "empty": ("", ["job.sh"], "job.sh is empty"),
    "dos": ("#!/bin/sh\r\necho\r\n", ["job.sh"], "job.sh has the line ends of DOS"),
    "no interpreter": ("echo\n", ["job.sh"], "job.sh does not say in its first line what runs it"),
    "a device": (GOOD, ["/dev/zero"], "/dev/zero is larger than any script that sbatch takes"),
    "binary": ("\x7fELF\0", ["job.sh"], "job.sh is a program, not a script"),
    "several parts": (GOOD, ["-n1", ":", "-n1", "job.sh"], "`:` makes a job of several parts"),
    "het lines": ("#!/bin/sh\n#SBATCH hetjob\n", ["job.sh"], "job.sh is a heterogeneous job"),
    "unknown option": (
        GOOD,
        ["--tiem=5", "job.sh"],
        "--tiem=5: ckptrun knows no such option of sbatch, or its value is missing or one too many, did you mean --time?",
    ),
    "no value": (GOOD, ["--time"], "--time: ckptrun knows no such option of sbatch, or its value is missing"),
    "two bodies": (GOOD, ["--wrap", "x", "job.sh"], "--wrap is the whole script: 'job.sh' behind it has no meaning"),
    "no body": (None, ["--wrap="], "--wrap is empty"),
    "own option": (
        "#!/bin/sh\n#CKPTRUN --chekpoint ck\n",
        ["job.sh"],
        "job.sh, line 2: --chekpoint: no such option, did you mean --checkpoint?",
    ),
    "own value": ("#!/bin/sh\n\n#CKPTRUN --margin 5\n", ["job.sh"], "job.sh, line 3: --margin 5: write 5s or 5m"),
    "own quotes": ("#!/bin/sh\n#CKPTRUN --chain 'x\n", ["job.sh"], "job.sh, line 2: No closing quotation"),
    "own command": (
        "#!/bin/sh\n#CKPTRUN --fresh python\n",
        ["job.sh"],
        "job.sh, line 2: 'python' is no option; the command is the script",
    ),
    "own end": ("#!/bin/sh\n#CKPTRUN --\n", ["job.sh"], "job.sh, line 2: '--' is no option"),
    "own help": ("#!/bin/sh\n#CKPTRUN -h\n", ["job.sh"], "job.sh, line 2: --help belongs on a command line"),
    "home": (
        "#!/bin/sh\n#CKPTRUN --checkpoint ~/ck\n",
        ["job.sh"],
        "job.sh, line 2: '~/ck': no shell reads this, write the path out",
    ),
    "variable": ("#!/bin/sh\n#CKPTRUN --stop-file=$HOME/s\n", ["job.sh"], "line 2: '--stop-file=$HOME/s': no shell reads this"),
    "no array": ("#!/bin/sh\n#CKPTRUN --checkpoint ck/%a\n", ["job.sh"], "%a is the array task, and this is no array task"),
    "no fit": (
        "#!/bin/sh\n#CKPTRUN --time-limit 5s\n#CKPTRUN --margin 6s\n",
        ["job.sh"],
        "--margin 6 s is not shorter than --time-limit 5 s",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(ckptrun: Ckptrun, name: str) -> None:
    """What, which, what to do; before anything is submitted or kept."""
    text, words, sentence = BAD[name]
    (ckptrun.folder / "folder").mkdir()
    if text is not None:
        (ckptrun.folder / "job.sh").write_bytes(text.encode())
    terminal = {"stdin": subprocess.DEVNULL} if name != "no script" else {}
    done = ckptrun.run("sbatch", *words, code=2, **terminal) if terminal else at_a_terminal(ckptrun)
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("ckptrun: ")
    assert not (ckptrun.home / "submissions").exists()


def at_a_terminal(ckptrun: Ckptrun) -> subprocess.CompletedProcess[str]:
    """Run `ckptrun sbatch` with a terminal as its input."""
    import pty

    ours, theirs = pty.openpty()
    with open(ours, "rb"), open(theirs, "rb") as terminal:
        return ckptrun.run("sbatch", code=2, stdin=terminal)


def test_all_mistakes_are_told_at_once(ckptrun: Ckptrun) -> None:
    """Those of two lines and of the variable, each with its place."""
    ckptrun.environment["CKPTRUN_OPTIONS"] = "--max-links none"
    (ckptrun.folder / "job.sh").write_text("#!/bin/sh\n#CKPTRUN --margin 5 --nonsense\n#CKPTRUN --chain 'x\n")
    lines = ckptrun.run("sbatch", "job.sh", code=2).stderr.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["job.sh, line 2", "job.sh, line 2", "job.sh, line 3", "CKPTRUN_OPTIONS"]


def test_without_sbatch(ckptrun: Ckptrun) -> None:
    """127, and nothing stays."""
    (ckptrun.folder / "job.sh").write_text(GOOD)
    ckptrun.environment["PATH"] = str(ckptrun.folder)
    assert "sbatch is not on PATH" in ckptrun.run("sbatch", "job.sh", code=127).stderr
    assert list((ckptrun.home / "submissions").iterdir()) == []


def test_a_state_folder_that_cannot_be_written(ckptrun: Ckptrun) -> None:
    """125, with what to do."""
    (ckptrun.folder / "job.sh").write_text(GOOD)
    ckptrun.environment["CKPTRUN_HOME"] = "/proc/nowhere"
    assert "Set CKPTRUN_HOME" in ckptrun.run("sbatch", "job.sh", code=125).stderr


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help(ckptrun: Ckptrun, word: str) -> None:
    """Ours, which says whose options are whose."""
    done = ckptrun.run("sbatch", word, code=0)
    assert "#CKPTRUN --checkpoint checkpoints/" in done.stdout
    assert "sbatch " in ckptrun.run("--help", code=0).stdout
