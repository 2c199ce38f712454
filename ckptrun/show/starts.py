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
        number, attempt = event["link"], event.get("attempt")
        if not isinstance(number, int) or number < 1:
            continue
        attempt = attempt if isinstance(attempt, int) and attempt > 0 else 1
        if event.get("event") == "ended":
            if last.get(number, 0) > attempt and ((number, attempt) in over or (number, attempt) not in found):
                attempt = last[number]
            over.add((number, attempt))
        if last.get(number, 0) < attempt:
            last[number] = attempt
        key = number, attempt
        if (known := found.get(key)) is None:
            found[key] = [event]
        else:
            known.append(event)
    return {key: _in_order(found[key]) for key in sorted(found)}


def _in_order(events: list[Event]) -> list[Event]:
    return sorted(events, key=_stamp)


def _stamp(event: Event) -> str:
    return str(event.get("at", ""))


# path -> the step and the time of the checkpoint that stands there, as far as the history was read.
Paths = dict[str, tuple[int | None, float | None]]


# What is being found out of one start, by the names of SeenLink: a value of so many fields is made once, when all is known.
Draft = dict[str, Any]


def links_of(known: Known, *, living: bool, has_checkpoints: bool, now: float) -> tuple[SeenLink, ...]:
    paths: Paths = {}
    found = [
        _told({"number": number, "attempt": attempt}, events, paths)
        for (number, attempt), events in starts_of(known.events).items()
        # A job that a person submitted and that waits is no start yet: `life` tells of it.
        if events[-1].get("event") != "joined" or any(event.get("event") != "joined" for event in events)
    ]
    for place, link in enumerate(found):
        _end_unheard(link, known, lives=living and place == len(found) - 1, now=now)
    for before, link, after in zip([None, *found], found, [*found[1:], None]):  # noqa: B905  # one longer: its last is no neighbour
        _count_wait(link, before, known)
        link["lost_s"] = _lost(link, after, has_checkpoints)
    return tuple(SeenLink(**link) for link in found)


def _told(link: Draft, events: list[Event], paths: Paths) -> Draft:
    heard: Event | None = None
    saves: list[SeenSave] = []
    set_aside: list[str] = []
    for event in events:
        kind = event.get("event")
        if kind == "started":
            link.update(_started(event, paths))
        elif kind == "joined":
            link["queued_at"] = utc_of(event)
        elif kind == "child_started":
            link["node"] = link.get("node") or _text(event.get("node"))
        elif kind == "asked":
            link["asked"] = _text(event.get("reason"))
        elif kind == "saved":
            at = utc_of(event)
            saves.append(_save(event, at))
            link.update(_saved(event, at, paths))
        elif kind == "set_aside" and _text(event.get("path")):
            set_aside.append(str(event["path"]))
        elif kind == "window_ahead":
            link.update(_window(event, link))
        elif kind == "submitted":
            link["submitted"] = _text(event.get("job"))
        elif kind == "ended":
            link.update(_end(event, link, paths))
        heard = heard if kind == "ended" else event
    began_at = link.get("started_at")
    if began_at is not None and heard is not None and (heard_at := utc_of(heard)) is not None:
        link["at_least_s"] = max(heard_at - began_at, 0.0)
    link["saves"], link["set_aside"] = tuple(saves), tuple(set_aside)
    return link


def _started(event: Event, paths: Paths) -> Draft:
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


def _window(event: Event, link: Draft) -> Draft:
    ends_at, ask_at = number_of(event.get("end_at")), number_of(event.get("ask_at"))
    return {
        "window_at": number_of(event.get("begins_at")),
        "window_until": number_of(event.get("ends_at")),
        "ends_at": ends_at if ends_at is not None else link.get("ends_at"),
        "ask_at": ask_at if ask_at is not None else link.get("ask_at"),
    }


def _save(event: Event, at: float | None) -> SeenSave:
    return SeenSave(at, number_of(event.get("seconds")) or 0.0, bool(event.get("asked")), bool(event.get("cut")))


def _saved(event: Event, at: float | None, paths: Paths) -> Draft:
    path, step = _text(event.get("path")), _count(event.get("step"))
    if path is None or event.get("cut"):
        return {}
    paths[path] = step, at
    return {"checkpoint": path, "checkpoint_at": at, "step": step, "size": _count(event.get("size"))}


def _end(event: Event, facts: Draft, paths: Paths) -> Draft:
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


def _end_unheard(link: Draft, known: Known, *, lives: bool, now: float) -> None:
    """Complete how a link ended: one that said no word is lost, unless it is the one that lives."""
    outcome, began_at = link.get("outcome"), link.get("started_at")
    if lives and outcome is None:
        unseen = known.life is not None and known.life.word == "unknown"
        if not unseen and began_at is not None:
            link["seconds"] = now - began_at
        return
    if outcome is not None and link.get("seconds") is not None:
        return
    # What was written by whoever found the end was written later than it was: accounting knows when.
    said = known.remembered.get(link.get("job") or "")
    ended_at = said.ended_at if said is not None else None
    if ended_at is not None and began_at is not None:
        link.update(ended_at=ended_at, seconds=max(ended_at - began_at, 0.0), ended_by="accounting")
    if outcome is not None:
        return
    words = f"; accounting says {said.state}" if said is not None and not _alive(said.state) else ""
    taken_away = said is not None and said.state.startswith(("NODE_FAIL", "PREEMPTED"))
    link.update(outcome="lost", reason=f"it died without a word{words}", taken_away=taken_away)


def _alive(state: str) -> bool:
    return state.startswith(("RUNNING", "PENDING", "REQUEUED", "SUSPENDED"))


def _count_wait(link: Draft, before: Draft | None, known: Known) -> None:
    queued_at, began_at = link.get("queued_at"), link.get("started_at")
    if queued_at is None:
        queued_at = known.submitted_at if before is None else before.get("ended_at")
    if queued_at is not None and began_at is not None:
        link.update(queued_at=queued_at, waited_s=max(began_at - queued_at, 0.0))


def _lost(link: Draft, after: Draft | None, has_checkpoints: bool) -> float | None:
    """Return the work that is lost: from the checkpoint that the next start went on from to the end of this one."""
    outcome, seconds, began_at = link.get("outcome"), link.get("seconds"), link.get("started_at")
    if outcome == "complete":
        return 0.0
    if outcome is None or seconds is None or began_at is None or not has_checkpoints:
        return None
    if after is not None and after.get("started_at") is not None:
        kept_at = began_at if after.get("resumed_from") is None else after.get("resumed_at")
    else:
        kept_at = began_at if link.get("checkpoint") is None else link.get("checkpoint_at")
    if kept_at is None:
        return None
    return float(round(min(max(began_at + seconds - kept_at, 0.0), seconds), 3))


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
    if type(value) is float and -1e12 < value < 1e12:
        return value
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < 1e12:
        return None
    return float(value)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
