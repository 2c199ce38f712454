"""What a signal means inside a job: every row of the table, by the ledger, by accounting, and by what ran afterwards."""

from __future__ import annotations

import pytest

from tests.end_to_end.jobs import Jobs

# A link of which nothing but the signal ends anything: its time is far away.
LONG = "--time-limit 4m"


def start(jobs: Jobs, *, execute: str = "exec ", options: str = LONG, sbatch: tuple[str, ...] = ()) -> str:
    """Submit a job that counts without an end, and wait until it has counted to 5; what follows it counts a little further."""
    job = jobs.submit(*sbatch, jobs.script(jobs.counter_to_goal("--hear USR1", options=options, execute=execute)))
    jobs.until_line(r"^step 5$")
    jobs.goal_is_near()
    return job


@pytest.mark.parametrize("words", [("-b", "-s", "TERM"), ("-b", "-s", "USR1"), ("-f", "-s", "USR1")], ids=" ".join)
def test_a_signal_that_a_person_sends_saves_and_goes_on(jobs: Jobs, words: tuple[str, ...]) -> None:
    """`scancel` with a signal is no cancel: the training saves, a new job goes on, the first is COMPLETED."""
    job = start(jobs)
    jobs.run("scancel", *words, job)
    assert jobs.until_over() == ["continued", "complete"], jobs.story()
    assert jobs.each_counted_once(), jobs.steps()
    assert [jobs.state_of(one) for one in jobs.jobs()] == ["COMPLETED", "COMPLETED"]


def test_scancel_ends_the_chain(jobs: Jobs) -> None:
    """A cancel of the running link: saved, cancelled, no successor, and nothing comes back."""
    job = start(jobs)
    jobs.run("scancel", job)
    assert jobs.until_over() == ["cancelled"]
    assert jobs.state_of(job) == "CANCELLED"
    assert jobs.events("submitted") == []
    assert jobs.queue() == []
    assert "heard 10" in jobs.log()


def test_scancel_takes_the_waiting_successor_with_it(jobs: Jobs) -> None:
    """A cancel of a link whose successor waits already: the successor is cancelled and never starts."""
    job = start(jobs, options=f"{LONG} --successor start")
    (successor,) = [event["job"] for event in jobs.until_event("submitted")]
    jobs.run("scancel", job)
    assert jobs.until_over() == ["cancelled"]
    assert jobs.state_of(successor) == "CANCELLED"
    assert jobs.jobs() == [job]
    assert jobs.queue() == []


def test_a_cancelled_successor_stays_cancelled(jobs: Jobs) -> None:
    """A person cancels the waiting successor: the link that runs ends as stopped, with 75, and submits no other."""
    job = start(jobs, options="--time-limit 40s --margin 25s --successor start")
    (successor,) = [event["job"] for event in jobs.until_event("submitted")]
    jobs.run("scancel", successor)
    assert jobs.until_over() == ["stopped"]
    assert "its successor was cancelled" in jobs.log()
    assert "75:0" in jobs.run("sacct", "-n", "-X", "-j", job, "-o", "exitcode") or jobs.state_of(job) == "FAILED"
    assert jobs.queue() == []


def test_scancel_of_both_at_once(jobs: Jobs) -> None:
    """`scancel A B`: neither comes back."""
    job = start(jobs, options=f"{LONG} --successor start")
    (successor,) = [event["job"] for event in jobs.until_event("submitted")]
    jobs.run("scancel", job, successor)
    assert jobs.until_over() == ["cancelled"]
    assert jobs.state_of(successor) == "CANCELLED"
    assert jobs.queue() == []


def test_a_person_requeues(jobs: Jobs) -> None:
    """`scontrol requeue`: no submission, the same job goes on from the checkpoint as attempt 2."""
    job = start(jobs)
    jobs.run("scontrol", "requeue", job)
    jobs.until_event("ended")
    assert jobs.outcomes() == ["requeued"]
    jobs.start_requeued(job)
    assert jobs.until_over() == ["requeued", "complete"]
    assert jobs.jobs() == [job, job]
    assert jobs.events("submitted") == []
    assert "resuming from" in jobs.log()


def test_preemption_in_its_four_ways(jobs: Jobs) -> None:
    """REQUEUE is Slurm's to go on with; after CANCEL a successor does. GraceTime 0 and 10, with `exec` and without.

    Without `exec` nobody is told, and the shell's death ends everything: a requeue goes on from the last whole checkpoint, and
    after a cancel the successor that `--successor start` had submitted.
    """
    victims = []
    for partition in ("requeue0", "requeue10", "cancel0", "cancel10"):
        for execute in ("exec ", ""):
            own = Jobs(jobs.lab, f"preempted-{partition}-{execute.strip() or 'without'}")
            net = "--successor start" if partition.startswith("cancel") and not execute else ""
            command = own.counter(9000, 0.1, "--hear USR1", options=f"{LONG} {net}", execute=execute)
            victims.append((partition, own, own.submit("-p", partition, "--cpus-per-task=4", own.script(command)), bool(execute)))
    for partition, own, _, execute in victims:
        own.until_line(r"^step 5$")
        if partition.startswith("cancel") and not execute:
            own.until_event("submitted")
    jobs.run("srun", "-Q", "-p", "prio", "--exclusive", "-n1", "true")
    for partition, own, job, execute in victims:
        if execute:
            own.until_event("ended")
            assert own.outcomes()[0] == ("requeued" if partition.startswith("requeue") else "continued"), own.story()
        if partition.startswith("requeue"):
            own.start_requeued(job)
        own.until_event("started", 2)
        own.until_line(r"resuming from")
        own.stop()
        assert "complete" not in own.outcomes()
        steps = own.steps()
        assert steps == sorted(steps), partition
        # The step that was being counted, in each start that was not told: while the graces last, a new start is preempted too.
        assert len(steps) - len(set(steps)) <= (0 if execute else len(own.jobs()) - 1), partition
        assert own.queue() == []


