"""The lab is what clusters are: what the other tests rest on."""

from __future__ import annotations

from pathlib import Path

from tests.cluster import install
from tests.cluster.lab import Lab


def test_a_job_of_the_user_runs_on_a_node_of_its_own_name(lab: Lab, tmp_path: Path) -> None:
    """A batch job runs as the unprivileged user, in cgroups, sees its node's name and this ckptrun; accounting knows it."""
    script = lab.home / "hello.sh"
    script.write_text("#!/bin/bash\nhostname; id -un; cat /proc/self/cgroup; python -m ckptrun --version\n")
    job = lab.run("sbatch", "--parsable", "--wait", f"--output={lab.home}/hello-%j.out", script, cwd=lab.home).strip()
    lines = (lab.home / f"hello-{job}.out").read_text().split("\n")
    assert lines[0] in ("n1", "n2")
    assert lines[1] == install.USER
    assert any("freezer" in line and f"job_{job}" in line for line in lines)
    assert lines[-2].startswith("ckptrun ")
    for _ in range(100):  # accounting is some moments behind
        if "COMPLETED" in lab.run("sacct", "-n", "-X", "-j", job, "-o", "state"):
            return
        lab.run("srun", "-Q", "-p", "batch", "true")
    raise AssertionError(f"accounting never knew how job {job} ended")


def test_three_nodes_and_their_partitions(lab: Lab) -> None:
    """Three nodes; one default partition, four that can be preempted in the four ways, and the one that preempts."""
    found = lab.run("scontrol", "-o", "show", "partition")
    for name, mode, grace in (
        ("requeue0", "REQUEUE", 0),
        ("requeue10", "REQUEUE", 10),
        ("cancel0", "CANCEL", 0),
        ("cancel10", "CANCEL", 10),
    ):
        line = next(line for line in found.splitlines() if line.startswith(f"PartitionName={name} "))
        assert f"PreemptMode={mode} " in line
        assert f"GraceTime={grace} " in line
    assert len(lab.run("sinfo", "-h", "-N", "-o", "%N").split()) >= 3
