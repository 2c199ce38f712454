"""The right process hears, and nobody else: real launchers, real trainings, and who got which signal."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.end_to_end.harness import CHILDREN, Ckptrun, Running
from tests.end_to_end.programs import bubblewrap, path_of

PYTHON = sys.executable
HEARER = [PYTHON, str(CHILDREN / "hearer.py"), "ck"]
COUNTER = [PYTHON, str(CHILDREN / "counter.py")]
USR1, TERM, INT = int(signal.SIGUSR1), int(signal.SIGTERM), int(signal.SIGINT)
NEXT_LINE = "next line of the script"


class Launch(NamedTuple):
    """A command line that starts trainings, and what is known of its tree."""

    command: list[str]
    trainings: int = 1
    goes_on: bool = False
    own_pids: bool = False


def script(folder: Path, name: str, text: str) -> str:
    """Write a program and return its path."""
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


# --- the launchers: each is a function of the folder to work in and the words of the training


def direct(folder: Path, training: list[str]) -> Launch:
    """Nothing before the training."""
    return Launch(training)


def bash_exec(folder: Path, training: list[str]) -> Launch:
    """A shell that becomes the training."""
    return Launch(["bash", "-c", f"exec {shlex.join(training)}"])


def bash(folder: Path, training: list[str]) -> Launch:
    """A shell that waits for the training and does something after it."""
    return Launch(["bash", "-c", f"{shlex.join(training)}; echo {NEXT_LINE}"], goes_on=True)


def bash_with_exit_trap(folder: Path, training: list[str]) -> Launch:
    """A shell that cleans up: with a trap on EXIT bash catches every signal, and dies of USR1."""
    return Launch(["bash", "-c", f"trap 'echo {NEXT_LINE}' EXIT; {shlex.join(training)}; true"], goes_on=True)


def sh_script(folder: Path, training: list[str]) -> Launch:
    """A job script of several lines."""
    text = f"#!/bin/sh\ncd .\n{shlex.join(training)}\ncd .\necho {NEXT_LINE}\n"
    return Launch([script(folder, "job.sh", text)], goes_on=True)


def pipe_to_tee(folder: Path, training: list[str]) -> Launch:
    """The training's output goes through tee."""
    return Launch(["bash", "-c", f"{shlex.join(training)} | tee log; echo {NEXT_LINE}"], goes_on=True)


def pipe_to_filter(folder: Path, training: list[str]) -> Launch:
    """A Python at the end of the pipe catches INT, as every Python does: it hears nothing while the training hears USR1."""
    prefix = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"
    return Launch(["bash", "-c", f"{shlex.join(training)} | {PYTHON} -c {shlex.quote(prefix)}; echo {NEXT_LINE}"], goes_on=True)


def shell_time(folder: Path, training: list[str]) -> Launch:
    """The word `time` of bash."""
    return Launch(["bash", "-c", f"time {shlex.join(training)}; echo {NEXT_LINE}"], goes_on=True)


def before(*words: str, **known: int) -> Callable[[Path, list[str]], Launch]:
    """Return a launcher that is a few words before the training; the first is a program of the test extra or of the system."""
    return lambda folder, training: Launch([path_of(words[0]), *words[1:], *training], **known)  # type: ignore[arg-type]


def xargs(folder: Path, training: list[str]) -> Launch:
    """One training for each word of a list."""
    start = f"printf 'one\\ntwo\\n' | xargs -P 2 -I WORD env RANK=WORD {shlex.join(training)}; echo {NEXT_LINE}"
    return Launch(["sh", "-c", start], 2, goes_on=True)


def torchrun(*launcher: str) -> Callable[[Path, list[str]], Launch]:
    """Two workers of one node; torchrun dies of USR1, and kills its workers on TERM."""

    def launch(folder: Path, training: list[str]) -> Launch:
        assert training[0] == PYTHON
        words = [*launcher[1:], "--standalone", "--nproc-per-node", "2", *training[1:]]
        return Launch([path_of(launcher[0]) if launcher[0] != PYTHON else PYTHON, *words], 2)

    return launch


