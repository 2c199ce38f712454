"""PURE. What is known of a chain -> the chain as people see it: links, state, totals, what was lost, when it may end.

Rule: the ledger comes first. What the queue, accounting or a process list adds is taken only for what the ledger cannot know, and
where nobody knows, the value is None or the state says `unknown` or `lost`: nothing is called running because it once was.

Events of one start are put in the order of their times, so that a ledger of reordered lines reads as it was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from ckptrun import durations
from ckptrun.chain.model import ChainSoFar, so_far
from ckptrun.slurm.parse import Remembered, utc

Event = dict[str, Any]
# The states in which a chain is over.
ENDED = ("complete", "failed", "cancelled", "stopped", "stranded", "lost", "replaced")
STATES = ("running", "pending", "unknown", "new", *ENDED)


class Life(NamedTuple):
    """What of a chain lives: `word` is running, pending or unknown; `sentence` says it for people.

    `why` is Slurm's pending reason. `next_job` is the successor that waits behind a running job. Times are Unix seconds.
    """

    word: str
    sentence: str
    job: str | None = None
    node: str | None = None
    why: str | None = None
    starts_at: float | None = None
    ends_at: float | None = None
    next_job: str | None = None


class Told(NamedTuple):
    """The newest words of the training itself, from the mailbox: how far it is, of how much, and when it said so."""

    step: int | None = None
    total: int | None = None
    at: float | None = None
    saved_at: float | None = None


class Known(NamedTuple):
    """Everything that was found out about one chain.

    `facts` is chain.json; `ended_as` the outcome that its last turn ended the chain with, None where it has not ended or no turn
    can be read; `submitted_at` is when link 1 was submitted; `stopped` whether `chain stop` was said and nobody went on since.
    """

    facts: Mapping[str, Any]
    events: Sequence[Event]
    oddities: tuple[str, ...] = ()
    ended_as: str | None = None
    life: Life | None = None
    remembered: Mapping[str, Remembered] = {}
    told: Told = Told()
    submitted_at: float | None = None
    stopped: bool = False


class SeenSave(NamedTuple):
    """One measured save: when it was whole (Unix seconds), how long it took, whether it was asked for, whether it was cut."""

    at: float | None
    seconds: float
    asked: bool
    cut: bool


class SeenLink(NamedTuple):
    """One start of one link; what is not known is None. Times are Unix seconds.

    `seconds` is how long it ran; where nobody knows, it was heard of for `at_least_s`. `waited_s` is the wait since the link before
    was over (for link 1: since it was submitted). `lost_s` is the running time whose work no later start could go on from.
    `exit_code` is the training's, `exits` ckptrun's own. `ended_by` says where the end was learned: ledger, accounting, or "".
    """

    number: int
    attempt: int = 1
    job: str | None = None
    node: str | None = None
    queued_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    seconds: float | None = None
    at_least_s: float = 0.0
    waited_s: float | None = None
    outcome: str | None = None
    reason: str | None = None
    taken_away: bool = False
    retried: bool = False
    exit_code: int | None = None
    exits: int | None = None
    resumed_from: str | None = None
    resumed_at: float | None = None
    step_before: int | None = None
    checkpoint: str | None = None
    checkpoint_at: float | None = None
    step: int | None = None
    size: int | None = None
    lost_s: float | None = None
    limit_s: float | None = None
    ends_at: float | None = None
    ask_at: float | None = None
    asked: str | None = None
    margin_s: float | None = None
    margin_why: str | None = None
    saves: tuple[SeenSave, ...] = ()
    set_aside: tuple[str, ...] = ()
    log: str | None = None
    error_log: str | None = None
    submitted: str | None = None
    ended_by: str = ""


class Totals(NamedTuple):
    """Seconds: `used` of running, `lost` of that, `waited` in the queue between links. The chain stood still for `idle_s`."""

    used_s: float
    lost_s: float
    waited_s: float
    idle_s: float

    @property
    def useful_s(self) -> float:
        """Return the running time whose work was kept."""
        return max(self.used_s - self.lost_s, 0.0)


class Progress(NamedTuple):
    """How far the chain is, and what is left: `running_s` of training, over about `links` more links, done at `done_at` (Unix)."""

    step: int | None = None
    total: int | None = None
    running_s: float | None = None
    links: int | None = None
    done_at: float | None = None


class SeenChain(NamedTuple):
    """One chain as everything draws it. `starts` is how many it has had: a list keeps only the newest of its `links`.

    `state` is running, pending, unknown, new, or how it ended; `reason` says why in a sentence. `bound` is how many starts it may
    have, of which `counted` are used since a person last went on; `max_time_s` bounds the running time, of which `counted_s` is
    used.
    """

    id: str
    state: str
    reason: str | None
    directory: str
    command: tuple[str, ...]
    created: float
    starts: int
    links: tuple[SeenLink, ...]
    totals: Totals
    progress: Progress
    bound: int
    counted: int
    counted_s: float
    max_time_s: float | None
    checkpoint_at: float | None
    heard_at: float | None
    life: Life | None
    stopped: bool
    in_jobs: bool
    options: dict[str, Any]
    oddities: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Return the running time of all links."""
        return self.totals.used_s

    @property
    def last(self) -> SeenLink | None:
        """Return the newest start, None before the first."""
        return self.links[-1] if self.links else None


