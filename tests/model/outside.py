"""What happens from outside: the controller, the nodes, scancel, and every crash."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.leader import BEFORE_THE_TURN, DEAF, gone
from tests.model.world import (
    Bounds,
    Ill,
    Job,
    Leader,
    Person,
    Step,
    World,
    accept,
    ill,
    job_of,
    note_of,
    over,
    put,
    with_job,
)


def ordinary(world: World) -> Iterator[Step]:
    """Yield what comes in its time: jobs start, submissions are heard, a lost node is given up, KillWait is over."""
    for job in world.jobs:
        if job.state == "PENDING" and job.link and _is_free(world, job.waits):
            yield from _started(world, job)
        if job.at_work and job.node == 1 and world.lost_node:
            yield f"Slurm gives up the node of job {job.id}", _given_up(world, job)
    for place, job in enumerate(world.listening):
        rest = world.listening[:place] + world.listening[place + 1 :]
        after = accept(world, job)._replace(listening=rest)
        yield f"the controller hears the submission of link {job.link}: job {world.next_id}", after
    for place, leader in enumerate(world.leaders):
        held = job_of(world, leader.job)
        if held is not None and held.ending and leader.term == 2 and not _is_lost(world, leader):
            yield f"KillWait is over: job {leader.job} is killed", crashed(world._replace(hurried=True), place)


def _is_free(world: World, waits: int) -> bool:
    held = job_of(world, waits)
    return held is None or held.over  # a job that the controller does not know counts as over


def _started(world: World, job: Job) -> Iterator[Step]:
    # A node does not start a job whose last run it still has.
    busy = {leader.node for leader in world.leaders if leader.job == job.id}
    node = next(node for node in (1, 2, 3) if node not in busy and not (node == 1 and world.lost_node))
    leader = Leader(job.id, job.restart, job.link, job.base, node, late=world.cancelled)
    after = with_job(world, job.id, state="RUNNING", node=node, fresh=False)
    yield f"job {job.id} starts on n{node}", after._replace(leaders=(*world.leaders, leader))


def _given_up(world: World, job: Job) -> World:
    if job.requeue and not job.ending:
        return with_job(world, job.id, state="PENDING", restart=job.restart + 1, node=0)
    if any(leader.job == job.id and leader.term == 1 for leader in world.leaders):
        world = with_job(world, job.id, unheard=job.ending == "cancel")
    return over(world, job.id, 1, "NODE_FAIL")


def _is_lost(world: World, leader: Leader) -> bool:
    return world.lost_node and leader.node == 1


def crashed(world: World, index: int) -> World:
    """Return the world after a ckptrun was killed: Slurm ends what is left of its job, unless it has lost the node."""
    leader = world.leaders[index]
    rest = put(world, index, None)
    if _is_lost(world, leader):
        return rest
    if leader.term == 1:
        rest = with_job(rest, leader.job, unheard=True)
    return gone(rest, leader, 1)


def adverse(world: World, bounds: Bounds) -> Iterator[Step]:
    """Yield what may go wrong or be done from outside, within the bounds."""
    if sum(world.ills) < bounds.ills:
        for place, leader in enumerate(world.leaders):
            if bounds.allows(world, Ill.CRASH):
                yield f"the ckptrun of job {leader.job} is killed", crashed(ill(world, Ill.CRASH), place)
            if bounds.allows(world, Ill.TERM) and leader.trains and not leader.term and not _is_lost(world, leader):
                sent = put(ill(world, Ill.TERM), place, leader._replace(term=1))
                yield f"a person sends SIGTERM to job {leader.job}", sent
        for place in range(len(world.people)):
            if bounds.allows(world, Ill.CRASH):
                people = world.people[:place] + world.people[place + 1 :]
                yield "a person's command is killed", ill(world, Ill.CRASH)._replace(people=people)
        if bounds.allows(world, Ill.LOST_NODE) and not world.lost_node and any(job.at_work and job.node == 1 for job in world.jobs):
            yield "node n1 is lost; what runs there runs on", ill(world, Ill.LOST_NODE)._replace(lost_node=True)
        for job in world.jobs:
            yield from _done_to(world, job, bounds)
        if bounds.allows(world, Ill.PURGE) and any(job.over and job.shown and not job.unheard for job in world.jobs):
            yield "MinJobAge passes", _purged(ill(world, Ill.PURGE))
    if world.stops_left:
        stop = Person("stop read", began=len(world.turns))
        begun = world._replace(stops_left=world.stops_left - 1, people=tuple(sorted((*world.people, stop))))
        yield "a person types `chain stop`", begun
    if world.people_left and not (bounds.patient and any(job.link and not job.over for job in world.jobs)):
        begun = world._replace(people_left=world.people_left - 1, people=tuple(sorted((*world.people, Person()))))
        yield "a person types `chain resume`", begun


def _done_to(world: World, job: Job, bounds: Bounds) -> Iterator[Step]:
    # Between a look and what is done about it at once no controller crashes, starts again and hands out an id.
    at_once = any(person.at in ("turn", "cancel", "stop cancel") for person in world.people)
    if bounds.allows(world, Ill.AMNESIA) and job.fresh and job.state == "PENDING" and not at_once:
        yield from _forgotten(ill(world, Ill.AMNESIA), job)
    if bounds.allows(world, Ill.CANCEL) and job.link and not job.over and not job.ending:
        cancelled = world.cancelled or _is_next(world, job)
        yield f"scancel {job.id}", _told(ill(world, Ill.CANCEL)._replace(cancelled=cancelled), job, "cancel")
    if bounds.allows(world, Ill.REQUEUE) and job.state == "RUNNING" and job.requeue and not (world.lost_node and job.node == 1):
        again = with_job(ill(world, Ill.REQUEUE), job.id, restart=job.restart + 1)
        yield f"Slurm requeues job {job.id}", _told(again, job, "requeue")

    # From the look whether the job is its own to sbatch no controller crashes, starts again and runs the job a second time.
    submits = any(leader.job == job.id and leader.at == "submit" for leader in world.leaders)
    if bounds.allows(world, Ill.FORGOTTEN) and job.state == "RUNNING" and not job.ending and not submits:
        forgotten = with_job(ill(world, Ill.FORGOTTEN), job.id, state="PENDING", node=0)
        yield f"the controller forgets that job {job.id} has started", forgotten


def _is_next(world: World, job: Job) -> bool:
    """Return whether a job is the one that trains or one that is to: not one that came too late, another being its link.

    Nor one that waits in vain since somebody has gone on above it.
    """
    starts = [mark for mark in world.turns if mark.kind == "start"]
    above = any(mark.kind == "resume" and mark.link > job.link for mark in world.turns)
    if above or note_of(world, job.link) not in (0, job.id):
        return False
    return not starts or job.id == starts[-1].job or job.link > max(mark.link for mark in starts)


def _told(world: World, job: Job, ending: str) -> World:
    """Return the world in which Slurm ends a job; what runs in it hears SIGTERM, unless its node is lost or it is leaving."""
    if job.state == "PENDING":
        # One that has run, and was requeued: nobody of it is left to hear.
        unheard = ending == "cancel" and any(mark.job == job.id for mark in world.turns)
        world = with_job(world, job.id, state="CANCELLED", unheard=unheard)
        return world._replace(waiter=-1) if world.waiter == job.id else world
    world = with_job(world, job.id, state="COMPLETING", ending=ending)
    for place, leader in enumerate(world.leaders):
        if leader.job != job.id or leader.node != job.node:
            continue
        if leader.at in BEFORE_THE_TURN and not (world.lost_node and job.node == 1):
            return gone(put(with_job(world, job.id, unheard=ending == "cancel"), place, None), leader)
        if leader.at in DEAF or (world.lost_node and job.node == 1):
            return with_job(world, job.id, unheard=ending == "cancel")
        return put(world, place, leader._replace(term=1, course=""))
    return world


def _forgotten(world: World, job: Job) -> Iterator[Step]:
    """A controller that crashes forgets a job that it has just accepted, and gives its id to the next: perhaps to somebody else."""
    jobs = tuple(one for one in world.jobs if one.id != job.id)
    waiter = 0 if world.waiter == job.id else world.waiter
    if job.id == world.next_id - 1:
        yield f"the controller forgets job {job.id}", world._replace(jobs=jobs, waiter=waiter, next_id=job.id)
    other = Job(job.id, 0, 0, state="RUNNING", fresh=False)
    told = f"the controller forgets job {job.id} and gives its id to somebody else"
    yield told, world._replace(jobs=(*jobs, other))


def _purged(world: World) -> World:
    jobs = tuple(job._replace(shown=False) if job.over and not job.unheard else job for job in world.jobs)
    leaders = tuple(leader._replace(doubt=2) if leader.doubt == 1 else leader for leader in world.leaders)
    return world._replace(jobs=jobs, leaders=leaders, old_intents=world.intents)
