"""`chain resume` on a real Slurm, after deaths of many kinds: it finds what is true, and does the one right thing once."""

from __future__ import annotations

import json
import re
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cluster import install
from tests.cluster.lab import Lab
from tests.end_to_end.jobs import Jobs

LONG = "--time-limit 4m"


def start(jobs: Jobs, options: str = LONG, *sbatch: str) -> str:
    """Submit a job that counts without an end, and wait until it has counted to 5; what follows it counts a little further."""
    job = jobs.submit(*sbatch, jobs.script(jobs.counter_to_goal("--hear USR1", options=options)))
    jobs.until_line(r"^step 5$")
    jobs.goal_is_near()
    return job


def kill_ckptrun(jobs: Jobs) -> None:
    """Kill the ckptrun of the last start, and with the batch shell all that is in its job."""
    (folder,) = (jobs.state / "chains").iterdir()
    turns = [json.loads(path.read_text()) for path in (folder / "turns").iterdir() if path.name.isdigit()]
    newest = max((turn for turn in turns if turn["kind"] == "start"), key=lambda turn: float(turn["at"]))
    jobs.lab.admin("kill", f"-{signal.SIGKILL.value}", str(newest["pid"]))


def resume(jobs: Jobs, *words: str) -> str:
    """Type `chain resume` and return all that it says."""
    return jobs.run("sh", "-c", 'ckptrun chain resume "$@" 2>&1', "sh", *words, check=False)


def under_limits(jobs: Jobs, limits: str, *words: str) -> str:
    """Type `chain resume` where /etc/ckptrun/config.yaml sets these limits: in a mount namespace whose /etc is a copy."""
    etc = jobs.folder / "etc"
    jobs.run("mkdir", "-p", etc / "ckptrun")
    jobs.run("tee", etc / "ckptrun" / "config.yaml", input=f"limits:\n  {limits}")
    jobs.run("cp", "/etc/passwd", "/etc/group", "/etc/hosts", "/etc/ld.so.cache", etc)
    user = f"--reuid={install.USER} --regid={install.USER} --init-groups"
    inside = f'mount --bind etc /etc && exec setpriv {user} ckptrun chain resume "$@" 2>&1'
    typed = ("unshare", "--mount", "sh", "-c", inside, "sh", *words)
    return jobs.lab.run(*typed, user=False, check=False, cwd=jobs.folder, env=jobs.environment)


def is_complete_once(jobs: Jobs) -> None:
    """The chain completes, all steps in order, with no job left and none twice."""
    jobs.until(lambda: "complete" in jobs.outcomes() or None)
    jobs.after(jobs.jobs()[-1])
    steps = jobs.steps()
    assert sorted(set(steps)) == list(range(1, steps[-1] + 1)) and steps[-1] >= jobs.near, jobs.story()
    assert steps == sorted(steps), jobs.story()
    assert "TWO AT ONCE" not in jobs.log()
    assert len(jobs.jobs()) == len(set(jobs.jobs()))
    assert jobs.queue() == []
    assert "complete: nothing is left to do" in resume(jobs)


def test_ckptrun_is_killed(jobs: Jobs) -> None:
    """No end turn, and its job is over: one link is submitted, however often and by however many it is typed."""
    job = start(jobs)
    assert f"runs as job {job}" in resume(jobs)
    kill_ckptrun(jobs)
    jobs.after(job)
    with ThreadPoolExecutor(3) as pool:
        said = list(pool.map(lambda _: resume(jobs), range(3)))
    queued = [text for text in said if "is queued as job" in text]
    assert len(queued) == 1, said
    others = [text for text in said if text not in queued]
    assert all(re.search("resumed by another|under way|waits in the queue|runs as job", text) for text in others), said
    is_complete_once(jobs)
    assert len(jobs.jobs()) == 2


def test_ckptrun_is_killed_and_its_successor_waits(jobs: Jobs) -> None:
    """The successor that was queued goes on by itself: nothing is to be resumed."""
    start(jobs, f"{LONG} --successor start")
    jobs.until_event("submitted")
    kill_ckptrun(jobs)
    is_complete_once(jobs)
    assert len(jobs.jobs()) == 2


