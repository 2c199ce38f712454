"""A training longer than its job: chains on a real Slurm, as the unprivileged user."""

from __future__ import annotations

from tests.end_to_end.harness import PROGRAMS
from tests.end_to_end.jobs import Jobs

# Asked after four seconds; the rest is for the save, however slow the machine is: nobody is ended within a step.
SHORT = "--time-limit 24s --margin 20s"


def test_a_chain_of_jobs_counts_each_step_once(jobs: Jobs) -> None:
    """Three jobs, each step once, every job COMPLETED in accounting, and nothing left in the queue."""
    jobs.submit(jobs.script(jobs.counter(32, 0.4, "--hear USR1", options=SHORT)))
    outcomes = jobs.until_over()
    assert outcomes == ["continued"] * (len(outcomes) - 1) + ["complete"]
    assert len(outcomes) >= 3
    assert jobs.steps() == list(range(1, 33))
    assert [jobs.state_of(job) for job in jobs.jobs()] == ["COMPLETED"] * len(outcomes)
    assert jobs.queue() == []


def test_the_successor_has_the_options_of_the_command_line(jobs: Jobs) -> None:
    """What was given to sbatch and not in the script holds for the successor too: the same record, arguments, and log names."""
    command = jobs.counter(5000, 0.1, "--hear USR1", options="--time-limit 3m") + ' "$@"'
    script = jobs.script(command, "--gres=gpu:1", "--nodes=1")
    given = ("--time=7", "--ntasks=2", "--cpus-per-task=3", "--mem=300", "--job-name=two words", "--output=log-%j.out")
    first = jobs.submit(*given, script, "--word", "-x=1 $HOME")
    jobs.until_line("^step 3$")
    second = jobs.go_on(first)
    names = ("JobName", "TimeLimit", "NumNodes", "NumTasks", "CPUs/Task", "MinMemoryNode", "Partition", "TresPerNode", "WorkDir")
    before, after = (_record(jobs, job) for job in (first, second))
    assert {name: after[name] for name in names} == {name: before[name] for name in names}
    assert after["JobName"] == "two words"
    assert after["StdOut"] == str(jobs.folder / f"log-{second}.out")
    assert before["Requeue"] == "0"
    jobs.until(lambda: "with ['--word', '-x=1 $HOME']" in (jobs.folder / f"log-{second}.out").read_text() or None)
    jobs.stop()
    assert jobs.outcomes() == ["continued", "stopped"]


def _record(jobs: Jobs, job: str) -> dict[str, str]:
    from ckptrun.slurm.parse import job_record

    record = job_record(jobs.run("scontrol", "-o", "show", "job", job))
    assert record is not None
    return record.fields


def test_a_minute_is_the_limit_and_nothing_else_is_said(jobs: Jobs) -> None:
    """The real limit of a job, with nothing but a word in front of the command: asked in time, gone on, COMPLETED."""
    jobs.submit(jobs.script(jobs.counter(130, 0.5, "--hear USR1"), "--time=1"))
    outcomes = jobs.until_over()
    assert outcomes == ["continued"] * (len(outcomes) - 1) + ["complete"] and len(outcomes) >= 2
    steps = jobs.steps()
    assert steps == sorted(steps) and set(steps) == set(range(1, 131))
    # Of a minute three seconds are for the save: one that had to be ended within a step does that step again.
    assert len(steps) - 130 <= len(jobs.events("terminated"))
    assert [jobs.state_of(job) for job in jobs.jobs()] == ["COMPLETED"] * len(outcomes)


def test_two_chains_of_one_training_that_submits_another(jobs: Jobs) -> None:
    """A training that submits a ckptrun job begins a second chain; nothing of the first is adopted."""
    inner = jobs.script(f"exec ckptrun --checkpoint other python {jobs.lab.home}/counter.py other 3 0.1", name="inner.sh")
    command = f"exec ckptrun --time-limit 4m sh -c 'sbatch {inner}; exec sleep 1'"
    jobs.submit(jobs.script(command))
    jobs.until(lambda: jobs.outcomes() == ["complete", "complete"] or None)
    assert len(list((jobs.state / "chains").iterdir())) == 2


