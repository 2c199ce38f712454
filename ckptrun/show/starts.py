"""PURE. Events -> the starts of links as people see them.

Rule: the ledger comes first. What accounting adds is taken only for what the ledger cannot know. Events of one start are
put in the order of their times, so that a ledger of reordered lines reads as it was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from ckptrun.show.seen import Event, Known, SeenLink, SeenSave
from ckptrun.slurm.parse import utc


def starts_of(events: Sequence[Event]) -> dict[tuple[int, int], list[Event]]:
    """Return the events of each start of each link, in order. An end that another process found belongs to the last start."""
    found: dict[tuple[int, int], list[Event]] = {}
    last: dict[int, int] = {}
    over: set[tuple[int, int]] = set()
    for event in events:
        number = event["link"]
        if not isinstance(number, int) or number < 1:
            continue
        attempt = event.get("attempt")
        attempt = attempt if isinstance(attempt, int) and attempt > 0 else 1
        if event.get("event") == "ended":
            if last.get(number, 0) > attempt and ((number, attempt) in over or (number, attempt) not in found):
                attempt = last[number]
            over.add((number, attempt))
        last[number] = max(last.get(number, 0), attempt)
        found.setdefault((number, attempt), []).append(event)
    return {key: _in_order(found[key]) for key in sorted(found)}


def _in_order(events: list[Event]) -> list[Event]:
    stamps = [str(event.get("at", "")) for event in events]
    if stamps == sorted(stamps):
        return events
    return sorted(events, key=lambda event: str(event.get("at", "")))


# path -> the step and the time of the checkpoint that stands there, as far as the history was read.
Paths = dict[str, tuple[int | None, float | None]]


def links_of(known: Known, *, living: bool, has_checkpoints: bool, now: float) -> tuple[SeenLink, ...]:
    paths: Paths = {}
    found = [
        _told(SeenLink(number, attempt), events, paths)
        for (number, attempt), events in starts_of(known.events).items()
        # A job that a person submitted and that waits is no start yet: `life` tells of it.
        if any(event.get("event") != "joined" for event in events)
    ]
    for place, link in enumerate(found):
        found[place] = _ended(link, known, lives=living and place == len(found) - 1, now=now)
    for place, link in enumerate(found):
        before = found[place - 1] if place else None
        after = found[place + 1] if place + 1 < len(found) else None
        found[place] = _lost(_waited(link, before, known), after, has_checkpoints)
    return tuple(found)


def _told(link: SeenLink, events: list[Event], paths: Paths) -> SeenLink:
    facts: dict[str, Any] = {}
    heard: Event | None = None
    saves: list[SeenSave] = []
    set_aside: list[str] = []
    for event in events:
        kind = event.get("event")
        if kind == "started":
            facts |= _started(event, paths)
        elif kind == "joined":
            facts["queued_at"] = utc_of(event)
        elif kind == "child_started":
            facts["node"] = facts.get("node") or _text(event.get("node"))
        elif kind == "asked":
            facts["asked"] = _text(event.get("reason"))
        elif kind == "saved":
            saves.append(_save(event))
            facts |= _saved(event, paths)
        elif kind == "set_aside" and _text(event.get("path")):
            set_aside.append(str(event["path"]))
        elif kind == "submitted":
            facts["submitted"] = _text(event.get("job"))
        elif kind == "ended":
            facts |= _end(event, facts, paths)
        heard = heard if kind == "ended" else event
    began_at, heard_at = facts.get("started_at"), utc_of(heard) if heard is not None else None
    if began_at is not None and heard_at is not None:
        facts["at_least_s"] = max(heard_at - began_at, 0.0)
    return link._replace(**facts, saves=tuple(saves), set_aside=tuple(set_aside))


def _started(event: Event, paths: Paths) -> dict[str, Any]:
    path = _text(event.get("checkpoint"))
    step, at = _count(event.get("from_step")), number_of(event.get("checkpoint_at"))
    known_step, known_at = paths.get(path or "", (None, None))
    return {
        "started_at": utc_of(event),
        "job": _text(event.get("job")),
        "node": _text(event.get("node")),
        "resumed_from": path,
        "resumed_at": at if at is not None else known_at,
        "step_before": step if step is not None else known_step,
        "limit_s": number_of(event.get("limit_s")),
        "ends_at": number_of(event.get("end_at")),
        "ask_at": number_of(event.get("ask_at")),
        "margin_s": number_of(event.get("margin_s")),
        "margin_why": _text(event.get("why")),
        "log": _text(event.get("log")),
        "error_log": _text(event.get("error_log")),
    }


def _save(event: Event) -> SeenSave:
    return SeenSave(utc_of(event), number_of(event.get("seconds")) or 0.0, bool(event.get("asked")), bool(event.get("cut")))


def _saved(event: Event, paths: Paths) -> dict[str, Any]:
    path, step = _text(event.get("path")), _count(event.get("step"))
    if path is None or event.get("cut"):
        return {}
    at, size = utc_of(event), _count(event.get("size"))
    paths[path] = step, at
    return {"checkpoint": path, "checkpoint_at": at, "step": step, "size": size}


def _end(event: Event, facts: dict[str, Any], paths: Paths) -> dict[str, Any]:
    path, step, at = _text(event.get("checkpoint")), _count(event.get("step")), number_of(event.get("checkpoint_at"))
    if path is None:
        path, at = facts.get("checkpoint"), facts.get("checkpoint_at")
    elif at is None:
        at = paths.get(path, (None, None))[1]
    if path is not None:
        paths[path] = step, at
    return {
        "ended_at": at_end if (at_end := number_of(event.get("ended_at"))) is not None else utc_of(event),
        "seconds": number_of(event.get("seconds")),
        "outcome": _text(event.get("outcome")) or "lost",
        "reason": _text(event.get("reason")),
        "taken_away": bool(event.get("taken_away")),
        "retried": bool(event.get("retried")),
        "exit_code": _count(event.get("exit_code")),
        "exits": _count(event.get("exits")),
        "checkpoint": path,
        "checkpoint_at": at,
        "step": step if step is not None else facts.get("step"),
        "size": _count(event.get("size")) or facts.get("size"),
        "ended_by": "ledger",
    }


def _ended(link: SeenLink, known: Known, *, lives: bool, now: float) -> SeenLink:
    """Complete how a link ended: one that said no word is lost, unless it is the one that lives."""
    if lives and link.outcome is None:
        unseen = known.life is not None and known.life.word == "unknown"
        return link if unseen or link.started_at is None else link._replace(seconds=now - link.started_at)
    if link.outcome is not None and link.seconds is not None:
        return link
    # What was written by whoever found the end was written later than it was: accounting knows when.
    said = known.remembered.get(link.job or "")
    ended_at = said.ended_at if said is not None else None
    if ended_at is not None and link.started_at is not None:
        link = link._replace(ended_at=ended_at, seconds=max(ended_at - link.started_at, 0.0), ended_by="accounting")
    if link.outcome is not None:
        return link
    words = f"; accounting says {said.state}" if said is not None and not _alive(said.state) else ""
    taken_away = said is not None and said.state.startswith(("NODE_FAIL", "PREEMPTED"))
    return link._replace(outcome="lost", reason=f"it died without a word{words}", taken_away=taken_away)


def _alive(state: str) -> bool:
    return state.startswith(("RUNNING", "PENDING", "REQUEUED", "SUSPENDED"))


def _waited(link: SeenLink, before: SeenLink | None, known: Known) -> SeenLink:
    queued_at = link.queued_at
    if queued_at is None:
        queued_at = known.submitted_at if before is None else before.ended_at
    if queued_at is None or link.started_at is None:
        return link
    return link._replace(queued_at=queued_at, waited_s=max(link.started_at - queued_at, 0.0))


def _lost(link: SeenLink, after: SeenLink | None, has_checkpoints: bool) -> SeenLink:
    """Tell the work that is lost: from the checkpoint that the next start went on from to the end of this one."""
    if link.outcome == "complete":
        return link._replace(lost_s=0.0)
    if link.outcome is None or link.seconds is None or link.started_at is None or not has_checkpoints:
        return link
    if after is not None and after.started_at is not None:
        kept_at = link.started_at if after.resumed_from is None else after.resumed_at
    else:
        kept_at = link.started_at if link.checkpoint is None else link.checkpoint_at
    if kept_at is None:
        return link
    ended_at = link.started_at + link.seconds
    return link._replace(lost_s=round(min(max(ended_at - kept_at, 0.0), link.seconds), 3))


# --- values of events


def utc_of(event: Event) -> float | None:
    """Return when an event was written (Unix seconds), None where its stamp cannot be read."""
    stamp = event.get("at")
    if not isinstance(stamp, str) or stamp[10:11] != "T" or (day := _day(stamp[:10])) is None:
        return None
    try:
        return day + int(stamp[11:13]) * 3600 + int(stamp[14:16]) * 60 + float(stamp[17:].rstrip("Z"))
    except ValueError:
        return None


@lru_cache(maxsize=1000)
def _day(text: str) -> float | None:
    return utc(f"{text}T00:00:00")


def number_of(value: Any) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < 1e12:
        return None
    return float(value)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
