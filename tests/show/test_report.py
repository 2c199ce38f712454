"""The report: one file that needs nothing from outside, says everything in words too, and can be read in light and dark."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ckptrun.chain.home import ChainFolder
from ckptrun.show import look, report
from tests.end_to_end.harness import Ckptrun
from tests.show import tutorial

_VOID = {"meta", "link", "br"}


class Outline(HTMLParser):
    """Reads a page: its tags must close in order; keeps tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that closes itself."""
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep text."""
        self.text += data


def page_of(ledger: Path, chain: str) -> str:
    """Return a chain's report."""
    _, seen = look.closely(ChainFolder(str(ledger / "chains" / chain)), look.Looker(tutorial.NOW))
    return report.page(seen, tutorial.NOW)


def test_one_file_that_needs_nothing(ledger: Path) -> None:
    """No script, nothing fetched, and a policy that would forbid both."""
    text = page_of(ledger, tutorial.CHAIN)
    page = Outline(text)
    assert not re.search(r"https?://|url\((?!#)|@import|<script|javascript:| on\w+=", text)
    assert all(name not in attributes for _, attributes in page.tags for name in ("src", "srcset", "action"))
    assert "default-src 'none'" in text


def test_every_picture_is_told_in_words_and_reached_by_keyboard(ledger: Path) -> None:
    """Each SVG has a title and a description that exist; what scrolls can be focused and has a name; rows are named, too."""
    page = Outline(page_of(ledger, tutorial.CHAIN))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(pictures) == 3
    for attributes in pictures:
        assert attributes["role"] == "img" and all(one in ids for one in (attributes["aria-labelledby"] or "").split())
    regions = [attributes for _, attributes in page.tags if attributes.get("class") == "wide"]
    assert len(regions) == 4
    assert all(one["tabindex"] == "0" and one["role"] == "region" and one["aria-labelledby"] in ids for one in regions)
    assert [tag for tag, _ in page.tags if tag in ("h1", "h2")] == ["h1", "h2", "h2", "h2", "h2", "h2"]
    assert [attributes.get("scope") for tag, attributes in page.tags if tag == "th"].count("row") == 6
    for words in ("node failure", "service window", "failed, retried", "mnist_4713.out", "67% "):
        assert words in page.text


def test_what_comes_from_a_ledger_is_escaped(ledger: Path) -> None:
    """Markup in a command, a name or a reason is text."""
    evil = "<img src=x onerror=alert(1)>&\"'"
    writer = tutorial.Writer(ledger, "evil", 5000, command=[evil])
    writer.event(tutorial.BEGAN, 1, "started", job=evil, node=evil, log=evil)
    writer.event(tutorial.BEGAN + 9, 1, "ended", outcome="failed", reason=evil, seconds=9.0, checkpoint=evil, step=1)
    page = Outline(page_of(ledger, "evil"))
    assert "img" not in [tag for tag, _ in page.tags] and evil in page.text


def luminance(colour: str) -> float:
    """Return the relative luminance of #rgb or #rrggbb (WCAG 2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(one * 2 for one in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_contrast(ledger: Path, mode: int) -> None:
    """Every colour of text stands out from the paper by 4.5 at least, every bar by 3, in light and in dark."""
    found = re.findall(r":root\{(.*?)\}", page_of(ledger, tutorial.CHAIN), re.DOTALL)
    colours = dict(re.findall(r"--(\w+):(#\w+)", found[mode]))

    def contrast(name: str) -> float:
        one, other = sorted((luminance(colours[name]), luminance(colours["paper"])))
        return (other + 0.05) / (one + 0.05)

    assert all(contrast(name) >= 4.5 for name in ("ink", "soft", "lost", "good", "accent")), colours
    assert contrast("run") >= 3


def test_the_command_writes_it(ckptrun: Ckptrun) -> None:
    """`chain report -o FILE`: a whole file or none, for a chain without steps and one that has not started, too."""
    ckptrun.run("--chain", "a", "--", "true", code=0)
    assert "report.html shows chain a" in ckptrun.run("chain", "report", "a", code=0).stdout
    Outline((ckptrun.folder / "report.html").read_text())
    tutorial.Writer(ckptrun.home, "empty", None)
    assert "No link has started" in Outline(ckptrun.run("chain", "report", "empty", "-o", "-", code=0).stdout).text
    assert ckptrun.run("chain", "report", "a", "-o", "no/such/folder.html", code=125).stderr.startswith("ckptrun: ")
