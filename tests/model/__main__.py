"""Print what was explored, which invariants held, and what breaks without each rule.

`python -m tests.model`: the bounds of CI. `--long`: the larger ones, for many minutes. `--traces`: every counterexample, step by
step. `--bounds ILLS LINKS PEOPLE`: one exploration.
"""

from __future__ import annotations

import sys
import time

from tests.model import invariants
from tests.model.explore import Explored, explore
from tests.model.mutations import MUTATIONS
from tests.model.world import LONG, SHORT, Bounds


def main(words: list[str]) -> int:
    """Print the tables; return 1 where something is not as it must be."""
    if words[:1] == ["--bounds"]:
        ills, links, people = map(int, words[1:4])
        return _explored(Bounds(ills, links, people=people, accounting=False))
    wrong = sum(_explored(bounds) for bounds in (SHORT + LONG if "--long" in words else SHORT))
    print("\ninvariants, each a sentence that is true of no state:")
    for name in invariants.ALL:
        print(f"  {name}")
    print("\nwithout a rule:")
    return int(bool(wrong + sum(_mutated(number, traces="--traces" in words) for number in range(len(MUTATIONS)))))


def _explored(bounds: Bounds) -> int:
    began = time.monotonic()
    found = explore(bounds)
    print(
        f"{bounds}: {found.states} states, {found.at_rest} at rest, {time.monotonic() - began:.0f} s: {found.wrong or 'all hold'}"
    )
    _trace(found)
    return int(bool(found.wrong))


def _mutated(number: int, *, traces: bool) -> int:
    one = MUTATIONS[number]
    found = explore(one.bounds, one.rules, ends=(one.breaks,) if one.breaks else ())
    told = (
        f"nothing breaks in {found.states} states: {one.why}"
        if not found.wrong
        else f"{found.wrong} (after {len(found.trace)} steps)"
    )
    print(f"  {one.rule}\n      {told}")
    if traces:
        _trace(found)
    return int(bool(found.wrong) != bool(one.breaks))


def _trace(found: Explored) -> None:
    for number, label in enumerate(found.trace, 1):
        print(f"      {number:3} {label}")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