def accelerate(folder: Path, training: list[str]) -> Launch:
    """`accelerate launch` on one device."""
    known = ["--cpu", "--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    return Launch([path_of("accelerate"), "launch", *known, *training[1:]])


def double_fork(folder: Path, training: list[str]) -> Launch:
    """A training that was started in the background by a shell that is gone; the script waits for its result."""
    wait = "until [ -e ck/step-000001-rank-0.json ]; do sleep 0.1; done"
    return Launch(["bash", "-c", f"({shlex.join(training)} &); {wait}; echo {NEXT_LINE}"], goes_on=True)


def conda_stand_in(folder: Path, training: list[str]) -> Launch:
    """A stand-in for `conda run`, which pip does not bring: like the real one a Python script called `conda` that writes a shell
    script which runs the command, starts it with bash, and exits with its status."""
    text = """#!{python}
import shlex, subprocess, sys, tempfile
with tempfile.NamedTemporaryFile("w", prefix="conda-", suffix=".sh") as file:
    file.write("export CONDA_PREFIX=/nowhere\\n" + shlex.join(sys.argv[sys.argv.index("run") + 3:]) + "\\n")
    file.flush()
    sys.exit(subprocess.run(["bash", file.name]).returncode)
"""
    return Launch([script(folder, "conda", text.format(python=PYTHON)), "run", "-n", "env", *training])


def poetry_stand_in(folder: Path, training: list[str]) -> Launch:
    """A stand-in for `poetry run`, which brings forty packages: like the real one a Python script that becomes the command."""
    text = f"#!{PYTHON}\nimport os, sys\nos.execvp(sys.argv[2], sys.argv[2:])\n"
    return Launch([script(folder, "poetry", text), "run", *training])


def container(*words: str, own_pids: bool = False) -> Callable[[Path, list[str]], Launch]:
    """A container by bubblewrap, under its own name."""
    return lambda folder, training: Launch([*bubble(folder, words), *training], own_pids=own_pids)


def bubble(folder: Path, words: tuple[str, ...]) -> list[str]:
    """Return the words that put a command into a container that sees the whole file system."""
    return [bubblewrap(), "--bind", "/", "/", "--dev-bind", "/dev", "/dev", *words, "--chdir", str(folder)]


def singularity_stand_in(folder: Path, training: list[str]) -> Launch:
    """A stand-in for singularity, which needs an image: a Python script of that name, as sites wrap it, and bubblewrap."""
    command = bubble(folder, ())
    text = f"#!{PYTHON}\nimport subprocess, sys\nsys.exit(subprocess.run({command!r} + sys.argv[4:]).returncode)\n"
    return Launch([script(folder, "singularity", text), "exec", "--nv", "image.sif", *training])


def apptainer_stand_in(folder: Path, training: list[str]) -> Launch:
    """A stand-in for apptainer: its starter shows as `Apptainer runtime parent`; here that is bubblewrap with its own pids."""
    command = shlex.join(bubble(folder, ("--unshare-pid", "--proc", "/proc")))
    text = f'#!/bin/bash\nshift 3\nexec -a "Apptainer runtime parent" {command} "$@"\n'
    return Launch([script(folder, "apptainer", text), "exec", "--nv", "image.sif", *training], own_pids=True)


MATRIX: dict[str, Callable[[Path, list[str]], Launch]] = {
    "direct": direct,
    "bash with exec": bash_exec,
    "bash": bash,
    "bash with an EXIT trap": bash_with_exit_trap,
    "sh script": sh_script,
    "pipe to tee": pipe_to_tee,
    "pipe to a filter": pipe_to_filter,
    "timeout": before("timeout", "300"),
    "env": before("env", "A=1"),
    "nice": before("nice", "-n", "1"),
    "stdbuf": before("stdbuf", "-oL"),
    "time": shell_time,
    "setsid": before("setsid", "--wait"),
    "setsid in a new process": before("setsid", "--fork", "--wait"),
    "nohup": before("nohup"),
    "flock": before("flock", "lock"),
    "script": lambda folder, training: Launch(["script", "-qefc", shlex.join(training), "typescript"]),
    "timeout, nice, sh": before("timeout", "300", "nice", "sh", "-c", '"$@"; true', "sh"),
    "xargs": xargs,
    "double fork": double_fork,
    "torchrun": torchrun("torchrun"),
    "torch.distributed.run": torchrun(PYTHON, "-u", "-X", "dev", "-m", "torch.distributed.run"),
    "accelerate": accelerate,
    "mpiexec": before("mpiexec", "-n", "2", trainings=2),
    "uv run": before("uv", "run", "--no-project", "--offline"),
    "conda run": conda_stand_in,
    "poetry run": poetry_stand_in,
    "bwrap": container(),
    "bwrap --unshare-pid": container("--unshare-pid", "--proc", "/proc", own_pids=True),
    "singularity": singularity_stand_in,
    "apptainer": apptainer_stand_in,
}


def ready(running: Running, number: int) -> list[int]:
    """Wait until so many trainings are ready, and return their pids."""
    return sorted(int(running.until(r"ready \(pid (\d+)\)")[1]) for _ in range(number))


def delivered(ckptrun: Ckptrun) -> list[dict[int, int]]:
    """Return for each ask which pid was sent which signal."""
    return [{pid: number for pid, number, _ in event["delivered"]} for event in ckptrun.events("asked")]


@pytest.mark.parametrize("launcher", MATRIX.values(), ids=MATRIX)
def test_the_training_alone_is_asked(ckptrun: Ckptrun, launcher: Callable[[Path, list[str]], Launch]) -> None:
    """Behind each launcher: every training hears USR1 once and saves, its helpers and the launchers hear nothing, and the launcher
    lives to hand on the status 0 of its training and to run its next line."""
    launch = launcher(ckptrun.folder, [*HEARER, "--helpers"])
    running = ckptrun.start("-v", "--chain", "one", "--checkpoint", "ck", "--", *launch.command)
    pids = ready(running, launch.trainings)
    running.send(signal.SIGTERM)
    text = running.end(75)
    (asked,) = delivered(ckptrun)
    assert list(asked.values()) == [USR1] * launch.trainings, text
    assert launch.own_pids or sorted(asked) == pids, text
    assert sorted(re.findall(r"saved \(pid \d+\) heard (.*)", text)) == [f"[{USR1}]"] * launch.trainings
    assert re.findall(r"helper \(pid \d+\) heard (.*)", text) == ["[]"] * 2 * launch.trainings
    assert len(list((ckptrun.folder / "ck").glob("*.json"))) == launch.trainings
    assert text.splitlines().count(NEXT_LINE) == launch.goes_on
    assert ckptrun.events("ended")[0]["exit_code"] == 0
    # Whoever is left in a pid namespace whose first process has ended is killed by the kernel, some moments later.
    assert launch.own_pids or not ckptrun.events("terminated")


# --- who is not asked


DEAF: dict[str, Callable[[list[str]], list[str]]] = {
    "timeout": lambda training: ["timeout", "300", *training],
    "torchrun": lambda training: [path_of("torchrun"), "--standalone", "--nproc-per-node", "1", *training[1:]],
    "bash": lambda training: ["bash", "-c", f"trap 'echo cleaned' EXIT; {shlex.join(training)}; echo {NEXT_LINE}"],
}


def seconds_between(earlier: dict[str, str], later: dict[str, str]) -> float:
    """Return the seconds between two events of one day."""

    def of_day(event: dict[str, str]) -> float:
        hours, minutes, seconds = event["at"].split("T")[1].rstrip("Z").split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)

    return (of_day(later) - of_day(earlier)) % 86400


