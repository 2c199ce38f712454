"""Every state that can be reached, breadth first, so that the first counterexample is a shortest one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.model import invariants, leader, outside, person
from tests.model.rules import Rules
from tests.model.world import Bounds, Person, Step, World, first


class Explored(NamedTuple):
    """How many states there are, how many of them are at rest, and the first that must not be, with the steps that led to it."""

    states: int
    at_rest: int
    wrong: str = ""
    trace: tuple[str, ...] = ()


def own(world: World, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    """Yield what happens without anything going wrong: every ckptrun, every resume under way, and Slurm go on."""
    for index in range(len(world.leaders)):
        yield from leader.steps(world, index, bounds, rules)
    for index in range(len(world.people)):
        yield from person.steps(world, index, bounds, rules)
    yield from outside.ordinary(world)


def explore(bounds: Bounds, rules: Rules | None = None, *, ends: tuple[str, ...] = (), most: int = 10_000_000) -> Explored:
    """Visit every state within the bounds; stop at the first in which an invariant does not hold (one of `ends`, if given)."""
    rules = rules or Rules()
    start = first()._replace(people_left=bounds.people, stops_left=bounds.stops)
    seen = {hash(start)}
    parents: list[tuple[int, str]] = [(-1, "")]
    layer = [(0, start)]
    at_rest = 0
    while layer:
        following: list[tuple[int, World]] = []
        for number, world in layer:
            rests = True
            for label, after in own(world, bounds, rules):
                if sum(after.ills) == sum(world.ills) and after != world:
                    rests = False
                _visit(label, after, number, seen, parents, following)
            for label, after in outside.adverse(world, bounds):
                _visit(label, after, number, seen, parents, following)
            at_rest += rests
            wrong = invariants.broken(world)
            if rests and not wrong:
                wrong = invariants.broken_at_rest(world, leads_on_by(rules))
            if wrong and (not ends or any(wrong.startswith(end) for end in ends)):
                return Explored(len(parents), at_rest, wrong, _trace(parents, number))
        layer = following
        if len(parents) > most:
            raise MemoryError(f"more than {most} states")
    return Explored(len(parents), at_rest)


def _visit(
    label: str, after: World, number: int, seen: set[int], parents: list[tuple[int, str]], following: list[tuple[int, World]]
) -> None:
    # 64 bits tell a million states apart: two of them are the same by chance once in ten million runs.
    key = hash(after)
    if key in seen:
        return
    seen.add(key)
    parents.append((number, label))
    # What is wrong is told; nothing has to be known of what may follow it.
    following.append((len(parents) - 1, after))


def _trace(parents: list[tuple[int, str]], number: int) -> tuple[str, ...]:
    labels = []
    while number > 0:
        number, label = parents[number]
        labels.append(label)
    return tuple(reversed(labels))


def leads_on_by(rules: Rules) -> Callable[[World], str]:
    """Return the question whether `chain resume` leads on, under these rules."""
    return lambda world: leads_on(world, rules)


def leads_on(world: World, rules: Rules) -> str:
    """Return why `chain resume` does not lead on from a state at rest, empty where a training begins; nothing more goes wrong."""
    bounds = Bounds(0)
    last = "nothing happens"
    world = world._replace(people=(Person(),))
    for _ in range(100):
        found = next(own(world, bounds, rules), None)
        if found is None:
            return last
        label, world = found
        if label.startswith("resume: refuses"):
            last = label
        if any(one.trains for one in world.leaders):
            return ""
    return "it goes round in circles"
