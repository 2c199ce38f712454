"""Trainings that import ckptrun: asked by file, heard by file, with real processes, in a container too."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest

import ckptrun as module
from tests import install_debian
from tests.end_to_end.harness import PROGRAMS, Ckptrun
from tests.end_to_end.test_ends import counter, steps_of

ROOT = Path(__file__).parent.parent.parent
API_COUNTER = str(PROGRAMS / "api_counter.py")
# Asked after five seconds: a container and a Python have to start in them.
# The training looks once a second; the rest is for the save, however slow the machine is.
SHORT = ("--time-limit", "26s", "--margin", "21s")


def api_counter(steps: int, seconds: float, *words: str) -> list[str]:
    """Return the command line of a counting training that imports ckptrun."""
    return [sys.executable, API_COUNTER, "ck", str(steps), str(seconds), *words]


def check_asked_by_file(ckptrun: Ckptrun, output: str, steps: int, code: int = 0) -> None:
    """Each link was asked by the file alone, in time; each step was run once; the last one said that it was done."""
    assert steps_of(output) == list(range(1, steps + 1))
    starts, asked = ckptrun.events("started"), ckptrun.events("asked")
    assert len(starts) >= 3
    assert {(event["by_file"], event["delivered"] == []) for event in asked} == {(True, True)}
    assert ckptrun.outcomes() == ["continued"] * (len(starts) - 1) + ["complete"]
    heard_at = [float(found) for found in re.findall(r"^asked at (\S+)", output, re.MULTILINE)]
    # The last one may be asked on its way out, when it does not look any more.
    assert len(starts) - 1 <= len(heard_at) <= len(asked) <= len(starts)
    delays = [heard - start["ask_at"] for heard, start in zip(heard_at, starts, strict=False)]
    assert all(delay >= 0 for delay in delays), delays
    # A second between two looks and a step of 0.1 s. A busy machine may add to each, but not to all.
    assert min(delays) < 2.5, delays
    assert not ckptrun.events("terminated")
    after = ", and then ended with exit code 3" if code else ""
    assert ckptrun.events("ended")[-1]["reason"] == f"the training said that it is done{after}"


@pytest.mark.parametrize("words", [("--deaf",), ()], ids=["catches nothing", "catches INT as every Python does"])
def test_one_that_catches_no_signal_is_asked_by_file(ckptrun: Ckptrun, words: tuple[str, ...]) -> None:
    """Asked within about a second of the checkpoint time, it saves at its step's end and stops; no signal is sent, INT neither.

    Its exit code does not matter once it has said that it is done: the chain is complete, and the code is passed on.
    """
    command = api_counter(140, 0.1, "--exit", "3", *words)
    done = ckptrun.run(*SHORT, "--checkpoint", "ck", "--", *command, code=3)
    check_asked_by_file(ckptrun, done.stdout, 140, code=3)
    assert "by file (it looks for it)" in done.stderr


@pytest.fixture
def bwrap() -> str:
    """Debian's bubblewrap: containers as an ordinary user starts them."""
    reason = install_debian.ensure("bubblewrap")
    if reason is not None and os.environ.get("CKPTRUN_REQUIRE_SLURM"):
        pytest.fail(f"bubblewrap is required here: {reason}")
    if reason is not None:
        pytest.skip(f"no container: {reason}")
    return "bwrap"


def without_slurm() -> list[str]:
    """Return the mounts that leave a container without Slurm's client: each of its commands is a file that nobody may run."""
    found = [path for name in ("sbatch", "scancel", "scontrol", "squeue", "sacct", "srun") if (path := shutil.which(name))]
    return [word for path in found for word in ("--ro-bind", "/dev/null", os.path.realpath(path))]


def in_container(bwrap: str, folder: Path, mailbox_bind: str) -> list[str]:
    """Return the words of a container with pids of its own, in which the module is one mounted file and ckptrun is nowhere else.

    Slurm's client is not there either.
    """
    python = os.path.realpath(sys.executable)  # the interpreter itself: the packages of our environment are not there
    mounts = ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", str(ROOT), "--bind", str(folder), str(folder)]
    mounts += ["--ro-bind", str(Path(module.__file__)), str(ROOT / "mounted" / "ckptrun.py")]
    mounts += ["--ro-bind", API_COUNTER, str(ROOT / "api_counter.py"), "--setenv", "PYTHONPATH", str(ROOT / "mounted")]
    mounts += without_slurm()
    text = f'exec "$0" --unshare-pid "${{@:2}}" {mailbox_bind} "$CKPTRUN_MAILBOX" "$CKPTRUN_MAILBOX" {python} $1'
    return ["bash", "-c", text, bwrap, str(ROOT / "api_counter.py") + " ck 140 0.1", *mounts]


