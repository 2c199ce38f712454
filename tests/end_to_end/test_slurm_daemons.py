"""A controller that is down, frozen, or loses an answer: one successor each time."""

from __future__ import annotations

from tests.cluster.lab import Lab
from tests.end_to_end.jobs import Jobs

REAL_SBATCH = "/usr/bin/sbatch"


def test_the_controller_is_down_at_the_checkpoint_time(own_lab: Lab, own_jobs: Jobs) -> None:
    """slurmctld is stopped before the ask and comes back later: the training has saved, and one successor goes on."""
    jobs = own_jobs
    jobs.submit(jobs.script(jobs.counter(60, 0.2, "--hear USR1", options="--time-limit 44s --margin 38s")))
    jobs.until_line(r"^step 5$")
    own_lab.admin("kill", str(own_lab.daemon("slurmctld")))
    jobs.until_line("the controller does not answer; trying again")
    own_lab.start_daemon("slurmctld", "-D")
    outcomes = jobs.until_over()
    assert outcomes == ["continued"] * (len(outcomes) - 1) + ["complete"]
    assert jobs.steps() == list(range(1, 61))
    assert len(jobs.jobs()) == len(set(jobs.jobs())) == len(outcomes)
    assert {event["successor"] for event in jobs.events("submitted")} >= {*range(2, len(outcomes) + 1)}


def test_the_controller_freezes_in_the_middle_of_sbatch(own_lab: Lab, own_jobs: Jobs) -> None:
    """sbatch times out, and the job was taken all the same: it is found in the queue, not submitted again."""
    jobs = own_jobs
    gate = f"touch reached; read < {jobs.folder}/gate"
    _wrap_sbatch(jobs, f'if [ ! -e reached ]; then {gate}; fi; exec {REAL_SBATCH} "$@"')
    jobs.run("mkfifo", "gate")
    jobs.submit(jobs.script(_own_path(jobs) + jobs.counter(50, 0.2, "--hear USR1", options="--time-limit 26s --margin 20s")))
    jobs.until(lambda: (jobs.folder / "reached").exists() or None)
    controller = str(own_lab.daemon("slurmctld"))
    own_lab.admin("kill", "-STOP", controller)
    with (jobs.folder / "gate").open("w") as gate_file:
        gate_file.write("go\n")
    jobs.until_line("did not say whether it took the next job")
    own_lab.admin("kill", "-CONT", controller)
    _one_successor_each(jobs, 50)


def test_sbatch_is_killed_after_the_job_was_taken(jobs: Jobs) -> None:
    """sbatch is accepted and dies before it prints the id: the job is found by its path, not submitted again."""
    _wrap_sbatch(jobs, f'{REAL_SBATCH} "$@" > /dev/null; kill -9 $$')
    jobs.submit(jobs.script(_own_path(jobs) + jobs.counter(50, 0.2, "--hear USR1", options="--time-limit 26s --margin 20s")))
    jobs.until_line("did not say whether it took the next job")
    _one_successor_each(jobs, 50)


def _wrap_sbatch(jobs: Jobs, text: str) -> None:
    """Put a program called sbatch before the real one, for the jobs of this folder alone."""
    jobs.run("mkdir", "-p", "bin")
    tried = f'[ "$1" != --test-only ] || exec {REAL_SBATCH} "$@"'
    jobs.run("tee", "bin/sbatch", input=f"#!/bin/bash\n{tried}\ncd {jobs.folder}\n{text}\n")
    jobs.run("chmod", "+x", "bin/sbatch")


def _own_path(jobs: Jobs) -> str:
    return f"PATH={jobs.folder}/bin:$PATH\n"


def _one_successor_each(jobs: Jobs, steps: int) -> None:
    outcomes = jobs.until_over()
    assert outcomes == ["continued"] * (len(outcomes) - 1) + ["complete"]
    assert jobs.steps() == list(range(1, steps + 1))
    assert len(jobs.jobs()) == len(set(jobs.jobs())) == len(outcomes)
    assert [jobs.state_of(job) for job in jobs.jobs()] == ["COMPLETED"] * len(outcomes)
    submitted = jobs.run("squeue", "--me", "-h", "-t", "all", "-o", "%o").splitlines()
    scripts = [line for line in submitted if str(jobs.state) in line]  # of the last link's, too, where it was asked on its way out
    assert len(scripts) == len(set(scripts)) >= len(outcomes) - 1, submitted
