"""A node that Slurm has given up while its processes live on: the old training has stopped before the new one starts.

The measured times are printed; docs/explanation/fencing.md names them.
"""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

import pytest

from ckptrun.chain.turns import Turns
from ckptrun.job.succession import FENCING_S
from tests.cluster.lab import Lab
from tests.end_to_end import trials
from tests.end_to_end.harness import CHILDREN, Ckptrun
from tests.end_to_end.jobs import Jobs


def test_who_is_replaced_stops_its_training_and_writes_nothing(ckptrun: Ckptrun) -> None:
    """A start of another node in the turns: a training that ignores TERM is gone within the fencing time, exit 75, no end."""
    command = (str(CHILDREN / "counter.py"), "ck", "100000", "0.05", "--ignore")
    running = ckptrun.start("--time-limit", "1h", "--checkpoint", "ck", "--chain", "fenced", "--", "python", *command)
    running.until("step 3")
    turns = Turns(str(ckptrun.home / "chains/fenced/turns"))
    last = turns.read()[-1]
    turns.take("start", last.facts | {"node": "elsewhere", "boot_id": "another"}, after=last.number)
    replaced_at = time.time()
    text = running.end(75)
    newest = max(path.stat().st_mtime for path in (ckptrun.folder / "ck").iterdir())
    print(f"the last write came {newest - replaced_at:.1f} s after the replacement's turn")
    assert newest - replaced_at < FENCING_S
    assert "another start has taken over" in text
    assert [turn.kind for turn in turns.read()] == ["start", "start"]
    assert ckptrun.events("ended") == []


def test_a_turn_that_comes_between_judging_and_starting_is_judged_again(jobs: Jobs) -> None:
    """The predecessor's `term` takes the number of the successor's start: it reads that, judges again, and the chain goes on."""
    before = f"export PYTHONPATH={CHILDREN / 'races'} CKPTRUN_TEST_RACE={jobs.folder}/overtaken\n"
    line = jobs.counter(20, 0.3, "--hear USR1 --tell", options="--time-limit 24s --margin 22s")
    jobs.submit(jobs.script(line, before=before))
    trials.lead_on(jobs, 0)
    trials.check(jobs, 20)
    assert (jobs.folder / "overtaken").exists()
    assert [turn.kind for turn in trials.turns(jobs)][:4] == ["start", "end", "term", "start"]


def behind_a_fence(jobs: Jobs, options: str, *words: str) -> str:
    """Submit a chain whose first link, by its ledger, was started on a node that is lost; return the job that waits for its end."""
    line = jobs.counter(5000, 0.1, "--hear USR1 --tell", options=f"--successor start {options}")
    jobs.submit(jobs.script(line, "--no-requeue", *words))
    jobs.until_line("^step 3$")
    second = str(jobs.until_event("submitted")[0]["job"])
    jobs.run("python", "-c", _ANOTHER_NODE)
    jobs.until_line("waiting until nothing of it can be at work any more")
    return second


_ANOTHER_NODE = """
import glob
from ckptrun.chain.turns import Turns
turns = Turns(glob.glob("state/chains/*/turns")[0])
last = turns.read()[-1]
turns.take("start", last.facts | {"node": "elsewhere", "boot_id": "another"}, after=last.number)
"""


def test_a_time_limit_that_is_shorter_than_the_fence(jobs: Jobs) -> None:
    """`--time-limit` begins when the wait is over: the link that waited has its time, and is asked at its end."""
    behind_a_fence(jobs, "--time-limit 8s --margin 4s")
    started = jobs.until_event("started", 2)[1]
    assert started["ask_at"] - _at(started) > 3.0, "the whole limit is before it"
    _cancel(jobs)


def test_a_fence_that_takes_the_time_until_the_ask(jobs: Jobs) -> None:
    """The job itself ends too soon after the wait: it hands over, and starts nothing; the next one waits for nobody any more."""
    second = behind_a_fence(jobs, "--margin 55s", "--time=1")
    jobs.until(lambda: any(event["link"] == 2 for event in jobs.events("ended")) or None)
    ended = next(event for event in jobs.events("ended") if event["link"] == 2)
    assert (ended["outcome"], "until its checkpoint time" in ended["reason"]) == ("continued", True)
    jobs.until(lambda: any(event["link"] == 3 for event in jobs.events("child_started")) or None)
    assert [event["link"] for event in jobs.events("child_started")] == [1, 3]
    log = (jobs.folder / f"count_{second}.out").read_text()
    assert "nothing is started, the next job goes on" in log and "\nfrom " not in log
    third = next(path for path in jobs.folder.glob("*.out") if "link 3 of" in path.read_text())
    assert "waiting until nothing of it" not in third.read_text()
    _cancel(jobs)


