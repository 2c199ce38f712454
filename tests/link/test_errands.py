"""Errands: procedures that run real commands while a loop goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from ckptrun.early import USR1, Handlers
from ckptrun.link.errands import Errands, Pause, Procedure
from ckptrun.slurm.commands import Call, Said


@pytest.fixture
def handlers() -> Iterator[Handlers]:
    """Signal handlers as a link has them."""
    found = Handlers()
    yield found
    found.restore()


def ask(*argv: str, timeout_s: float = 30.0) -> Procedure[Said]:
    """Run one command."""
    said = yield Call(argv, timeout_s)
    assert said is not None
    return said


def test_what_a_command_said(handlers: Handlers) -> None:
    """Exit code, output and errors arrive whole, a megabyte as well as a word."""
    errands = Errands()
    said = errands.wait_for(ask("sh", "-c", "seq 200000; echo no >&2; exit 3"), handlers, print)
    assert (said.code, said.err) == (3, "no\n")
    assert said.out == "".join(f"{number}\n" for number in range(1, 200001))
    assert not errands.busy


def test_a_program_that_does_not_exist(handlers: Handlers) -> None:
    """It is an answer like another: 127."""
    assert Errands().wait_for(ask("no-such-program-here"), handlers, print).code == 127


def test_a_command_that_is_killed_and_one_that_takes_too_long(handlers: Handlers) -> None:
    """A signal is a negative code; a time-out is None, and the command is gone."""
    assert Errands().wait_for(ask("sh", "-c", "kill -9 $$"), handlers, print).code == -9
    assert Errands().wait_for(ask("sleep", "100", timeout_s=0.1), handlers, print).code is None


def test_signals_are_heard_meanwhile(handlers: Handlers) -> None:
    """A signal during a command goes to the caller at once."""
    heard: list[int] = []
    Errands().wait_for(ask("sh", "-c", f"kill -USR1 {os.getpid()}; exec sleep 0.2"), handlers, heard.append)
    assert heard == [USR1]


def test_a_pause_and_several_at_once(handlers: Handlers) -> None:
    """Pauses and commands of several procedures go on side by side."""

    def slow() -> Procedure[str]:
        yield Pause(0.2)
        said = yield from ask("echo", "late")
        return said.out

    errands = Errands()
    early: list[Said] = []
    errands.begin(ask("echo", "early"), early.append)
    begun = time.monotonic()
    assert errands.wait_for(slow(), handlers, print) == "late\n"
    assert time.monotonic() - begun >= 0.2
    assert early[0].out == "early\n"


@pytest.mark.parametrize("words", ["exec >&-; exec sleep 100", "exec 2>&-; exec sleep 100", "exec sleep 100"])
def test_abandoned_commands_are_ended(handlers: Handlers, words: str) -> None:
    """What is abandoned is over, whichever of its pipes it has closed before."""
    errands = Errands()
    errands.begin(ask("sh", "-c", words), print)
    errands.wait_until(lambda: False, handlers, print, time.monotonic() + 0.2)
    (pid,) = errands.pids()
    errands.abandon()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
    assert not errands.descriptors()


def test_the_readers_own_formats_change_nothing(handlers: Handlers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time zone or an output format of the user's does not reach the commands whose output is parsed."""
    monkeypatch.setenv("TZ", "Europe/Copenhagen")
    monkeypatch.setenv("SQUEUE_FORMAT", "%j")
    said = Errands().wait_for(ask("env"), handlers, print)
    assert "TZ=UTC0" in said.out.splitlines()
    assert "SQUEUE_FORMAT" not in said.out
