"""What ckptrun costs, measured against the bare command in the same run: `python -m tests.bench.measure [--write]`.

`--write` puts the table into docs/explanation/cost.md. Nothing here fails on a figure: machines differ, ratios travel.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ckptrun.checkpoints.watch import Watch
from ckptrun.link import supervision as core
from ckptrun.link.events import ChildStarted, Looked
from ckptrun.link.times import times
from ckptrun.words import Sight

PAGE = Path(__file__).parent.parent.parent / "docs" / "explanation" / "cost.md"
RUNS = 30
# Twelve hours pass in arithmetic, not on the clock: the rules say how often such a link looks, and a shorter one what a look costs.
HOURS = 12

LISTENER = """
import os, signal, sys, time
def heard(number, frame):
    print(time.time(), flush=True)
    os._exit(0)
signal.signal(signal.SIGUSR1, heard)
while True: signal.pause()
"""


def environment(home: str) -> dict[str, str]:
    """Return our environment with a ledger of its own and byte code written, as it is after an installation."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONDONTWRITEBYTECODE", "CKPTRUN_OPTIONS")}
    return kept | {"CKPTRUN_HOME": home}


def start_ratio(home: str) -> tuple[str, str]:
    """Return how `ckptrun run -- true` compares with `python -c pass`: medians of runs in turn."""
    commands = {"ckptrun": [sys.executable, "-m", "ckptrun", "run", "--", "true"], "bare": [sys.executable, "-c", "pass"]}
    took: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(RUNS + 1):
        for name, command in commands.items():
            before = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, env=environment(home))
            took[name].append(time.perf_counter() - before)
    ckptrun, bare = (statistics.median(took[name][1:]) for name in ("ckptrun", "bare"))
    shown = f"{ckptrun / bare:.1f} x `python -c pass` ({ckptrun * 1000:.0f} ms and {bare * 1000:.0f} ms)"
    return "`ckptrun run -- true`, whole process", shown


def waiting(home: str) -> tuple[str, str]:
    """Return the processor time and memory of waiting: what a look costs in 20 s of a 100 s link, times the looks of 12 h."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(20):
            Path(folder, f"step-{number}.json").write_text("{}")
            os.utime(Path(folder, f"step-{number}.json"), (1e9 + 60 * number,) * 2)
        command = [sys.executable, "-m", "ckptrun", "--time-limit", "100s", "--checkpoint", folder, "--", "sleep", "60"]
        process = subprocess.Popen(command, env=environment(home), stderr=subprocess.PIPE, text=True)
        process.stderr.readline()
        select_for(3.0)  # what is imported after the start belongs to the start
        before, looks = _cpu(process.pid), _wakes(process.pid)
        select_for(20.0)
        used, looks = _cpu(process.pid) - before, _wakes(process.pid) - looks
        memory = _memory(process.pid)
        process.send_signal(2)
        process.communicate()
        listing_s = _listing_s(folder)
    waking, minutes = _looks_of_a_long_link(), HOURS * 60
    total = used / looks * waking + listing_s * minutes
    bare = _bare_wake_s() * waking
    shown = f"{total:.2f} s of CPU in {waking} looks, of which {minutes} list the folder anew, {memory / 1e6:.0f} MB"
    shown += f" (a Python process that only wakes as often and does nothing: {bare:.2f} s here)"
    return f"waiting for {HOURS} hours", shown


def _looks_of_a_long_link() -> int:
    """Return how often a link of 12 h looks until it asks, where the training saves every half hour."""
    rules = core.Policy(times(0.0, HOURS * 3600.0, ()), sees_checkpoints=True)
    state, _ = core.step(rules, core.begin(rules), ChildStarted(0.0))
    assert state.ask_at is not None
    at, count = 0.0, 0
    while at < state.ask_at:
        in_s, idle_until = core.looks(rules, state, at)
        at, count = min(at + in_s, idle_until if idle_until > at else float("inf")), count + 1
        written_at = tuple(1800.0 * (number + 1) for number in range(int(at // 1800)))
        if written_at != state.sight.written_at:
            state, _ = core.step(rules, state, Looked(at, Sight(new=True, written_at=written_at)))
    return count


def _listing_s(folder: str) -> float:
    """Return what it costs to list the folder anew and to find all as it was, as a link does once a minute."""
    watch = Watch([folder], time.time())
    before = 0.0
    for number in range(100):
        watch.look(1000.0 + 61 * number, time.time())
        before = before or time.process_time()
    return (time.process_time() - before) / 99


WAKER = """
import select
def cpu(): return int(open("/proc/self/schedstat").read().split()[0])
select.select([], [], [], 1)
before = cpu()
for _ in range(15): select.select([], [], [], 1)
print((cpu() - before) / 15e9)
"""


def _bare_wake_s() -> float:
    """Return what one wake costs a Python process that does nothing with it, in seconds of processor time."""
    return float(subprocess.run([sys.executable, "-c", WAKER], capture_output=True, text=True, check=True).stdout)


def select_for(seconds: float) -> None:
    """Let time pass: a measurement over time has nothing else to wait for."""
    import select

    select.select([], [], [], seconds)


def _cpu(pid: int) -> float:
    """Return the processor time of a process in seconds, in nanosecond resolution where the kernel gives it."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def _wakes(pid: int) -> int:
    """Return how often a process was given a processor."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[2])


def _memory(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def ask_latency(home: str) -> tuple[str, str]:
    """Return how long after the checkpoint time the signal is in the training's handler."""
    found = []
    for number in range(5):
        options = ["--time-limit", "4s", "--max-links", "1", "--chain", f"latency-{number}"]
        command = [sys.executable, "-m", "ckptrun", *options, "--", sys.executable, "-c", LISTENER]
        done = subprocess.run(command, env=environment(home), capture_output=True, text=True)
        events = Path(home, "chains", f"latency-{number}", "events.jsonl").read_text().splitlines()
        ask_at = next(json.loads(line)["ask_at"] for line in events if '"started"' in line)
        found.append(float(done.stdout) - ask_at)
    shown = f"{statistics.median(found) * 1000:.0f} ms (at most {max(found) * 1000:.0f} ms)"
    return "the checkpoint time to the signal arriving", shown


def main() -> None:
    """Measure and print; with --write, put the table into the page."""
    with tempfile.TemporaryDirectory() as home:
        rows = [start_ratio(home), ask_latency(home), waiting(home)]
    table = "\n".join(["| what | measured |", "|---|---|", *(f"| {name} | {shown} |" for name, shown in rows)])
    print(table)
    if "--write" in sys.argv:
        head = PAGE.read_text().split("<!-- measured -->")[0]
        PAGE.write_text(f"{head}<!-- measured -->\n\n{table}\n")


if __name__ == "__main__":
    main()
