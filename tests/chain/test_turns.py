"""Turns and claims: one process gets a number, whatever dies, also on a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ckptrun.chain.claims import claim, hold, recall_command, remember_command
from ckptrun.chain.turns import Turns
from ckptrun.errors import Refused, Stranded, TurnTaken

RACER = """
import sys
from ckptrun.chain.turns import Turns
from ckptrun.errors import TurnTaken
turns, won = Turns(sys.argv[1]), []
print("ready", flush=True)
sys.stdin.readline()
for number in range(50):
    try:
        turns.take("start", {"who": sys.argv[2]}, after=number)
        won.append(number + 1)
    except TurnTaken:
        pass
print(*won)
"""


def test_one_of_eight_processes_gets_each_turn(tmp_path: Path) -> None:
    """Eight processes race for fifty numbers: each number has exactly one taker, and its file is that taker's."""
    command = [sys.executable, "-c", RACER, str(tmp_path)]
    racers = [subprocess.Popen([*command, str(who)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for who in range(8)]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = {str(who): [int(number) for number in racer.communicate()[0].split()] for who, racer in enumerate(racers)}
    assert sorted(number for numbers in won.values() for number in numbers) == list(range(1, 51))
    for turn in Turns(str(tmp_path)).read():
        assert turn.number in won[turn.facts["who"]]
    assert [name for name in os.listdir(tmp_path) if not name.isdigit()] == [], "no temporary is left"


def test_a_turn_after_ones_own_shows_that_one_was_replaced(tmp_path: Path) -> None:
    """`passed` is one stat; a number that is taken is never taken again."""
    turns = Turns(str(tmp_path))
    first = turns.take("start", {"link": 1}, after=0)
    assert not turns.passed(first.number)
    turns.take("resume", {"link": 2}, after=first.number)
    assert turns.passed(first.number)
    with pytest.raises(TurnTaken):
        turns.take("end", {"link": 1}, after=first.number)
    prepared = turns.prepare_end(1, 1)
    with pytest.raises(TurnTaken):
        turns.take_prepared(prepared, "end", {"link": 1}, after=first.number)


def test_a_turn_that_cannot_be_read_is_nobodys_guess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An existing number without readable content is an error, never taken for a missing turn."""
    monkeypatch.setattr("ckptrun.chain.turns._PATIENCE_S", (0.0,))
    (tmp_path / "1").write_text("{")
    with pytest.raises(Stranded, match="cannot be read"):
        Turns(str(tmp_path)).read()


FULL_DISK = """
set -e
mount -t tmpfs -o size=64k tmpfs "$1"
exec "$2" -c '
import os, sys
from ckptrun.chain.turns import Turns
folder = sys.argv[1]
turns = Turns(folder)
turns.take("start", {"link": 1}, after=0)
prepared = turns.prepare_end(1, 1)
with open(os.path.join(folder, "filler"), "wb", buffering=0) as filler:
    try:
        while filler.write(b"x" * 4096): pass
    except OSError: pass
try:
    turns.take("end", {"link": 1}, after=1)
    print("there was room")
except OSError as error:
    print("no room:", error.strerror)
turns.take_prepared(prepared, "end", {"link": 1, "outcome": "continued"}, after=1)
print(Turns(folder).read()[-1].facts["outcome"])
' "$1"
"""


def test_a_prepared_turn_is_taken_on_a_full_disk(tmp_path: Path) -> None:
    """With no block free the hand-over still works: its space was written at the link's start. (A real, full tmpfs.)"""
    namespace = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    command = [*namespace, "sh", "-c", FULL_DISK, "sh", str(tmp_path), sys.executable]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["no room: No space left on device", "continued"], done.stderr


def test_claims(tmp_path: Path) -> None:
    """A living chain keeps its path; a dead one's is taken over, and that is returned; the same chain has it already."""
    home, path = str(tmp_path / "home"), str(tmp_path / "ck")
    assert claim(home, path, "one", lambda chain: None).previous is None
    assert claim(home, path + "/../ck", "one", lambda chain: "lives").previous is None
    with pytest.raises(Refused, match="belongs to chain one, which lives: as process 7"):
        claim(home, path, "two", lambda chain: "as process 7")
    assert claim(home, path, "two", lambda chain: None).previous == "one"


HOLDER = """
import sys
from ckptrun.chain.claims import hold
held = hold(sys.argv[1], sys.argv[2], lambda chain: None)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_rehearsal_holds_a_path_until_it_dies(tmp_path: Path) -> None:
    """While a rehearsal is at work no chain claims its path and no second one rehearses there; killed, it holds nothing."""
    home, path = str(tmp_path / "home"), str(tmp_path / "ck")
    command = [sys.executable, "-c", HOLDER, home, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Refused, match="a rehearsal is at work"):
            claim(home, path, "one", lambda chain: None)
        with pytest.raises(Refused, match="a rehearsal is at work"):
            hold(home, path, lambda chain: None)
        holder.kill()
    assert claim(home, path, "one", lambda chain: None).previous is None


def test_a_rehearsal_is_refused_where_a_chain_lives(tmp_path: Path) -> None:
    """A living chain's path is not rehearsed on; a dead one's is, and its claim stands afterwards as before."""
    home, path = str(tmp_path / "home"), str(tmp_path / "ck")
    claim(home, path, "one", lambda chain: None)
    for _ in range(2):
        with pytest.raises(Refused, match="belongs to chain one, which lives"):
            hold(home, path, lambda chain: "lives")
    hold(home, path, lambda chain: None).release()
    assert claim(home, path, "two", lambda chain: None).previous == "one"


def test_commands_are_remembered(tmp_path: Path) -> None:
    """The newest chain that a command began, and none for another command; old records are cleared away."""
    home = str(tmp_path)
    for number in range(12):
        remember_command(home, "key", f"chain-{number}")
    assert recall_command(home, "key") == "chain-11"
    assert recall_command(home, "other") is None
    (folder,) = (tmp_path / "commands").iterdir()
    assert len(list(folder.iterdir())) <= 6


def test_a_turn_of_other_values_is_none(tmp_path: Path) -> None:
    """A link or an attempt that is no number, another value than an object, nesting without end: not to be read, as a torn one."""
    for text in ('{"kind": "start", "link": null}', '{"kind": "start", "attempt": "1"}', '{"link": 1}', "[1]", "[" * 100_000):
        (tmp_path / "1").write_text(text)
        assert list(Turns(str(tmp_path)).newest_first()) == []
