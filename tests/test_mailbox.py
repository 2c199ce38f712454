"""The mailbox: what stands in it, what is passed over, and that both sides write and read the same."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

import ckptrun
from ckptrun import mailbox


class Clock:
    """A monotonic clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def training(folder: Path, clock: Clock, link: int = 2, attempt: int = 1) -> ckptrun.Run:
    """Return the training's side of one start."""
    environment = {"CKPTRUN": "1", "CKPTRUN_CHAIN": "c", "CKPTRUN_LINK": str(link), "CKPTRUN_ATTEMPT": str(attempt)}
    return ckptrun.Run(environment | {"CKPTRUN_MAILBOX": str(folder)}, clock)


def write(path: Path, letter: Any) -> None:
    """Put a letter there that no function of ours wrote."""
    path.write_text(letter if isinstance(letter, str) else json.dumps(letter))


ASK = {"v": 1, "link": 2, "attempt": 1, "serial": 1, "stop": True, "reason": "r", "at": 1.0}
BAD_ASKS = {
    "torn": '{"v": 1, "link": 2, "att',
    "empty": "",
    "no object": "[1, 2]",
    "too deep": "[" * 20000,
    "newer": ASK | {"v": 2},
    "of another link": ASK | {"link": 1},
    "of another attempt": ASK | {"attempt": 2},
    "without a serial": {name: value for name, value in ASK.items() if name != "serial"},
    "stop is no truth value": ASK | {"stop": "yes"},
}


def test_both_sides_speak_the_same(tmp_path: Path) -> None:
    """What ckptrun asks the training hears, what the training says ckptrun reads; version and longest letter are the same."""
    clock = Clock()
    run = training(tmp_path, clock)
    mailbox.ask(str(tmp_path), 2, 1, stop=True, reason="the time limit is near")
    assert run.checkpoint_requested and run.stop_requested
    run.progress(7, 9)
    run.saved(tmp_path / "ck")
    run.done()
    found = {word.kind: word for word in mailbox.words(str(tmp_path), 2, 1)}
    assert set(found) == {"ready", "progress", "saved", "done"} == set(mailbox.KINDS) - {"relay", "status"}
    assert {(word.host, word.pid, word.heard) for word in found.values()} == {(mailbox.host(), os.getpid(), 1)}
    assert found["progress"].facts == {"step": 7, "total": 9}
    assert found["saved"].facts == {"path": str(tmp_path / "ck"), "step": 7}
    assert found["ready"].facts["looks"] is True
    assert (ckptrun._VERSION, ckptrun._LONGEST_LETTER) == (mailbox.VERSION, mailbox.LONGEST_LETTER)


def test_letters_are_private_and_whole(tmp_path: Path) -> None:
    """Mode 0600 whatever the umask says, and no temporary is left."""
    before = os.umask(0)
    try:
        mailbox.ask(str(tmp_path), 2, 1, stop=True, reason="r")
        mailbox.say(str(tmp_path), 2, 1, "status", code=3, signal=None)
        training(tmp_path, Clock()).done()
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    assert not list(tmp_path.glob(".*"))
    (word,) = (word for word in mailbox.words(str(tmp_path), 2, 1) if word.kind == "status")
    assert word.facts == {"code": 3, "signal": None}


def test_a_later_ask_has_a_higher_serial_and_takes_no_stop_back(tmp_path: Path) -> None:
    """Save now, stop, save now: serials 1, 2, 3, and the stop stays."""
    asks = [mailbox.ask(str(tmp_path), 2, 1, stop=stop, reason="r") for stop in (False, True, False)]
    assert [(one.serial, one.stop) for one in asks] == [(1, False), (2, True), (3, True)]
    assert mailbox.read_ask(str(tmp_path), 2, 1) == asks[-1]
    assert mailbox.read_ask(str(tmp_path), 2, 2) is None


@pytest.mark.parametrize("letter", BAD_ASKS.values(), ids=BAD_ASKS)
def test_an_ask_that_is_not_for_us_is_not_heard(tmp_path: Path, letter: Any) -> None:
    """Torn, foreign, newer, or of another start under our name: passed over by both sides, and the next good one is heard."""
    clock = Clock()
    run = training(tmp_path, clock)
    write(tmp_path / "ask-2-1", letter)
    assert not run.checkpoint_requested and not run.stop_requested
    assert mailbox.read_ask(str(tmp_path), 2, 1) is None
    write(tmp_path / "ask-2-1", ASK)
    clock.now += 1.0
    assert run.checkpoint_requested and run.stop_requested


