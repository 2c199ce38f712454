"""What the tests on a real Slurm share: a user's folder with a ledger, job scripts, and waiting for what a chain does."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tests.cluster import watch
from tests.cluster.lab import Lab
from tests.end_to_end.harness import CHILDREN, whole_lines

T = TypeVar("T")


# In front of a job's ckptrun: it waits until `Jobs.open` lets it begin, and all that the test does before that is done.
CLOSED = "until [ -e opened ]; do sleep 0.1; done\n"


def _in_order(log: Path) -> tuple[str, bool, str]:
    """Return what sorts a job's logs: those of earlier attempts come before the one that it writes."""
    return log.name.partition(".attempt")[0], log.suffix == ".out", log.name


class Jobs:
    """One user's work on the lab: `folder` is where he submits from, `state` his ledger."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.folder = lab.home / name
        self.state = self.folder / "state"
        self.near = 0
        lab.run("mkdir", "-p", self.state)
        self.provide(CHILDREN / "counter.py")
        self.environment = lab.environment() | {"CKPTRUN_HOME": str(self.state)}

    def provide(self, program: Path) -> None:
        """Put a program where all jobs find it. By a rename: a job of another test may start with it in this moment."""
        temporary = self.lab.home / f".{program.name}.{os.getpid()}.{threading.get_ident()}"
        shutil.copy(program, temporary)
        temporary.replace(self.lab.home / program.name)

    # --- what a user types

    def script(self, command: str, *options: str, name: str = "job.sh", before: str = "") -> Path:
        """Write a job script whose last line is the command; return its path."""
        lines = "".join(f"#SBATCH {option}\n" for option in ("--job-name=count", "--time=5", "--output=%x_%j.out", *options))
        path = self.folder / name
        text = f"#!/bin/bash\n{lines}{before}{command}\n"
        self.lab.run("tee", path, input=text)
        return path

    def counter(self, steps: int, seconds: float, *words: str, options: str = "", execute: str = "exec ") -> str:
        """Return the line that runs the counting program under ckptrun."""
        own = f"{execute}ckptrun --checkpoint ck {options}".strip()
        return f"{own} python {self.lab.home}/counter.py ck {steps} {seconds} {' '.join(words)}".rstrip()

    def counter_to_goal(self, *words: str, options: str = "", execute: str = "exec ") -> str:
        """Return the line that counts to what `goal` says when a link starts: for now so far away that nobody gets there.

        However slow this machine is, the training is still counting when the test does something to it.
        """
        self.goal(100_000, 0.1)
        return self.counter(0, 0, *words, options=options, execute=execute).replace("ck 0 0", "ck $(cat goal)")

    def goal(self, steps: int, seconds: float) -> None:
        """Say where the next links of the chain count to, and how fast."""
        self.run("tee", "goal.new", input=f"{steps} {seconds}")
        self.run("mv", "goal.new", "goal")

    def goal_is_near(self, further: int = 20) -> int:
        """Let the next links count some steps more than were counted, and quickly; return where to."""
        self.near = max(self.steps()) + further
        self.goal(self.near, 0.02)
        return self.near

    def each_counted_once(self) -> bool:
        """Return whether the steps to the goal, or as far as one came that did not know it yet, were counted once, in order."""
        steps = self.steps()
        return steps == list(range(1, steps[-1] + 1)) and steps[-1] >= self.near

    def run(self, *words: str | Path, check: bool = True, **settings: Any) -> str:
        """Run a command in the user's folder."""
        return self.lab.run(*words, cwd=self.folder, check=check, **{"env": self.environment, **settings})

    def submit(self, *words: str | Path) -> str:
        """Submit; return the job's id."""
        return self.run("sbatch", "--parsable", *words).strip()

    def open(self) -> None:
        """Let jobs begin that are `CLOSED`."""
        self.run("touch", "opened")

    def go_on(self, job: str) -> str:
        """Tell the link that counts in this job to save and to go on in a new one; return that one when it has started."""
        number = self.jobs().index(job)
        self.run("scancel", "-b", "-s", "USR1", job)
        return str(self.until_event("started", number + 2)[number + 1]["job"])

    def stop(self) -> None:
        """Stop the chain wherever it is, also between two links, and wait until nothing of it is left in the queue."""
        self.run("ckptrun", "chain", "stop")
        for job in self.queue():
            self.after(job)

    # --- what can be waited for

    def until(self, found: Callable[[], T | None], limit_s: float = 300.0) -> T:
        """Wait until something is true of the files in the user's folder."""
        return watch.until(self.folder, found, limit_s, self.story)

    def until_event(self, kind: str, count: int = 1, limit_s: float = 300.0) -> list[dict[str, Any]]:
        """Wait for so many events of a kind, and return them."""

        def enough() -> list[dict[str, Any]] | None:
            found = self.events(kind)
            return found if len(found) >= count else None

        return self.until(enough, limit_s)

    def until_line(self, pattern: str, limit_s: float = 300.0) -> re.Match[str]:
        """Wait for a line in any job's log."""
        return self.until(lambda: re.search(pattern, self.log(), re.MULTILINE), limit_s)

    def until_over(self, limit_s: float = 400.0) -> list[str]:
        """Wait until the chain has ended for good and its last job is gone; return the outcomes of its starts."""
        self.until(lambda: self.outcomes()[-1:] not in ([], ["continued"], ["requeued"]) or None, limit_s)
        for job in self.jobs()[-1:]:
            self.after(job)
        return self.outcomes()

    def after(self, job: str) -> None:
        """Wait until this one job is over and gone: another one that waits for it has run."""
        # As root: a job of the user's own that waits for a link is moved to the next one.
        self.lab.admin("srun", "-Q", "-p", "batch", "-d", f"afterany:{job}", "true")

    def until_line_is_known(self, job: str) -> None:
        """Wait until accounting knows how a job was submitted, some seconds after that."""
        limit_at = time.monotonic() + 300.0
        while time.monotonic() < limit_at:
            if self.run("/usr/bin/sacct", "-n", "-P", "-X", "-j", job, "-o", "submitline").strip():
                return
            self.run("srun", "-Q", "-p", "batch", "true")
        raise AssertionError(f"accounting never knew how job {job} was submitted")

    def until_forgotten(self, job: str) -> None:
        """Wait until the controller does not know a job any more: it looks for old ones once a minute."""
        limit_at = time.monotonic() + 240.0
        while job in self.run("squeue", "-h", "-t", "all", "-o", "%i").split():
            assert time.monotonic() < limit_at, f"job {job} was never forgotten"
            self.run("srun", "-Q", "-p", "batch", "true", check=False)

    def until_silent(self) -> None:
        """Wait until the controller does not answer any more."""
        self._until_asked(answers=False)

    def until_answered(self) -> None:
        """Wait until the controller answers."""
        self._until_asked(answers=True)

    def _until_asked(self, *, answers: bool) -> None:
        limit_at = time.monotonic() + 300.0
        while ("UP" in self.run("scontrol", "ping", check=False)) != answers:
            assert time.monotonic() < limit_at, f"the controller was never {'there' if answers else 'away'}"

    def start_requeued(self, job: str) -> None:
        """Let a requeued job start at once: it would wait 121 s, and only somebody who outlives it can say that it need not."""
        seen: list[str] = []
        told = False
        end_at = time.monotonic() + 300.0
        while time.monotonic() < end_at:
            seen.append(self.run("squeue", "-h", "-t", "all", "-j", job, "-o", "%T|%r|%S").strip())
            if seen[-1].startswith("PENDING|BeginTime"):  # said earlier, while the job is on its way back, it is forgotten
                # Started within the second in which it was taken away it would fail: its node still refuses that job's credentials.
                if not told:
                    self.run("scontrol", "update", f"JobId={job}", "StartTime=now+2")
                told = True
            elif seen[-1].startswith("COMPLETED") or len([one for one in self.events("started") if one["job"] == job]) > 1:
                return
            self.run("srun", "-Q", "-p", "batch", "true")
        raise AssertionError(f"job {job} was not requeued, or did not start again: {list(dict.fromkeys(seen))}\n{self.story()}")

    # --- what is known

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the events of all chains in this ledger."""
        found = []
        for path in sorted(self.state.glob("chains/*/events.jsonl")):
            found += [json.loads(line) for line in whole_lines(path.read_text())]
        return [event for event in found if kind is None or event["event"] == kind]

    def outcomes(self) -> list[str]:
        """Return the outcomes in order."""
        return [event["outcome"] for event in self.events("ended")]

    def jobs(self) -> list[str]:
        """Return the jobs that started a link, in order."""
        return [event["job"] for event in self.events("started")]

    def log(self) -> str:
        """Return what all jobs have printed, in the order of their ids."""
        while True:
            # What an earlier attempt of a requeued job printed stands in a file of its own.
            paths = sorted(self.folder.glob("*.out*"), key=_in_order)
            try:
                return "".join(path.read_text(errors="replace") for path in paths)
            except FileNotFoundError:  # it was given that other name in this moment
                continue

    def steps(self) -> list[int]:
        """Return the steps that the trainings have counted, in order."""
        return [int(number) for number in re.findall(r"^step (\d+)$", self.log(), re.MULTILINE)]

    def state_of(self, job: str) -> str:
        """Return a job's state as accounting has it, once it is over."""
        self.after(job)
        limit_at = time.monotonic() + 300.0
        while time.monotonic() < limit_at:
            found = self.run("sacct", "-n", "-P", "-X", "-j", job, "-o", "state").split()
            if found and found[-1] not in ("RUNNING", "PENDING", "COMPLETING"):
                return found[0] if found[0] == "CANCELLED" else found[-1]
            self.run("srun", "-Q", "-p", "batch", "true")  # accounting is some moments behind
        raise AssertionError(f"accounting never knew how job {job} ended")

    def queue(self) -> list[str]:
        """Return the user's jobs in this folder that wait or run."""
        lines = self._answered("squeue", "--me", "-h", "-o", "%i|%T|%Z").splitlines()
        return [line.split("|")[0] for line in lines if line.split("|")[2].strip() == str(self.folder)]

    def _answered(self, *words: str) -> str:
        """Return what a question to the controller is answered; one that has just come back may drop the first."""
        limit_at = time.monotonic() + 60.0
        while True:
            try:
                return self.run(*words)
            except AssertionError:
                if time.monotonic() > limit_at:
                    raise

    def story(self) -> str:
        """Return the logs and the events: what a failing test shows."""
        return f"{self.log()}\n" + "\n".join(json.dumps(event) for event in self.events())
