"""`ckptrun chain` on chains of this machine: stopping in three ways, waiting for the end, pruning, and `--on-end`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench.chains import stand_ins
from tests.end_to_end.harness import CHILDREN, Ckptrun
from tests.show.tutorial import BEGAN, Writer

COUNTER = (sys.executable, str(CHILDREN / "counter.py"), "ck")


def start(ckptrun: Ckptrun, *options: str, steps: int = 1000, seconds: float = 0.1) -> Any:
    """Start a counting chain called `c` and wait until it counts."""
    words = ("--checkpoint", "ck", "--chain", "c", *options, *COUNTER, str(steps), str(seconds), "--hear", "USR1,INT")
    running = ckptrun.start(*words)
    running.until(r"^step 3$")
    return running


@pytest.mark.parametrize(
    ("how", "outcome", "code"), [((), "stopped", 75), (("--after-checkpoint",), "stopped", 75), (("--now",), "cancelled", 75)]
)
def test_stop_ends_what_runs_and_the_same_command_goes_on(ckptrun: Ckptrun, how: tuple[str, ...], outcome: str, code: int) -> None:
    """The training saves, its ckptrun ends; `chain wait` says the same; the same command counts on to the end, no step twice."""
    running = start(ckptrun, steps=600)
    shown = ckptrun.run("chain", "show", "c", code=0).stdout
    assert "c: running" in shown and "is process" in shown
    assert "goes on" in ckptrun.run("chain", "stop", "c", *how, code=0).stdout
    first = running.end(code)
    assert ckptrun.outcomes() == [outcome]
    assert outcome in ckptrun.run("chain", "wait", "c", code=code).stderr
    assert "has ended already" in ckptrun.run("chain", "stop", "c", code=125).stderr
    again = ckptrun.run("--checkpoint", "ck", "--chain", "c", *COUNTER, "600", "0.001", code=0).stdout
    steps = [line for line in (first + "\n" + again).splitlines() if line.startswith("step ")]
    assert steps == [f"step {number}" for number in range(1, 601)]
    assert ckptrun.run("chain", "wait", "c", code=0).stderr.endswith("exit code 0\n")


def test_after_link_lets_the_link_run_to_its_checkpoint_time(ckptrun: Ckptrun) -> None:
    """It is asked at its checkpoint time and not before, ends as stopped, and no other link follows."""
    running = start(ckptrun, "--time-limit", "8s", "--margin", "2s")
    assert "runs on to the end of this link" in ckptrun.run("chain", "stop", "c", "--after-link", code=0).stdout
    assert "the time limit is near" in running.end(75)
    *before, last = ckptrun.outcomes()  # a slow machine says it in a later link
    assert (set(before) <= {"continued"}, last) == (True, "stopped")
    assert ckptrun.show("c")["links"][-1]["reason"] == "`ckptrun chain stop` said so"


def test_wait_returns_when_the_chain_has_ended(ckptrun: Ckptrun) -> None:
    """It blocks while the chain runs, and exits as the training did."""
    running = start(ckptrun, steps=30, seconds=0.1)
    waiting = ckptrun.start("chain", "wait", "c")
    running.end(0)
    assert "chain c has ended: complete" in waiting.end(0)
    ckptrun.run("--chain", "f", "--", "sh", "-c", "exit 7", code=7)
    ckptrun.run("chain", "wait", "f", code=7)


def test_a_chain_that_was_killed_is_lost_and_waited_for_no_longer(ckptrun: Ckptrun) -> None:
    """kill -9 of ckptrun and training: no end is on record, nothing lives; list and show say lost, wait ends with 75."""
    running = start(ckptrun)
    (child,) = ckptrun.until_event("child_started")
    running.send(9)
    os.kill(child["pid"], 9)
    running.process.wait()
    running.process.stdout.close()
    assert ckptrun.run("chain", "list", code=0).stdout.splitlines()[1].split()[1] == "lost"
    assert "died without a word" in ckptrun.run("chain", "show", "c", code=0).stdout
    assert "lost" in ckptrun.run("chain", "wait", "c", code=75).stderr


NOTIFY = (
    'import os, pathlib; pathlib.Path("told").open("a").write(os.environ["CKPTRUN_OUTCOME"] + os.environ["CKPTRUN_STARTS"] + "\\n")'
)


def test_on_end_runs_once_for_the_chain_and_never_for_a_link(ckptrun: Ckptrun) -> None:
    """Two links and an end: one run. The chain goes on after a person's word, and its next end is told again."""
    (ckptrun.folder / "notify.py").write_text(NOTIFY)
    options = (
        "--on-end",
        f"{sys.executable} notify.py",
        "--time-limit",
        "4s",
        "--margin",
        "2s",
        "--max-links",
        "2",
        "--checkpoint",
        "ck",
    )
    command = (*options, "--chain", "c", *COUNTER, "1000", "0.05", "--hear", "USR1")
    ckptrun.run(*command, code=75)
    assert (ckptrun.folder / "told").read_text() == "stopped2\n"
    ckptrun.run(*command, code=75)
    assert (ckptrun.folder / "told").read_text() == "stopped2\nstopped4\n"
    assert [event["ok"] for event in ckptrun.events("on_end_ran")] == [True, True]


