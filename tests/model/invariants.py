"""What must hold in every state, and what in every state at rest: each a function that says what is wrong, or nothing."""

from __future__ import annotations

from collections.abc import Callable

from tests.model.world import GENTLE, Ill, World

ONE_SUCCESSOR = "two jobs of one link train"
ONE_SUBMISSION = "two jobs of one link are submitted, and no answer came late"
ONE_TRAINING = "two trainings of one chain live at once"
CANCELLED_STAYS = "something trains after a scancel, and no person has gone on"
COMPLETE_STAYS = "a complete chain trains again"
FAILED_STAYS = "a chain that has failed trains again, and no person has gone on"
WAITS_FOR_THE_CHAIN = "who waits for the chain is released before it is complete"
NOTHING_FOREIGN = "a job that is not ours is cancelled"
NOTHING_LOST = "work is left, and `chain resume` does not lead on"
STOP_STAYS = "a link trains that has started after a `chain stop`, and no person has gone on"
RESUMED = "a chain was resumed, and another resume has cancelled its job"
GOES_ON = "work is left, nobody has cancelled, killed, forgotten or refused anything, and the chain does not go on by itself"

ALL = (
    *(ONE_SUCCESSOR, ONE_SUBMISSION, ONE_TRAINING, CANCELLED_STAYS, COMPLETE_STAYS, FAILED_STAYS),
    *(WAITS_FOR_THE_CHAIN, NOTHING_FOREIGN, NOTHING_LOST, GOES_ON, RESUMED, STOP_STAYS),
)


def broken(world: World) -> str:
    """Return what is wrong with a state, empty for nothing."""
    return world.wrong or _one_successor(world) or _one_submission(world) or _waits_for_the_chain(world)


def broken_at_rest(world: World, leads_on: Callable[[World], str]) -> str:
    """Return what is wrong with a state from which nothing happens any more."""
    return _goes_on(world) or _nothing_lost(world, leads_on)


def _one_successor(world: World) -> str:
    """At most one job of a link takes the turn to train."""
    jobs: dict[int, int] = {}
    for mark in world.turns:
        if mark.kind == "start" and jobs.setdefault(mark.link, mark.job) != mark.job:
            return ONE_SUCCESSOR
    return ""


def _one_submission(world: World) -> str:
    """Of the jobs of a link one waits or works, unless one was accepted after it had been looked for."""
    links = [job.link for job in world.jobs if not job.over]
    return ONE_SUBMISSION if len(links) != len(set(links)) and not world.ills[Ill.LATE] else ""


def _waits_for_the_chain(world: World) -> str:
    """Who waits with `afterok` for a link is released by a complete chain only."""
    return WAITS_FOR_THE_CHAIN if world.waiter == 0 and not world.complete else ""


def _is_complete(world: World) -> bool:
    return any(mark.outcome == "complete" for mark in world.turns)


def _goes_on(world: World) -> str:
    """What only delays, or takes nodes away, needs no person."""
    if any(mark.kind == "resume" for mark in world.turns) or world.mark >= 0:
        return ""
    gentle = not world.hurried and all(not count or Ill(kind) in GENTLE for kind, count in enumerate(world.ills))
    return GOES_ON if gentle and not _is_complete(world) else ""


def _nothing_lost(world: World, leads_on: Callable[[World], str]) -> str:
    """Where work is left, the next `chain resume` leads on, whatever has happened: nothing refuses for ever."""
    if _is_complete(world):
        return ""
    why = leads_on(world)
    return f"{NOTHING_LOST}: {why}" if why else ""
