"""What `chain resume` does after every kind of death, as histories: these turns, that queue, this one thing."""

from __future__ import annotations

from typing import Any

import pytest

from ckptrun.chain.ledger import Turn
from ckptrun.job import revival
from ckptrun.job.revival import OfChain, Resumed, Revival
from ckptrun.slurm.parse import Queued


def turns(*told: tuple[str, dict[str, Any]]) -> tuple[Turn, ...]:
    """Return turns, numbered from 1."""
    return tuple(Turn(number, kind, facts) for number, (kind, facts) in enumerate(told, 1))


def start(link: int, job: int, restart: int = 0) -> tuple[str, dict[str, Any]]:
    """A job starts a link."""
    return "start", {"link": link, "job": str(job), "restart": restart}


def end(outcome: str) -> tuple[str, dict[str, Any]]:
    """A link ends."""
    return "end", {"outcome": outcome, "link": 1}


def again(link: int) -> tuple[str, dict[str, Any]]:
    """A person goes on with the chain."""
    return "resume", {"link": link}


def job(number: int, link: int, state: str, reason: str = "None") -> OfChain:
    """One of the chain's jobs in the queue."""
    return OfChain(Queued(str(number), state, reason, "", f"/c/links/{link}/script"), link)


def revive(known: tuple[Turn, ...], *jobs: OfChain, intent: int = 0, last: Resumed | None = None, now: float = 1000.0) -> Revival:
    """Return what is done."""
    return revival.revive("c", known, intent, jobs, last, now)


@pytest.mark.parametrize(
    ("known", "jobs", "intent", "found"),
    [
        # ckptrun killed while it trained: no end, the job is over
        ([start(1, 5)], [job(5, 1, "FAILED")], 0, Revival(link=2, after=1)),
        # ... and forgotten by the controller
        ([start(1, 5)], [], 0, Revival(link=2, after=1)),
        # killed between the intent and sbatch: an intent without a job
        ([start(1, 5)], [job(5, 1, "FAILED")], 2, Revival(link=3, after=1)),
        # killed after sbatch, before the end turn; the successor, lost with the controller, is in no queue
        ([start(1, 5), ("term", {})], [], 2, Revival(link=3, after=2)),
        # an end without a job: continued, and the successor is gone
        ([start(1, 5), end("continued")], [job(5, 1, "COMPLETED")], 2, Revival(link=3, after=2)),
        # stranded by a limit: the intent of link 2 was refused
        ([start(1, 5), end("stranded")], [job(5, 1, "FAILED")], 2, Revival(link=3, after=2)),
        # the job was cancelled, and its successor waits without a chance
        ([start(1, 5)], [job(5, 1, "CANCELLED"), job(6, 2, "PENDING")], 2, Revival(link=3, cancel=("6",), after=1)),
        # the successor was cancelled
        ([start(1, 5), end("stopped")], [job(5, 1, "FAILED"), job(6, 2, "CANCELLED")], 2, Revival(link=3, after=2)),
        # the node was lost, without a requeue
        ([start(1, 5)], [job(5, 1, "NODE_FAIL")], 0, Revival(link=2, after=1)),
        # a resume that died after its turn
        ([start(1, 5), end("stopped"), again(3)], [job(5, 1, "FAILED")], 2, Revival(link=4, after=3)),
        # a chain of which no link has started
        ([], [], 0, Revival(link=2)),
    ],
)
def test_the_one_right_thing(known: list[tuple[str, dict[str, Any]]], jobs: list[OfChain], intent: int, found: Revival) -> None:
    """After each death one link is submitted, above every intent and turn, built on the last turn."""
    assert revive(turns(*known), *jobs, intent=intent) == found


@pytest.mark.parametrize(
    ("known", "jobs", "why"),
    [
        ([start(1, 5), end("complete")], [], "is complete"),
        ([start(1, 5)], [job(5, 1, "RUNNING")], "runs as job 5"),
        ([start(1, 5)], [job(5, 1, "COMPLETING")], "runs as job 5"),
        (
            [start(1, 5), end("continued")],
            [job(5, 1, "COMPLETED"), job(6, 2, "PENDING", "Resources")],
            "waits in the queue as job 6",
        ),
        ([start(1, 5), end("continued")], [job(6, 2, "PENDING", "JobHeldUser")], "scontrol release 6"),
        # the same line typed twice: the job that was cancelled belongs to the time before the first
        ([start(1, 5), again(3)], [job(5, 1, "CANCELLED"), job(7, 3, "PENDING", "Priority")], "waits in the queue as job 7"),
    ],
)
def test_what_it_refuses(known: list[tuple[str, dict[str, Any]]], jobs: list[OfChain], why: str) -> None:
    """Complete, at work, or waiting: nothing is submitted and nothing cancelled."""
    found = revive(turns(*known), *jobs, intent=3)
    assert why in found.refused
    assert found == Revival(refused=found.refused)


def test_a_requeued_job_is_let_go() -> None:
    """Lost with its node, preempted, or requeued for want of room: it waits two minutes, and need not."""
    known = turns(start(1, 5), end("requeued"))
    assert revive(known, job(5, 1, "PENDING", "BeginTime"), intent=2) == Revival(hasten="5")
    waits = [job(5, 1, "PENDING", "BeginTime"), job(6, 2, "PENDING", "Dependency")]
    assert revive(known, *waits, intent=2) == Revival(hasten="5")
    assert "Resources" in revive(known, job(5, 1, "PENDING", "Resources")).refused


def test_two_people_at_once() -> None:
    """The second finds the first's turn and no job yet: he is told to look in a minute, and after it he may."""
    known = turns(start(1, 5), end("stopped"), again(2))
    assert "may be under way" in revive(known, last=Resumed(2, 990.0, answered=False)).refused
    assert revive(known, last=Resumed(2, 990.0, answered=True)) == Revival(link=3, after=3)
    assert revive(known, last=Resumed(2, 900.0, answered=False)) == Revival(link=3, after=3)
    assert revive(known, last=Resumed(2, 5000.0, answered=False)) == Revival(link=3, after=3), (
        "a clock that is wrong refuses nothing"
    )


@pytest.mark.parametrize(
    ("state", "job_state", "jobs", "goes"),
    [
        ("stranded", "", [], True),
        ("lost", "", [], True),
        ("lost", "FAILED", [], True),
        ("lost", "NODE_FAIL", [], True),
        ("lost", "CANCELLED", [], False),
        ("lost", "COMPLETED", [job(6, 2, "CANCELLED")], False),
        ("running", "", [], False),
        ("complete", "", [], False),
        ("cancelled", "CANCELLED", [], False),
        ("stopped", "", [], False),
        ("failed", "FAILED", [], False),
        ("requeued", "", [], False),
        ("new", "", [], False),
    ],
)
def test_with_all(state: str, job_state: str, jobs: list[OfChain], goes: bool) -> None:
    """Stranded and lost chains go on, no others; one whose job somebody cancelled only by its name."""
    assert (revival.goes_with_all(state, job_state, jobs) is None) is goes
