"""A state folder whose disk is full: said once, it never stops a training, it hands over, and what cannot be begun is stranded."""

from __future__ import annotations

import json
import re

from tests.end_to_end.jobs import Jobs


def mount(jobs: Jobs) -> None:
    """Let the ledger stand on a small disk of its own. From outside the lab it is not seen: it is read by commands."""
    jobs.lab.admin("mount", "-n", "-t", "tmpfs", "-o", "size=512k,mode=777", "tmpfs", jobs.state)


def fill(jobs: Jobs) -> None:
    """Write until nothing more can be written."""
    jobs.run("sh", "-c", f"head -c 10M /dev/zero > {jobs.state}/filling", check=False)


def events(jobs: Jobs) -> list[dict[str, object]]:
    """Return the events that could be written."""
    return [json.loads(line) for line in jobs.run("sh", "-c", f"cat {jobs.state}/chains/*/events.jsonl").splitlines()]


def test_a_disk_that_is_full(jobs: Jobs) -> None:
    """Full while link 1 trains: it hands over all the same. Link 2 cannot take its turn: 75. With room, `chain resume` goes on."""
    mount(jobs)
    first = jobs.submit(jobs.script(jobs.counter(5000, 0.1, "--hear USR1", options="--time-limit 4m")))
    jobs.until_line("^step 2$")
    fill(jobs)
    jobs.run("scancel", "-b", "-s", "USR1", first)
    jobs.until_line(r"link 1 ended after .*: continued")
    second = re.findall(r"link 2 is queued as job (\d+)", jobs.log())[0]
    jobs.until_line("it does not train")
    assert (jobs.state_of(first), jobs.state_of(second)) == ("COMPLETED", "FAILED")
    assert "75:0" in jobs.run("sacct", "-n", "-X", "-j", second, "-o", "exitcode")
    told = [line for line in jobs.log().splitlines() if "No space left" in line]
    assert len(told) == len(set(told)), "each thing is said once"
    turns = jobs.run("sh", "-c", f"cat {jobs.state}/chains/*/turns/*")
    assert re.findall(r'"kind": "(\w+)"', turns) == ["start", "end"]
    line = re.findall(r"this goes on: (.*)$", jobs.log(), re.MULTILINE)[-1]
    full = jobs.run("sh", "-c", f"{line} 2>&1", check=False)
    assert "make room there" in full, full
    jobs.run("rm", f"{jobs.state}/filling")
    assert "is queued as job" in jobs.run("ckptrun", "chain", "resume", "--all")
    jobs.until_line(r"link \d+ of count-\d+, resuming from")
    jobs.run("ckptrun", "chain", "stop")
    jobs.until_line(r": stopped: ")
    steps = jobs.steps()
    assert steps == list(range(1, len(steps) + 1))
    assert [event["outcome"] for event in events(jobs) if event["event"] == "ended"][-1] == "stopped"
