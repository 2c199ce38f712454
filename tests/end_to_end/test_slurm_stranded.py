"""A next job that cannot be submitted: said in the first minute, gone on by requeue, else stranded with a command that goes on."""

from __future__ import annotations

import re
import time

import pytest

from tests.cluster import install
from tests.cluster.lab import Lab
from tests.end_to_end.jobs import Jobs

# The test says when a link is to save and go on.
LONG = "--time-limit 4m"


def partition(jobs: Jobs, *settings: str) -> str:
    """Make a partition of the test's own on the lab's first two nodes."""
    name = re.sub(r"\W", "", jobs.folder.name)[-40:]
    jobs.lab.admin("scontrol", "create", f"PartitionName={name}", "Nodes=n[1-2]", "PriorityTier=1", "DefaultTime=30", *settings)
    return name


def submit_and_close(jobs: Jobs, name: str, command: str, *options: str) -> str:
    """Submit into a partition that takes no submissions any more when ckptrun starts: all nodes of the lab are one host."""
    jobs.run("mkfifo", "gate")
    job = jobs.submit("-p", name, jobs.script(command, *options, before="[ -e opened ] || read < gate; touch opened\n"))
    with (jobs.folder / "gate").open("w") as gate:  # opened when the job reads it: it has started
        allocate(jobs, name, "login1")
        gate.write("go\n")
    return job


def allocate(jobs: Jobs, name: str, nodes: str) -> None:
    """Say from where a partition takes submissions."""
    jobs.lab.admin("scontrol", "update", f"PartitionName={name}", f"AllocNodes={nodes}")


def hasten(jobs: Jobs) -> None:
    """Type `chain resume` until the requeued job, which is on its way back into the queue for some seconds, may start."""
    end_at = time.monotonic() + 300.0
    while "may start in 2 s" not in jobs.run("ckptrun", "chain", "resume", check=False):
        assert time.monotonic() < end_at, jobs.story()
        jobs.lab.admin("srun", "-Q", "-p", "batch", "true")


def ready(jobs: Jobs) -> str:
    """Return the ready command as the last link has printed it."""
    return re.findall(r"stranded\. Where sbatch works, this goes on: (.*)$", jobs.log(), re.MULTILINE)[-1]


def test_nodes_from_which_sbatch_is_refused(jobs: Jobs) -> None:
    """AllocNodes names the login node alone: said at once, gone on by requeue, whose two minutes `chain resume` takes away."""
    closed = partition(jobs)
    job = submit_and_close(jobs, closed, jobs.counter(100_000, 0.1, "--hear USR1", options=LONG))
    jobs.until_line(
        rf"sbatch is refused on this node \(Access/permission denied; partition {closed} takes submissions from login1 alone\)"
    )
    assert jobs.outcomes() == [], "said before the end"
    jobs.until_line("^step 3$")
    jobs.run("scancel", "-b", "-s", "USR1", job)
    jobs.until_event("ended")
    assert jobs.outcomes() == ["requeued"]
    allocate(jobs, closed, "ALL")
    hasten(jobs)
    jobs.until_event("started", 2)
    assert jobs.jobs() == [job, job]
    jobs.stop()
    assert "121 s" in jobs.log() and "resuming from" in jobs.log()
    steps = jobs.steps()
    assert steps == list(range(1, len(steps) + 1)), "the log of the first attempt is kept"


def test_stranded_is_said_at_the_start_and_resumed_elsewhere(jobs: Jobs) -> None:
    """Neither sbatch nor requeue: said at once; at the end the ready command is printed, kept, shown, and works."""
    closed = partition(jobs)
    job = submit_and_close(jobs, closed, jobs.counter(100_000, 0.1, "--hear USR1", options=LONG), "--no-requeue")
    jobs.until_line("this chain will be stranded when this job is over: sbatch is refused")
    jobs.until_line("^step 3$")
    jobs.run("scancel", "-b", "-s", "USR1", job)
    assert jobs.until_over() == ["stranded"]
    line = ready(jobs)
    (folder,) = (jobs.state / "chains").iterdir()
    assert (folder / "ready").read_text() == f"{line}\n"
    assert f"To go on: {line}" in jobs.run("ckptrun", "chain", "show")
    assert line.startswith(f"CKPTRUN_HOME={jobs.state} ")
    assert "would submit link 3 of chain" in jobs.run("ckptrun", "chain", "resume", "--dry-run")
    allocate(jobs, closed, "ALL")
    assert "is queued as job" in jobs.run("bash", "-c", line, env=jobs.lab.environment())
    jobs.until_event("started", 2)
    jobs.stop()
    steps = jobs.steps()
    assert steps == list(range(1, len(steps) + 1))
    assert not (folder / "ready").exists()


