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
    new: list[str] = []
    place = 0
    for hunk in re.finditer(r"^@@ -(\d+),(\d+) \+(\d+),(\d+) @@\n((?:(?:[ +-].*)?\n)+)", found[1], re.MULTILINE):
        first, of_old, first_new, of_new = map(int, hunk.groups()[:4])
        lines = hunk[5].splitlines()
        before = [line[1:] for line in lines if line[:1] != "+"]
        after = [line[1:] for line in lines if line[:1] != "-"]
        new += old[place : first - 1]
        place = first - 1 + of_old
        assert before == old[first - 1 : place], f"line {first} of {name} and on is another: patch refuses the diff"
        assert (len(after), len(new) + 1) == (of_new, first_new), hunk[0]
        new += after
    assert new, f"the diff of {name} has no hunk that can be read"
    return "\n".join(new + old[place:]) + "\n"
