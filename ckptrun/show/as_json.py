"""A chain as JSON has it: docs/reference/json.md says what each name means, tests hold it against the schema."""

from __future__ import annotations

from typing import Any

from ckptrun.show.seen import SeenChain, SeenLink
from ckptrun.show.story import to_go_on


def summary(one: SeenChain) -> dict[str, Any]:
    """Return what the list says of a chain."""
    return {
        "id": one.id,
        "state": one.state,
        "reason": one.reason,
        "directory": one.directory,
        "created": one.created,
        "links": one.starts,
        "counted": one.counted,
        "max_links": one.bound,
        "seconds": round(one.seconds, 3),
        "max_time_s": one.max_time_s,
        "step": one.progress.step,
        "total": one.progress.total,
        "checkpoint_at": one.checkpoint_at,
        "heard_at": one.heard_at,
        "now": one.life._asdict() if one.life is not None else None,
        "stopped": one.stopped,
        "in_jobs": one.in_jobs,
        "to_go_on": to_go_on(one),
    }


def whole(one: SeenChain) -> dict[str, Any]:
    """Return everything that is shown of a chain."""
    totals = {name: round(value, 3) for name, value in one.totals._asdict().items()} | {"useful_s": round(one.totals.useful_s, 3)}
    facts: dict[str, Any] = {"command": list(one.command), "options": one.options, "totals": totals}
    facts |= {"progress": one.progress._asdict(), "oddities": list(one.oddities)}
    return summary(one) | facts | {"links": [link(found) for found in one.links]}


def link(one: SeenLink) -> dict[str, Any]:
    """Return one start of a link."""
    seconds = None if one.seconds is None else round(one.seconds, 3)
    saves = [save._asdict() for save in one.saves]
    return one._asdict() | {"saves": saves, "set_aside": list(one.set_aside), "seconds": seconds}