def test_an_ask_of_another_start_is_not_heard(tmp_path: Path) -> None:
    """The link before, and another attempt of the same link, have files of their own."""
    for link, attempt in ((1, 1), (2, 2), (21, 1)):
        mailbox.ask(str(tmp_path), link, attempt, stop=True, reason="r")
    run = training(tmp_path, Clock())
    assert not run.checkpoint_requested and not run.stop_requested


def test_a_pipe_in_place_of_a_letter_holds_nobody_up(tmp_path: Path) -> None:
    """A named pipe without a writer would block whoever opens it."""
    os.mkfifo(tmp_path / "ask-2-1")
    os.mkfifo(tmp_path / "word-2-1-host-1-done")
    assert not training(tmp_path, Clock()).checkpoint_requested
    assert mailbox.read_ask(str(tmp_path), 2, 1) is None
    assert [word.kind for word in mailbox.words(str(tmp_path), 2, 1)] == ["ready"], "the one that this process has just written"


def test_words_pass_over_what_they_do_not_know(tmp_path: Path) -> None:
    """Torn, newer, of other starts, of unknown kinds, temporaries and foreign files; a host's name may hold hyphens."""
    good = {"v": 1, "link": 2, "attempt": 1, "at": 5.0}
    write(tmp_path / "word-2-1-node-7-gpu-12-saved", good | {"step": 3, "heard": "?"})
    write(tmp_path / "word-2-1-node-13-done", '{"v": 1')
    write(tmp_path / "word-2-1-node-14-done", good | {"v": 2})
    write(tmp_path / "word-2-1-node-15-done", good | {"attempt": 2})
    write(tmp_path / "word-2-1-node-16-dance", good)
    write(tmp_path / "word-2-1-node-done", good)
    write(tmp_path / "word-2-10-node-17-done", good | {"attempt": 10})
    write(tmp_path / ".word-2-1-node-18-done.1.tmp", good)
    write(tmp_path / "notes", "")
    (tmp_path / "word-2-1-node-19-done").mkdir()
    (found,) = mailbox.words(str(tmp_path), 2, 1)
    assert found == mailbox.Word("saved", "node-7-gpu", 12, 5.0, 0, {"step": 3})


def test_words_are_read_again_when_they_change(tmp_path: Path) -> None:
    """One reader that is asked again and again sees each new word, and what has gone."""
    reader = mailbox.Words(str(tmp_path), 2, 1)
    assert reader.read() == []
    mailbox.say(str(tmp_path), 2, 1, "progress", step=1)
    assert [word.facts["step"] for word in reader.read()] == [1] == [word.facts["step"] for word in reader.read()]
    mailbox.say(str(tmp_path), 2, 1, "progress", step=2)
    assert [word.facts["step"] for word in reader.read()] == [2]
    next(tmp_path.glob("word-*")).unlink()
    assert reader.read() == []


def test_the_step_is_the_highest_that_was_saved_else_told(tmp_path: Path) -> None:
    """A step that was reached and not saved is no progress, unless saves are never told of."""
    told = [mailbox.Word("progress", "a", 1, 2.0, 0, {"step": 9}), mailbox.Word("progress", "b", 2, 1.0, 0, {"step": "?"})]
    assert mailbox.highest_step([]) is None
    assert mailbox.highest_step(told) == 9
    assert mailbox.highest_step([*told, mailbox.Word("saved", "a", 1, 1.0, 0, {"step": 5})]) == 5


def test_clear_removes_the_letters_of_other_starts(tmp_path: Path) -> None:
    """Asks, words and temporaries of other links and attempts go; our own and what is foreign stays."""
    ours = {"ask-2-1", "word-2-1-h-1-done", ".ask-2-1.h.1.2.tmp", "notes", "ask-me", "word-2-x-h-1-done"}
    for name in ours | {"ask-1-1", "ask-2-2", "word-1-1-h-1-done", ".ask-1-1.h.1.2.tmp", ".word-3-1-h-1-done.1.tmp"}:
        (tmp_path / name).touch()
    mailbox.clear(str(tmp_path), 2, 1)
    assert {path.name for path in tmp_path.iterdir()} == ours
    mailbox.clear(str(tmp_path / "gone"), 2, 1)


def test_an_ask_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    """ckptrun's side raises OSError, and leaves no temporary."""
    (tmp_path / "ask-2-1").mkdir()
    with pytest.raises(OSError):
        mailbox.ask(str(tmp_path), 2, 1, stop=True, reason="r")
    assert [path.name for path in tmp_path.iterdir()] == ["ask-2-1"]
    with pytest.raises(FileNotFoundError):
        mailbox.ask(str(tmp_path / "gone"), 2, 1, stop=True, reason="r")
