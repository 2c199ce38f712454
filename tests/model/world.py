"""The model's world as values: the ledger, the controller, the nodes, every ckptrun and every person, and what went wrong so far.

Rule of the model: a step is one act on something that others see (a file, a question to the controller), so that a crash between
any two acts is a state of its own. What a ckptrun knows stands in its `Leader`; what it decides, in `ckptrun.job.protocol`.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from ckptrun.chain.ledger import Turn, stop_stands
from ckptrun.slurm.parse import JobRecord, Queued

FOLDER = "/home/chains/c/links"
Step = tuple[str, "World"]


class Ill(IntEnum):
    """What can go wrong or is done from outside; every exploration has a bound for all of them together and for each."""

    CRASH = 0
    LOST_ANSWER = 1
    LATE = 2
    REFUSED = 3
    LIMIT = 4
    SILENT = 5
    AMNESIA = 6
    LOST_NODE = 7
    REQUEUE = 8
    CANCEL = 9
    STALE = 10
    PURGE = 11
    FAILURE = 12
    TERM = 13
    FORGOTTEN = 14


# After these alone a chain goes on without a person.
GENTLE = frozenset({Ill.LOST_ANSWER, Ill.LATE, Ill.LIMIT, Ill.LOST_NODE, Ill.REQUEUE, Ill.STALE, Ill.TERM, Ill.FORGOTTEN})


class Mark(NamedTuple):
    """A turn, as a value that can be hashed."""

    kind: str
    link: int
    job: int = 0
    restart: int = 0
    node: int = 0
    outcome: str = ""
    course: str = ""
    trained: bool = True


class Job(NamedTuple):
    """A job as the controller knows it. `link` 0 is a job of somebody else's, with an id that was handed out again.

    `fresh`: a controller that crashes has forgotten it. `shown`: MinJobAge is not over. `ending` says why it ends, if it was told
    to; `unheard`: it was cancelled, and its ckptrun could not hear that.
    """

    id: int
    link: int
    base: int
    waits: int = 0
    state: str = "PENDING"
    restart: int = 0
    requeue: bool = True
    node: int = 0
    fresh: bool = True
    shown: bool = True
    ending: str = ""
    unheard: bool = False

    @property
    def at_work(self) -> bool:
        """Return whether it has a node."""
        return self.state in ("RUNNING", "COMPLETING")

    @property
    def over(self) -> bool:
        """Return whether it has ended."""
        return not self.at_work and self.state != "PENDING"

    @property
    def script(self) -> str:
        """Return what the queue shows as its script."""
        return script_of(self.link) if self.link != 1 else "/home/job.sh"


class Leader(NamedTuple):
    """One ckptrun in a job. `at` is the step that comes next, `turn` its own last turn, `read` how many turns it judged by.

    `term`: 1 for a SIGTERM that has arrived, 2 for one whose turn is taken. `doubt`: 1 while a submission was never answered, 2
    when MinJobAge has passed since. `late`: it was started after a scancel, and no person has gone on since. `stops`: it has found
    the mark of a `chain stop`; `halted`: there was one to be found.
    """

    job: int
    restart: int
    link: int
    base: int
    node: int
    at: str = "judge"
    read: int = 0
    noted: int = 0
    siblings: bool = False
    after: int = 0
    fence: tuple[int, ...] | None = None
    turn: int = 0
    trains: bool = False
    trained: bool = False
    term: int = 0
    course: str = ""
    outcome: str = ""
    doubt: int = 0
    successor: int = 0
    handed: str = ""
    seen: bool = False
    again: int = 0
    first_turn: int = 0
    late: bool = False
    stops: bool = False
    halted: bool = False


class Person(NamedTuple):
    """One `chain resume` or `chain stop` under way. `robs`: when it looked nobody had cancelled anything since the last resume.

    Of a stop: `working` is the job that runs, `began` how many turns there were when it was typed.
    """

    at: str = "read"
    read: int = 0
    link: int = 0
    turn: int = 0
    in_vain: tuple[int, ...] = ()
    job: int = 0
    robs: bool = False
    working: int = 0
    began: int = 0


class World(NamedTuple):
    """One state. `waiter` is the job that somebody's `afterok` waits for, 0 when he was released, -1 when he never will be.

    `hurried`: Slurm has ended a job while its ckptrun was handing over or ending, so that a person may have to go on.
    `mark` is the turn at which `chain stop` was said last, -1 for never; `stopped`: a person was told so, and nobody has gone on.
    """

    turns: tuple[Mark, ...] = ()
    intents: frozenset[int] = frozenset()
    old_intents: frozenset[int] = frozenset()
    refused: frozenset[int] = frozenset()
    notes: frozenset[tuple[int, int]] = frozenset()
    jobs: tuple[Job, ...] = ()
    leaders: tuple[Leader, ...] = ()
    people: tuple[Person, ...] = ()
    listening: tuple[Job, ...] = ()
    next_id: int = 2
    waiter: int = 1
    lost_node: bool = False
    cancelled: bool = False
    hurried: bool = False
    complete: bool = False
    people_left: int = 0
    stops_left: int = 0
    mark: int = -1
    stopped: bool = False
    ills: tuple[int, ...] = (0,) * len(Ill)
    wrong: str = ""


class Bounds(NamedTuple):
    """How much may go wrong: in all, of each kind; how many links there are, how many people resume, whether accounting is on.

    `patient`: people resume only when no job of the chain is left. `stops`: how many type `chain stop`.
    """

    ills: int
    links: int = 3
    each: dict[Ill, int] = {}  # noqa: RUF012 (never written to)
    people: int = 0
    accounting: bool = True
    patient: bool = False
    stops: int = 0

    def allows(self, world: World, ill: Ill) -> bool:
        """Return whether one more of a kind may happen."""
        return sum(world.ills) < self.ills and world.ills[ill] < self.each.get(ill, 1)

    def __str__(self) -> str:
        people = f"{self.people} people" if self.people != 1 else "1 person"
        people += f", {self.stops} stop" if self.stops else ""
        return f"{self.ills} ills, {self.links} links, {people}, accounting {'on' if self.accounting else 'off'}"


SHORT = (
    Bounds(2, 2, accounting=False),
    Bounds(2, 2, {Ill.FORGOTTEN: 0}, accounting=True),
    Bounds(1, 2, people=2, accounting=False),
    Bounds(1, 3, people=1, accounting=False),
    Bounds(0, 2, people=1, accounting=False, stops=1),
    Bounds(1, 2, {one: 0 for one in Ill if one not in (Ill.LATE, Ill.CRASH, Ill.STALE)}, accounting=False, stops=1),
)
LONG = (
    Bounds(2, 3, accounting=False),
    Bounds(2, 2, people=1, accounting=False),
    Bounds(2, 2, {Ill.FORGOTTEN: 0}, people=1, accounting=True),
    Bounds(1, 2, accounting=False, stops=1),
)


def first() -> World:
    """Return the first state: link 1 of a chain is about to start, and a job of the user's waits for it with `afterok`."""
    return World(jobs=(Job(1, 1, 0, fresh=False),))