def test_a_failing_on_end_is_recorded_and_changes_nothing(ckptrun: Ckptrun) -> None:
    """What cannot be run, and what fails: said, in the history; the exit code is the training's. Bad quoting is refused before."""
    done = ckptrun.run("--chain", "a", "--on-end", "no-such-program", "--", "true", code=0)
    assert "--on-end: no-such-program ended with exit code 127" in done.stderr
    done = ckptrun.run("--chain", "b", "--on-end", "sh -c 'echo why >&2; exit 3'", "--", "sh", "-c", "exit 5", code=5)
    assert "ended with exit code 3" in done.stderr and ": why" in done.stderr
    (event,) = ckptrun.events("on_end_ran", "b")
    assert not event["ok"] and "exit code 3" in ckptrun.run("chain", "show", "b", "--link", "1", code=0).stdout
    assert "--on-end" in ckptrun.run("--on-end", "echo 'x", "--", "true", code=2).stderr


def test_prune_asks_and_keeps_what_may_be_wanted(ckptrun: Ckptrun, tmp_path: Path) -> None:
    """Old complete chains go, after a yes; unfinished ones only when that is said; young ones and the checkpoints never."""
    for name, outcome in (("old", "complete"), ("open", "stopped")):
        chain = Writer(ckptrun.home, name, None)
        chain.start(BEGAN, 1, 0, "n1", None)
        chain.end(BEGAN + 60, 1, 60.0, outcome, "that is so", None)
        for path in (*chain.folder.iterdir(), chain.folder):
            os.utime(path, (1e9, 1e9))
    ckptrun.environment |= {"PATH": stand_ins(tmp_path)["PATH"]}
    submission = ckptrun.home / "submissions" / "20200101-000000-abc"
    submission.mkdir(parents=True)
    os.utime(submission, (1e9, 1e9))
    ckptrun.run("--chain", "young", "--", "true", code=0)

    def left() -> set[str]:
        return {path.name for path in (ckptrun.home / "chains").iterdir()}

    assert "old: complete" in ckptrun.run("chain", "prune", input="n\n", code=0).stdout
    assert left() == {"old", "open", "young"}
    assert "removed 1 chain and 1 submission" in ckptrun.run("chain", "prune", input="y\n", code=0).stdout
    assert left() == {"open", "young"}
    ckptrun.run("chain", "prune", "--unfinished", "--yes", code=0)
    assert left() == {"young"} and not list(ckptrun.home.glob("removing/*"))
    assert "nothing is old enough" in ckptrun.run("chain", "prune", "--yes", code=0).stdout


def test_who_reads_a_log_no_longer_ends_it_quietly(ckptrun: Ckptrun) -> None:
    """A pipe that is closed is no error of ours."""
    chain = Writer(ckptrun.home, "c", 1)
    log = ckptrun.folder / "big.out"
    log.write_text("x" * 80 + "\n" * 100_000)
    chain.event(BEGAN, 1, "started", job="1", log=str(log))
    chain.end(BEGAN + 60, 1, 60.0, "complete", "that is so", None)
    words = ckptrun.argv("chain", "log", "c")
    line = f"{' '.join(map(str, words))} | head -1"
    done = subprocess.run(["bash", "-c", line], cwd=ckptrun.folder, env=ckptrun.environment, capture_output=True, text=True)
    assert done.stdout.startswith("==> link 1, job 1") and not done.stderr