def build(known: Known, now: float) -> SeenChain:
    """Return the chain as it stands at `now` (Unix seconds)."""
    facts = known.facts
    plan = facts.get("plan") if isinstance(facts.get("plan"), dict) else {}
    assert isinstance(plan, dict)
    living = known.life is not None and known.life.word != "pending"
    links = _links(known, living=living, has_checkpoints=bool(plan.get("checkpoints")), now=now)
    bounds = so_far(known.events)
    state, reason = _state(known, links)
    sees = bool(plan.get("checkpoints")) or bounds.best_step is not None
    totals = _totals(links, known)
    return SeenChain(
        id=str(facts.get("id")),
        state=state,
        reason=reason,
        directory=str(facts.get("directory", "")),
        command=tuple(map(str, plan.get("command") or ())),
        created=_number(facts.get("created")) or 0.0,
        starts=len(links),
        links=links,
        totals=totals,
        progress=_progress(known, links, bounds, totals, now),
        bound=int(plan.get("max_links") or (20 if sees else 5)),
        counted=bounds.starts,
        counted_s=bounds.running_s + (links[-1].seconds or 0.0 if links and living and links[-1].ended_at is None else 0.0),
        max_time_s=_number(plan.get("max_time_s")),
        checkpoint_at=_newest([link.checkpoint_at for link in links] + [known.told.saved_at]),
        heard_at=_newest([utc_of(event) for event in known.events[-3:]] + [known.told.at]),
        life=known.life,
        stopped=known.stopped,
        in_jobs=bool(facts.get("slurm")),
        options={name: value for name, value in plan.items() if name != "command"},
        oddities=known.oddities,
    )


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


def _number(value: Any) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < 1e12:
        return None
    return float(value)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _newest(times: Sequence[float | None]) -> float | None:
    return max((at for at in times if at is not None), default=None)


# --- links


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
    if all(one <= other for one, other in pairwise(stamps)):
        return events
    return sorted(events, key=lambda event: str(event.get("at", "")))


# path -> the step and the time of the checkpoint that stands there, as far as the history was read.
Paths = dict[str, tuple[int | None, float | None]]


def _links(known: Known, *, living: bool, has_checkpoints: bool, now: float) -> tuple[SeenLink, ...]:
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
    heard_at: float | None = None
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
        heard_at = heard_at if kind == "ended" else utc_of(event) or heard_at
    began_at = facts.get("started_at")
    if began_at is not None and heard_at is not None:
        facts["at_least_s"] = max(heard_at - began_at, 0.0)
    return link._replace(**facts, saves=tuple(saves), set_aside=tuple(set_aside))


def _started(event: Event, paths: Paths) -> dict[str, Any]:
    path = _text(event.get("checkpoint"))
    step, at = _count(event.get("from_step")), _number(event.get("checkpoint_at"))
    known_step, known_at = paths.get(path or "", (None, None))
    return {
        "started_at": utc_of(event),
        "job": _text(event.get("job")),
        "node": _text(event.get("node")),
        "resumed_from": path,
        "resumed_at": at if at is not None else known_at,
        "step_before": step if step is not None else known_step,
        "limit_s": _number(event.get("limit_s")),
        "ends_at": _number(event.get("end_at")),
        "ask_at": _number(event.get("ask_at")),
        "margin_s": _number(event.get("margin_s")),
        "margin_why": _text(event.get("why")),
        "log": _text(event.get("log")),
        "error_log": _text(event.get("error_log")),
    }


def _save(event: Event) -> SeenSave:
    return SeenSave(utc_of(event), _number(event.get("seconds")) or 0.0, bool(event.get("asked")), bool(event.get("cut")))


def _saved(event: Event, paths: Paths) -> dict[str, Any]:
    path, step = _text(event.get("path")), _count(event.get("step"))
    if path is None or event.get("cut"):
        return {}
    at, size = utc_of(event), _count(event.get("size"))
    paths[path] = step, at
    return {"checkpoint": path, "checkpoint_at": at, "step": step, "size": size}