def test_a_link_that_is_told_to_go_on_while_it_waits(jobs: Jobs) -> None:
    """A person's SIGTERM, like the limit's: the next job is submitted all the same."""
    second = behind_a_fence(jobs, "")
    jobs.run("scancel", "-b", "-s", "TERM", second)
    jobs.until(lambda: any(event["link"] == 2 for event in jobs.events("ended")) or None)
    assert [event["outcome"] for event in jobs.events("ended") if event["link"] == 2] == ["continued"]
    assert [event["successor"] for event in jobs.events("submitted")] == [2, 3]
    _cancel(jobs)


@pytest.mark.long
def test_a_lost_node_whose_processes_live_on(own_lab: Lab, own_jobs: Jobs) -> None:
    """Its slurmd alone is killed: its training stops within the fencing time, for which its replacement waits."""
    jobs = own_jobs
    jobs.submit(
        jobs.script(jobs.counter(5000, 0.1, "--ignore --tell", options="--successor start"), "--exclude=n3", "--no-requeue")
    )
    jobs.until_line("^step 5$")
    jobs.until_event("submitted")
    killed_at = time.time()
    own_lab.kill_daemon(f"slurmd-{_start(jobs, 1)['node']}")
    jobs.until_event("child_started", 2, limit_s=180.0)
    taken, trains = _start(jobs, 2)["at"], _at(jobs.events("child_started")[1])
    # What was written after the second training had begun is its own: the steps from there on have newer files.
    last_write = max(at for path in (jobs.folder / "ck").iterdir() if (at := path.stat().st_mtime) < trains)
    print(
        f"slurmd killed at 0; the replacement's turn {taken - killed_at:.1f} s, the old training's last write "
        f"{last_write - taken:+.1f} s from there, the new training {trains - taken:+.1f} s"
    )
    assert _start(jobs, 1)["node"] != _start(jobs, 2)["node"]
    assert last_write - taken < FENCING_S <= trains - taken
    jobs.until_line("another start has taken over")
    _end(jobs)


@pytest.mark.long
def test_a_lost_node_that_comes_back_and_gets_the_successor(own_lab: Lab, own_jobs: Jobs) -> None:
    """The node's slurmd returns and ends what it finds, which takes KillWait; the successor, on the same node, waits for that."""
    jobs = own_jobs
    script = jobs.script(
        jobs.counter(5000, 0.1, "--ignore --tell", options="--successor start"),
        "--nodelist=n1",
        "--no-requeue",
        "--open-mode=append",
    )
    first = jobs.submit(script)
    jobs.until_line("^step 5$")
    jobs.until_event("submitted")
    own_lab.kill_daemon("slurmd-n1")
    _until_given_up(jobs, first)
    own_lab.restart_daemon("slurmd-n1")
    jobs.until_event("child_started", 2, limit_s=180.0)
    _end(jobs)


def _cancel(jobs: Jobs) -> None:
    jobs.run("ckptrun", "chain", "stop", "--now")
    for job in jobs.queue():
        jobs.after(job)


def _start(jobs: Jobs, link: int) -> dict[str, object]:
    return next(turn.facts for turn in trials.turns(jobs) if turn.kind == "start" and turn.facts["link"] == link)


def _at(event: dict[str, object]) -> float:
    return datetime.fromisoformat(str(event["at"]).replace("Z", "+00:00")).timestamp()


def _until_given_up(jobs: Jobs, job: str) -> None:
    """Wait until the controller says that the job's node has failed."""
    # A job of root's on the other node, that waits for it, starts then.
    jobs.lab.admin("srun", "-Q", "-p", "batch", "-w", "n2", "-d", f"afterany:{job}", "true")
    assert "NODE_FAIL" in jobs.run("scontrol", "-o", "show", "job", job)


def _end(jobs: Jobs) -> None:
    """Stop the chain; two trainings at once would have said so."""
    jobs.until(lambda: len(_trained(jobs.folder)) > 1 or None)
    jobs.run("ckptrun", "chain", "stop")
    for job in jobs.queue():
        jobs.after(job)
    assert "TWO AT ONCE" not in jobs.log(), jobs.story()


def _trained(folder: Path) -> list[Path]:
    """Return the logs of the jobs that have trained."""
    return [path for path in folder.glob("*.out*") if "\nready " in path.read_text(errors="replace")]
