"""What a list keeps of chains that have ended: it saves time, and changes no word of any list."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ckptrun import mailbox
from ckptrun.chain.home import ChainFolder
from ckptrun.chain.state import set_stop_mark
from ckptrun.chain.turns import Turns
from ckptrun.show import as_json, listing, look
from ckptrun.show.ended import NAME
from tests.bench.chains import many_chains, stand_ins
from tests.show.test_counted import counted
from tests.show.tutorial import BEGAN, HOUR, Writer

CHAIN = "train-10003"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ledger of twenty chains, two of which are lost, that are worth keeping."""
    monkeypatch.setenv("PATH", stand_ins(tmp_path)["PATH"])
    monkeypatch.setattr(listing, "WORTH_KEEPING", 1)
    many_chains(tmp_path / "home", 20)
    return tmp_path / "home"


def listed(home: Path, later_s: float = 60.0) -> list[dict[str, Any]]:
    """Return what a list says of every chain, so many seconds from now: what was written last counts as old then."""
    looker = look.Looker(float(int(time.time() + later_s)))
    found = listing.listing(str(home), listing.Wanted(everything=True), looker)
    return [as_json.summary(one) for one in found.chains]


def test_the_second_list_is_the_first_one(home: Path) -> None:
    """The same words with less than half of the work; private; what may still change is not in it."""
    first = listed(home)
    assert stat.S_IMODE(os.stat(home / NAME).st_mode) == 0o600
    kept = json.loads((home / NAME).read_text().partition("\n")[2])
    assert sorted(kept) == sorted(one["id"] for one in first if one["state"] == "complete") and len(kept) == 18
    assert listed(home) == first
    again = counted(lambda: listed(home))
    os.unlink(home / NAME)
    assert again < counted(lambda: listed(home)) / 2


def _goes_on(folder: ChainFolder) -> None:
    Turns(folder.turns).take("resume", {"link": 4}, after=6)
    Turns(folder.turns).take("start", {"link": 4, "attempt": 1}, after=7)
    with open(folder.events, "a", encoding="utf-8") as file:
        file.write('{"v":1,"at":"2026-11-27T00:00:00.000Z","link":4,"attempt":1,"event":"started","job":"10040"}\n')


def _appends(folder: ChainFolder) -> None:
    with open(folder.events, "a", encoding="utf-8") as file:
        file.write('{"v":1,"at":"2026-11-27T00:00:00.000Z","link":3,"attempt":1,"event":"saved","path":"/ck/9","step":99}\n')


def _speaks(folder: ChainFolder) -> None:
    mailbox.say(folder.mailbox, 3, 1, "progress", step=30, total=40)


@pytest.mark.parametrize("change", [_goes_on, set_stop_mark, _appends, _speaks])
def test_whatever_is_changed_is_read(home: Path, change: Callable[[ChainFolder], None]) -> None:
    """A chain that a person went on with, one that was told to stop, a late event, a late word: as if nothing had been kept."""
    before = listed(home)
    change(ChainFolder(str(home / "chains" / CHAIN)))
    after = listed(home)
    os.unlink(home / NAME)
    assert after == listed(home) != before


def test_what_was_written_just_now_is_not_kept(home: Path) -> None:
    """A change in the same moment would have the same time."""
    listed(home, 0.0)
    assert not (home / NAME).exists()


@pytest.mark.parametrize("damage", [b"", b"ckptrun 0", b"\x00\xff" * 50, b"ckptrun 9.9 00000000\n{}", None])
def test_a_damaged_file_is_made_anew(home: Path, damage: bytes | None) -> None:
    """Empty, torn, binary, of another version, cut in the middle: the list is right, and so is the file afterwards."""
    first, whole = listed(home), (home / NAME).read_bytes()
    (home / NAME).write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    assert listed(home) == first
    assert (home / NAME).read_bytes() == whole


def test_a_ledger_that_cannot_be_written_is_listed(home: Path) -> None:
    """Something else stands in the file's place: the list is right every time."""
    (home / NAME).mkdir()
    assert listed(home) == listed(home)


def test_a_chain_that_is_gone_leaves_nothing(home: Path) -> None:
    """The record of one chain is removed, another one ends: the file has what is there."""
    listed(home)
    os.rename(home / "chains" / CHAIN, home / "elsewhere")
    chain = Writer(home, "one-more", 1)
    chain.start(BEGAN, 1, 1, "n1", None)
    chain.end(BEGAN + HOUR, 1, HOUR, "complete", "the training ended by itself with exit code 0", None)
    listed(home)
    assert CHAIN not in (home / NAME).read_text() and "one-more" in (home / NAME).read_text()
