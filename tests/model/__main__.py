"""Print what was explored."""
from __future__ import annotations
import sys, time
from tests.model.explore import explore
from tests.model.world import Bounds

if __name__ == "__main__":
    k, links, p, acc = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), len(sys.argv) < 5
    at = time.monotonic()
    found = explore(Bounds(k, links, people=p, accounting=acc))
    print(sys.argv[1:], found.states, found.at_rest, found.wrong, round(time.monotonic() - at, 1))
    for n, line in enumerate(found.trace, 1):
        print(f"  {n:2} {line}")
