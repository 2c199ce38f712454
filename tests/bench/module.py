"""What the module that a training imports costs in each step: `python -m tests.bench.module [--write]`.

Processor time, so that a busy machine counts the same. `--write` puts the table into docs/explanation/cost.md.
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
import time
import timeit

import ckptrun
from ckptrun.training.pytorch import Checkpoints
from tests.bench.measure import PAGE

CALLS = 1_000_000
STATEMENTS = ("run.checkpoint_requested", "run.stop_requested", "run.progress(step, total)", "checkpoints.step(total)")
NOTES = {"checkpoints.step(total)": "PyTorch's adapter, one process: "}


def nanoseconds(run: ckptrun.Run, statement: str) -> float:
    """Return what one call costs, the looks and the words that fall into a million calls included; the median of five."""
    ckptrun._current = run
    names = {"run": run, "step": 1, "total": 9, "checkpoints": Checkpoints("nowhere")}
    seconds = timeit.repeat(statement, globals=names, number=CALLS, repeat=5, timer=time.process_time)
    return statistics.median(seconds) / CALLS * 1e9


def main() -> None:
    """Measure and print; with --write, put the table into the page."""
    with tempfile.TemporaryDirectory() as mailbox:
        inside = {"CKPTRUN": "1", "CKPTRUN_LINK": "1", "CKPTRUN_ATTEMPT": "1", "CKPTRUN_MAILBOX": mailbox}
        runs = (ckptrun.Run(inside), ckptrun.Run({}))
        rows = [(statement, *(nanoseconds(run, statement) for run in runs)) for statement in STATEMENTS]
    table = "\n".join(
        [
            "| a call in a training's step, while nothing is asked | under ckptrun | outside |",
            "|---|---|---|",
            *(
                f"| {NOTES.get(statement, '')}`{statement}` | {under:.0f} ns | {outside:.0f} ns |"
                for statement, under, outside in rows
            ),
        ]
    )
    print(table)
    if "--write" in sys.argv:
        text = re.sub(r"(<!-- a step -->\n\n).*?(\n\n<!-- end -->)", rf"\g<1>{table}\g<2>", PAGE.read_text(), flags=re.DOTALL)
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
