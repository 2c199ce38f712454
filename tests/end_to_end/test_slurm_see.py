"""Chains on a real Slurm as people see, stop and resume them: in each phase, and when the daemons are silent or have forgotten."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from tests.cluster.lab import Lab
from tests.end_to_end.jobs import Jobs
from tests.show.schema import problems


def chain(jobs: Jobs, *words: str, check: bool = True) -> str:
    """Return what `ckptrun chain` prints."""
    return jobs.run("ckptrun", "chain", *words, check=check)


def shown(jobs: Jobs) -> dict[str, Any]:
    """Return what `chain show --json` says of the newest chain of the folder; it fits the schema."""
    page = json.loads(chain(jobs, "show", "--json"))
    assert problems(page) == []
    data: dict[str, Any] = page["data"]
    return data


def started(jobs: Jobs, *words: str) -> subprocess.Popen[str]:
    """Start a command of the user's in the background."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(jobs.lab.argv(*words, cwd=jobs.folder), env=jobs.environment, **pipes)


def counting(jobs: Jobs, options: str = "--time-limit 30s --margin 21s") -> str:
    """Submit a chain that counts to what the file `goal` says when a link starts: so far away that no slow machine gets there."""
    goes_to(jobs, 5000, 0.2)
    line = jobs.counter(0, 0, "--hear USR1,TERM", options=options)
    return jobs.submit(jobs.script(line.replace("ck 0 0", "ck $(cat goal)")))


def goes_to(jobs: Jobs, steps: int, seconds: float) -> None:
    """Say where the next links of the chain count to, and how fast."""
    jobs.run("tee", "goal.new", input=f"{steps} {seconds}")
    jobs.run("mv", "goal.new", "goal")


def test_a_chain_in_each_phase(jobs: Jobs) -> None:
    """Running, running with its successor behind it, pending and held, complete; `log -f` and `wait` follow it all the time."""
    first = counting(jobs)
    jobs.until_line(r"^step 3$")
    follower, waiter = started(jobs, "ckptrun", "chain", "log", "-f"), started(jobs, "ckptrun", "chain", "wait")
    running = shown(jobs)
    assert running["state"] in ("running", "pending")
    if running["state"] == "running":  # a slow machine may look between two links
        last = running["links"][-1]
        assert (running["now"]["job"], running["now"]["node"], last["outcome"]) == (last["job"], last["node"], None)
        assert running["now"]["ends_at"] is not None
    assert re.search(r"job \d+ (runs on n\d|waits)", chain(jobs, "list"))
    count = len(jobs.events("submitted"))
    submitted = jobs.until_event("submitted", count + 1)[-1]
    jobs.run("scontrol", "hold", submitted["job"], check=False)
    jobs.after(jobs.jobs()[submitted["link"] - 1])
    if jobs.run("squeue", "-h", "-t", "PD", "-j", submitted["job"], "-o", "%r", check=False).strip() == "JobHeldUser":
        pending = shown(jobs)
        assert (pending["state"], pending["now"]["why"]) == ("pending", "JobHeldUser")
        assert "its owner holds it" in chain(jobs, "show") and "Waiting does not help" in chain(jobs, "list")
    goal = max(jobs.steps()) + 20
    goes_to(jobs, goal, 0.02)
    jobs.run("scontrol", "release", submitted["job"], check=False)
    outcomes = jobs.until_over()
    over = shown(jobs)
    assert (over["state"], over["now"], len(over["links"])) == ("complete", None, len(outcomes))
    assert over["links"][1]["waited_s"] is not None and over["links"][0]["log"].endswith(f"count_{first}.out")
    said, _ = waiter.communicate(timeout=300)
    assert waiter.returncode == 0 and "complete" in said
    log, _ = follower.communicate(timeout=300)
    assert follower.returncode == 0
    assert [int(step) for step in re.findall(r"^step (\d+)$", log, re.MULTILINE)] == jobs.steps()
    assert jobs.steps() == list(range(1, max(goal, jobs.steps()[-1]) + 1))
    assert len(re.findall(r"^==> link \d+, job \d+ on n\d, began ", log, re.MULTILINE)) == len(outcomes)
    one = chain(jobs, "log", "--link", "1")
    assert one.startswith(f"==> link 1, job {first} ") and "==> link 2" not in one
    jobs.run("rm", over["links"][0]["log"])
    assert f"count_{first}.out is missing <==" in chain(jobs, "log").splitlines()[0]


