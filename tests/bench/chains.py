"""What looking at many chains costs: `python -m tests.bench.chains [--write]`.

Ten thousand chains of three links, listed; one chain of ten thousand links, shown: processor time and memory, and how
they grow from a thousand. Slurm's commands are stand-ins that count their calls and know no job. `--write` puts the table into
docs/explanation/cost.md.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.show.tutorial import BEGAN, HOUR, Writer

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "cost.md"


def many_chains(home: Path, count: int) -> None:
    """Write chains of three links that ended; every tenth has gone without a word."""
    for number in range(count):
        chain = Writer(home, f"train-{10_000 + number}", 10_000 + 10 * number)
        links(chain, 3, 10_000 + 10 * number, lost=number % 10 == 0)


def links(chain: Writer, count: int, job: int, *, lost: bool = False) -> None:
    """Write links of twelve hours into a chain."""
    for link in range(1, count + 1):
        at = BEGAN + link * 12 * HOUR
        chain.start(at, link, job + link - 1, "n1", (link - 1) * 10 if link > 1 else None, at - 600)
        chain.event(at + 11 * HOUR, link, "asked", course="go on", reason="the time limit is near", delivered=[], by_file=True)
        chain.save(at + 11 * HOUR + 40, link, link * 10, 40.0, asked=True)
        if link < count:
            chain.event(at + 11 * HOUR + 41, link, "submitted", job=str(job + link), successor=link + 1)
            chain.end(at + 11 * HOUR + 60, link, 11 * HOUR, "continued", "the time limit is near", link * 10)
        elif not lost:
            chain.end(at + 11 * HOUR + 60, link, 11 * HOUR, "complete", "the training ended by itself with exit code 0", link * 10)


def stand_ins(folder: Path) -> dict[str, str]:
    """Return an environment whose squeue and sacct say nothing and note each call in a file of their name."""
    tools = folder / "bin"
    tools.mkdir()
    for name in ("squeue", "sacct"):
        (tools / name).write_text(f'#!/bin/sh\necho "$*" >> "{folder}/{name}.calls"\n')
        (tools / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name != "CKPTRUN_OPTIONS"}
    return kept | {"PATH": f"{tools}:{os.environ['PATH']}"}


def calls(folder: Path, name: str) -> int:
    """Return how often a command was called."""
    path = folder / f"{name}.calls"
    return len(path.read_text().splitlines()) if path.exists() else 0


def measured(home: Path, environment: dict[str, str], *words: str) -> tuple[float, float]:
    """Return the processor seconds and the megabytes of one process of `ckptrun chain`."""
    with subprocess.Popen(
        [sys.executable, "-m", "ckptrun", "chain", *words], env=environment | {"CKPTRUN_HOME": str(home)}, stdout=subprocess.DEVNULL
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Measure, print the table, write it where that is wanted."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        environment = stand_ins(root)
        for count in (1000, 10_000):
            home = root / f"many-{count}"
            many_chains(home, count)
            for words in (("list",), ("list", "--all"), ("list", "--state", "lost")):
                name = f"`chain {' '.join(words)}` of {count:,} chains"
                if words == ("list", "--all"):  # what it finds out of chains that have ended is kept
                    seconds, megabytes = measured(home, environment, *words)
                    rows.append((f"{name}, the first time", f"{seconds:.2f} s, {megabytes:.0f} MB"))
                seconds, megabytes = min(measured(home, environment, *words) for _ in range(3))
                rows.append((name, f"{seconds:.2f} s, {megabytes:.0f} MB"))
            home = root / f"long-{count}"
            links(Writer(home, "long", 1), count, 1)
            seconds, megabytes = min(measured(home, environment, "show", "long") for _ in range(3))
            rows.append((f"`chain show` of {count:,} links", f"{seconds:.2f} s, {megabytes:.0f} MB"))
    table = "\n".join(["| what | measured |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])
    print(table)
    if "--write" in sys.argv:
        text = PAGE.read_text()
        mark = re.compile(r"(<!-- chains -->\n).*?(<!-- end -->)", re.DOTALL)
        PAGE.write_text(mark.sub(rf"\g<1>\n{table}\n\n\g<2>", text))


if __name__ == "__main__":
    main()