def _end(event: Event, facts: dict[str, Any], paths: Paths) -> dict[str, Any]:
    path, step, at = _text(event.get("checkpoint")), _count(event.get("step")), _number(event.get("checkpoint_at"))
    if path is None:
        path, at = facts.get("checkpoint"), facts.get("checkpoint_at")
    elif at is None:
        at = paths.get(path, (None, None))[1]
    if path is not None:
        paths[path] = step, at
    return {
        "ended_at": utc_of(event),
        "seconds": _number(event.get("seconds")),
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


# --- totals, progress


def _totals(links: tuple[SeenLink, ...], known: Known) -> Totals:
    used_s = sum(link.at_least_s if link.seconds is None else link.seconds for link in links)
    lost_s = sum(link.lost_s or 0.0 for link in links)
    waited_s = sum(link.waited_s or 0.0 for link in links)
    idle_s = 0.0
    for before, link in pairwise(links):
        if before.ended_at is not None and link.started_at is not None:
            idle_s += max(link.started_at - before.ended_at - (link.waited_s or 0.0), 0.0)
    return Totals(used_s, lost_s, waited_s, idle_s)


def _progress(known: Known, links: tuple[SeenLink, ...], bounds: ChainSoFar, totals: Totals, now: float) -> Progress:
    steps = [link.step for link in links if link.step is not None]
    steps += [known.told.step] if known.told.step is not None and known.life is not None else []
    step = steps[-1] if steps else (known.told.step if known.told.step is not None else bounds.best_step)
    total = known.told.total
    if step is None or total is None or total <= step:
        return Progress(step, total)
    pace = _pace(links, known, now)
    if pace is None:
        return Progress(step, total)
    running_s = (total - step) / pace
    limits = [link.limit_s for link in links[-1:] if link.limit_s]
    more = 0
    if limits and known.life is not None:
        left_s = max((links[-1].ask_at or now) - now, 0.0) if links[-1].outcome is None else 0.0
        each_s = max(limits[0] - (links[-1].margin_s or 0.0), 1.0)
        more = max(int(-(-(running_s - left_s) // each_s)), 0)
    waits = [link.waited_s for link in links if link.waited_s is not None]
    wait_s = sum(waits) / len(waits) if waits else 0.0
    going = known.life is not None and known.life.word != "unknown"
    return Progress(step, total, running_s, more, now + running_s + more * wait_s if going else None)


def _pace(links: tuple[SeenLink, ...], known: Known, now: float) -> float | None:
    """Return steps a second of running, over the last ten links that show both."""
    gained, seconds = 0, 0.0
    for place, link in enumerate(links[-10:]):
        last = place == len(links[-10:]) - 1
        reached, ran = link.step, link.seconds
        told = known.told
        if last and link.outcome is None and told.step is not None and told.at is not None and link.started_at is not None:
            reached, ran = told.step, told.at - link.started_at
        before = link.step_before if link.step_before is not None else (0 if link.resumed_from is None else None)
        if reached is not None and before is not None and ran and reached > before:
            gained, seconds = gained + reached - before, seconds + ran
    return gained / seconds if gained and seconds > 0 else None


# --- the state


def _state(known: Known, links: tuple[SeenLink, ...]) -> tuple[str, str | None]:
    last = links[-1] if links else None
    if known.ended_as in ENDED and known.ended_as != "lost":
        return str(known.ended_as), last.reason if last is not None and last.outcome == known.ended_as else None
    if known.life is not None:
        return known.life.word, known.life.sentence
    if last is None:
        return ("lost", _vanished(known, 0)) if known.facts.get("slurm") and known.events else ("new", "no link has started")
    if last.outcome in ("continued", "requeued") and known.stopped:
        return "stopped", "`ckptrun chain stop` said so while the next start waited"
    if last.outcome in ("continued", "requeued"):
        return "lost", _vanished(known, last.number, last)
    return last.outcome or "lost", last.reason


def _vanished(known: Known, number: int, last: SeenLink | None = None) -> str:
    """Say what is known of a chain that should go on, and of which nothing lives."""
    if last is None:
        return "the job that was to run it is gone"
    if not known.facts.get("slurm"):
        return f"it died between link {number} and link {number + 1}"
    if last.outcome == "requeued":
        return f"job {last.job} was to start again, and is not in the queue"
    job = last.submitted
    if job is None:
        return f"link {number + 1} was to follow, and no job of it is in the queue"
    said = known.remembered.get(job)
    words = f"; accounting says {said.state}" if said is not None else ""
    return f"link {number + 1}, job {job}, was queued and is gone without having started{words}"


def age(at: float | None, now: float) -> str:
    """Return how long ago something was, in words."""
    return "-" if at is None else durations.show(max(now - at, 0.0))
