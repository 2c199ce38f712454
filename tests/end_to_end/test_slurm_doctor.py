"""Corrected job scripts on a real Slurm: each is a chain of three; and what `ckptrun doctor` says of the lab itself."""

from __future__ import annotations

import json
import re

import pytest

from tests.doctor.corpus import WRONG
from tests.end_to_end.jobs import Jobs

# One of each kind: exec, a trap, tee, a folder, an option, a count, line ends, an array; as many as run side by side.
SAMPLE = (
    "no exec, then work",
    "handler that requeues",
    "tee behind exec",
    "a temporary folder",
    "no working folder",
    "restart count",
    "DOS",
    "tasks share a folder",
)


def fix_and_submit(jobs: Jobs, name: str) -> Jobs:
    """Let the doctor correct a script in a folder of its own, and submit it as it says; return that folder's work."""
    own = Jobs(jobs.lab, f"{jobs.folder.name}/{re.sub(r'[^a-z]+', '-', name.lower())}")
    own.run("mkdir", "-p", "nowhere-else")
    text = WRONG[name].text.replace("{home}", str(jobs.lab.home))
    own.run("tee", own.folder / "job.sh", input=text)
    told = json.loads(own.run("ckptrun", "doctor", "--site", "ai-lab", "--fix", "--json", "job.sh", check=False))["data"]
    assert WRONG[name].rule in [row["rule"] for row in told["findings"]]
    assert told["fixed"] == "job.fixed.sh" and (own.folder / "job.sh").read_bytes().decode() == text
    own.run(*told["submit"].split())
    return own


def assert_three_links(own: Jobs, tasks: int) -> None:
    """Wait for the end of a chain, or of an array's chains: three links at least, each step once."""
    own.until(lambda: len([one for one in own.outcomes() if one != "continued"]) == tasks or None, 400.0)
    outcomes = sorted(own.outcomes())  # a link that is asked before its training has begun to hear is one more
    assert outcomes == ["complete"] * tasks + ["continued"] * (len(outcomes) - tasks) and len(outcomes) >= 3 * tasks, own.story()
    log = "".join(path.read_text(errors="replace") for path in own.folder.rglob("*.out"))
    assert sorted(re.findall(r"^step (\d+)$", log, re.MULTILINE)) == sorted(["1", "2"] * tasks), own.story()


def run_all(jobs: Jobs, names: tuple[str, ...]) -> None:
    """Run corrected scripts side by side, a few at a time: the machine has other things to do."""
    for begin in range(0, len(names), 8):
        running = {name: fix_and_submit(jobs, name) for name in names[begin : begin + 8]}
        for name, own in running.items():
            assert_three_links(own, 2 if "--array" in WRONG[name].text else 1)


def test_corrected_scripts_are_chains(jobs: Jobs) -> None:
    """One of each kind of mistake, corrected by the doctor, submitted as it says: three links, and the end."""
    run_all(jobs, SAMPLE)


@pytest.mark.long
@pytest.mark.parametrize("part", range(4))
def test_every_corrected_script_is_a_chain(jobs: Jobs, part: int) -> None:
    """The whole corpus, in four parts."""
    run_all(jobs, tuple(WRONG)[part::4])


def test_the_lab_itself(jobs: Jobs) -> None:
    """A chain works there; what was asked of its commands was answered; a script's limit is that of its partition."""
    told = json.loads(jobs.run("ckptrun", "doctor", "--json"))["data"]
    assert told["works"]
    checks = {row["name"]: row for row in told["checks"]["cluster"]}
    assert "Slurm 22.05" in checks["version"]["what"] or checks["version"]["severity"] == "good"
    state = {row["name"]: row["severity"] for row in told["checks"]["state folder"]}
    assert set(state) == {"place", "shared", "operations", "room"} and state["operations"] == "good"
    assert {"submitting", "time limit", "default time", "KillWait", "proctrack", "preemption", "accounting", "clock"} <= set(checks)
    assert checks["clock"]["severity"] == "good" and "`exec`" in checks["proctrack"]["what"]
    jobs.lab.admin("scontrol", "create", "PartitionName=hour", "Nodes=n3", "MaxTime=60")
    try:
        jobs.run("tee", jobs.folder / "job.sh", input="#!/bin/bash\n#SBATCH -p hour --time=2:00:00\nexec ckptrun python train.py\n")
        (row,) = json.loads(jobs.run("ckptrun", "doctor", "--json", "job.sh", check=False))["data"]["findings"]
    finally:
        jobs.lab.admin("scontrol", "delete", "PartitionName=hour")
    assert (row["rule"], row["corrected"]) == ("over-time", ["#SBATCH -p hour --time=01:00:00"])