def stopped_within_five_seconds(ckptrun: Ckptrun, command: list[str]) -> tuple[int, str]:
    """Run a training that saves each second, ask it behind its third save, with 5 s to go; return its pid and all output.

    The fourth save after the ask is the last one that fits, in the middle between two looks and a second before TERM time.
    """
    options = ("--checkpoint", "ck", "--time-limit", "60s", "--margin", "5s", "--max-links", "1")
    running = ckptrun.start(*options, "--", *command)
    (training,) = ready(running, 1)
    running.until("step 4")
    running.send(signal.SIGUSR1)
    return training, running.end(75)


def lost(ckptrun: Ckptrun, text: str) -> int:
    """Return how many steps were begun after the last one that was saved."""
    begun = max(int(number) for number in re.findall(r"^step (\d+)$", text, re.MULTILINE))
    return begun - max(int(path.stem[5:]) for path in (ckptrun.folder / "ck").glob("*.json"))


def longest_interval(ckptrun: Ckptrun) -> float:
    """Return the longest time between two saves: of those that last one second none fits any more where one took much longer."""
    written = sorted(path.stat().st_mtime for path in (ckptrun.folder / "ck").glob("*.json"))
    return max(later - earlier for earlier, later in itertools.pairwise(written))


@pytest.mark.parametrize("launcher", DEAF.values(), ids=DEAF)
def test_one_that_cannot_be_told_lives_until_its_last_save(ckptrun: Ckptrun, launcher: Callable[[list[str]], list[str]]) -> None:
    """It catches nothing and would die of all: nobody is signalled before no further save fits, and one step at most is lost."""
    _, text = stopped_within_five_seconds(ckptrun, launcher([*COUNTER, "ck", "1000", "1.0", "--deaf"]))
    assert delivered(ckptrun) == [], text
    assert lost(ckptrun, text) <= 1
    (arrived,), (terminated,) = ckptrun.events("signal_received"), ckptrun.events("terminated")
    assert seconds_between(arrived, terminated) > 1 or longest_interval(ckptrun) > 2.5, "another save fits, and one more"


