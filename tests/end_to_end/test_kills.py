"""kill -9 of ckptrun, of the training, of both, at random moments: the same command again goes on, never two trainings at once.

CKPTRUN_TEST_SEED replays a run; the seed is printed with every failure.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys

import pytest

from tests.end_to_end.harness import CHILDREN, PROGRAMS, Ckptrun, Running
from tests.end_to_end.programs import UNBUFFERED

SEED = int(os.environ.get("CKPTRUN_TEST_SEED", "20261125"))
STEPS = 60
COMMAND = [sys.executable, str(CHILDREN / "counter.py"), "ck", str(STEPS), "0.05", "--hear", "USR1"]
OPTIONS = ["--time-limit", "4s", "--checkpoint", "ck", "--chain", "killed", "--"]


def await_end(pid: int) -> None:
    """Block until a process that is not our child has ended."""
    import select

    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([watched], [], [])
    os.close(watched)


def end(pid: int) -> None:
    """Kill a process that is not our child, and wait for its end."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    await_end(pid)


def kill(running: Running, victim: str, training: int) -> None:
    """Kill ckptrun, its training, or both with SIGKILL."""
    if victim in ("training", "both"):
        try:
            os.kill(training, signal.SIGKILL)
        except ProcessLookupError:
            pass
    if victim in ("ckptrun", "both"):
        running.send(signal.SIGKILL)


def trial(ckptrun: Ckptrun, dice: random.Random) -> list[str]:
    """Kill at a random step, then go on with the same command until the chain is complete; return all that was printed."""
    victim = dice.choice(["ckptrun", "training", "both"])
    running = ckptrun.start(*OPTIONS, *COMMAND)
    training = int(running.until(r"ready \(pid (\d+)\)")[1])
    # A moment that is not tied to a line: somewhere within the next steps, the hand-over to a second link included.
    for _ in range(dice.randrange(1, STEPS)):
        found = running.until(r"^step (\d+)|ready \(pid (\d+)\)|is complete")
        training = int(found[2] or training)
        if "complete" in found[0]:
            break
    kill(running, victim, training)
    told: list[str] = []
    if victim == "ckptrun":
        refused = ckptrun.run(*OPTIONS, *COMMAND)
        told = refused.stdout.splitlines()  # nothing, unless the training had ended meanwhile
        if refused.returncode == 125:
            # It may be that of another link than the one whose line was read last.
            found = re.search(r"process (\d+)", refused.stderr)
            assert found is not None, refused.stderr
            end(int(found[1]))
    running.end()
    lines = running.lines + told
    for _ in range(5):
        done = ckptrun.run(*OPTIONS, *COMMAND)
        lines += done.stdout.splitlines()
        assert "Traceback" not in done.stderr, done.stderr
        if done.returncode == 0:
            return lines
    raise AssertionError(f"not complete after five more starts: {done.stderr}")


def check(lines: list[str]) -> None:
    """Every step was done; each start goes on behind a step that was saved; never two at once."""
    assert "TWO AT ONCE" not in lines
    steps = [int(line.split()[1]) for line in lines if re.match(r"step \d+$", line)]
    assert sorted(set(steps)) == list(range(1, STEPS + 1))
    starts = [int(line.split()[1]) for line in lines if line.startswith("from ")]
    assert starts == sorted(starts), "a start went back behind an earlier one"


def trials(ckptrun: Ckptrun, seed: int) -> None:
    """Run one trial from its seed."""
    print(f"CKPTRUN_TEST_SEED={SEED}, trial seed {seed}")
    check(trial(ckptrun, random.Random(seed)))


@pytest.mark.parametrize("number", range(8))
def test_kill_at_a_random_moment(ckptrun: Ckptrun, number: int) -> None:
    """Eight moments of one seed."""
    trials(ckptrun, SEED + number)


@pytest.mark.long
@pytest.mark.parametrize("number", range(8, 38))
def test_kill_at_thirty_random_moments(ckptrun: Ckptrun, number: int) -> None:
    """Thirty more."""
    trials(ckptrun, SEED + number)