def test_a_links_script_submitted_by_hand_is_refused(jobs: Jobs) -> None:
    """It has no turn to build on: 75, naming `chain resume`; the chain itself is not touched."""
    first = jobs.submit(jobs.script(jobs.counter(5000, 0.1, "--hear USR1", options="--time-limit 3m")))
    jobs.until_line("^step 3$")
    jobs.go_on(first)
    (script,) = jobs.state.glob("chains/*/links/2/script")
    by_hand = jobs.submit("--output=by-hand.out", script)
    jobs.until(lambda: "chain resume" in jobs.log() or None)
    assert jobs.state_of(by_hand) == "FAILED"
    assert "75:0" in jobs.run("sacct", "-n", "-X", "-j", by_hand, "-o", "exitcode")
    jobs.stop()
    assert jobs.outcomes() == ["continued", "stopped"]


def test_the_same_script_twice_is_one_chain_and_a_refusal(jobs: Jobs) -> None:
    """Two jobs on one checkpoint folder: the second is refused before it trains, and says which job has it."""
    script = jobs.script(jobs.counter(5000, 0.2, "--hear USR1", options="--time-limit 4m"))
    first = jobs.submit(script)
    jobs.until_event("started")
    second = jobs.submit(script)
    assert jobs.state_of(second) == "FAILED"
    assert "125:0" in jobs.run("sacct", "-n", "-X", "-j", second, "-o", "exitcode")
    assert f"job {first} runs" in jobs.log()
    jobs.run("ckptrun", "chain", "stop")
    assert jobs.until_over() == ["stopped"]


def test_stop_and_resume(jobs: Jobs) -> None:
    """`chain stop` makes the running link save and end, and cancels the waiting one; `chain resume` goes on, once."""
    jobs.submit(jobs.script(jobs.counter_to_goal("--hear USR1", options="--time-limit 4m --successor start")))
    (queued,) = [event["job"] for event in jobs.until_event("submitted")]
    jobs.until_line(r"^step 5$")
    jobs.run("ckptrun", "chain", "stop")
    assert jobs.until_over() == ["stopped"]
    assert jobs.state_of(queued) == "CANCELLED"
    goal = jobs.goal_is_near()
    assert "queued as job" in jobs.run("ckptrun", "chain", "resume")
    jobs.until(lambda: jobs.outcomes() == ["stopped", "complete"] or None)
    jobs.until_over()
    assert jobs.steps() == list(range(1, goal + 1))
    assert jobs.queue() == []


def test_requeue_instead_of_a_new_job(jobs: Jobs) -> None:
    """`--continue-with requeue`: the same job id, its log kept, attempt 2 goes on where attempt 1 stopped."""
    options = "--time-limit 4m --continue-with requeue"
    job = jobs.submit(jobs.script(jobs.counter_to_goal("--hear USR1", options=options)))
    jobs.until_line("^step 3$")
    jobs.run("scancel", "-b", "-s", "USR1", job)
    jobs.until_event("ended")
    goal = jobs.goal_is_near()
    jobs.start_requeued(job)
    jobs.until(lambda: jobs.outcomes() == ["requeued", "complete"] or None)
    assert jobs.jobs() == [job, job]
    assert jobs.steps() == list(range(1, goal + 1))
    assert [event["attempt"] for event in jobs.events("started")] == [1, 2]


def test_jobs_that_are_asked_by_file(jobs: Jobs) -> None:
    """A training that catches no signal and imports ckptrun, without --checkpoint: jobs that go on as if it heard one."""
    jobs.provide(PROGRAMS / "api_counter.py")
    command = f"exec ckptrun --time-limit 26s --margin 21s python {jobs.lab.home}/api_counter.py ck 140 0.1 --deaf"
    jobs.submit(jobs.script(command))
    outcomes = jobs.until_over()
    assert outcomes == ["continued"] * (len(outcomes) - 1) + ["complete"]
    assert len(outcomes) >= 3
    assert jobs.steps() == list(range(1, 141))
    asked = jobs.events("asked")
    assert len(asked) >= len(outcomes) - 1 and all(event["by_file"] and event["delivered"] == [] for event in asked)