@pytest.mark.parametrize("launcher", DEAF.values(), ids=DEAF)
def test_one_that_catches_only_int_gets_it_after_its_last_save(
    ckptrun: Ckptrun, launcher: Callable[[list[str]], list[str]]
) -> None:
    """As most programs are: no handler but that of Python for INT. The training alone gets it, when no further save fits."""
    training, text = stopped_within_five_seconds(ckptrun, launcher([*COUNTER, "ck", "1000", "1.0"]))
    assert delivered(ckptrun) == [{training: INT}], text
    assert lost(ckptrun, text) <= 1
    (arrived,), (asked,) = ckptrun.events("signal_received"), ckptrun.events("asked")
    assert seconds_between(arrived, asked) > 1 or longest_interval(ckptrun) > 2.5, "another save fits, and one more"


@pytest.mark.parametrize("launcher", DEAF.values(), ids=DEAF)
def test_one_that_cannot_be_told_and_never_saves_lives_until_term_time(
    ckptrun: Ckptrun, launcher: Callable[[list[str]], list[str]]
) -> None:
    """The checkpoint time passes and nobody is signalled: the launcher, which catches TERM or everything, is not the training."""
    command = launcher([*COUNTER, "ck", "1000", "0.2", "--deaf", "--only-asked"])
    # torchrun starts its worker after seconds; until that has put it back it catches INT, as Python does.
    limit_s = 24 if "torchrun" in command[0] else 12
    done = ckptrun.run("--checkpoint", "ck", "--time-limit", f"{limit_s}s", "--max-links", "1", "--", *command, code=75)
    assert delivered(ckptrun) == [], done.stderr
    (started,), (terminated,) = ckptrun.events("started"), ckptrun.events("terminated")
    assert seconds_between(started, terminated) > 0.75 * limit_s, "the checkpoint time is earlier, TERM time is 0.95 of it"


WAIT_FOR_FILE = """import os, time
print(f"ready (pid {os.getppid()})", flush=True)
while not os.path.exists("stop"):
    time.sleep(0.02)
"""


def test_a_script_with_a_trap_is_the_training(ckptrun: Ckptrun) -> None:
    """Nothing below the shell can be told, so its trap is what hears: the hand-written script goes on to its own end."""
    text = f"trap 'echo heard USR1; touch stop' USR1; {PYTHON} wait.py & until wait $!; do :; done; echo {NEXT_LINE}"
    (ckptrun.folder / "wait.py").write_text(WAIT_FOR_FILE)
    running = ckptrun.start("--", "bash", "-c", text)
    (shell,) = ready(running, 1)
    running.send(signal.SIGTERM)
    text = running.end(75)
    assert delivered(ckptrun) == [{shell: USR1}]
    assert "heard USR1" in text and NEXT_LINE in text


DAEMON = """import os, signal
heard = []
for number in (10, 12, 15):
    signal.signal(number, lambda number, frame: heard.append(number))
print("daemon up", flush=True)
os.read(os.open("gate", os.O_RDONLY), 1)
print("daemon heard", heard, flush=True)
open("went-on", "w").close()
"""


def test_a_daemon_beside_a_training_that_hears_is_left_alone(ckptrun: Ckptrun) -> None:
    """A daemon that the training has left behind catches everything and is ours, an orphan, by now: it hears nothing."""
    (ckptrun.folder / "daemon.py").write_text(DAEMON)
    os.mkfifo(ckptrun.folder / "gate")
    training = shlex.join([*HEARER, "--hear", "TERM"])
    after = f": > gate; until [ -e went-on ]; do sleep 0.05; done; echo {NEXT_LINE}"
    running = ckptrun.start("-v", "--", "bash", "-c", f"({PYTHON} daemon.py &); {training}; {after}")
    for _ in range(2):  # in either order
        running.until(r"daemon up|ready \(pid")
    (pid,) = map(int, re.findall(r"ready \(pid (\d+)\)", "\n".join(running.lines)))
    running.send(signal.SIGTERM)
    text = running.end(75)
    assert delivered(ckptrun) == [{pid: TERM}]
    assert re.search(r"not asked: .*\d+ \S+ daemon.py: an orphan", text)
    assert "daemon heard []" in text and NEXT_LINE in text


def test_a_ckptrun_on_a_branch_is_its_training(ckptrun: Ckptrun) -> None:
    """Below a shell another ckptrun: it hears USR1, and asks its own training itself."""
    inner = shlex.join([PYTHON, "-u", "-m", "ckptrun", "--chain", "inner", "--max-links", "1", "--", *HEARER])
    running = ckptrun.start("--chain", "outer", "--checkpoint", "ck", "--", "bash", "-c", f"{inner}; echo {NEXT_LINE}")
    (training,) = ready(running, 1)
    running.send(signal.SIGTERM)
    text = running.end(75)
    (outer,) = ckptrun.events("asked", chain="outer")
    (asked,) = outer["delivered"]
    assert (asked[0] != training, asked[1]) == (True, USR1)
    assert [one[:2] for one in ckptrun.events("asked", chain="inner")[0]["delivered"]] == [[training, USR1]]
    assert NEXT_LINE in text