PHASES = ["--now running", "--after-link running", "--after-checkpoint submitted", "--now submitted", "--after-checkpoint pending"]


@pytest.mark.parametrize("case", PHASES)
def test_stop_in_each_phase(jobs: Jobs, case: str) -> None:
    """Nothing of the chain runs or waits afterwards, and `resume` finishes with every step once."""
    how, phase = case.split()
    counting(jobs)
    jobs.until_line(r"^step 3$")
    if phase != "running":
        successor = jobs.until_event("submitted")[0]
        if phase == "pending":
            jobs.run("scontrol", "hold", successor["job"], check=False)
            jobs.after(jobs.jobs()[successor["link"] - 1])
    said = chain(jobs, "stop", how)
    assert "is stopped; `ckptrun chain resume" in said
    for job in jobs.queue():
        jobs.after(job)
    assert jobs.queue() == [], jobs.story()
    stopped = shown(jobs)
    assert stopped["state"] in (("cancelled", "stopped") if how == "--now" else ("stopped",)), stopped["state"]
    assert stopped["to_go_on"] == f"ckptrun chain resume {stopped['id']}"
    goal = max(jobs.steps()) + 20
    goes_to(jobs, goal, 0.02)
    chain(jobs, "resume")
    jobs.run("ckptrun", "chain", "wait")
    assert jobs.outcomes()[-1] == "complete", jobs.story()
    assert jobs.steps() == list(range(1, goal + 1)), jobs.story()
    assert "TWO AT ONCE" not in jobs.log()


def test_silent_and_forgetful_daemons(own_lab: Lab, own_jobs: Jobs) -> None:
    """Accounting stopped: all is seen. The controller stopped: unknown. It has forgotten the job: lost, never running."""
    jobs = own_jobs
    job = counting(jobs, "--time-limit 10m")
    jobs.until_line(r"^step 3$")
    own_lab.admin("kill", str(own_lab.daemon("slurmdbd")))
    assert shown(jobs)["state"] == "running"
    own_lab.admin("kill", str(own_lab.daemon("slurmctld")))
    jobs.until_silent()
    unknown = shown(jobs)
    assert (unknown["state"], unknown["now"]["word"]) == ("unknown", "unknown")
    assert "the controller does not answer" in chain(jobs, "list") and "last heard of" in chain(jobs, "show")
    own_lab.start_daemon("slurmctld", "-c", "-D")
    jobs.until_answered()
    assert job not in jobs.run("squeue", "-h", "-t", "all", "-o", "%i").split()
    lost = shown(jobs)
    assert lost["state"] == "lost" and lost["links"][0]["outcome"] == "lost"
    assert "To go on: ckptrun chain resume" in chain(jobs, "show")


@pytest.mark.long
def test_jobs_that_are_long_forgotten(forgetful_lab: Lab) -> None:
    """The controller has forgotten every job (MinJobAge 5 s), and there is no accounting: told is what stands on disk."""
    jobs = Jobs(forgetful_lab, "work")
    line = jobs.counter(10, 0.1, "--hear USR1,TERM", options="--time-limit 100s --chain ends")
    jobs.submit(jobs.script(line))
    jobs.until(lambda: jobs.outcomes() == ["complete"] or None)
    dies = jobs.counter(5000, 0.1, "--hear USR1,TERM", options="--time-limit 100s --chain dies").replace(" ck ", " ck2 ")
    job = jobs.submit(jobs.script(dies))
    jobs.until(lambda: list(jobs.folder.glob("ck2/*.json")) or None)
    leader = json.loads((jobs.state / "chains" / "dies" / "turns" / "1").read_text())["pid"]
    jobs.lab.admin("kill", "-9", str(leader), str(jobs.events("child_started")[0]["pid"]))
    jobs.until_forgotten(job)
    waiting = {name: started(jobs, "ckptrun", "chain", "wait", name) for name in ("ends", "dies")}
    listed = json.loads(chain(jobs, "list", "--json"))["data"]
    assert [(one["id"], one["state"], one["now"]) for one in listed] == [("dies", "lost", None), ("ends", "complete", None)]
    page = chain(jobs, "show", "dies")
    assert "it died without a word" in page and "To go on: ckptrun chain resume dies" in page and "accounting says" not in page
    assert "The chain is complete" in chain(jobs, "show", "ends")
    for name, code in (("ends", 0), ("dies", 75)):
        assert waiting[name].communicate(timeout=120)[0].startswith(f"ckptrun: chain {name} has ended: ")
        assert waiting[name].returncode == code
