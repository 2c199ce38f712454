"""PURE. What the turns of a chain say, read as values: `turns` reads them from the disk and takes them.

Rule: a question about turns is answered from one reading of them. What is decided on that reading is made true by taking the turn
after its last one, so that a turn that came meanwhile, or was not visible yet, is never passed over.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple


class Turn(NamedTuple):
    """One turn: its number from 1, its kind (start, term, end, resume) and its facts."""

    number: int
    kind: str
    facts: dict[str, Any]


def last_number(turns: tuple[Turn, ...]) -> int:
    """Return the number of the last turn, 0 without turns."""
    return turns[-1].number if turns else 0


def last_grant(turns: tuple[Turn, ...]) -> Turn | None:
    """Return the turn that everything after it stands on: the last start or resume."""
    return next((turn for turn in reversed(turns) if turn.kind in ("start", "resume")), None)


def outcome_after(turns: tuple[Turn, ...], number: int) -> str | None:
    """Return the outcome of the first `end` after a turn, None where that start has not ended."""
    return next((str(turn.facts.get("outcome")) for turn in turns if turn.kind == "end" and turn.number > number), None)


def highest_link(turns: tuple[Turn, ...]) -> int:
    """Return the highest link that any turn names, 0 without turns."""
    return max((int(turn.facts.get("link", 0)) for turn in turns), default=0)


def stop_stands(newest_first: Iterable[Turn], said_at: int) -> bool:
    """Return whether a `chain stop` that was said at turn `said_at` still counts: nobody has gone on with the chain since."""
    since = itertools.takewhile(lambda turn: turn.number > said_at, newest_first)
    return all(turn.kind != "resume" for turn in since)


def final_outcome(turns: tuple[Turn, ...]) -> str | None:
    """Return the outcome that the last turn ended the chain with, None where it goes on, or its job starts again."""
    if not turns or turns[-1].kind != "end":
        return None
    outcome = str(turns[-1].facts.get("outcome"))
    return None if outcome in ("continued", "requeued") else outcome
