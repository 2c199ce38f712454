"""What looking costs, counted and not timed: one question to the queue, one to accounting, work that grows with what is shown."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from ckptrun.chain.home import ChainFolder
from ckptrun.show import listing, look, pages
from tests.bench.chains import calls, links, many_chains, stand_ins
from tests.show.tutorial import NOW, Writer, plain


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose squeue and sacct count their calls and know no job."""
    monkeypatch.setenv("PATH", stand_ins(tmp_path)["PATH"])
    return tmp_path


def listed(home: Path, *, everything: bool = True) -> listing.Listing:
    """List a ledger."""
    looker = look.Looker(NOW)
    found = listing.listing(str(home), listing.Wanted(everything=everything), looker)
    pages.list_lines(found.chains, NOW, 80, plain)
    return found


def test_one_call_each_whatever_the_number_of_chains(quiet: Path) -> None:
    """A hundred and twenty chains, twelve of which have gone without a word: one squeue, one sacct; without --all the same."""
    many_chains(quiet / "home", 120)
    assert len(listed(quiet / "home").chains) == 120
    assert (calls(quiet, "squeue"), calls(quiet, "sacct")) == (1, 1)
    found = listed(quiet / "home", everything=False)
    assert (len(found.chains), found.hidden) == (30, 90)
    assert (calls(quiet, "squeue"), calls(quiet, "sacct")) == (2, 2)


def test_no_call_where_the_ledger_knows_all(quiet: Path) -> None:
    """A chain that has ended asks nobody."""
    chain = Writer(quiet / "home", "over", 1)
    links(chain, 3, 1)
    look.closely(ChainFolder(str(chain.folder)), look.Looker(NOW))
    assert (calls(quiet, "squeue"), calls(quiet, "sacct")) == (0, 0)


def test_a_chain_of_many_links_asks_once(quiet: Path) -> None:
    """Every second link died without a word: one squeue, one sacct for all their jobs."""
    chain = Writer(quiet / "home", "long", 1)
    for link in range(1, 61):
        chain.start(NOW + link, link, link, "n1", None)
        if link % 2:
            chain.end(NOW + link + 1, link, 1.0, "continued", "the time limit is near", None)
    _, seen = look.closely(ChainFolder(str(chain.folder)), look.Looker(NOW))
    assert len(seen.links) == 60
    assert (calls(quiet, "squeue"), calls(quiet, "sacct")) == (1, 1)


def counted(work: Any) -> int:
    """Return how many calls of Python's and C's functions a piece of work makes."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def grows_linearly(sizes: list[int], counts: list[int]) -> bool:
    """Return whether the last step of sizes costs what the first did, as sizes go; a twentieth is for what grows in steps."""
    first, last = (counts[1] - counts[0]) / (sizes[1] - sizes[0]), (counts[-1] - counts[-2]) / (sizes[-1] - sizes[-2])
    return last <= first * 1.05


def test_a_list_grows_with_its_chains(quiet: Path) -> None:
    """Twice as many chains, twice the calls of functions."""
    sizes = [40, 80, 160]
    counts = []
    for size in sizes:
        many_chains(quiet / f"home-{size}", size)
        listed(quiet / f"home-{size}")  # what is imported, and cached, at the first time
        counts.append(counted(lambda size=size: listed(quiet / f"home-{size}")))  # type: ignore[misc]
    assert grows_linearly(sizes, counts), list(zip(sizes, counts, strict=True))


def test_a_page_grows_with_its_links(quiet: Path) -> None:
    """Twice as many links, twice the calls of functions."""
    sizes = [50, 100, 400]
    counts = []
    for size in sizes:
        chain = Writer(quiet / "home", f"long-{size}", 1)
        links(chain, size, 1)

        def show(folder: Path = chain.folder) -> None:
            _, seen = look.closely(ChainFolder(str(folder)), look.Looker(NOW))
            pages.show_lines(seen, NOW, 80, plain)

        show()
        counts.append(counted(show))
    assert grows_linearly(sizes, counts), list(zip(sizes, counts, strict=True))