def script_of(link: int) -> str:
    """Return a link's script."""
    return f"{FOLDER}/{link}/script" if link else "/home/other.sh"


# --- the ledger


@lru_cache(maxsize=1 << 16)
def read(turns: tuple[Mark, ...]) -> tuple[Turn, ...]:
    """Return the turns as the code reads them."""
    return tuple(Turn(number, mark.kind, _facts(mark)) for number, mark in enumerate(turns, 1))


@lru_cache(maxsize=1 << 12)
def _facts(mark: Mark) -> dict[str, object]:
    facts: dict[str, object] = {"link": mark.link}
    if mark.kind == "start":
        facts |= {"job": str(mark.job), "restart": mark.restart, "node": f"n{mark.node}", "batch_shell": True}
    if mark.kind == "end":
        facts |= {"outcome": mark.outcome, "trained": mark.trained}
    if mark.course:
        facts |= {"reason": mark.course, "course": mark.course}
    return facts


def with_turn(world: World, mark: Mark, after: int) -> World | None:
    """Return the world with a turn after number `after`; None where another has it."""
    return world._replace(turns=(*world.turns, mark)) if len(world.turns) == after else None


def stop_said(world: World) -> bool:
    """Return whether a `chain stop` counts, as everybody reads it."""
    return world.mark >= 0 and stop_stands(reversed(read(world.turns)), world.mark)


