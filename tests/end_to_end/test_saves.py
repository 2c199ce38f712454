"""Saves that outlive their step, and those of several processes: none is cut, and what is resumed from is whole."""

from __future__ import annotations

import json
import re
import signal
import sys

import pytest

from tests.end_to_end.harness import CHILDREN, PROGRAMS, Ckptrun
from tests.end_to_end.programs import path_of

SAVER = str(CHILDREN / "saver.py")


def begun_and_ended(text: str) -> tuple[list[int], list[int]]:
    """Return the saves that were begun, and those that were ended."""
    begun, ended = ([int(step) for step in re.findall(rf"^{word} (\d+)$", text, re.MULTILINE)] for word in ("begin", "end"))
    return begun, ended


def test_a_thread_that_saves_while_the_training_goes_on(ckptrun: Ckptrun) -> None:
    """It cannot be told, and its saves pause with the file open: it is stopped between two of them, never within one."""
    options = ("--time-limit", "16s", "--checkpoint", "ck", "--max-links", "12")
    done = ckptrun.run(*options, "--", sys.executable, SAVER, "ck", "160", "thread", code=0)
    begun, ended = begun_and_ended(done.stdout)
    assert begun == ended
    starts = [int(step) for step in re.findall(r"^from (\d+)$", done.stdout, re.MULTILINE)]
    assert starts == sorted(set(starts)) and len(starts) >= 2
    assert not list(ckptrun.folder.glob("ck.set-aside/link-*")), "nothing was truncated"


def test_a_signal_that_comes_within_a_save(ckptrun: Ckptrun) -> None:
    """Ten seconds may lie between two looks: an ask is decided on what is seen when it comes, so the save that has begun ends."""
    command = (sys.executable, SAVER, "ck", "70", "thread")
    running = ckptrun.start("--time-limit", "1h", "--margin", "9s", "--checkpoint", "ck", "--", *command)
    running.until("begin 45")
    running.send(signal.SIGUSR1)
    text = running.end(0)
    assert begun_and_ended(text) == ([45], [45])
    assert ckptrun.events("ended")[0]["step"] == 45
    assert ckptrun.events("signal_received")


def test_a_process_that_saves_after_the_training_is_over(ckptrun: Ckptrun) -> None:
    """Asked, it ends at once and leaves its save to a process of its own: the link waits for that, and the next one resumes."""
    options = ("--time-limit", "24s", "--margin", "20s", "--checkpoint", "ck")
    text = ckptrun.start(*options, "--", sys.executable, SAVER, "ck", "60", "process", "--hear").end(0)
    begun, ended = begun_and_ended(text)
    starts = [int(step) for step in re.findall(r"^from (\d+)$", text, re.MULTILINE)]
    assert len(starts) >= 2
    # One that was asked before it had begun to hear has saved nothing, and the next one begins where it had begun.
    saved = list(dict.fromkeys(starts))
    assert saved == [0, *ended[: len(saved) - 1]] == [0, *begun[: len(saved) - 1]]
    for step in ended[: len(saved) - 1]:
        assert text.index(f"end {step}\n") < text.index(f", resuming from ck/step-{step:06d} "), text
    assert not any(save["cut"] for save in ckptrun.events("saved"))
    assert ckptrun.outcomes() == ["continued"] * (len(starts) - 1) + ["complete"]


def test_the_last_save_of_a_training_that_ends_by_itself(ckptrun: Ckptrun) -> None:
    """Nobody asked and nobody limits it: it is complete, with its own status, when what it left behind has saved."""
    text = ckptrun.start("--checkpoint", "ck", "--", sys.executable, SAVER, "ck", "3", "process", "--wait").end(0)
    assert begun_and_ended(text) == ([3], [3])
    assert "a process that it left behind writes a checkpoint" in text and text.index("end 3") < text.index("ended after")
    assert ckptrun.outcomes() == ["complete"]


@pytest.mark.framework(1)
def test_asynchronous_saves_of_two_ranks(ckptrun: Ckptrun) -> None:
    """torch.distributed.checkpoint.async_save under torchrun: the ranks leave their loop while threads write."""
    program = str(PROGRAMS / "async_pytorch.py")
    command = (path_of("torchrun"), "--standalone", "--nproc-per-node=2", program, "ck", "120", "0.1")
    for seconds in ("20s", "40s", "80s"):  # how long two ranks need to start here is not known
        options = ("--chain", f"of-{seconds}", "--fresh", "--time-limit", seconds, "--margin", "8s", "--checkpoint", "ck")
        done = ckptrun.run(*options, "--", *command, timeout=400)
        if done.returncode == 0:
            break
    assert done.returncode == 0, done.stderr
    starts = [int(step) for step in re.findall(r"^from step (\d+)$", done.stdout, re.MULTILINE)]
    assert starts == sorted(starts)
    assert not any(save["cut"] for save in ckptrun.events("saved", chain=f"of-{seconds}"))
    shown = json.loads(ckptrun.run("verify", "--json", "--full", "ck", code=0).stdout)["data"]
    assert {one["status"] for one in shown} == {"whole"} and {one["format"] for one in shown} == {"distributed"}
    assert max(one["step"] for one in shown) == 120


def given_away(ckptrun: Ckptrun, limit_s: float, save_s: float) -> None:
    """Run three links of a training whose asked saves take so long; check what the third one gave away."""
    command = (sys.executable, str(CHILDREN / "counter.py"), "ck", "100000", "0.05", "--hear", "USR1", "--only-asked")
    options = ("--time-limit", f"{limit_s:.0f}s", "--checkpoint", "ck", "--max-links", "3")
    ckptrun.run(*options, "--", *command, "--save", str(save_s), code=75, timeout=400)
    saves = [save for save in ckptrun.events("saved") if save["asked"]]
    assert [save["cut"] for save in saves][1:] == [False, False], saves
    slowest_s = max(save["seconds"] for save in saves if not save["cut"])
    last = ckptrun.events("ended")[-1]
    assert last["reached_ask"] and last["progress"]
    assert 0 < limit_s - last["seconds"] < 2 * slowest_s + min(30.0, 0.05 * limit_s)


def test_the_margin_fits_after_the_second_link(ckptrun: Ckptrun) -> None:
    """Nothing is cut any more, and less than twice the save and the reserve is given away.

    Links of 22 s, and saves of four: what is left beside them is more than a busy machine adds.
    """
    given_away(ckptrun, 22.0, 4.0)


@pytest.mark.long
@pytest.mark.parametrize("save_s", [1.0, 5.0, 12.0])
def test_the_margin_fits_after_the_second_link_of_a_minute(ckptrun: Ckptrun, save_s: float) -> None:
    """The same with saves of 1, 5 and 12 seconds, of which the guess of six has no room for the last two."""
    given_away(ckptrun, 60.0, save_s)
