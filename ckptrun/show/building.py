"""PURE. What was found out about a chain -> the chain as people see it: its state, totals, and when it may end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ckptrun import durations
from ckptrun.chain.model import ChainSoFar, so_far
from ckptrun.plan import from_json, overridden
from ckptrun.show.seen import ENDED, Known, Progress, SeenChain, SeenLink, Totals
from ckptrun.show.starts import links_of, number_of, utc_of


def build(known: Known, now: float) -> SeenChain:
    """Return the chain as it stands at `now` (Unix seconds)."""
    facts = known.facts
    told = facts.get("plan")
    plan = overridden(told if isinstance(told, dict) else {}, (event for event in known.events if event.get("event") == "joined"))
    living = known.life is not None and known.life.word != "pending"
    links = links_of(known, living=living, has_checkpoints=bool(plan.get("checkpoints")), now=now)
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
        created=number_of(facts.get("created")) or 0.0,
        starts=len(links),
        links=links,
        totals=totals,
        progress=_progress(known, links, bounds, totals, now),
        bound=from_json({"command": (), **plan}).bound(sees_progress=sees),
        counted=bounds.starts,
        counted_s=bounds.running_s + (links[-1].seconds or 0.0 if links and living and links[-1].ended_at is None else 0.0),
        max_time_s=number_of(plan.get("max_time_s")),
        checkpoint_at=_newest([link.checkpoint_at for link in links] + [known.told.saved_at]),
        heard_at=_newest([utc_of(event) for event in known.events[-3:]] + [known.told.at]),
        life=known.life,
        stopped=known.stopped,
        ready=known.ready,
        in_jobs=bool(facts.get("slurm")),
        options={name: value for name, value in plan.items() if name != "command"},
        oddities=known.oddities,
    )


def _newest(times: Sequence[float | None]) -> float | None:
    return max((at for at in times if at is not None), default=None)


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
