"""Bad input: one clear sentence, the documented exit code, no traceback, nothing started."""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
import sys

import pytest

from tests.end_to_end.harness import CHILDREN, Ckptrun

BAD = [
    ("unknown option", ["--time-limt", "1m", "true"], 2, r"--time-limt: no such option, did you mean --time-limit"),
    ("bare number", ["--time-limit", "300", "true"], 2, "300: write 300s or 5m"),
    ("no command", ["--time-limit", "5m"], 2, "no command"),
    ("nothing at all", [], 2, "no command"),
    ("option without value", ["--checkpoint"], 2, "--checkpoint needs a value"),
    ("no such program", ["./missing"], 127, "./missing: no such program"),
    ("no such word", ["nosuchprogram"], 127, "nosuchprogram"),
    ("mistyped subcommand", ["chian", "list"], 127, "Did you mean `ckptrun chain`"),
    ("not executable", ["./plain-text"], 126, "./plain-text cannot be run"),
    ("a folder", ["./folder"], 126, "./folder cannot be run: it is a folder"),
    ("an empty word", ["--", ""], 127, "an empty word is no program"),
    ("no interpreter", ["./no-interpreter"], 126, "its first line names /no/such, which is not here"),
    ("Windows line ends", ["./windows"], 126, r"`sed -i 's/\r$//' ./windows` mends that"),
    ("a folder above", ["--checkpoint", "..", "true"], 2, "a folder above the working directory"),
    ("no limit", ["--time-limit", "UNLIMITED", "true"], 2, "leave the option out"),
    ("glob", ["--checkpoint", "ckpt/*.pt", "true"], 2, "name the folder, --checkpoint ckpt"),
    (
        "swallowed flag",
        ["--resume-flag=--resume", "bash", "-c", "python t.py"],
        2,
        """bash -c 'python t.py "$@"' bash""",
    ),
    ("flag without checkpoint", ["--resume-flag", "--from {checkpoint}", "true"], 2, "needs --checkpoint"),
    ("unbalanced flag", ["--resume-flag", "'x", "true"], 2, "No closing quotation"),
    ("uncatchable signal", ["--signal", "KILL", "true"], 2, "no signal that a training can catch"),
    ("margin above limit", ["--time-limit", "10s", "--margin", "20s", "true"], 2, "not shorter than --time-limit"),
    ("bad chain name", ["--chain", "a/b", "true"], 2, "no chain name"),
    ("bad exit code", ["--again-exit", "256", "true"], 2, "no exit code from 0 to 255"),
    ("no such chain", ["chain", "show", "nosuch"], 2, "no chain is called nosuch"),
    ("unknown option of show", ["chain", "show", "--jsn"], 2, "--jsn"),
]