def test_the_limit_of_slurm_itself(jobs: Jobs) -> None:
    """A limit that was lowered behind our back: SIGTERM with Reason=TimeLimit, saved within KillWait, gone on in a new job."""
    job = jobs.submit(jobs.script(jobs.counter(100_000, 0.1, "--hear USR1")))
    jobs.until_line(r"^step 5$")
    jobs.run("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    jobs.until_event("started", 2)
    assert jobs.outcomes() == ["continued"]
    assert "time limit is over" in jobs.events("ended")[0]["reason"]
    assert jobs.state_of(job) == "TIMEOUT"
    jobs.stop()
    assert jobs.outcomes() == ["continued", "stopped"]


def test_without_exec_it_says_so_and_goes_on_by_its_own_timer(jobs: Jobs) -> None:
    """Without `exec` the timer works: the chain goes on, and the first line says what is missing and how to mend it."""
    short = "--time-limit 24s --margin 20s"
    jobs.submit(jobs.script(jobs.counter(16, 0.4, "--hear USR1", options=short, execute="") + "\necho after: $?"))
    outcomes = jobs.until_over()
    assert outcomes == ["continued"] * (len(outcomes) - 1) + ["complete"]
    assert jobs.steps() == list(range(1, 17))
    assert "write `exec ckptrun ...` as the last line" in jobs.log()


def test_without_exec_a_cancel_is_judged_by_the_successor(jobs: Jobs) -> None:
    """Without `exec` a cancel kills the link unheard; the successor that waited asks the controller, and does not train."""
    job = start(jobs, options=f"{LONG} --successor start", execute="")
    (successor,) = [event["job"] for event in jobs.until_event("submitted")]
    jobs.run("scancel", job)
    assert jobs.until_over() == ["cancelled"]
    assert jobs.state_of(successor) == "FAILED"
    assert jobs.jobs() == [job]
    assert jobs.queue() == []


@pytest.mark.parametrize("words", [("-b", "-s", "TERM"), ("-b", "-s", "USR1"), ("-f", "-s", "USR1")], ids=" ".join)
def test_without_exec_a_signal_ends_the_shell_and_the_waiting_successor_goes_on(jobs: Jobs, words: tuple[str, ...]) -> None:
    """The batch shell dies of it, and Slurm ends the rest unheard: `--successor start` goes on from the last whole checkpoint."""
    job = start(jobs, options=f"{LONG} --successor start", execute="")
    (successor,) = [event["job"] for event in jobs.until_event("submitted")]
    jobs.run("scancel", *words, job)
    jobs.until_event("ended", 2)
    assert jobs.until_over() == ["lost", "complete"], "its successor says that it died without a word, and goes on"
    assert jobs.jobs() == [job, successor]
    assert jobs.queue() == []
    steps = jobs.steps()
    assert sorted(set(steps)) == list(range(1, steps[-1] + 1)) and steps == sorted(steps) and steps[-1] >= jobs.near
    assert len(steps) <= steps[-1] + 1, "the step under way when the shell died, and no other, is counted again"


@pytest.mark.parametrize("mode", [(), ("--open-mode=append",)], ids=["log begun anew", "log appended to"])
def test_without_exec_a_person_requeues(jobs: Jobs, mode: tuple[str, ...]) -> None:
    """Nobody is told, and the same job goes on from the last whole checkpoint as attempt 2. What keeps its log was said before."""
    job = start(jobs, execute="", sbatch=mode)
    assert ("`#SBATCH --open-mode=append` keeps a requeue from emptying the log" in jobs.log()) is (not mode)
    jobs.run("scontrol", "requeue", job)
    jobs.start_requeued(job)
    assert jobs.until_over()[-1] == "complete"
    assert jobs.jobs() == [job, job]
    assert jobs.events("submitted") == []
    assert "resuming from" in jobs.log()
    steps = jobs.steps()
    if mode:
        assert sorted(set(steps)) == list(range(1, steps[-1] + 1)) and len(steps) <= steps[-1] + 1, "the step under way, no other"
    else:
        assert steps == list(range(steps[0], steps[-1] + 1)), "nobody was told in time to rename the log: Slurm has emptied it"
        assert steps[0] > 1


def test_a_training_that_slurm_tells_first_is_not_called_complete(jobs: Jobs) -> None:
    """A step hears of the preemption at once and exits 0 in the grace: its work goes on in a successor."""
    counter = f"{jobs.lab.home}/counter.py"
    command = f"exec ckptrun --checkpoint ck {LONG} srun python {counter} ck 5000 0.1 --hear TERM"
    own = Jobs(jobs.lab, "told-first")
    own.submit("-p", "requeue10", "--cpus-per-task=8", own.script(command))
    own.until_line(r"^step 5$")
    own.run("srun", "-Q", "-p", "prio", "--exclusive", "-n1", "true")
    own.until_event("started", 2)
    assert own.outcomes() == ["continued"]
    assert "preempted" in own.events("ended")[0]["reason"]
    own.stop()
