"""Jobs of the user that wait for a link wait for its chain: on a real Slurm, as the unprivileged user."""

from __future__ import annotations

import re
import time
from pathlib import Path

from tests.end_to_end.jobs import CLOSED, Jobs
from tests.end_to_end.test_slurm_steps import checkpoints, ranked, three_links

# Asked after four seconds; the rest is for the save, however slow the machine is: nobody is ended within a step.
SHORT = "--time-limit 24s --margin 20s"
LONG = "--time-limit 4m"


def report(jobs: Jobs, dependency: str, *options: str, name: str = "report") -> str:
    """Submit a job that waits, and that says in a file of its own that it ran; return its id."""
    script = jobs.folder / "report.sh"
    if not script.exists():
        jobs.run("tee", script, input=f"#!/bin/bash\necho {name} ran >> {jobs.folder}/$SLURM_JOB_NAME.txt\n")
    words = ("--job-name", name, "--output=/dev/null", f"--dependency={dependency}", *options)
    return jobs.submit(*words, script)


def ran(jobs: Jobs, name: str = "report") -> int:
    """Return how often it has run."""
    path: Path = jobs.folder / f"{name}.txt"
    return len(path.read_text().splitlines()) if path.exists() else 0


def dependency(jobs: Jobs, job: str, shown: str = "%E") -> str:
    """Return what a job waits for, as the queue shows it."""
    return jobs.run("squeue", "-h", "-j", job, "-o", shown).strip()


def until_it_waits_for(jobs: Jobs, job: str, expression: str, shown: str = "%E", before: str = "") -> None:
    """Wait until the queue shows what a job waits for: the controller looks at dependencies once in a while."""
    limit_at = time.monotonic() + 300.0
    while (found := dependency(jobs, job, shown)) != before + expression:
        assert time.monotonic() < limit_at, f"{found}, and not {before}{expression}"
        jobs.lab.admin("srun", "-Q", "-p", "batch", "true")


def chain(jobs: Jobs, steps: int = 32, options: str = SHORT, *words: str) -> str:
    """Submit a training that counts over some jobs, and begins when `Jobs.open` says that all who wait for it are in the queue."""
    return jobs.submit(jobs.script(jobs.counter(steps, 0.4, "--hear USR1", *words, options=options), before=CLOSED))


def after_the_end(jobs: Jobs, job: str) -> bool:
    """Return whether a job began after the chain's last job had ended, as accounting has it."""
    jobs.state_of(job)
    last = jobs.jobs()[-1]
    jobs.state_of(last)
    (begun,) = jobs.run("sacct", "-n", "-P", "-X", "-j", job, "-o", "start").split()
    (ended,) = jobs.run("sacct", "-n", "-P", "-X", "-j", last, "-o", "end").split()
    return begun >= ended


def test_jobs_behind_a_chain_run_once_after_its_last_link(jobs: Jobs) -> None:
    """afterok, afterany and afterok with an unrelated job: all three wait for three links; the terms about the others stay."""
    first = chain(jobs)
    other = jobs.submit("--hold", jobs.script("true", name="other.sh"))
    plain = report(jobs, f"afterok:{first}", name="plain")
    whatever = report(jobs, f"afterany:{first}", name="whatever")
    both = report(jobs, f"afterok:{first}:{other}", name="both")
    started = report(jobs, f"after:{first}", name="started")
    jobs.open()
    successor = jobs.until_event("dependent_moved", 3)[0]["expression"].partition(":")[2]
    moved = {event["job"]: event["expression"] for event in jobs.events("dependent_moved")[:3]}
    assert moved == {plain: f"afterok:{successor}", whatever: f"afterany:{successor}", both: f"afterok:{successor},afterok:{other}"}
    outcomes = jobs.until_over()
    assert outcomes == ["continued"] * (len(outcomes) - 1) + ["complete"] and len(outcomes) >= 3
    assert after_the_end(jobs, plain) and after_the_end(jobs, whatever)
    until_it_waits_for(jobs, both, f"afterok:{other}(unfulfilled)")
    jobs.run("scontrol", "release", other)
    jobs.after(both)
    jobs.after(started)
    assert [ran(jobs, name) for name in ("plain", "whatever", "both", "started")] == [1, 1, 1, 1]
    assert jobs.steps() == list(range(1, 33))
    assert [jobs.state_of(job) for job in jobs.jobs()] == ["COMPLETED"] * len(outcomes)
    assert jobs.queue() == []