@pytest.mark.parametrize("state", ["DRAIN", "INACTIVE", "DOWN"])
def test_a_partition_that_is_closed_meanwhile(jobs: Jobs, state: str) -> None:
    """DRAIN and INACTIVE refuse the next job: requeued. DOWN takes it: it waits. Open again, the chain goes on, each step once."""
    closed = partition(jobs)
    job = jobs.submit("-p", closed, jobs.script(jobs.counter(100_000, 0.1, "--hear USR1", options=LONG)))
    jobs.until_line("^step 3$")
    jobs.lab.admin("scontrol", "update", f"PartitionName={closed}", f"State={state}")
    jobs.run("scancel", "-b", "-s", "USR1", job)
    jobs.until_event("ended")
    assert jobs.outcomes() == ["continued" if state == "DOWN" else "requeued"], jobs.story()
    jobs.lab.admin("scontrol", "update", f"PartitionName={closed}", "State=UP")
    if state != "DOWN":
        assert "(inactive or drain); this job is requeued instead" in jobs.log()
        hasten(jobs)
    jobs.until_event("started", 2)
    assert (jobs.jobs()[1] == job) == (state != "DOWN")
    jobs.stop()
    steps = jobs.steps()
    assert steps == list(range(1, len(steps) + 1))


def test_a_limit_on_submitted_jobs(own_lab: Lab, own_jobs: Jobs) -> None:
    """MaxSubmitJobs: tried again, and queued as soon as there is room; where there never is, the job is requeued; all is said."""
    jobs = own_jobs
    limit_submissions(own_lab)
    # Each training is saving until the test has done what it does meanwhile.
    counting = jobs.counter(100_000, 0.1, "--hear USR1 --only-asked --until 'leave-$CKPTRUN_LINK'", options=LONG)
    first = jobs.submit(jobs.script(counting))
    jobs.until_line("sbatch would be refused now .*AssocMaxSubmitJobLimit")
    jobs.until_line("^step 3$")
    jobs.run("scancel", "-b", "-s", "USR1", first)
    again = "AssocMaxSubmitJobLimit; trying again until the training has ended"
    jobs.until_line(again)
    most(own_lab, 5)
    jobs.until_line("link 2 is queued as job")
    jobs.run("touch", "leave-1")
    second = jobs.until_event("started", 2)[1]["job"]
    jobs.until(lambda: jobs.log().count("ready (pid") == 2 or None)
    most(own_lab, 1)
    before = jobs.log().count(again)
    jobs.run("scancel", "-b", "-s", "USR1", second)
    jobs.until(lambda: jobs.log().count(again) > before or None)
    jobs.run("touch", "leave-2")
    jobs.until_event("ended", 2)
    assert jobs.outcomes() == ["continued", "requeued"]
    hasten(jobs)
    jobs.until_event("started", 3)
    jobs.stop()
    steps = jobs.steps()
    assert steps == list(range(1, len(steps) + 1))


def limit_submissions(lab: Lab) -> None:
    """Let the controller enforce accounting's limits, and let the user have one job."""
    with (lab.root / "etc/slurm.conf").open("a") as file:
        file.write("AccountingStorageEnforce=limits\n")
    lab.admin("sacctmgr", "-i", "add", "account", "lab")
    lab.admin("sacctmgr", "-i", "add", "user", install.USER, "account=lab", "maxsubmitjobs=1")
    lab.admin("kill", str(lab.daemon("slurmctld")))
    lab.start_daemon("slurmctld", "-D")
    lab.admin("srun", "-Q", "true")  # waits for the controller, up to a minute


def most(lab: Lab, count: int) -> None:
    """Say how many jobs the user may have."""
    lab.admin("sacctmgr", "-i", "modify", "user", install.USER, "set", f"maxsubmitjobs={count}")
