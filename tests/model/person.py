"""A person who types `chain resume`, step by step, in the order of `people`."""

from __future__ import annotations

from collections.abc import Iterator

from ckptrun.link.protocol import Resumption, successor_in
from ckptrun.slurm.parse import Answer
from tests.model.leader import cancel, submissions
from tests.model.rules import Rules
from tests.model.world import (
    FOLDER,
    Bounds,
    Ill,
    Job,
    Mark,
    Person,
    Step,
    World,
    answers,
    ill,
    jobs_of,
    queue,
    read,
    with_note,
    with_turn,
)


def steps(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    """Yield what this person's command may do next."""
    me = world.people[index]
    for label, after, then in _steps(world, me, bounds, rules):
        people = [*after.people]
        people[index : index + 1] = [] if then is None else [then]
        # Two people are the same to everybody: their order tells nothing.
        yield f"resume: {label}", after._replace(people=tuple(sorted(people)))


def _steps(world: World, me: Person, bounds: Bounds, rules: Rules) -> Iterator[tuple[str, World, Person | None]]:
    if me.at == "read":
        yield "reads the turns", world, me._replace(at="look", read=len(world.turns))
        if world.turns and bounds.allows(world, Ill.STALE):
            yield "reads the turns without the last", ill(world, Ill.STALE), me._replace(at="look", read=len(world.turns) - 1)
    elif me.at == "look":
        yield from _look(world, me, bounds, rules)
    elif me.at == "cancel":
        after, rest = cancel(world, me.in_vain[0]), me.in_vain[1:]
        yield f"cancels job {me.in_vain[0]}, which waits in vain", after, me._replace(in_vain=rest, at="cancel" if rest else me_next(me))
    elif me.at == "turn":
        yield from _turn(world, me, rules)
    elif me.at == "intend":
        yield f"takes the intent for link {me.link}", world._replace(intents=world.intents | {me.link}), me._replace(at="submit")
    elif me.at == "submit":
        yield from _submit(world, me, bounds)
    elif me.at == "find":
        yield from _find(world, me)
    elif me.at == "refused":
        yield "notes that it was refused, and gives up", world._replace(refused=world.refused | {me.link}), None
    else:
        yield f"notes job {me.job}", with_note(world, me.link, me.job), None


def me_next(me: Person) -> str:
    """Return what follows when nothing waits in vain any more: the turn, where that was not taken first."""
    return "intend" if me.turn else "turn"


def _look(world: World, me: Person, bounds: Bounds, rules: Rules) -> Iterator[tuple[str, World, Person | None]]:
    turns = world.turns[: me.read]
    for answered, word, asked in answers(world, bounds):
        if not answered:
            yield f"refuses{word}", asked, None
            continue
        mine = tuple(one for one in queue(world) if one.command.startswith(f"{FOLDER}/") or one.job == "1")
        found = rules.resumption("c", read(turns), mine, max(world.intents, default=0), FOLDER)
        if not isinstance(found, Resumption):
            yield f"refuses: {found}", asked, None
            continue
        in_vain = tuple(job.number for job in found.in_vain)
        then = me._replace(link=found.link, in_vain=in_vain, at="turn")
        if "the turn comes before the cancel" in rules.without and in_vain:
            then = then._replace(at="cancel")
        yield f"may go on with link {found.link}", asked, then


def _turn(world: World, me: Person, rules: Rules) -> Iterator[tuple[str, World, Person | None]]:
    mark = Mark("resume", me.link)
    if "the turn resume" in rules.without:
        yield "takes no turn", world._replace(cancelled=False), me._replace(turn=len(world.turns), at="cancel" if me.in_vain else "intend")
        return
    after = with_turn(world, mark, me.read if "the turn behind the one judged by" not in rules.without else len(world.turns))
    if after is None:
        yield "refuses: another was first", world, None
        return
    after = after._replace(cancelled=False)
    turn = len(after.turns)
    yield f"takes turn {turn}, resume", after, me._replace(turn=turn, read=0, at="cancel" if me.in_vain else "intend")


def _submit(world: World, me: Person, bounds: Bounds) -> Iterator[tuple[str, World, Person | None]]:
    for answer, label, after, number in submissions(world, Job(0, me.link, me.turn), bounds):
        at = {Answer.ACCEPTED: "note", Answer.UNKNOWN: "find"}.get(answer, "refused")
        yield f"submits link {me.link}: {label}", after, me._replace(at=at, job=number)


def _find(world: World, me: Person) -> Iterator[tuple[str, World, Person | None]]:
    found = successor_in(jobs_of(world, me.link))
    if found.job is not None:
        yield f"looks for its job: {found.job}", world, me._replace(at="note", job=found.job.number)
    else:
        yield "looks for its job: nothing, and gives up", world, None
