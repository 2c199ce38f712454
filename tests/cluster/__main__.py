"""`python -m tests.cluster up|down|shell`: a real Slurm to try things on, as the unprivileged user of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.cluster import install, lab

_SAVED = Path("/run/ckptrun-lab.json")


def main(word: str) -> int:
    """Do what the word says; return the exit code."""
    if (reason := install.why_not()) is not None:
        print(f"no Slurm here: {reason}", file=sys.stderr)
        return 1
    found = lab.load(_SAVED)
    if word == "down":
        if found is None:
            print("no lab is up")
            return 0
        lab.stop(found)
        _SAVED.unlink(missing_ok=True)
        print("the lab is down")
        return 0
    if found is None:
        found = lab.start(owner=None)
        lab.save(found, _SAVED)
    if word == "shell":
        return subprocess.run(found.argv("bash", cwd=found.home), env=found.environment() | _terminal()).returncode
    print(f"the lab is up: 3 nodes, 5 partitions, jobs of {install.USER}. `python -m tests.cluster shell` enters it")
    return 0


def _terminal() -> dict[str, str]:
    return {"TERM": os.environ.get("TERM", "dumb"), "PS1": r"lab:\w\$ "}


if __name__ == "__main__":
    if sys.argv[1:] not in (["up"], ["down"], ["shell"]):
        print("usage: python -m tests.cluster up|down|shell", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1]))
