"""A person who types `chain resume`, or `chain stop`, step by step, in the order of `resume` and `stopping`."""

from __future__ import annotations

from collections.abc import Iterator

from ckptrun.chain.ledger import Turn, final_outcome
from ckptrun.job.protocol import successor_in
from ckptrun.job.revival import UNDER_WAY_S, OfChain, Resumed
from ckptrun.slurm.answers import Answer
from tests.model.leader import cancel, submissions
from tests.model.rules import Rules
from tests.model.world import (
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
    note_of,
    put,
    queue,
    read,
    shown,
    stop_said,
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
        yield f"{'stop' if me.at.startswith('stop') else 'resume'}: {label}", after._replace(people=tuple(sorted(people)))


def _steps(world: World, me: Person, bounds: Bounds, rules: Rules) -> Iterator[tuple[str, World, Person | None]]:
    if me.at.startswith("stop"):
        yield from _stop(world, me, bounds, rules)
    elif me.at == "read":
        yield "reads the turns", world, me._replace(at="look", read=len(world.turns))
        if world.turns and bounds.allows(world, Ill.STALE):
            yield "reads the turns without the last", ill(world, Ill.STALE), me._replace(at="look", read=len(world.turns) - 1)
    elif me.at == "look":
        yield from _look(world, me, bounds, rules)
    elif me.at == "cancel":
        rest = me.in_vain[1:]
        then = me._replace(in_vain=rest, at="cancel" if rest else "intend" if me.turn else "turn")
        after = cancel(world, me.in_vain[0])
        if me.robs and any(mark.kind == "resume" and mark.link in _links(world, me.in_vain[0]) - {me.link} for mark in world.turns):
            after = after._replace(wrong=after.wrong or "a chain was resumed, and another resume has cancelled its job")
        yield f"cancels job {me.in_vain[0]}, which waits in vain", after, then
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


def _links(world: World, number: int) -> set[int]:
    return {job.link for job in world.jobs if job.id == number}


def _look(world: World, me: Person, bounds: Bounds, rules: Rules) -> Iterator[tuple[str, World, Person | None]]:
    turns = read(world.turns[: me.read])
    mine = tuple(OfChain(one, job.link) for one, job in zip(queue(world), shown(world), strict=True) if job.link)
    last = _last_resume(world, turns)
    for answered, word, asked in answers(world, bounds):
        if not answered:
            yield f"refuses{word}", asked, None
            continue
        found = rules.revive("c", turns, max(world.intents, default=0), mine, last, 0.0)
        if found.refused or found.hasten:
            yield f"refuses: {found.refused or 'a requeued job waits'}", asked, None
            continue
        then = me._replace(link=found.link, robs=not world.cancelled, in_vain=tuple(int(job) for job in found.cancel), at="turn")
        if "resume takes its turn before it cancels" in rules.without and found.cancel:
            then = then._replace(at="cancel")
        yield f"may go on with link {found.link}", asked, then


def _last_resume(world: World, turns: tuple[Turn, ...]) -> Resumed | None:
    """Return the last resume: a moment ago while it is under way, long ago where it was killed."""
    if not turns or turns[-1].kind != "resume":
        return None
    link = int(turns[-1].facts["link"])
    under_way = any(one.turn == turns[-1].number for one in world.people)
    return Resumed(link, 0.0 if under_way else -2 * UNDER_WAY_S, link in world.refused or note_of(world, link) != 0)


def _turn(world: World, me: Person, rules: Rules) -> Iterator[tuple[str, World, Person | None]]:
    at = "cancel" if me.in_vain else "intend"
    if "the turn resume" in rules.without:
        yield "takes no turn", world._replace(cancelled=False, stopped=False), me._replace(turn=len(world.turns), at=at)
        return
    behind = len(world.turns) if "the turn behind the one judged by" in rules.without else me.read
    after = with_turn(world, Mark("resume", me.link), behind)
    if after is None:
        yield "refuses: another was first", world, None
        return
    after = after._replace(cancelled=False, stopped=False)
    yield f"takes turn {behind + 1}, resume", after, me._replace(turn=behind + 1, read=0, at=at)


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


# --- chain stop


def _stop(world: World, me: Person, bounds: Bounds, rules: Rules) -> Iterator[tuple[str, World, Person | None]]:
    if me.at == "stop read":
        if final_outcome(read(world.turns)) is not None:
            yield "refuses: the chain has ended", world, None
            return
        yield "reads the turns", world, me._replace(at="stop mark", read=len(world.turns))
        if world.turns and bounds.allows(world, Ill.STALE):
            yield "reads the turns without the last", ill(world, Ill.STALE), me._replace(at="stop mark", read=len(world.turns) - 1)
    elif me.at == "stop mark":
        yield "leaves its mark", world._replace(mark=me.read), me._replace(at="stop look", read=0)
    elif me.at == "stop look":
        yield from _stop_look(world, me, bounds, rules)
    elif me.at == "stop cancel":
        job = me.in_vain[0]
        if me.working and world.waiter == job:
            world = world._replace(waiter=me.working)
        rest = me.in_vain[1:]
        yield f"cancels job {job}", cancel(world, job), me._replace(in_vain=rest, at="stop cancel" if rest else "stop tell")
    else:
        yield "tells who trains, and says that it is done", _stopped(_tell(world, me), me), None


def _stop_look(world: World, me: Person, bounds: Bounds, rules: Rules) -> Iterator[tuple[str, World, Person | None]]:
    """Look at the queue; then at the turns once more: a resume that was not visible had made the mark void."""
    for answered, word, asked in answers(world, bounds):
        if not answered:
            yield f"refuses{word}", asked, None
            continue
        if not stop_said(asked) and "a stop reads the turns again" not in rules.without:
            asked = asked._replace(mark=len(asked.turns))  # noqa: PLW2901
        lines = [(job, one) for job, one in zip(shown(world), queue(world), strict=True) if job.link]
        waiting = tuple(job.id for job, one in lines if one.waiting)
        working = max((job.id for job, one in lines if one.at_work), default=0)
        then = me._replace(in_vain=waiting, working=working, at="stop cancel" if waiting else "stop tell")
        yield "looks at the queue", asked, then


def _tell(world: World, me: Person) -> World:
    for place, leader in enumerate(world.leaders):
        if leader.job == me.working and leader.trains and not leader.term and not (world.lost_node and leader.node == 1):
            return put(world, place, leader._replace(term=1))
    return world


def _stopped(world: World, me: Person) -> World:
    """Return the world in which a person was told that the chain is stopped, unless another has gone on with it meanwhile."""
    gone_on = any(mark.kind == "resume" for mark in world.turns[me.began :])
    return world if gone_on else world._replace(stopped=True)