def test_in_a_container_with_pids_of_its_own(ckptrun: Ckptrun, bwrap: str) -> None:
    """Its pids mean nothing outside and signals do not reach it: the mailbox is mounted, and the chain goes on as outside."""
    done = ckptrun.run(*SHORT, "--checkpoint", "ck", "--", *in_container(bwrap, ckptrun.folder, "--bind"), code=0)
    assert set(re.findall(r"^module (.*)", done.stdout, re.MULTILINE)) == {str(ROOT / "mounted" / "ckptrun.py")}
    assert int(re.findall(r"^ready \(pid (\d+)\)", done.stdout, re.MULTILINE)[0]) < 10
    assert set(re.findall(r"^sbatch (.*)", done.stdout, re.MULTILINE)) == {"None"}
    check_asked_by_file(ckptrun, done.stdout, 140)


def test_a_mailbox_that_is_mounted_read_only(ckptrun: Ckptrun, bwrap: str) -> None:
    """The training cannot answer: said once in each process, and it goes on to its end."""
    done = ckptrun.run("--", *in_container(bwrap, ckptrun.folder, "--ro-bind"), code=0)
    assert steps_of(done.stdout) == list(range(1, 141))
    (line,) = (line for line in done.stderr.splitlines() if "cannot write" in line)
    assert "Read-only file system" in line


def test_one_that_also_catches_a_signal_gets_both(ckptrun: Ckptrun) -> None:
    """USR1 and the file, once each: no second signal follows while it is at its step."""
    command = api_counter(100, 0.1, "--hear", "USR1,USR2")
    done = ckptrun.run(*SHORT, "--checkpoint", "ck", "--", *command, code=0)
    assert steps_of(done.stdout) == list(range(1, 101))
    first, *others = ckptrun.events("asked")
    assert first["by_file"] and [one[1] for one in first["delivered"]] == [signal.SIGUSR1], done.stderr
    # The last ask may meet a training on its way out, where Python hears no signal any more.
    assert 1 <= done.stdout.count("signal 10") <= 1 + len(others) and "signal 12" not in done.stdout


def test_done_is_complete_whatever_the_code(ckptrun: Ckptrun) -> None:
    """Unasked, exit 7 after done(): complete, our code is 7, and the next start is a new chain."""
    assert "is complete" in ckptrun.run("--", *api_counter(2, 0.01, "--exit", "7"), code=7).stderr
    assert ckptrun.outcomes() == ["complete"]


def test_save_now_and_go_on(ckptrun: Ckptrun) -> None:
    """`chain save`: one save, said with its path when it stands; the counting goes on, the end is its own."""
    running = ckptrun.start("--chain", "c", "--checkpoint", "ck", "--", *api_counter(60, 0.1))
    running.until(r"^step 3$")
    said = ckptrun.run("chain", "save", "c", code=0).stdout
    running.until(r"^asked at")
    saved = int(running.until(r"^saved (\d+)")[1])
    assert int(running.until(r"^step (\d+)")[1]) == saved + 1
    assert re.fullmatch(rf"saved {ckptrun.folder}/ck/step-0*{saved}.json, .* after the ask; the training goes on\n", said)
    output = running.end(code=0)
    assert output.count("asked at") == 1
    assert steps_of(output) == list(range(1, 61))
    assert "nothing of chain c runs" in ckptrun.run("chain", "save", "c", code=125).stderr


AHEAD = """
import json, os, time, ckptrun
ahead = os.fork() == 0  # two ranks that do not agree on the step: one of them writes
run, step = ckptrun.current(), 0
os.write(1, b"ready\\n")
while step < 600 and not run.stop_requested:
    time.sleep(0.05)
    step += 1
    if run.checkpoint_requested:
        time.sleep(0 if ahead else 1)
        name = "ck/ahead.json" if ahead else "ck/step-%d.json" % step
        if not ahead:
            with ckptrun.atomic_path(name) as path, open(path, "w") as file:
                json.dump(step, file)
        run.saved(name)
"""


def test_save_now_names_what_stands(ckptrun: Ckptrun) -> None:
    """A process says that it saved what another one writes, under another name: the answer is the checkpoint that is there."""
    running = ckptrun.start("--chain", "c", "--checkpoint", "ck", "--", sys.executable, "-c", AHEAD)
    for _ in range(2):
        running.until(r"^ready$")
    found = re.match(r"saved (\S+), ", ckptrun.run("chain", "save", "c", code=0).stdout)
    assert found is not None and found[1].startswith(f"{ckptrun.folder}/ck/step-") and Path(found[1]).exists()
    ckptrun.run("chain", "stop", "c")
    running.end()