def test_a_job_and_its_successor_are_cancelled(jobs: Jobs) -> None:
    """Cancelled is resumed by its name, not by `--all`; twice it does it once."""
    job = start(jobs, f"{LONG} --successor start")
    (successor,) = [event["job"] for event in jobs.until_event("submitted")]
    jobs.run("scancel", successor, job)
    jobs.until_over()
    assert "no chain is stranded or lost" in resume(jobs, "--all")
    assert "is queued as job" in resume(jobs)
    assert "is queued as job" not in resume(jobs)
    is_complete_once(jobs)


def test_a_node_is_lost(own_lab: Lab, own_jobs: Jobs) -> None:
    """Its job is requeued by Slurm and waits: `chain resume` lets it go at once, and submits nothing."""
    jobs = own_jobs
    job = jobs.submit("-w", "n1", jobs.script(jobs.counter(100_000, 0.1, "--hear USR1", options=LONG)))
    jobs.until_line(r"^step 5$")
    own_lab.admin("kill", "-9", str(own_lab.daemon("slurmd-n1")))
    own_lab.admin("scontrol", "update", "NodeName=n1", "State=DOWN", "Reason=lost")
    own_lab.admin("srun", "-Q", "-w", "n2", "true")
    jobs.run("scontrol", "update", f"JobId={job}", "ReqNodeList=n2")
    assert f"job {job} of chain" in resume(jobs)
    jobs.until_event("started", 2)
    assert jobs.jobs() == [job, job]
    assert jobs.events("submitted") == []
    jobs.stop()


def test_lost_and_stopped_with_all(lab: Lab) -> None:
    """`--all` goes on with the chain that died without a word, and leaves alone the one that was stopped and the one that runs."""
    jobs = Jobs(lab, "resume-all")
    chains = {}
    for name in ("lost", "stopped", "unheard"):
        execute = "" if name == "unheard" else "exec "
        training = f"python {jobs.lab.home}/counter.py ck-{name} 100000 0.1 --hear USR1"
        line = f"{execute}ckptrun --chain {name} --checkpoint ck-{name} --max-links 7 {training}"
        chains[name] = jobs.submit(jobs.script(line, name=f"{name}.sh"))
    jobs.until(lambda: all(list(jobs.folder.glob(f"ck-{name}/*.json")) for name in chains) or None)
    jobs.run("ckptrun", "chain", "stop", "stopped")
    turn = json.loads((jobs.state / "chains/lost/turns/1").read_text())
    lab.admin("kill", "-9", str(turn["pid"]))
    jobs.run("scancel", chains["unheard"])
    for job in chains.values():
        jobs.after(job)
    told = resume(jobs, "--all", "--dry-run", "--max-links", "9")
    assert "would submit link 2 of chain lost" in told
    assert "chain unheard is left alone: a job of it was cancelled" in told
    assert "stopped" not in told
    told = resume(jobs, "--all", "--max-links", "9")
    assert "link 2 of chain lost is queued" in told
    jobs.until(lambda: [event["link"] for event in jobs.events("started")].count(2) == 1 or None)
    assert "no chain is stranded or lost" in resume(jobs, "--all") or "unheard is left alone" in resume(jobs, "--all")
    shown = json.loads(jobs.run("ckptrun", "chain", "show", "lost", "--json"))["data"]
    assert shown["max_links"] == 9
    jobs.run("ckptrun", "chain", "stop", "lost")
    jobs.until(lambda: jobs.outcomes().count("stopped") == 2 or None)


def test_a_chain_of_another_cluster(jobs: Jobs) -> None:
    """Two clusters with one home: here nobody can see whether its jobs live, so nothing is submitted."""
    start(jobs)
    kill_ckptrun(jobs)
    jobs.after(jobs.jobs()[0])
    (record,) = jobs.state.glob("chains/*/chain.json")
    jobs.run("tee", record, input=record.read_text().replace('"cluster": "lab"', '"cluster": "other"'))
    assert "its jobs are those of cluster other, and this is lab" in resume(jobs)
    assert "is left alone: its jobs are those of cluster other" in resume(jobs, "--all")
    assert len(jobs.jobs()) == 1 and jobs.queue() == []


