"""A training that is interrupted in many places beside one that is not: what `python -m tests.training.NAME_features FOLDER` runs.

With `-v` what differs is printed.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

Case = dict[str, Any]


class Start(Protocol):
    """One start of a training: how it ended, and whether it was stopped after so many steps; what it did goes to the trace."""

    def __call__(self, folder: Path, after: int | None, trace: list[str], case: Case, /) -> tuple[list[Any], bool]:
        """Train to the end, or until it has heard the ask."""


def as_it_is(ended: list[Any]) -> list[Any]:
    """Return how a training ended, to be compared as it is."""
    return ended


def same(folder: Path, case: Case, start: Start, alike: Callable[[list[Any]], list[Any]] = as_it_is) -> bool:
    """Return whether a training that was stopped at all these places ends as one that was not, and did everything once."""
    trace: list[str] = []
    expected = alike(start(folder / "whole", None, trace, case)[0])
    parts: list[str] = []
    for after in case["asks"]:
        assert start(folder / "parts", after, parts, case)[1], (after, parts)
    last, stopped = start(folder / "parts", None, parts, case)
    assert not stopped
    ended = alike(last)
    if (ended, parts) != (expected, trace) and "-v" in sys.argv:
        print("whole", *trace, expected, "parts", *parts, ended, sep="\n  ")
    return (ended, parts) == (expected, trace)


def main(cases: dict[str, Case], holds: Callable[[Path, Case], bool]) -> None:
    """Run all cases, or those that are named."""
    warnings.simplefilter("ignore")
    folder, names = Path(sys.argv[1]), [name for name in sys.argv[2:] if name != "-v"]
    print("CASES", json.dumps({name: holds(folder / name, cases[name]) for name in names or cases}))