def test_one_behind_a_chain_that_fails_never_runs(jobs: Jobs) -> None:
    """The second link fails by itself: afterok never comes true, afternotok does."""
    first = chain(jobs, 14, SHORT, "--exit 7")
    never = report(jobs, f"afterok:{first}", name="never")
    failure = report(jobs, f"afternotok:{first}", name="failure")
    jobs.open()
    outcomes = jobs.until_over()
    assert outcomes == ["continued"] * (len(outcomes) - 1) + ["failed"] and len(outcomes) >= 2
    jobs.after(failure)
    until_it_waits_for(jobs, never, f"afterok:{jobs.jobs()[-1]}(failed)", "%T|%r|%E", "PENDING|DependencyNeverSatisfied|")
    assert (ran(jobs, "never"), ran(jobs, "failure")) == (0, 1)
    jobs.run("scancel", never)


def test_one_that_comes_late(jobs: Jobs) -> None:
    """Submitted while link 2 runs, on link 2's job: it waits for the end of the chain all the same. An array comes with it."""
    first = jobs.submit(jobs.script(jobs.counter_to_goal("--hear USR1", options=LONG)))
    jobs.until_line("^step 3$")
    second = jobs.go_on(first)
    late = report(jobs, f"afterok:{second}", name="late")
    array = report(jobs, f"afterok:{second}", "--array=1-3%2", name="array")
    jobs.until(lambda: jobs.log().count("ready (pid") == 2 or None)
    goal = jobs.goal_is_near()
    jobs.go_on(second)
    assert len(jobs.events("dependent_moved")) == 2
    assert jobs.until_over() == ["continued", "continued", "complete"]
    steps = jobs.steps()  # the link that was told last may have come further than the goal
    assert steps == list(range(1, steps[-1] + 1)) and steps[-1] >= goal
    assert after_the_end(jobs, late)
    jobs.after(array)
    assert (ran(jobs, "late"), ran(jobs, "array")) == (1, 3)


def test_a_chain_that_completes_while_others_wait_for_its_successor(jobs: Jobs) -> None:
    """Submitted at the start and waited for: the next link is not cancelled; it starts, trains nothing, and releases the report."""
    first = chain(jobs, 40, f"{LONG} --successor start")
    jobs.open()
    jobs.until_line("^step 1$")
    waiting = report(jobs, f"afterok:{first}")
    (moved,) = jobs.until_event("dependent_moved")
    successor = moved["expression"].partition(":")[2]
    assert (moved["job"], dependency(jobs, waiting)) == (waiting, f"afterok:{successor}(unfulfilled)")
    assert jobs.until_over() == ["complete"]
    assert jobs.state_of(successor) == "COMPLETED"
    assert jobs.state_of(waiting) == "COMPLETED"
    assert (ran(jobs), jobs.steps(), jobs.jobs()) == (1, list(range(1, 41)), [first])


def test_a_chain_that_is_stopped_while_others_wait_for_its_successor(jobs: Jobs) -> None:
    """The successor is cancelled at once and the training saves for two seconds: afterany waits for that, afterok for ever."""
    first = chain(jobs, 5000, f"{LONG} --successor start", "--only-asked", "--save 2")
    jobs.open()
    jobs.until_line("^step 1$")
    ended, never = report(jobs, f"afterany:{first}", name="ended"), report(jobs, f"afterok:{first}", name="never")
    jobs.until_event("dependent_moved", 2)
    jobs.run("ckptrun", "chain", "stop")
    assert jobs.until_over() == ["stopped"]
    assert after_the_end(jobs, ended)
    until_it_waits_for(jobs, never, f"afterok:{first}(failed)")
    assert (ran(jobs, "ended"), ran(jobs, "never")) == (1, 0)
    jobs.run("scancel", never)
    assert jobs.queue() == []