def test_another_script_and_other_options(jobs: Jobs) -> None:
    """`--script` says what differs, and later links have it too; options given to resume hold in place of the chain's."""
    start(jobs, f"{LONG} --max-links 3", "--mem=300")
    jobs.run("ckptrun", "chain", "stop")
    jobs.until_over()
    command = jobs.counter(100_000, 0.1, "--hear USR1", options=f"{LONG} --max-links 3")
    other = jobs.script(f"echo another script\n{command}", "--mem=500", name="other.sh")
    told = resume(jobs, "--script", str(other), "--time-limit", "3m", "--max-links", "8", "--dry-run")
    assert "+echo another script" in told and "would submit link 2" in told
    assert "#SBATCH --mem of" in told and "does not count: the chain's jobs are submitted with --mem=300" in told
    told = under_limits(jobs, "max-links: 7\n  max-time: 1h\n", "--max-links", "8", "--retries", "2", "--dry-run")
    assert "--max-links 8 (the command line) is above this site's limit: 7 counts (/etc/ckptrun/config.yaml, line 2)" in told
    assert "--max-links: 7 instead of 3" in told and "--retries: 2 instead of 0" in told and "max-time" not in told
    assert "/etc/ckptrun/config.yaml, line 2: limits: max-lnks" in under_limits(jobs, "max-lnks: 7\n", "--max-links", "8")
    assert "is queued as job" in resume(jobs, "--script", str(other), "--time-limit", "3m", "--max-links", "8")
    second = jobs.until_event("started", 2)[1]["job"]
    jobs.until(lambda: jobs.log().count("ready (pid") == 2 or None)
    jobs.go_on(second)
    assert jobs.log().count("another script") == 2
    assert [event["limit_s"] for event in jobs.events("started")] == [240.0, 180.0, 180.0]
    jobs.run("ckptrun", "chain", "stop")
    jobs.until_over()
    told = resume(jobs, "--time-limit", "2m", "--max-links", "8", "--dry-run")
    assert "--time-limit: 2 min instead of 3 min" in told and "--max-links" not in told, "as the last resume left it"


def test_a_script_above_the_limit_of_its_partition(jobs: Jobs) -> None:
    """Refused with the limit: sbatch would take the job, and it would wait for ever."""
    longer = jobs.script("exec ckptrun --chain x true", "--time=2:00:00", name="longer.sh")
    jobs.lab.admin("scontrol", "create", "PartitionName=resumed", "Nodes=n1", "MaxTime=60")
    try:
        jobs.submit("--partition=resumed", jobs.script("exec ckptrun --chain x false"))
        jobs.until(lambda: jobs.outcomes() == ["failed"] or None)
        jobs.after(jobs.jobs()[0])
        told = resume(jobs, "--script", str(longer))
    finally:
        jobs.lab.admin("scontrol", "delete", "PartitionName=resumed")
    assert f"--script {longer}: --time=2:00:00 is above 1 h, the limit of partition resumed" in told and "queued" not in told


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--all", "one"), 2, "--all goes on with every chain"),
        (("one", "two"), 2, "one chain at a time: one, two"),
        (("--max-lnks", "3"), 2, "did you mean --max-links?"),
        (("x", "--chain", "y"), 2, "--chain cannot be changed when a chain goes on"),
        (("x", "--config", "y"), 2, "--config cannot be changed when a chain goes on"),
        (("nothing",), 2, "no chain is called nothing"),
        (("x", "--script", "missing.sh"), 2, "--script missing.sh: No such file"),
        (("x", "--script", "plain.sh"), 125, "does not mention ckptrun"),
        (("x", "--script", "text"), 2, "whose first line is like"),
    ],
)
def test_what_has_no_meaning(jobs: Jobs, words: tuple[str, ...], code: int, said: str) -> None:
    """A sentence and a documented exit code, no traceback, and nothing is submitted."""
    if words[0] == "x":
        jobs.run("tee", "plain.sh", input="#!/bin/bash\ntrue\n")
        jobs.run("tee", "text", input="ckptrun\n")
        jobs.submit(jobs.script("exec ckptrun --chain x false"))
        jobs.until(lambda: jobs.outcomes() == ["failed"] or None)
        jobs.after(jobs.jobs()[0])
    told = jobs.run("sh", "-c", 'ckptrun chain resume "$@" 2>&1; echo code $?', "sh", *words)
    assert said in told and told.endswith(f"code {code}\n"), told
    assert "Traceback" not in told