def test_save_now_is_followed_by_save_and_stop(ckptrun: Ckptrun) -> None:
    """A save in between, asked for by a person, changes nothing of the ask to save and stop."""
    running = ckptrun.start(
        "--chain", "c", "--time-limit", "40s", "--margin", "20s", "--checkpoint", "ck", "--", *api_counter(150, 0.1)
    )
    running.until(r"^step 3$")
    ckptrun.run("chain", "save", "c", code=0)
    running.until(r"^step 45$")  # a link of less than a tenth of its limit would be followed by a pause
    running.send(signal.SIGUSR1)
    output = running.end(code=0)
    assert steps_of(output) == list(range(1, 151))
    assert ckptrun.outcomes() == ["continued", "complete"]
    assert all(event["by_file"] for event in ckptrun.events("asked"))


def test_save_now_to_one_that_cannot_hear(ckptrun: Ckptrun) -> None:
    """One that does not import ckptrun: refused, nothing is asked. One that never looks: said, 75, and it goes on undisturbed."""
    running = ckptrun.start("--chain", "deaf", "--", *counter(100, 0.1, folder="other"))
    running.until(r"^step 1$")
    assert "does not say that it listens" in ckptrun.run("chain", "save", "deaf", code=125).stderr
    assert steps_of(running.end(code=0)) == list(range(1, 101))
    running = ckptrun.start("--chain", "blind", "--checkpoint", "ck", "--", *api_counter(60, 0.2, "--blind"))
    running.until(r"^step 1$")
    assert "has never looked for an ask" in ckptrun.run("chain", "save", "blind", "--wait", "1s", code=75).stderr
    assert "60: write 60s" in ckptrun.run("chain", "save", "blind", "--wait", "60", code=2).stderr
    assert steps_of(running.end(code=0)) == list(range(1, 61))


# A step lasts until it is asked, but for the last one: as many links as steps, however slow the machine is.
ONE_STEP = """
import ckptrun, json, os, select, sys
run = ckptrun.current()
step = 1 + (json.load(open("step.json")) if os.path.exists("step.json") else 0)
print("step", step, flush=True)
run.progress(step, 7)
while step < 7 and not run.stop_requested:
    select.select([], [], [], 0.02)
with ckptrun.atomic_path("step.json") as path, open(path, "w") as file:
    json.dump(step, file)
run.saved("step.json")
if step == 7:
    run.done()
"""


def test_progress_is_seen_without_checkpoints(ckptrun: Ckptrun) -> None:
    """No --checkpoint: with the steps that the training tells the bound of five does not apply, and its saves are measured."""
    options = ("--time-limit", "10s", "--margin", "9s")  # asked after a second: one step, and the next start
    done = ckptrun.run(*options, "--", sys.executable, "-c", ONE_STEP, code=0)
    ends = ckptrun.events("ended")
    assert len(ends) == 7 and steps_of(done.stdout) == list(range(1, 8))
    assert all(end["progress"] and not end["short"] for end in ends)
    assert [end["step"] for end in ends] == list(range(1, 8))
    saved = ckptrun.events("saved")
    assert saved and all(save["asked"] and save["verdict"] == "not-checked" for save in saved)
    assert "at most 5 links" in done.stderr.splitlines()[0] and done.stderr.count("at most 5 links") == 1
    assert ckptrun.show()["max_links"] == 20


STUCK = """
import ckptrun, select
run = ckptrun.current()
run.progress(5)
while not run.stop_requested:
    select.select([], [], [], 0.02)
"""


def test_a_chain_that_tells_of_no_progress_is_stopped(ckptrun: Ckptrun) -> None:
    """The same step at the end of three links: stopped after the second that brought nothing."""
    done = ckptrun.run("--time-limit", "10s", "--margin", "9s", "--", sys.executable, "-c", STUCK, code=75)
    assert [end["progress"] for end in ckptrun.events("ended")] == [True, False, False]
    assert "2 links in a row came to their checkpoint time without progress" in done.stderr


def test_one_that_never_looks_is_stopped_after_a_save(ckptrun: Ckptrun) -> None:
    """It imports ckptrun and saves with each step, but reads no ask: it is treated as one that cannot be told by file."""
    command = api_counter(24, 0.5, "--blind", "--every", "1")
    done = ckptrun.run("--time-limit", "8s", "--checkpoint", "ck", "--", *command, code=0)
    assert len(ckptrun.events("started")) > 1
    assert not any(event["by_file"] for event in ckptrun.events("asked")), "by INT or by TERM, after a save"
    assert sorted(set(steps_of(done.stdout))) == list(range(1, 25))