def test_one_behind_a_task_and_one_behind_the_whole_array(jobs: Jobs) -> None:
    """A task's dependent follows its chain; one behind the array waits for all tasks' chains, though they change it at once."""
    command = f"exec ckptrun --checkpoint ck-%a {SHORT} {ranked('SLURM_ARRAY_TASK_ID', 18, 0.4)}"
    array = jobs.submit("--array=3,7", "--output=%x_%A_%a.out", jobs.script(command, before=CLOSED))
    task = report(jobs, f"afterok:{array}_3", name="task")
    whole = report(jobs, f"afterok:{array}", name="whole")
    jobs.open()
    jobs.until(lambda: jobs.outcomes().count("complete") == 2 or None)
    assert jobs.state_of(task) == jobs.state_of(whole) == "COMPLETED"
    ends = {event["chain"]: event for event in _ends(jobs)}
    for job, chains in ((task, (f"count-{array}_3",)), (whole, (f"count-{array}_3", f"count-{array}_7"))):
        (begun,) = jobs.run("sacct", "-n", "-P", "-X", "-j", job, "-o", "start").split()
        assert all(begun >= ends[name]["at"] for name in chains), f"{job} {begun} {ends}\n{jobs.story()}"
    assert (ran(jobs, "task"), ran(jobs, "whole")) == (1, 1)
    assert sorted(jobs.steps()) == sorted([*range(1, 19)] * 2)


def test_one_that_cannot_be_moved_is_not_released_early(jobs: Jobs) -> None:
    """`the array or another job` has no form with the successor in it: said with a command; the link goes on and ends with 75."""
    other = jobs.submit("--hold", jobs.script("true", name="other.sh"))
    jobs.goal(100_000, 0.1)
    command = f"exec ckptrun --checkpoint ck-%a {LONG} {ranked('SLURM_ARRAY_TASK_ID', 0, 0).replace('ck 0 0', 'ck $(cat goal)')}"
    array = jobs.submit("--array=3", "--output=%x_%A_%a.out", jobs.script(command))
    either = report(jobs, f"afterok:{array}?afterok:{other}", name="either")
    jobs.until_line("^step 3$")
    goal = jobs.goal_is_near()
    jobs.go_on(f"{array}_3")
    assert jobs.until_over() == ["continued", "complete"]
    first, second = jobs.jobs()
    assert jobs.state_of(first) == "FAILED" and jobs.state_of(second) == "COMPLETED"
    assert "75:0" in jobs.run("sacct", "-n", "-X", "-j", first, "-o", "exitcode")
    assert f"type: scontrol update JobId={either} Dependency=afterok:{second}" in jobs.log()
    until_it_waits_for(jobs, either, f"afterok:{array}_*(failed)?afterok:{other}(unfulfilled)")
    assert ran(jobs, "either") == 0
    jobs.run("scontrol", "release", other)
    jobs.after(either)
    assert ran(jobs, "either") == 1
    steps = jobs.steps()
    assert steps == list(range(1, steps[-1] + 1)) and steps[-1] >= goal


def _ends(jobs: Jobs) -> list[dict[str, str]]:
    """Return when accounting says that the last job of each chain ended."""
    found = []
    for folder in (jobs.state / "chains").iterdir():
        last = (folder / "events.jsonl").read_text()
        job = re.findall(r'"event": ?"started".*?"job": ?"([\d_]+)"', last)[-1]
        jobs.state_of(job)
        (ended,) = jobs.run("sacct", "-n", "-P", "-X", "-j", job, "-o", "end").split()
        found.append({"chain": folder.name, "at": ended})
    return found


def test_a_job_of_three_nodes(own_jobs: Jobs) -> None:
    """`srun` on three nodes over three links: each step once on each, and the third link's record is the first's.

    On a Slurm of its own: other tests need the third node for themselves, and would wait for this one or take it away.
    """
    jobs = own_jobs
    three = ("--partition=wide", "--nodes=3", "--ntasks=3", "--ntasks-per-node=1")
    training = ranked("SLURM_PROCID", "@goal", 0.1)
    three_links(jobs, f"exec ckptrun {checkpoints(3)} {LONG} srun {training}", 3, *three)
    names = ("JobName", "TimeLimit", "NumNodes", "NumTasks", "NtasksPerN:B:S:C", "Partition", "NodeList", "WorkDir", "TRES")
    first, third = (jobs.run("scontrol", "-o", "-d", "show", "job", job) for job in (jobs.jobs()[0], jobs.jobs()[2]))
    for name in names:
        found = [re.findall(rf"(?<= ){re.escape(name)}=(\S+)", record) for record in (first, third)]
        assert found[0] == found[1] != [], name
    assert "NumNodes=3" in third