def note_of(world: World, link: int) -> int:
    """Return the job that was noted for a link, 0 for none."""
    return next((job for one, job in world.notes if one == link), 0)


def with_note(world: World, link: int, job: int) -> World:
    """Return the world with a link's job noted."""
    return world._replace(notes=frozenset({one for one in world.notes if one[0] != link} | {(link, job)}))


# --- the controller


def job_of(world: World, number: int) -> Job | None:
    """Return a job that the controller has not forgotten."""
    return next((job for job in world.jobs if job.id == number), None)


def with_job(world: World, number: int, **facts: object) -> World:
    """Return the world with a job changed."""
    return world._replace(jobs=tuple(job._replace(**facts) if job.id == number else job for job in world.jobs))  # type: ignore[arg-type]


def queue(world: World) -> tuple[Queued, ...]:
    """Return what squeue shows."""
    return _lines(shown(world))


def shown(world: World) -> tuple[Job, ...]:
    """Return the jobs that the queue shows, those that have ended included until MinJobAge is over."""
    return tuple(job for job in world.jobs if job.shown)


@lru_cache(maxsize=1 << 16)
def _lines(jobs: tuple[Job, ...]) -> tuple[Queued, ...]:
    return tuple(Queued(str(job.id), job.state, "Dependency" if job.waits else "None", "", job.script) for job in jobs)


def jobs_of(world: World, link: int) -> tuple[Queued, ...]:
    """Return the jobs of a link's script in the queue."""
    return tuple(one for one in queue(world) if one.runs(script_of(link)))


def record_of(world: World, number: int) -> JobRecord | None:
    """Return what `scontrol show job` says; None for a job that the controller does not know."""
    job = job_of(world, number)
    if job is None or not job.shown:
        return None
    return JobRecord(
        job.state, "None", job.restart, None, None, None, job.requeue, True, job.script, "/", {"BatchHost": f"n{job.node}"}
    )


def state_of(world: World, number: int, *, accounting: bool) -> str:
    """Return a job's state from the controller, else from accounting."""
    job = job_of(world, number)
    return "" if job is None or not (job.shown or accounting) else job.state


def accept(world: World, job: Job) -> World:
    """Return the world with a submission accepted: it is given the next id."""
    return world._replace(jobs=(*world.jobs, job._replace(id=world.next_id)), next_id=world.next_id + 1)


def over(world: World, number: int, code: int, state: str = "") -> World:
    """Return the world after a job's end: by its own exit, a kill, or (`state`) because Slurm gave it up."""
    job = job_of(world, number)
    if job is None:
        return world
    if job.ending == "requeue":
        return with_job(world, number, state="PENDING", ending="", node=0)
    ended = "CANCELLED" if job.ending == "cancel" else state or ("FAILED" if code else "COMPLETED")
    world = with_job(world, number, state=ended, ending="")
    if world.waiter == number:
        world = world._replace(waiter=0 if ended == "COMPLETED" else -1)
    return world


# --- what is written with


def ill(world: World, kind: Ill) -> World:
    """Return the world in which one more thing has gone wrong."""
    return world._replace(ills=tuple(count + (number == kind) for number, count in enumerate(world.ills)))


def put(world: World, index: int, leader: Leader | None) -> World:
    """Return the world with a leader changed, or gone."""
    rest = world.leaders[:index], world.leaders[index + 1 :]
    return world._replace(leaders=(*rest[0], *(() if leader is None else (leader,)), *rest[1]))


def answers(world: World, bounds: Bounds) -> Iterator[tuple[bool, str, World]]:
    """Yield whether the controller answers a question that is not asked again, the word for it, and the world then."""
    yield True, "", world
    if bounds.allows(world, Ill.SILENT):
        yield False, " (no answer)", ill(world, Ill.SILENT)
