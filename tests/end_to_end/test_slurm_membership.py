"""Who a ckptrun is inside a job: leader, relay, second leader, array task, or one that has nothing to resubmit."""

from __future__ import annotations

import json
import os
import re
import signal

from tests.end_to_end.jobs import Jobs
from tests.end_to_end.test_slurm_steps import three_links

# Asked after four seconds; the rest is for the save, however slow the machine is: nobody is ended within a step.
SHORT = "--time-limit 24s --margin 20s"


def test_a_second_ckptrun_in_a_job_is_refused(jobs: Jobs) -> None:
    """One leads; the one after it ends with 125 before its training starts, and says what can be done."""
    first = f"ckptrun python {jobs.lab.home}/counter.py a 3 0.1"
    jobs.submit(jobs.script(f"{first}\nckptrun touch second-ran\necho rc=$?"))
    jobs.until_line(r"^rc=125$")
    assert "one ckptrun leads a job" in jobs.log()
    assert not (jobs.folder / "second-ran").exists()
    assert jobs.until_over() == ["complete"]


def test_two_at_once_in_a_job(jobs: Jobs) -> None:
    """Two start in the same moment: one leads, one is refused."""
    line = f"ckptrun python {jobs.lab.home}/counter.py"
    jobs.submit(jobs.script(f"{line} a 5 0.2 & {line} b 5 0.2 &\nwait; echo over"))
    jobs.until_line("^over$")
    assert jobs.until_over() == ["complete"]
    assert jobs.steps() == [1, 2, 3, 4, 5]
    assert "eads" in jobs.log()


def test_a_ckptrun_below_the_leader_relays(jobs: Jobs) -> None:
    """The inner one hands the ask on and the status back; it starts no chain of its own."""
    inner = f"ckptrun python {jobs.lab.home}/counter.py ck @goal 0.1 --hear USR1"
    three_links(jobs, f"exec ckptrun --checkpoint ck --time-limit 4m bash -c '{inner}; exit $?'", 1)


def test_array_tasks_are_chains_of_their_own(jobs: Jobs) -> None:
    """Each task goes on as itself, under its own number, and its chain is named after it."""
    training = f"python {jobs.lab.home}/counter.py ck-$SLURM_ARRAY_TASK_ID 14 0.4 --hear USR1"
    command = f"exec ckptrun --checkpoint ck-%a {SHORT} {training}"
    array = jobs.submit("--array=3,7", "--output=%x_%A_%a.out", jobs.script(command))
    jobs.until(lambda: jobs.outcomes().count("complete") == 2 or None)
    names = sorted(path.name for path in (jobs.state / "chains").iterdir())
    assert names == [f"count-{array}_3", f"count-{array}_7"]
    assert jobs.outcomes().count("continued") >= 2
    assert sorted(jobs.steps()) == sorted([*range(1, 15)] * 2)
    assert {job.split("_")[1] for job in jobs.jobs()} == {"3", "7"}
    listed = jobs.run("ckptrun", "chain", "show", jobs.jobs()[-1])
    assert "complete" in listed


def test_a_net_under_every_death(jobs: Jobs) -> None:
    """`--successor start`: ckptrun is killed -9, the job with it, and the successor goes on from the last whole checkpoint."""
    jobs.submit(jobs.script(jobs.counter_to_goal("--hear USR1", options="--time-limit 4m --successor start")))
    jobs.until_event("submitted")
    jobs.until_line(r"^step 5$")
    jobs.goal_is_near()
    (started,) = (jobs.state / "chains").glob("*/turns/1")
    pid = json.loads(started.read_text())["pid"]
    jobs.lab.admin("kill", f"-{signal.SIGKILL.value}", str(pid))
    jobs.until(lambda: jobs.outcomes()[-1:] == ["complete"] or None)
    jobs.until_over()
    assert jobs.outcomes() == ["lost", "complete"]
    steps = jobs.steps()
    assert sorted(set(steps)) == list(range(1, steps[-1] + 1)) and steps[-1] >= jobs.near
    assert len(steps) <= steps[-1] + 1  # the step that was being counted when it was killed


def test_a_job_that_does_not_come_back_has_the_net_by_default(jobs: Jobs) -> None:
    """With `--no-requeue` the successor is submitted at the start; without it only with the ask."""
    jobs.submit("--no-requeue", jobs.script(jobs.counter(5000, 0.1, "--hear USR1", options="--time-limit 4m")))
    jobs.until_event("submitted")
    jobs.run("ckptrun", "chain", "stop")
    assert jobs.until_over() == ["stopped"]


def test_a_second_chain_without_checkpoints_names_the_first(jobs: Jobs) -> None:
    """The same script, submitted again while its chain lives: two chains, and the second says how to stop the first."""
    script = jobs.script(f"exec ckptrun --time-limit 4m python {jobs.lab.home}/counter.py ck-$SLURM_JOB_ID 5000 0.1 --hear USR1")
    first = jobs.submit(script)
    jobs.until_event("started")
    second = jobs.submit(script)
    jobs.until_event("started", 2)
    jobs.until_line(f"chain count-{first} of the same script lives: job {first} runs; `ckptrun chain stop count-{first}`")
    for job in (first, second):
        jobs.run("ckptrun", "chain", "stop", job)
    jobs.until(lambda: jobs.outcomes() == ["stopped", "stopped"] or None)


def test_nothing_to_resubmit(jobs: Jobs) -> None:
    """A job without a batch script: 125 and the two choices; with --max-links 1 one link is run."""
    printed = jobs.run("srun", "-Q", "sh", "-c", "ckptrun true 2>&1; echo rc=$?", check=False)
    assert "has no batch script" in printed and "rc=125" in printed
    printed = jobs.run("srun", "-Q", "sh", "-c", "ckptrun --max-links 1 echo ran 2>&1; echo rc=$?", check=False)
    assert "ran" in printed and "rc=0" in printed
    for job in jobs.queue():
        jobs.after(job)
    assert jobs.queue() == []


def test_a_dry_run_inside_a_job(jobs: Jobs) -> None:
    """End time, checkpoint time, and the successor's options with where each was learned; nothing is written."""
    command = "exec ckptrun --dry-run --checkpoint ck python train.py"
    job = jobs.submit("--time=9", jobs.script(command))
    jobs.until_line("bounds:")
    jobs.after(job)
    text = jobs.log()
    assert f"chain: a new one, count-{job}" in text
    assert re.search(r"(8 min \d+ s|9 min) after the start .the job's end time", text)
    assert re.search(r"--time=(00:09:00 \(the job's record\)|9 \(sbatch's command line, from accounting\))", text)
    assert not os.listdir(jobs.state)