def test_one_whose_reader_has_ended_is_told_by_signal(ckptrun: Ckptrun) -> None:
    """A first program of the script imported ckptrun and is gone: its word does not stand for the training after it."""
    first = f"{sys.executable} -c 'import ckptrun; print(ckptrun.current().checkpoint_requested)'"
    script = f"{first}; {' '.join(counter(2, 1000, '--hear', 'USR1', '--only-asked'))}"
    ckptrun.run(*SHORT, "--checkpoint", "ck", "--", "sh", "-c", script, code=0)
    asked = ckptrun.events("asked")
    assert not any(event["by_file"] for event in asked)
    # Two steps, each of which lasts until it is asked. One that was asked before it had begun to hear is started once more.
    assert [event["delivered"][0][1] for event in asked if event["delivered"]].count(signal.SIGUSR1) == 2


def test_a_mailbox_that_is_gone_stops_nothing(ckptrun: Ckptrun) -> None:
    """The folder vanishes under the link: said once a link, the signals do without it."""
    script = f'rm -rf "$CKPTRUN_MAILBOX"; exec {" ".join(counter(2, 1000, "--hear", "USR1", "--only-asked"))}'
    done = ckptrun.run(*SHORT, "--checkpoint", "ck", "--", "bash", "-c", script, code=0)
    assert steps_of(done.stdout) == [1, 2]
    assert done.stderr.count("cannot be asked by file") == len(ckptrun.events("asked")) > 0


def test_letters_of_earlier_links_are_cleared(ckptrun: Ckptrun) -> None:
    """At the end of the chain only the letters of its last start stand; a foreign file stays."""
    script = f'touch "$CKPTRUN_MAILBOX/notes"; exec {" ".join(api_counter(90, 0.1))}'
    ckptrun.run(*SHORT, "--checkpoint", "ck", "--", "bash", "-c", script, code=0)
    (folder,) = ckptrun.home.glob("chains/*/mailbox")
    last = len(ckptrun.events("started"))
    names = {path.name for path in folder.iterdir()}
    assert last > 1 and "notes" in names
    assert {name.split("-")[1] for name in names - {"notes"}} == {str(last)}


def test_ctrl_c_reaches_a_training_that_imports_ckptrun(ckptrun: Ckptrun) -> None:
    """SIGINT to ckptrun alone is passed on as ever: the training dies of it, and the chain is cancelled."""
    running = ckptrun.start("--checkpoint", "ck", "--", *api_counter(1000, 0.1, "--deaf"))
    running.until(r"^step 2$")
    running.send(signal.SIGINT)
    running.end(code=130)
    assert ckptrun.outcomes() == ["cancelled"]


ADAPTED = """
import sys, time
import ckptrun
from ckptrun.training.plain import Checkpoint
print("module", ckptrun.__file__, flush=True)
checkpoint = Checkpoint("ck/data.json")
data = checkpoint.load({"step": 0})
while data["step"] < 100:
    time.sleep(0.1)
    data["step"] += 1
    print("step", data["step"], flush=True)
    if checkpoint.step(data, data["step"], 100):
        sys.exit()
checkpoint.done()
"""


def test_an_adapter_in_a_container(ckptrun: Ckptrun, bwrap: str) -> None:
    """The module and the folder of adapters are mounted, the rest of ckptrun is not there: each step once, complete."""
    (ckptrun.folder / "adapted.py").write_text(ADAPTED)
    package = Path(module.__file__).parent
    mounts = ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", str(ROOT)]
    mounts += ["--bind", str(ckptrun.folder), str(ckptrun.folder), "--setenv", "PYTHONPATH", f"{ROOT}/mounted"]
    mounts += ["--ro-bind", str(package / "__init__.py"), f"{ROOT}/mounted/ckptrun/__init__.py"]
    mounts += ["--ro-bind", str(package / "training"), f"{ROOT}/mounted/ckptrun/training"]
    text = 'exec "$0" --unshare-pid "$@" --bind "$CKPTRUN_MAILBOX" "$CKPTRUN_MAILBOX" ' + os.path.realpath(sys.executable)
    command = ["bash", "-c", f"{text} {ckptrun.folder}/adapted.py", bwrap, *mounts]
    done = ckptrun.run(*SHORT, "--checkpoint", "ck", "--", *command, code=0)
    assert steps_of(done.stdout) == list(range(1, 101))
    assert set(re.findall(r"^module (.*)", done.stdout, re.MULTILINE)) == {f"{ROOT}/mounted/ckptrun/__init__.py"}
    assert len(ckptrun.outcomes()) >= 2 and ckptrun.outcomes()[-1] == "complete"
    assert all(event["by_file"] and not event["delivered"] for event in ckptrun.events("asked"))
