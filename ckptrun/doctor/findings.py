"""PURE. What a check found, and how a text is corrected by it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple


class Severity(str, Enum):
    """ERROR: a chain would not work, or would lose work. WARNING: it works, and something is lost or in doubt. GOOD: no mistake."""

    ERROR = "error"
    WARNING = "warning"
    GOOD = "good"


class Edit(NamedTuple):
    """Put a text in the place of what stands from `start` to `end`."""

    start: int
    end: int
    text: str


class Finding(NamedTuple):
    """One mistake: the rule, its line, how bad it is, what happens, and what corrects it.

    `advice` is what to write where no edit says it; `key` tells apart what one rule finds in one line.
    """

    rule: str
    line: int
    severity: Severity
    what: str
    edits: tuple[Edit, ...] = ()
    advice: str = ""


def corrected(text: str, edits: Iterable[Edit]) -> str:
    """Return the text with the edits made; of two that overlap the first counts."""
    made: list[Edit] = []
    for edit in sorted(edits, key=lambda one: (one.start, one.end)):
        if not made or (edit.start >= made[-1].end and edit != made[-1]):
            made.append(edit)
    for edit in reversed(made):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def corrected_lines(text: str, finding: Finding) -> tuple[str, ...]:
    """Return the lines that a finding's edits change or add, as they should be; empty where it has none, or takes lines away."""
    if not finding.edits:
        return ()
    before = set(text.split("\n"))
    return tuple(line for line in corrected(text, finding.edits).split("\n") if line not in before)