@pytest.mark.parametrize("once", [(), ("--once",)], ids=["handlers stay", "handlers for one signal"])
def test_a_second_signal_where_nothing_came_of_the_first(ckptrun: Ckptrun, once: tuple[str, ...]) -> None:
    """USR1 is caught and nothing comes of it, as where a library has taken it: at half of the time left TERM is sent, once, and the
    training saves."""
    options = ("--checkpoint", "ck", "--time-limit", "18s", "--margin", "10s", "--max-links", "1")
    command = shlex.join([*HEARER, "--hear", "USR1,TERM", "--heed", "TERM", *once])
    running = ckptrun.start(*options, "--", "bash", "-c", f"{command}; true")
    (training,) = ready(running, 1)
    text = running.end(75)
    assert delivered(ckptrun) == [{training: USR1}, {training: TERM}]
    assert f"saved (pid {training}) heard [{USR1}, {TERM}]" in text
    assert ckptrun.events("terminated") == []
    assert "will ask what bash starts to save at" in text
    assert "by the first of SIGUSR1, SIGUSR2, SIGTERM, SIGINT that it catches" in text
    first, second = ckptrun.events("asked")
    assert "time limit" in first["reason"] and seconds_between(first, second) > 0.3


def test_a_second_signal_without_checkpoints_where_nobody_writes(ckptrun: Ckptrun) -> None:
    """No --checkpoint: nothing is written anywhere, so nothing has come of USR1, and TERM is sent, once."""
    command = [*HEARER, "--hear", "USR1,TERM", "--heed", "TERM"]
    running = ckptrun.start(*ASKED_BY_HAND, *command)
    (training,) = ready(running, 1)
    running.send(signal.SIGUSR1)
    text = running.end(75)
    assert delivered(ckptrun)[:2] == [{training: USR1}, {training: TERM}]
    assert f"saved (pid {training}) heard [{USR1}, {TERM}" in text


# What is asked by a signal has the margin, from then on; the second try comes after half of it.
ASKED_BY_HAND = ("--time-limit", "300s", "--margin", "8s", "--max-links", "1", "--")
SAVES_SOMEWHERE = """
import os, signal, sys
def save(*_):
    global file
    file = open("save", "wb")
    os.write(1, b"begins to save\\n")
signal.signal(signal.SIGUSR1, save)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
print("ready (pid %d)" % os.getpid(), flush=True)
while True: signal.pause()
"""


def test_no_second_signal_while_somebody_writes_somewhere(ckptrun: Ckptrun) -> None:
    """No --checkpoint, and a file that is open for writing since the ask may be a save: no other signal within it."""
    running = ckptrun.start(*ASKED_BY_HAND, PYTHON, "-c", SAVES_SOMEWHERE)
    (training,) = ready(running, 1)
    running.send(signal.SIGUSR1)
    running.until("begins to save")
    running.end(75)
    assert delivered(ckptrun) == [{training: USR1}]
    assert len(ckptrun.events("terminated")) == 1


def test_what_would_be_asked_is_announced(ckptrun: Ckptrun) -> None:
    """A dry run names the training where the command is one, and the launcher whose branches will tell where it is not."""
    assert "asked: python3 train.py itself" in ckptrun.run("--dry-run", "--", "python3", "-u", "train.py", code=0).stdout
    command = ["torchrun", "--standalone", "train.py"]
    (ckptrun.folder / "torchrun").write_text("")
    text = ckptrun.run("--dry-run", "--", path_of("torchrun"), *command[1:], code=0).stdout
    assert "asked: what torchrun starts: the first process that is no launcher" in text


def test_the_event_tells_why(ckptrun: Ckptrun) -> None:
    """The history keeps who was asked and why those; with -v a line says who was not."""
    running = ckptrun.start("-v", "--", "timeout", "300", *HEARER)
    (training,) = ready(running, 1)
    running.send(signal.SIGTERM)
    text = running.end(75)
    (event,) = ckptrun.events("asked")
    assert event["delivered"] == [[training, USR1, f"{Path(PYTHON).name} hearer.py catches it, behind timeout"]]
    assert re.search(r"ckptrun: not asked: \d+ timeout: a launcher", text)
