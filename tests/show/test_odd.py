"""A ledger that went through something: shown as far as it can be, each oddity said once, exit code 0."""

from __future__ import annotations

import gc
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ckptrun.__main__ import main
from tests.end_to_end.harness import Ckptrun
from tests.show.tutorial import BEGAN, Writer, stamp


def odd_chain(home: Path) -> Path:
    """Write a chain whose history is torn, repeated, out of order, foreign and newer; return its history."""
    chain = Writer(home, "odd", None)
    chain.start(BEGAN, 1, 0, "n1", None)
    chain.end(BEGAN + 60, 1, 60.0, "failed", "the training failed (exit code 1)", 5, exit_code=1)
    path = chain.folder / "events.jsonl"
    lines = path.read_text().splitlines()
    newer = json.dumps({"v": 2, "at": stamp(BEGAN), "link": 1, "event": "dreamt", "attempt": 1})
    later = json.dumps({"v": 1, "at": stamp(BEGAN + 5), "link": 1, "attempt": 1, "event": "measured", "watts": 300})
    odd = [
        *reversed(lines),
        lines[0],
        lines[0],
        later,
        newer,
        newer.replace("dreamt", "sung"),
        "[1, 2]",
        '{"event": 5}',
        '{"v":1,"li',
    ]
    path.write_text("\n".join(odd))
    return path


def test_shown_as_far_as_it_can_be(ckptrun: Ckptrun) -> None:
    """Each kind of oddity is one line on stderr; the chain, its link and an event of a kind that nobody knows are shown."""
    odd_chain(ckptrun.home)
    done = ckptrun.run("chain", "show", "odd", code=0)
    said = [line for line in done.stderr.splitlines() if "the history" in line]
    assert len(said) == 4 and len(set(said)) == 4
    for number, words in ((1, "torn"), (2, "not ours"), (2, "written by a newer ckptrun"), (2, "repeated")):
        assert any(f"has {number} line(s) that are {words}" in line for line in said), said
    assert "failed" in done.stdout and "step 5" in done.stdout
    page = ckptrun.run("chain", "show", "odd", "--link", "1", code=0).stdout
    assert page.index("started") < page.index("measured: {'watts': 300}") < page.index("decided: failed")
    assert ckptrun.show("odd")["oddities"] == [line.removeprefix("ckptrun: ") for line in said]
    assert "odd" in ckptrun.run("chain", "list", code=0).stdout


def test_records_that_cannot_be_read(ckptrun: Ckptrun) -> None:
    """A torn turn hides nothing of the history; a chain.json that cannot be read is one sentence and 125, no chain of a list."""
    odd_chain(ckptrun.home)
    folder = ckptrun.home / "chains" / "odd"
    (folder / "turns" / "2").write_text('{"v": 1, "ki')
    assert ckptrun.run("chain", "show", "odd", code=0).stdout.startswith("odd: failed")
    (folder / "chain.json").write_text("{")
    done = ckptrun.run("chain", "show", "odd", code=125)
    assert "cannot be read" in done.stderr and "Traceback" not in done.stderr
    assert "no chain yet" in ckptrun.run("chain", "list", code=0).stdout


def test_bad_input_is_told_in_a_sentence(ckptrun: Ckptrun) -> None:
    """Exit code 2, nothing on stdout, no traceback."""
    odd_chain(ckptrun.home)
    mistakes = {
        ("show", "nobody"): "no chain is called nobody",
        ("show", "odd", "--link", "7"): "has no such start; it has links 1 to 1",
        ("list", "--state", "happy"): "A state is one of",
        ("list", "--age", "300"): "300: write 300s or 5m",
        ("prune", "--older-than", "soon"): "'soon' is no duration",
        ("stop", "odd", "--now", "--after-now"): "No such option",
    }
    for words, said in mistakes.items():
        done = ckptrun.run("chain", *words, code=2)
        assert said in done.stderr and not done.stdout and "Traceback" not in done.stderr, words
    assert "no log was kept" in ckptrun.run("chain", "log", "odd", code=125).stderr


def _gone(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _holds(content: bytes | None) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        torn = path.read_bytes()[: path.stat().st_size // 2] if path.is_file() else b"\n"
        _gone(path)
        path.write_bytes(torn if content is None else content)

    return write


def _newer(path: Path) -> None:
    if path.is_file():
        path.write_bytes(path.read_bytes().replace(b'"v": 1', b'"v": 99').replace(b'"v":1', b'"v":99'))


def _of_another_kind(path: Path) -> None:
    if path.is_file():
        path.write_text(re.sub(r'": ?("[^"]*"|\d+\.?\d*|null|true|false)', '": {"x": [1]}', path.read_text()))


def _leads(target: str) -> Callable[[Path], None]:
    def link(path: Path) -> None:
        _gone(path)
        path.symlink_to(target.format(path=path))

    return link


def _is_a_folder(path: Path) -> None:
    _gone(path)
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "missing": _gone,
    "empty": _holds(b""),
    "torn": _holds(None),
    "binary": _holds(bytes(range(256))),
    "another value": _holds(b'[1, {"a": null}]\n'),
    "deep": _holds(b"[" * 100_000),
    "newer": _newer,
    "values of another kind": _of_another_kind,
    "a link to nothing": _leads("/nowhere/at/all"),
    "a link to itself": _leads("{path}"),
    "a folder": _is_a_folder,
}
FILES = ("chain.json", "events.jsonl", "turns", "turns/2", "mailbox", "stop", "ready", "script")
COMMANDS = (
    ("list",),
    ("show", "resnet-4800"),
    ("show", "resnet-4800", "--link", "1"),
    ("log", "resnet-4800"),
    ("report", "resnet-4800", "-o", "-"),
    ("resume", "--all", "--dry-run"),
    ("prune", "--older-than", "1s", "--unfinished", "--yes"),
)


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_any_damage_is_a_sentence(ledger: Path, damage: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Each file of a chain is damaged: every command does what it can, or says in one sentence that it cannot, with 2 or 125."""
    folder = ledger / "chains" / "resnet-4800"
    whole = ledger.parent / "whole"
    for name, text in (("stop", "2"), ("ready", "ckptrun chain resume resnet-4800\n"), ("script", "#!/bin/bash\n")):
        (folder / name).write_text(text)
    shutil.copytree(folder, whole)
    for name in FILES:
        for words in COMMANDS:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(whole, folder)
            DAMAGES[damage](folder / name)
            code = main(["chain", *words])
            gc.enable()  # a process of its own would not need it any more
            said = capfd.readouterr().err
            assert code in (0, 2, 125), (name, words, said)
            assert code == 0 or [line.partition(": ")[0] for line in said.splitlines()[-1:]] == ["ckptrun"], (name, words, said)
