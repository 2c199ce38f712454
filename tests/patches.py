"""The changes of the manual's diffs, applied to the guide's programs."""

from __future__ import annotations

import re
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"
PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "change-a-program.md"


def patched(name: str) -> str:
    """Return one of the guide's programs as the manual's diff changes it. Raises AssertionError where the diff does not fit."""
    found = re.search(rf"```diff\n--- {re.escape(name)}\n\+\+\+ .*?\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found is not None, f"{PAGE.name} has no diff of {name}"
    old = (PROGRAMS / name).read_text().splitlines()
    new, place = [], 0
    for line in found[1].splitlines():
        if (hunk := re.match(r"@@ -(\d+)", line)) is not None:
            new += old[place : int(hunk[1]) - 1]
            place = int(hunk[1]) - 1
        elif line.startswith("+"):
            new.append(line[1:])
        else:
            assert old[place].rstrip() == line[1:].rstrip(), f"line {place + 1} of {name} is another"
            if not line.startswith("-"):
                new.append(old[place])
            place += 1
    return "\n".join(new + old[place:]) + "\n"
