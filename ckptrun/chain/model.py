"""PURE. Events and turns -> a chain as a value: its links, its state, its totals, and what its bounds count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ckptrun.plan import from_json, overridden
from ckptrun.words import Save

SAVES_REMEMBERED = 10
Event = dict[str, Any]


class LastStart(NamedTuple):
    """The chain's last start, and when it ended (Unix seconds): None where it died without a word."""

    link: int
    attempt: int
    ended_at: float | None = None


class ChainSoFar(NamedTuple):
    """What the bounds and the margin stand on.

    `starts`, `running_s`, `stalled`, `short`, `unsaved`, `retries` and `taken_away` count anew after a person has gone on with the
    chain; a start that the cluster took away is in the last one only;
    `best_step`, `seen_whole`, the last ten `saves` and the `last` start belong to the whole chain.
    """

    starts: int = 0
    running_s: float = 0.0
    stalled: int = 0
    short: int = 0
    unsaved: int = 0
    retries: int = 0
    best_step: int | None = None
    seen_whole: bool = False
    saves: tuple[Save, ...] = ()
    starts_in_all: int = 0
    taken_away: int = 0
    last: LastStart | None = None


def so_far(events: Sequence[Event]) -> ChainSoFar:
    """Return what the events of a chain add up to. Events of unknown kinds count nothing."""
    found = ChainSoFar()
    for event in events:
        kind = event.get("event")
        if kind == "joined":
            found = found._replace(starts=0, running_s=0.0, stalled=0, short=0, unsaved=0, retries=0, taken_away=0)
        elif kind == "started":
            last = LastStart(int(event.get("link") or 0), int(event.get("attempt") or 1))
            found = found._replace(starts=found.starts + 1, starts_in_all=found.starts_in_all + 1, last=last)
            found = _seen(found, event)
        elif kind == "appeared":
            found = _seen(found, event)
        elif kind == "saved":
            save = Save(float(event.get("seconds") or 0.0), bool(event.get("asked")), bool(event.get("cut")))
            found = _seen(found, event)._replace(saves=(found.saves + (save,))[-SAVES_REMEMBERED:])
        elif kind == "ended":
            found = _ended(_seen(_last_ended(found, event), event), event)
    return found


def _last_ended(found: ChainSoFar, event: Event) -> ChainSoFar:
    """Take in when the last start ended. A link that ended before its training started is none."""
    last, at = found.last, event.get("ended_at")
    if last is None or (last.link, last.attempt) != (event.get("link"), event.get("attempt")) or not isinstance(at, (int, float)):
        return found
    return found._replace(last=last._replace(ended_at=float(at)))


def _seen(found: ChainSoFar, event: Event) -> ChainSoFar:
    if event.get("checkpoint") or (event.get("event") in ("saved", "appeared") and event.get("path")):
        found = found._replace(seen_whole=True)
    step = event.get("step")
    if isinstance(step, int) and (found.best_step is None or step > found.best_step):
        found = found._replace(best_step=step)
    return found


def _ended(found: ChainSoFar, event: Event) -> ChainSoFar:
    progress = event.get("progress")
    stalled = found.stalled + 1 if event.get("reached_ask") and progress is False else 0
    retries = 0 if progress else found.retries + bool(event.get("retried"))
    if event.get("taken_away"):
        running_s = found.running_s + float(event.get("seconds") or 0.0)
        return found._replace(starts=max(found.starts - 1, 0), taken_away=found.taken_away + 1, running_s=running_s)
    return found._replace(
        running_s=found.running_s + float(event.get("seconds") or 0.0),
        stalled=stalled,
        short=found.short + 1 if event.get("short") else 0,
        unsaved=found.unsaved + 1 if event.get("unsaved") else 0,
        retries=retries,
    )


class Link(NamedTuple):
    """One link as the history tells it; what is not known is None."""

    number: int
    started: str | None = None
    seconds: float | None = None
    outcome: str | None = None
    reason: str | None = None
    exit_code: int | None = None
    resumed_from: str | None = None
    checkpoint: str | None = None
    step: int | None = None
    size: int | None = None
    margin_s: float | None = None
    margin_why: str | None = None
    asked: str | None = None
    asked_save_s: float | None = None
    set_aside: tuple[str, ...] = ()
    job: str | None = None


class Chain(NamedTuple):
    """One chain: `state` is running, or the outcome of its last link; lost where that died without a word.

    `ready` is the command that goes on, where a stranded link has left one. `options` are those that hold now.
    """

    id: str
    state: str
    reason: str | None
    directory: str
    command: tuple[str, ...]
    created: float
    links: tuple[Link, ...]
    seconds: float
    bound: int
    options: dict[str, Any]
    in_jobs: bool = False
    ready: str | None = None


def build(facts: dict[str, Any], events: Sequence[Event], living: str | None) -> Chain:
    """Return the chain. `facts` is chain.json; `living` says in words what of it lives, None for nothing."""
    links: dict[int, Link] = {}
    for event in events:
        number = int(event["link"])
        if number > 0:
            links[number] = _told(links.get(number, Link(number)), event)
    found = tuple(links[number] for number in sorted(links))
    found = tuple(_with_outcome(link, living, last=link is found[-1]) for link in found)
    plan = overridden(facts.get("plan") or {}, (event for event in events if event.get("event") == "joined"))
    state, reason = _state(found, living)
    sees_progress = bool(plan.get("checkpoints")) or any(link.step is not None for link in found)
    return Chain(
        id=str(facts.get("id")),
        state=state,
        reason=reason,
        directory=str(facts.get("directory", "")),
        command=tuple(plan.get("command", ())),
        created=float(facts.get("created") or 0.0),
        links=found,
        seconds=sum(link.seconds or 0.0 for link in found),
        bound=from_json({"command": (), **plan}).bound(sees_progress=sees_progress),
        options={name: value for name, value in plan.items() if name != "command"},
        in_jobs=bool(facts.get("slurm")),
    )


def _told(link: Link, event: Event) -> Link:
    kind = event.get("event")
    if kind == "started":
        return link._replace(
            started=event.get("at"),
            resumed_from=event.get("checkpoint"),
            margin_s=event.get("margin_s"),
            margin_why=event.get("why"),
            job=event.get("job"),
        )
    if kind == "asked":
        return link._replace(asked=event.get("reason"))
    if kind == "saved" and event.get("asked") and not event.get("cut"):
        return link._replace(asked_save_s=event.get("seconds"))
    if kind == "set_aside" and event.get("path"):
        return link._replace(set_aside=(*link.set_aside, str(event["path"])))
    if kind == "ended":
        names = ("seconds", "outcome", "reason", "exit_code", "checkpoint", "step", "size")
        facts: dict[str, Any] = {name: event.get(name) for name in names}
        return link._replace(**facts)
    return link


def _with_outcome(link: Link, living: str | None, *, last: bool) -> Link:
    """A link that ended without a word is lost, unless it is the one that lives."""
    if link.outcome is not None or (last and living is not None):
        return link
    return link._replace(outcome="lost", reason="it died without a word")


def _state(links: tuple[Link, ...], living: str | None) -> tuple[str, str | None]:
    if living is not None:
        return "running", living
    if not links:
        return "new", "no link has started"
    last = links[-1]
    if last.outcome == "continued":
        return "lost", "it died between two links"
    return last.outcome or "lost", last.reason
