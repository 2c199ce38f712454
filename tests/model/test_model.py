"""The protocol holds in every state within the bounds, and each of its rules is there for a reason that the model can show."""

from __future__ import annotations

import pytest

from tests.model import invariants
from tests.model.explore import Explored, explore
from tests.model.mutations import MUTATIONS, Mutation
from tests.model.world import LONG, SHORT, Bounds


def told(found: Explored) -> str:
    """Return what is wrong, and the steps that lead there."""
    return "\n".join((found.wrong, *(f"{number:3} {label}" for number, label in enumerate(found.trace, 1))))


@pytest.mark.parametrize("bounds", SHORT, ids=str)
def test_the_protocol_holds(bounds: Bounds) -> None:
    """No state within the bounds breaks an invariant; their number is printed (`-s`)."""
    found = explore(bounds)
    print(f"\n{bounds}: {found.states} states, {found.at_rest} at rest")
    assert not found.wrong, told(found)
    assert found.states > 10_000, "the model does next to nothing"


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("bounds", LONG, ids=str)
def test_the_protocol_holds_within_larger_bounds(bounds: Bounds) -> None:
    """The same, where more goes wrong, in longer chains, and with people about."""
    found = explore(bounds)
    print(f"\n{bounds}: {found.states} states, {found.at_rest} at rest")
    assert not found.wrong, told(found)


@pytest.mark.parametrize("one", MUTATIONS, ids=lambda one: one.rule)
def test_what_a_rule_is_good_for(one: Mutation) -> None:
    """Without the rule the invariant breaks that it is there for; where nothing breaks, it is said what the rule spares."""
    found = explore(one.bounds, one.rules, ends=(one.breaks,) if one.breaks else ())
    print("\n" + told(found))
    assert found.wrong.startswith(one.breaks) and bool(found.wrong) == bool(one.breaks), told(found)
    assert bool(one.breaks) != bool(one.why)


@pytest.mark.parametrize("one", [one for one in MUTATIONS if one.breaks], ids=lambda one: one.rule)
def test_the_counterexample_needs_the_mutation(one: Mutation) -> None:
    """Within the same bounds the whole protocol holds: it is the missing rule that breaks it."""
    found = explore(one.bounds)
    assert not found.wrong, told(found)


def test_every_invariant_is_broken_by_a_mutation() -> None:
    """An invariant that nothing can break says nothing."""
    broken = {one.breaks for one in MUTATIONS}
    assert set(invariants.ALL) - broken == {invariants.NOTHING_FOREIGN}, "which is shown below"


def test_an_id_alone_is_nobodys() -> None:
    """A controller that forgets a job and gives its id to somebody else: who cancelled by the id would cancel that."""
    from tests.model.leader import cancel
    from tests.model.world import Job, World

    other = World(jobs=(Job(2, 0, 0, state="RUNNING"),))
    assert invariants.broken(cancel(other, 2)) == invariants.NOTHING_FOREIGN
