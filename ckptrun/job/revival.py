"""PURE. What `chain resume` does with a chain, from its turns and from those of its jobs that the queue shows.

Rules of this file. It decides and touches nothing. It refuses while something of the chain works, or waits and was not cancelled;
never for good, unless the chain is complete. A cancel counts only for what came after the last resume: the same line typed twice
goes on once. A requeued job that waits is not submitted again but let go at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ckptrun.chain.ledger import Turn, final_outcome, highest_link
from ckptrun.slurm.parse import Queued

# From the turn to the note of its job: an sbatch that is not answered, and the looks at the queue after it.
UNDER_WAY_S = 60.0
# Pending reasons of a job that only its begin time holds.
_HELD_BACK = ("BeginTime", "None", "Cleaning")


class OfChain(NamedTuple):
    """One of a chain's jobs in the queue, and its link."""

    queued: Queued
    link: int


class Revival(NamedTuple):
    """What to do: nothing, and why (`refused`); let a requeued job start now (`hasten`); or submit `link`.

    Before a submission the turn after number `after` is taken, and then, not earlier, the jobs in `cancel` are cancelled: until
    the turn is ours, a job that waits may be what another has just submitted.
    """

    refused: str = ""
    hasten: str = ""
    link: int = 0
    cancel: tuple[str, ...] = ()
    after: int = 0


class Resumed(NamedTuple):
    """The last resume of a chain: its link, when it took its turn (Unix time), and whether its job, or a refusal, was noted."""

    link: int
    at: float
    answered: bool


def revive(
    chain: str, turns: Sequence[Turn], highest_intent: int, jobs: Sequence[OfChain], last: Resumed | None, now: float
) -> Revival:
    """Return what to do. `last` is the last resume where no link has started since, None for none."""
    if final_outcome(tuple(turns)) == "complete":
        return Revival(refused=f"chain {chain} is complete: nothing is left to do")
    at_work = next((one.queued for one in jobs if one.queued.at_work), None)
    if at_work is not None:
        return Revival(refused=f"chain {chain} runs as job {at_work.job}: nothing is submitted")
    waiting = [one.queued for one in jobs if one.queued.waiting]
    if waiting and not _cancelled_since_resumed(turns, jobs):
        return _of_waiting(chain, turns, waiting)
    if last is not None and _is_under_way(last, jobs, now):
        return Revival(
            refused=f"chain {chain} was resumed {now - last.at:.0f} s ago, and that submission may be under way: look in a minute"
        )
    # Never link 1: that is the job which began the chain, whether it has taken a turn or not.
    link = max(highest_intent, highest_link(tuple(turns)), 1) + 1
    return Revival(link=link, cancel=tuple(one.job for one in waiting), after=turns[-1].number if turns else 0)


def _is_under_way(last: Resumed, jobs: Sequence[OfChain], now: float) -> bool:
    return not last.answered and 0 <= now - last.at < UNDER_WAY_S and all(one.link < last.link for one in jobs)


def _cancelled_since_resumed(turns: Sequence[Turn], jobs: Sequence[OfChain]) -> bool:
    resumed = max((int(turn.facts.get("link", 0)) for turn in turns if turn.kind == "resume"), default=0)
    return any(one.queued.state == "CANCELLED" and one.link >= resumed for one in jobs)


def _of_waiting(chain: str, turns: Sequence[Turn], waiting: Sequence[Queued]) -> Revival:
    started = {str(turn.facts.get("job")) for turn in turns if turn.kind == "start"}
    requeued = next((one for one in waiting if one.job in started), None)
    if requeued is not None and requeued.reason in _HELD_BACK:
        return Revival(hasten=requeued.job)
    first = requeued or waiting[0]
    release = f"; `scontrol release {first.job}` lets it go" if "Held" in first.reason or "held" in first.reason else ""
    return Revival(refused=f"chain {chain} waits in the queue as job {first.job} ({first.reason}){release}: nothing is submitted")


def goes_with_all(state: str, job_state: str, jobs: Sequence[OfChain]) -> str | None:
    """Return why `--all` leaves a chain alone, None where it goes on: stranded or lost, and cancelled by nobody.

    `job_state` is how the controller or accounting says that its last job ended, empty where neither knows.
    """
    if state not in ("stranded", "lost"):
        return f"it is {state}"
    cancelled = next((one.queued.job for one in jobs if one.queued.state == "CANCELLED"), None)
    if state == "lost" and (cancelled is not None or job_state == "CANCELLED"):
        return "a job of it was cancelled; it goes on only by its name"
    return None
