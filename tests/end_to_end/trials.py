"""What every trial has to hold, whatever was killed in it, and how a chain on Slurm is led to its end afterwards."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from pathlib import Path

from ckptrun.chain.ledger import Turn, final_outcome
from ckptrun.chain.turns import Turns
from tests.end_to_end.harness import CHILDREN
from tests.end_to_end.jobs import Jobs

KILLS = CHILDREN / "kills"
LED_ON_S = 600.0


def check_steps(lines: list[str], steps: int) -> None:
    """Hold what was printed to the promise: every step, nothing lost that was saved, never two trainings at once.

    What was done after the last save may be done again, and nothing else. The program is to run with `--tell`.
    """
    assert "TWO AT ONCE" not in lines
    printed: list[int] = []
    saved = 0
    for line in lines:
        if found := re.fullmatch(r"from (\d+) with .*", line):
            assert int(found[1]) >= saved, f"a start lost what was saved: {line} after step {saved}"
        elif found := re.fullmatch(r"saved (\d+)", line):
            saved = max(saved, int(found[1]))
        elif found := re.fullmatch(r"step (\d+)", line):
            assert int(found[1]) > saved, f"{line} was saved and is done again"
            printed.append(int(found[1]))
    assert sorted(set(printed)) == list(range(1, steps + 1))


def lead_on(jobs: Jobs, resumes: int, *, drained: bool = False) -> int:
    """Wait until the chain is complete and gone; where nothing of it is left in the queue, resume it, so many times at the most.

    `drained`: nodes may be drained, and are put back to work. Return how often the chain had to be resumed.
    """
    used = 0
    end_at = time.monotonic() + LED_ON_S
    while time.monotonic() < end_at:
        if waiting := jobs.queue():
            hurry(jobs, drained=drained)
            # As root, and not for ever: what a job waits for may have to be hurried again.
            jobs.lab.admin("timeout", "20", "srun", "-Q", "-p", "batch", "-d", f"afterany:{waiting[-1]}", "true", check=False)
            continue
        if outcome(jobs) == "complete":
            return used
        assert used < resumes, f"the chain is lost, after {used} resumes: {outcome(jobs)}\n{jobs.story()}"
        used += 1
        said = [line for line in jobs.log().splitlines() if line.startswith("ckptrun: ")]
        print("resumed, after:", *said[-3:], jobs.run("ckptrun", "chain", "resume"), sep="\n  ")
    queue, nodes = jobs.run("squeue", "-t", "all", "-o", "%i|%T|%r|%E|%S|%N|%o"), jobs.run("sinfo", "-N", "-l")
    raise AssertionError(f"not over:\n{queue}\n{nodes}\n{jobs.story()}")


def hurry(jobs: Jobs, *, drained: bool) -> None:
    """Let those start soon that a controller or a lost node has put back into the queue: they would wait 121 s."""
    # A controller that has forgotten a start starts the job again, and drains the node on which it runs already.
    if drained:
        jobs.lab.admin(
            "sh", "-c", "scontrol show node | grep -q DRAIN && scontrol update NodeName=n[1-3] State=RESUME", check=False
        )
    for line in jobs.run("squeue", "--me", "-h", "-t", "PENDING", "-o", "%i|%r|%Z").splitlines():
        job, why, folder = line.split("|", 2)
        if folder.strip() != str(jobs.folder):
            continue
        if "held" in why:  # "launch failed requeued held": it stays so until a person lets it go
            print(job, why, jobs.run("sh", "-c", f"scontrol release {job} 2>&1; squeue -h -j {job} -o '%T|%r'", check=False))
        if why == "BeginTime":
            jobs.run("scontrol", "update", f"JobId={job}", "StartTime=now+2", check=False)


def turns(jobs: Jobs) -> tuple[Turn, ...]:
    """Return the turns of the only chain of this folder."""
    (folder,) = jobs.state.glob("chains/*/turns")
    return Turns(str(folder)).read()


def outcome(jobs: Jobs) -> str | None:
    """Return how the chain ended, None where it has not."""
    return final_outcome(turns(jobs))


def check(jobs: Jobs, steps: int) -> None:
    """Hold a chain that has ended to every promise."""
    story = jobs.story()
    assert not re.search(r'File ".*/ckptrun/.*\.py"', story), story
    try:
        check_steps(_lines(jobs), steps)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{story}") from None
    assert outcome(jobs) == "complete", story
    assert jobs.queue() == [], story
    starts: dict[int, set[str]] = defaultdict(set)
    for turn in turns(jobs):
        if turn.kind == "start":
            starts[turn.facts["link"]].add(turn.facts["job"])
    assert all(len(found) == 1 for found in starts.values()), f"two jobs are one link: {dict(starts)}\n{story}"
    submitted = submissions(jobs)
    assert all(len(found) == 1 for found in submitted.values()), f"a link was submitted twice: {submitted}\n{story}"


def _lines(jobs: Jobs) -> list[str]:
    """Return what the jobs have printed, in the order of their starts: a controller that forgets gives lower ids, too."""
    logs = [jobs.folder / f"count_{job}.out" for job in dict.fromkeys(jobs.jobs())]
    return [line for log in logs for line in log.read_text(errors="replace").splitlines()]


def submissions(jobs: Jobs) -> dict[str, list[str]]:
    """Return which jobs the controller knows for each link's script, those that have ended included.

    What it has forgotten, it does not run either.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for line in jobs.run("squeue", "--me", "-h", "-t", "all", "-o", "%i|%o").splitlines():
        job, _, command = line.partition("|")
        script = Path(command.split(" ")[0])
        if script.is_relative_to(jobs.state):
            found[script.parent.name].append(job)
    return dict(found)