def test_a_training_that_outlived_its_ckptrun_is_refused_until_it_is_gone(ckptrun: Ckptrun) -> None:
    """kill -9 of ckptrun alone: the same command is refused with 125 and the pid, and goes on once that is gone."""
    (ckptrun.folder / "goal").write_text("100000")
    options = ("--time-limit", "1h", "--checkpoint", "ck", "--chain", "killed", "--")
    command = (sys.executable, str(CHILDREN / "counter.py"), "ck", "@goal", "0.05", "--hear", "USR1")
    running = ckptrun.start(*options, *command)
    training = int(running.until(r"ready \(pid (\d+)\)")[1])
    running.until("step 3")
    running.send(signal.SIGKILL)
    running.process.wait()
    refused = ckptrun.run(*options, *command, code=125)
    assert f"process {training}" in refused.stderr
    end(training)
    running.end()
    (ckptrun.folder / "goal").write_text("10")
    done = ckptrun.run(*options, *command, code=0)
    assert "going on with chain killed" in done.stderr
    assert ckptrun.show("killed")["links"][0]["outcome"] == "lost"


def test_a_pickle_that_was_cut_in_its_only_copy_is_brought_back(ckptrun: Ckptrun) -> None:
    """The guide's pickle program, its only file cut in the middle of pickle.dump: it goes on from the copy."""
    shutil.copy(PROGRAMS / "guide_pickle.py", ckptrun.folder)
    ckptrun.environment |= UNBUFFERED
    command = ("--checkpoint", "checkpoint.pkl", "--time-limit", "1h", "--", sys.executable, "guide_pickle.py")
    running = ckptrun.start(*command)
    running.until("counter value: 6")
    running.send(signal.SIGINT)
    running.end(75)
    again = ckptrun.start(*command)  # the copy is made at a link's start
    again.until("Resuming")
    training = ckptrun.until_event("child_started", 2)[-1]["pid"]
    os.kill(training, signal.SIGKILL)
    again.end(137)
    whole = (ckptrun.folder / "checkpoint.pkl").read_bytes()
    (ckptrun.folder / "checkpoint.pkl").write_bytes(whole[: len(whole) // 2])
    third = ckptrun.start(*command)
    third.until("brought back")
    third.until("Resuming from checkpoint")
    assert int(third.until(r"counter value: (\d+)")[1]) >= 6
    third.send(signal.SIGINT)
    third.end(75)


def killed_within_saves(ckptrun: Ckptrun, kills: int) -> None:
    """Let a PyTorch training be killed so often within torch.save, type the same command each time, and compare the weights."""
    print(f"CKPTRUN_TEST_SEED={SEED}")
    program, steps = str(PROGRAMS / "killed_pytorch.py"), str(8 * kills + 8)
    subprocess.run([sys.executable, program, "alone", steps, "0", "0"], cwd=ckptrun.folder, check=True, capture_output=True)
    command = ("--checkpoint", "ck", "--chain", "killed", "--", sys.executable, program, "ck", steps, str(kills), str(SEED))
    starts = []
    for _ in range(kills):
        newest = max(ckptrun.folder.glob("ck/step-*.pt"), default=None)
        aside_before = set(ckptrun.folder.glob("ck.set-aside/*/*"))
        done = ckptrun.run(*command, code=137)
        starts.append(int(re.findall(r"^from step (\d+)$", done.stdout, re.MULTILINE)[0]))
        if newest is not None:  # it was being written, or the kill came before its first byte and it is the one before
            step = int(newest.stem.removeprefix("step-"))
            aside = set(ckptrun.folder.glob(f"ck.set-aside/*/{newest.name}*")) - aside_before
            assert starts[-1] == (step - 4 if aside else step)
            assert len(aside) == done.stderr.count(f"{newest.name} is truncated")
    done = ckptrun.run(*command, code=0)
    assert len(list(ckptrun.folder.glob("ck.set-aside/link-*/*.pt*"))) > 0, "no kill came within a save"
    assert (ckptrun.folder / "ck.final").read_text() == (ckptrun.folder / "alone.final").read_text()
    assert ckptrun.outcomes() == ["failed"] * kills + ["complete"]


@pytest.mark.framework(1)
def test_killed_within_torch_save(ckptrun: Ckptrun) -> None:
    """Ten times, at random moments: each start resumes from the newest whole checkpoint, and the weights are those of no kill."""
    killed_within_saves(ckptrun, 10)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_killed_a_hundred_times_within_torch_save(ckptrun: Ckptrun) -> None:
    """A hundred times."""
    killed_within_saves(ckptrun, 100)