@pytest.mark.parametrize(("words", "code", "sentence"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input(ckptrun: Ckptrun, words: list[str], code: int, sentence: str) -> None:
    """What, which, what to do; the exit code of the documentation."""
    (ckptrun.folder / "plain-text").write_text("x")
    (ckptrun.folder / "folder").mkdir()
    for name, text in (("no-interpreter", "#!/no/such\n"), ("windows", "#!/bin/sh\r\ntrue\r\n")):
        (ckptrun.folder / name).write_text(text, newline="")
        (ckptrun.folder / name).chmod(0o755)
    done = ckptrun.run(*words, code=code)
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert all(line.startswith("ckptrun: ") for line in done.stderr.splitlines())


def test_python_that_is_called_python3(ckptrun: Ckptrun) -> None:
    """As on Debian: nothing on PATH is called `python`, and the message says what is."""
    (ckptrun.folder / "python3").symlink_to("/bin/true")
    ckptrun.environment["PATH"] = str(ckptrun.folder)
    assert "python: neither a subcommand nor a program. Here it is called python3" in ckptrun.run("python", "t.py", code=127).stderr


def test_all_mistakes_are_told_at_once(ckptrun: Ckptrun) -> None:
    """Three mistakes, three sentences."""
    done = ckptrun.run("--time-limit", "5", "--max-links", "none", "--nonsense", "true", code=2)
    assert len(done.stderr.splitlines()) == 3


def test_mistakes_in_the_variable_name_it(ckptrun: Ckptrun) -> None:
    """CKPTRUN_OPTIONS is read like the command line, and is named where it is wrong."""
    ckptrun.environment["CKPTRUN_OPTIONS"] = "--time-limit 5"
    assert "CKPTRUN_OPTIONS: --time-limit 5: write 5s or 5m" in ckptrun.run("true", code=2).stderr
    ckptrun.environment["CKPTRUN_OPTIONS"] = "--max-links 7 --time-limit 1m"
    assert "at most 7 links" in ckptrun.run("true", code=0).stderr


def test_no_usable_state_folder(ckptrun: Ckptrun) -> None:
    """A state folder that cannot be written: 125 before the training starts, and the variable to set."""
    (ckptrun.folder / "file").write_text("")
    ckptrun.environment["CKPTRUN_HOME"] = str(ckptrun.folder / "file" / "below")
    done = ckptrun.run("sh", "-c", "echo started", code=125)
    assert "CKPTRUN_HOME" in done.stderr
    assert done.stdout == ""


def test_a_state_folder_with_a_line_break_is_refused(ckptrun: Ckptrun) -> None:
    """Its successor would not be found in the queue's lines, be taken for lost, and be submitted again."""
    for name in ("a\nb", "a\u2028b"):
        ckptrun.environment["CKPTRUN_HOME"] = str(ckptrun.folder / name)
        assert "its name holds a line break" in ckptrun.run("true", code=125).stderr
        assert not (ckptrun.folder / name).exists()


def test_a_second_live_chain_on_the_same_checkpoints_is_refused(ckptrun: Ckptrun) -> None:
    """125 with the chain that has them; after its end the path is taken over, and that is said."""
    counter = [sys.executable, str(CHILDREN / "counter.py"), "ck", "1000", "0.1"]
    first = ckptrun.start("--checkpoint", "ck", "--chain", "first", "--", *counter)
    first.until("step 1")
    done = ckptrun.run("--checkpoint", "./ck/", "--chain", "second", "--", "true", code=125)
    assert "belongs to chain first, which lives" in done.stderr
    assert not (ckptrun.home / "chains" / "second").exists()
    os.kill(first.pid, 15)
    first.end(75)
    done = ckptrun.run("--checkpoint", "ck", "--chain", "second", "--", "true", code=0)
    assert "taken over" in done.stderr


WHICH_ARE_OPEN = """
import os
found = [number for number in range(3) if os.path.exists(f"/proc/self/fd/{number}")]
open("open", "w").write(str(found))
"""


def test_descriptors_that_are_closed_stay_closed_for_the_training_and_are_nothing_of_ours(ckptrun: Ckptrun) -> None:
    """Else our lines went into a file that took the place: a new line would be read from our own pipe as SIGUSR1, an ask."""
    command = shlex.join(map(str, ckptrun.argv("--checkpoint", "ck", sys.executable, "-c", WHICH_ARE_OPEN)))
    done = subprocess.run(["sh", "-c", f"exec {command} >&- 2>&-"], cwd=ckptrun.folder, env=ckptrun.environment)
    assert done.returncode == 0
    assert [event["event"] for event in ckptrun.events() if event["event"] in ("asked", "signal_received")] == []
    assert ckptrun.outcomes() == ["complete"]
    assert (ckptrun.folder / "open").read_text() == "[0]", "the training has what it would have without us"


@pytest.mark.parametrize("words", [["--version"], ["chain", "list"], ["--dry-run", "true"], ["run", "--help"]])
def test_what_cannot_be_printed_is_one_sentence(ckptrun: Ckptrun, words: list[str]) -> None:
    """A full device: one sentence, 125. A reader that is gone: 1 and silence. No stdout: nothing."""
    with open("/dev/full", "w") as full:
        done = ckptrun.run(*words, code=125, stdout=full)
    assert done.stderr == "ckptrun: what is printed here cannot be written: No space left on device\n"
    reader, writer = os.pipe()
    os.close(reader)
    assert ckptrun.run(*words, code=1, stdout=writer).stderr == ""
    os.close(writer)
    assert ckptrun.run(*words, code=0, stdout=None, preexec_fn=lambda: os.close(1)).stderr == ""


def test_too_few_descriptors_and_a_lost_directory_are_sentences(ckptrun: Ckptrun) -> None:
    """125, and what to do about it."""
    few = ckptrun.run("true", code=125, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (5, 5)))
    assert few.stderr.endswith("Too many open files\n")
    assert len(few.stderr.splitlines()) == 1
    (gone := ckptrun.folder / "gone").mkdir()
    lost = ckptrun.run("true", code=125, cwd=gone, preexec_fn=gone.rmdir)
    assert "the working directory has been removed" in lost.stderr
