"""What people read: every page of the tutorial's ledger at two widths, and the same as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import indent

import pytest

from ckptrun.chain.home import ChainFolder
from ckptrun.show import as_json, listing, look, table
from ckptrun.show.table import Column
from tests.show import tutorial
from tests.show.schema import problems


@pytest.mark.parametrize("width", [80, 140])
def test_every_page_is_its_golden_text(ledger: Path, width: int) -> None:
    """List, chain and link, as they stand in golden/; a change that is meant: `python -m tests.show.tutorial`."""
    for name, lines in tutorial.drawn(ledger, width).items():
        assert "\n".join(lines) + "\n" == (tutorial.GOLDEN / f"{name}-{width}.txt").read_text(), f"{name} at {width} columns"
        assert max(map(len, lines)) <= width, name


def test_the_readme_shows_what_chain_show_says(tmp_path: Path, ledger: Path) -> None:
    """Its first screen is a page that the command draws."""
    tutorial.write_readme(tmp_path / "readme")
    page = tutorial.readme(tmp_path / "readme")
    assert indent(page, "    ") in (Path(__file__).parents[2] / "README.md").read_text(), page


def test_json_fits_its_schema(ledger: Path) -> None:
    """What --json prints of every chain and link is what docs/reference/chain.schema.json says, and nothing besides."""
    looker = look.Looker(tutorial.NOW)
    listed = listing.listing(str(ledger), listing.Wanted(everything=True), looker)
    found = [("chain-list", [as_json.summary(one) for one in listed.chains])]
    one, seen = look.closely(ChainFolder(str(ledger / "chains" / tutorial.CHAIN)), looker)
    found.append(("chain", as_json.whole(seen)))
    events, turns = look.record_of(one, seen.links[2])
    found.append(("chain-link", as_json.link(seen.links[2]) | {"events": events, "turns": turns}))
    for kind, data in found:
        text = json.dumps({"schema": "ckptrun/1", "kind": kind, "data": data}, allow_nan=False)
        assert problems(json.loads(text)) == [], kind
    assert problems({"schema": "ckptrun/1", "kind": "chain", "data": found[1][1] | {"more": 1}}) != []


def test_the_commands_draw_these_pages(ledger: Path) -> None:
    """`chain list`, `show`, `show --link` at COLUMNS=80: no line is longer, no colour in a pipe; --json fits the schema."""

    def chain(*words: str, columns: str = "80") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "ckptrun", "chain", *words],
            capture_output=True,
            text=True,
            env=os.environ | {"COLUMNS": columns, "TZ": "UTC"},
        )
        assert done.returncode == 0, done.stderr
        assert "\x1b" not in done.stdout
        return done.stdout

    for words in (["list"], ["show", "mnist"], ["show", "4712"], ["show", "mnist-4711", "--link", "3"]):
        assert max(map(len, chain(*words).splitlines())) <= 80, words
        assert problems(json.loads(chain(*words, "--json"))) == [], words
    assert "service window" in chain("show", "mnist")
    assert "step-022000.pt was truncated" in chain("show", "mnist", "--link", "4")
    assert chain("list", "--state", "stopped").splitlines()[1].startswith("resnet-4800")
    assert chain("list", "--name", "mnist*").count("\n") == 2
    assert "no chain is like that" in chain("list", "--state", "running")


def test_the_least_important_columns_go_first() -> None:
    """Too narrow for all: the highest rank goes; then what may shrink is cut, and says so; what must stay stays."""
    columns = [Column("NAME", ["a-long-name"], least=6), Column("B", ["12345"], rank=1, right=True), Column("C", ["xyz"], rank=2)]
    assert table.lines(columns, None) == ["NAME             B  C", "a-long-name  12345  xyz"]
    assert table.lines(columns, 18) == ["NAME        B  C", "a-lo..  12345  xyz"]
    assert table.lines(columns, 17) == ["NAME            B", "a-long-n..  12345"]
    assert table.lines(columns, 8) == ["NAME", "a-long.."]


def test_names_of_others_cannot_move_the_cursor(ledger: Path) -> None:
    """Control characters in a command, a folder, a reason are shown as question marks."""
    writer = tutorial.Writer(ledger, "evil", 5000, command=["python", "\x1b[31mtrain\n.py"])
    writer.event(tutorial.BEGAN, 1, "started", job="5000", node="n1\x1b]0;x\x07")
    writer.event(tutorial.BEGAN, 1, "ended", outcome="failed", reason="bad\r\nnews", seconds=1.0)
    for name, lines in tutorial.drawn(ledger, 80).items():
        assert all(line.isprintable() for line in lines), name
    _, seen = look.closely(ChainFolder(str(ledger / "chains" / "evil")), look.Looker(tutorial.NOW))
    from ckptrun.show import pages

    assert all(line.isprintable() for line in pages.show_lines(seen, tutorial.NOW, 80, tutorial.plain))
