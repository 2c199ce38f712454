"""The live screen: it fits, asks the controller seldom, and leaves the terminal as it was."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

from ckptrun.show import frame
from ckptrun.show.building import build
from ckptrun.show.seen import Known, Life, Told
from ckptrun.show.watching import ASK_S, shared_queue
from tests.bench.chains import calls, stand_ins
from tests.end_to_end.harness import CHILDREN, Ckptrun
from tests.show.tutorial import BEGAN, HOUR, stamp

ENTER, LEAVE, CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"


@pytest.mark.parametrize(("width", "height"), [(60, 24), (80, 24), (140, 40), (40, 8)])
def test_a_frame_fits(width: int, height: int) -> None:
    """Never wider or higher than the screen; the countdown and the last line of the log are on it where there is room."""
    facts = {"id": "mnist-4711", "slurm": {"job": "1"}, "plan": {"command": ["true"], "max_time_s": 72 * HOUR}}
    limit = {"limit_s": 12 * HOUR, "ask_at": BEGAN + 12 * HOUR - 600, "margin_s": 600.0}
    started = {"v": 1, "at": stamp(BEGAN), "link": 1, "attempt": 1, "event": "started", "job": "1", **limit}
    life = Life("running", "job 1 runs on n1, 9 h left", "1", "n1")
    now = BEGAN + 3 * HOUR
    seen = build(Known(facts, [started], life=life, told=Told(2500, 10_000, now)), now)
    tail = [f"epoch {number} \x1b[31m{'x' * 200}" for number in range(50)]
    lines = frame.lines(seen, tail, now, width, height)
    assert len(lines) <= height and all(len(line) <= width and line.isprintable() for line in lines)
    if height > 20:
        countdown = next(line for line in lines if "asked to save in 8 h 50 min" in line)
        assert countdown.endswith(")") and any("2500/10000" in line for line in lines)
        assert lines[-1].startswith("epoch 49")


def test_all_who_watch_share_one_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within ten seconds one squeue, whoever asks; then one more. A file that is foreign is no answer."""
    monkeypatch.setenv("PATH", stand_ins(tmp_path)["PATH"])
    home = str(tmp_path)
    for at in (1000.0, 1001.0, 1000.0 + ASK_S - 0.1):
        assert shared_queue(home, at).chains == set()
    assert calls(tmp_path, "squeue") == 1
    shared_queue(home, 1000.0 + ASK_S)
    assert calls(tmp_path, "squeue") == 2
    (tmp_path / "queue.json").write_text('{"not": "ours"}')
    shared_queue(home, 1011.0)
    assert calls(tmp_path, "squeue") == 3


@pytest.fixture
def screen(ckptrun: Ckptrun) -> Iterator[Any]:
    """A terminal of 80 columns on which a running chain is watched."""
    running = ckptrun.start("--checkpoint", "ck", "--chain", "c", sys.executable, str(CHILDREN / "counter.py"), "ck", "5000", "0.1")
    running.until(r"^step 3$")
    words = ["-m", "ckptrun", "chain", "watch", "c"]
    environment = ckptrun.environment | {"TERM": "xterm", "NO_COLOR": "1"}
    terminal = pexpect.spawn(
        sys.executable, words, cwd=str(ckptrun.folder), env=environment, dimensions=(24, 80), encoding="utf-8", timeout=300
    )
    terminal.expect_exact(ENTER)
    terminal.expect("c: running")
    yield terminal, running
    terminal.close(force=True)
    if running.process.poll() is None:
        running.send(signal.SIGTERM)
        running.end()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_it_leaves_the_terminal_as_it_was(screen: Any, number: int, code: int) -> None:
    """Ctrl-C, SIGTERM or SIGHUP: the first screen is back, the cursor is shown, nothing was coloured."""
    terminal, _ = screen
    if number == signal.SIGINT:
        terminal.send("\x03")
    else:
        os.kill(terminal.pid, number)
    terminal.expect_exact(LEAVE)
    rest = terminal.before + terminal.after + terminal.read()
    terminal.wait()
    assert CURSOR in rest and "\x1b[3" not in rest and "Traceback" not in rest
    assert terminal.exitstatus == code


def test_it_ends_with_the_chain(screen: Any) -> None:
    """The chain is stopped: the screen goes, and one line says how it ended."""
    terminal, running = screen
    running.send(signal.SIGTERM)
    terminal.expect_exact(LEAVE)
    terminal.expect("chain c has ended: stopped")
    terminal.read()
    terminal.wait()
    assert terminal.exitstatus == 0
    running.end(75)


def test_without_a_terminal_it_says_what_to_type(ckptrun: Ckptrun) -> None:
    """In a pipe nobody sees a live screen, on a terminal that cannot move its cursor nobody would."""
    assert "chain show" in ckptrun.run("chain", "watch", code=2).stderr
    environment = ckptrun.environment | {"TERM": "dumb"}
    terminal = pexpect.spawn(sys.executable, ["-m", "ckptrun", "chain", "watch"], env=environment, encoding="utf-8", timeout=60)
    terminal.expect_exact("watch needs a terminal whose cursor can be moved")
    terminal.read()
    terminal.wait()
    assert terminal.exitstatus == 2
