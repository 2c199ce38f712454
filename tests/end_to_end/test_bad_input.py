"""Bad input: one clear sentence, the documented exit code, no traceback, nothing started."""

from __future__ import annotations

import os
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
    ("a folder", ["./folder"], 126, "./folder cannot be run"),
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
    done = ckptrun.run(*words, code=code)
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert all(line.startswith("ckptrun: ") for line in done.stderr.splitlines())


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
