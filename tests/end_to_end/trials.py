"""What every trial has to hold, whatever was killed in it, and how a chain on Slurm is led to its end afterwards."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from ckptrun.chain.state import final_outcome
from ckptrun.chain.turns import Turn, Turns
from tests.end_to_end.harness import CHILDREN
from tests.end_to_end.jobs import Jobs

KILLS = CHILDREN / "kills"


def check_steps(lines: list[str], steps: int) -> None:
    """Hold what was printed to the promise: every step, none lost that was saved, never two trainings at once.

    The counting program saves a step before it prints the next one, so that a start may repeat the last step alone.
    """
    assert "TWO AT ONCE" not in lines
    printed: list[int] = []
    for line in lines:
        if found := re.fullmatch(r"from (\d+) with .*", line):
            assert int(found[1]) >= max(printed, default=1) - 1, f"a start lost what was saved: {line} after step {max(printed)}"
        elif found := re.fullmatch(r"step (\d+)", line):
            printed.append(int(found[1]))
    assert sorted(set(printed)) == list(range(1, steps + 1))


def lead_on(jobs: Jobs, resumes: int) -> int:
    """Wait until the chain is complete and gone; where nothing of it is left in the queue, resume it, so many times at the most.

    Return how often it had to be resumed.
    """
    used = 0
    while True:
        if waiting := jobs.queue():
            jobs.after(waiting[-1])
            continue
        if outcome(jobs) == "complete":
            return used
        assert used < resumes, f"the chain is lost, after {used} resumes: {outcome(jobs)}\n{jobs.story()}"
        used += 1
        print(jobs.run("ckptrun", "chain", "resume"))


def turns(jobs: Jobs) -> tuple[Turn, ...]:
    """Return the turns of the only chain of this folder."""
    (folder,) = jobs.state.glob("chains/*/turns")
    return Turns(str(folder)).read()


def outcome(jobs: Jobs) -> str | None:
    """Return how the chain ended, None where it has not."""
    return final_outcome(turns(jobs))


def check(jobs: Jobs, steps: int, *, forgetful: bool = False) -> None:
    """Hold a chain that has ended to every promise. `forgetful`: the controller has lost jobs that it had taken."""
    story = jobs.story()
    assert "Traceback" not in story, story
    try:
        check_steps(jobs.log().splitlines(), steps)
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
    if not forgetful:
        assert all(len(found) == 1 for found in submitted.values()), f"a link was submitted twice: {submitted}\n{story}"


def submissions(jobs: Jobs) -> dict[str, list[str]]:
    """Return which jobs the controller knows for each link's script, those that have ended included."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in jobs.run("squeue", "--me", "-h", "-t", "all", "-o", "%i|%o").splitlines():
        job, _, command = line.partition("|")
        script = Path(command.split(" ")[0])
        if script.is_relative_to(jobs.state):
            found[script.parent.name].append(job)
    return dict(found)
