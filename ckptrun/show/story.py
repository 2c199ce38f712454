"""Sentences: how a link ended and on what evidence, what happens next and when, what a person can do."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any

from ckptrun import durations
from ckptrun.show import phrases
from ckptrun.show.seen import Event, SeenChain, SeenLink
from ckptrun.show.starts import utc_of

_OUTCOMES = {
    "complete": "finished the chain",
    "continued": "ended and handed over",
    "requeued": "ended, and Slurm starts its job again",
    "failed": "failed",
    "cancelled": "was cancelled",
    "stopped": "was stopped",
    "stranded": "could not hand over",
    "replaced": "was replaced by another start",
    "lost": "is lost",
}
_AGAIN = ("cancelled", "stopped", "stranded", "lost", "failed", "replaced")


def last_end(chain: SeenChain) -> list[str]:
    """Return the story of the last end in sentences: which link, why, what was kept and what was lost."""
    ended = [link for link in chain.links if link.outcome is not None]
    return of_link(ended[-1], chain.links) if ended else []


def of_link(link: SeenLink, links: Sequence[SeenLink]) -> list[str]:
    """Return how one link ended, in sentences."""
    where = f" (job {link.job}{f' on {link.node}' if link.node else ''})" if link.job else ""
    after = f" after {durations.show(link.seconds)}" if link.seconds is not None else ""
    ended = _OUTCOMES.get(link.outcome or "", "runs")
    told = [f"Link {phrases.number(link)}{where} {ended}{after}: {link.reason or 'no reason is on record'}."]
    if link.asked is not None and not (link.reason or "").startswith(link.asked):
        told.append(f"It was asked to save because {link.asked}.")
    if link.window_at is not None and link.window_until is not None:
        told.append(f"A service window was ahead, {_span(link.window_at, link.window_until)}.")
    told += _kept(link)
    told += [f"{phrases.name(path)} was truncated and set aside before it began." for path in link.set_aside]
    after_it = next((one for one in links if (one.number, one.attempt) > (link.number, link.attempt)), None)
    if after_it is not None and after_it.resumed_from not in (None, link.checkpoint):
        told.append(f"The next start went on from {phrases.name(after_it.resumed_from)}, not from {phrases.name(link.checkpoint)}.")
    return told


def _span(begins_at: float, ends_at: float) -> str:
    return f"from {phrases.moment(begins_at)} to {phrases.moment(ends_at)}"


def _kept(link: SeenLink) -> list[str]:
    if link.checkpoint is None:
        return ["It left no checkpoint."] if link.lost_s else []
    step = f" at step {link.step}" if link.step is not None else ""
    asked = [save for save in link.saves if save.asked and not save.cut]
    took = f", saved {durations.show(asked[-1].seconds)} after it was asked" if asked else ""
    size = f" ({phrases.size(link.size)})" if link.size is not None else ""
    lost = f" {durations.show(link.lost_s)} of its work is lost." if link.lost_s and link.lost_s >= 1 else ""
    return [f"Its newest checkpoint is {phrases.name(link.checkpoint)}{size}{step}{took}.{lost}"]


def next_up(chain: SeenChain, now: float) -> list[str]:
    """Return what happens next and when."""
    life = chain.life
    if life is None:
        return []
    told = [f"Now: {life.sentence}."]
    if life.word == "unknown" and chain.heard_at is not None:
        told.append(f"It was last heard of {durations.show(max(now - chain.heard_at, 0.0))} ago.")
    last = chain.last
    if life.word == "running" and last is not None and last.outcome is None and last.ask_at is not None:
        told.append(_will_be_asked(chain, last, last.ask_at, now))
    if chain.stopped:
        told.append("`ckptrun chain stop` was said: no further link starts.")
    return told


def _will_be_asked(chain: SeenChain, last: SeenLink, ask_at: float, now: float) -> str:
    assert chain.life is not None
    end = "a service window begins" if last.window_at is not None else "the link's end"
    margin = f", {durations.show(last.margin_s)} before {end}" if last.margin_s is not None else ""
    if ask_at <= now:
        text = "Its checkpoint time has come"
    else:
        text = f"It will be asked to save in {durations.show(ask_at - now)} ({phrases.clock(ask_at, now)}{margin})"
    if chain.stopped:
        return f"{text}."
    if chain.life.next_job is not None:
        return f"{text}; link {last.number + 1} waits behind it as job {chain.life.next_job}."
    if chain.counted >= chain.bound:
        return f"{text}; no other link follows, because --max-links is {chain.bound}."
    return f"{text}; then link {last.number + 1} follows{', submitted at that moment' if chain.in_jobs else ''}."


def forecast(chain: SeenChain) -> list[str]:
    """Return how far the chain is and when it may end, as far as its steps tell."""
    progress = chain.progress
    if progress.step is None:
        return []
    if progress.total is None:
        return [f"Progress: step {progress.step}; the training has not said of how many."]
    text = f"Progress: step {progress.step} of {progress.total} ({progress.step / max(progress.total, 1):.0%})"
    if progress.running_s is None:
        return [f"{text}."]
    more = f" over {phrases.plural(progress.links, 'more link')}" if progress.links else ""
    end = f", about {phrases.moment(progress.done_at)} if the waits stay as they were" if progress.done_at is not None else ""
    return [f"{text}; at this pace {durations.show(progress.running_s)} of running are left{more}{end}."]


def to_go_on(chain: SeenChain) -> str | None:
    """Return the ready command of a chain that ended unfinished, None where nothing is to do."""
    if chain.state not in _AGAIN:
        return None
    if chain.in_jobs:
        return chain.ready or f"ckptrun chain resume {chain.id}"
    return f"the same command again, in {chain.directory}"


# --- the evidence for one link


def evidence(events: Sequence[Event], turns: Sequence[dict[str, Any]], link: SeenLink, now: float) -> list[str]:
    """Return what is on record of one link, a line each, in order: what it stood on, signals, answers, saves, the decision."""
    told = [(utc_of(event), _event(event)) for event in events]
    told += [(turn.get("at") if isinstance(turn.get("at"), float) else None, _turn(turn)) for turn in turns]
    shown = sorted(((at, text) for at, text in told if text), key=lambda one: one[0] or 0.0)
    return [f"{phrases.clock(at, now):>12}  {text}" for at, text in shown] or [f"Nothing is on record of link {link.number}."]


def _event(event: Event) -> str:
    kind = str(event.get("event"))
    tell = _TELL.get(kind)
    try:
        if tell is not None:
            return tell(event)
    except (TypeError, ValueError, AttributeError, KeyError):
        pass  # a value of another kind than ours: shown as it stands
    rest = {name: value for name, value in event.items() if name not in ("v", "at", "link", "attempt", "event")}
    return f"{kind}: {rest}" if rest else kind


def _e_started(event: Event) -> str:
    job = f"as job {event['job']} " if event.get("job") else ""
    where = f"on {event['node']} " if event.get("node") else ""
    origin = f"from {phrases.name(event.get('checkpoint'))}" if event.get("checkpoint") else "from nothing"
    margin = f"; margin {phrases.seconds(event.get('margin_s'))} ({event.get('why')})" if event.get("margin_s") is not None else ""
    limit = f", limit {phrases.seconds(event.get('limit_s'))}" if event.get("limit_s") is not None else ", no time limit"
    return f"started {job}{where}{origin}{limit}{margin}"


def _e_asked(event: Event) -> str:
    whom = ", ".join(f"{_signal(number)} to {pid} ({why})" for pid, number, why in event.get("delivered") or ())
    file = "by file" if event.get("by_file") else ""
    means = "; ".join(part for part in (whom, file) if part) or "nobody could be reached"
    return f"asked to save because {event.get('reason')}: {means}"


def _e_saved(event: Event) -> str:
    what = phrases.name(event.get("path")) if event.get("path") else "a checkpoint"
    size = f", {phrases.size(event.get('size'))}" if event.get("size") is not None else ""
    how = "after it was asked" if event.get("asked") else "from its first byte"
    if event.get("cut"):
        return f"a save was cut after {phrases.seconds(event.get('seconds'))}"
    return f"saved {what}{size}, whole {phrases.seconds(event.get('seconds'))} {how}"


def _e_appeared(event: Event) -> str:
    size = f", {phrases.size(event.get('size'))}" if event.get("size") is not None else ""
    return f"{phrases.name(event.get('path'))}{size}, stands: the first that is new"


def _e_exited(event: Event) -> str:
    how = f"exit code {event.get('code')}" if event.get("signal") is None else f"signal {_signal(event.get('signal'))}"
    peak = f", peak {phrases.size(event['peak_bytes'])}" if event.get("peak_bytes") else ""
    return f"the training ended with {how}{peak}"


def _e_ended(event: Event) -> str:
    facts = [str(event.get("reason"))]
    facts += ["short: less than a tenth of its limit"] if event.get("short") else []
    facts += ["no progress"] if event.get("progress") is False else []
    facts += ["it counts as taken away by the cluster"] if event.get("taken_away") else []
    return f"decided: {event.get('outcome')}: {'; '.join(facts)}"


def _turn(turn: dict[str, Any]) -> str:
    if turn.get("kind") == "term":
        reason = turn.get("reason")
        return f"turn: SIGTERM, and the controller said: {reason}" if reason else "turn: a SIGTERM was heard"
    if turn.get("kind") == "resume":
        return "turn: a person went on with the chain"
    return ""


def _signal(number: Any) -> str:
    from ckptrun.link.supervision import NAMES  # only a link's page needs it

    return NAMES.get(number, str(number)) if isinstance(number, int) else str(number)


def _as_job(event: Event) -> str:
    return f" as job {event['job']}" if event.get("job") else ""


def _pids(event: Event) -> str:
    return ", ".join(str(pid) for pid in event.get("pids") or ()) or "nobody"


_TELL: dict[str, Callable[[Event], str]] = {
    "started": _e_started,
    "asked": _e_asked,
    "saved": _e_saved,
    "appeared": _e_appeared,
    "child_exited": _e_exited,
    "ended": _e_ended,
    "child_started": lambda event: f"the training is process {event.get('pid')}: {shlex.join(map(str, event.get('argv') or ()))}",
    "joined": lambda event: f"a person went on with the chain{_as_job(event)}",
    "warned": lambda event: f"warned: {event.get('text')}",
    "signal_received": lambda event: f"received {_signal(event.get('signal'))}",
    "reason_learned": lambda event: f"the controller's answer: {event.get('reason')} ({event.get('course')})",
    "terminated": lambda event: f"TERM to {_pids(event)}",
    "killed": lambda event: f"KILL to {_pids(event)}",
    "window_ahead": lambda event: f"service window {event.get('name')}, {_span(event['begins_at'], event['ends_at'])}",
    "set_aside": lambda event: f"{phrases.name(event.get('path'))} was set aside to {event.get('to')}",
    "state_file_mended": lambda event: (
        f"the state file was mended ({event.get('why')}): it names {phrases.name(event.get('path'))}"
    ),
    "restored": lambda event: f"{phrases.name(event.get('path'))} was brought back from its last whole copy",
    "copied": lambda event: f"{phrases.name(event.get('path'))} was copied to {event.get('copy')}",
    "submitted": lambda event: f"submitted link {event.get('successor')} as job {event.get('job')}",
    "dependent_moved": lambda event: f"job {event.get('job')} waits for the next link now: {event.get('expression')}",
    "taken_back": lambda event: f"cancelled the next link, job {event.get('job')}",
    "left_to_release": lambda event: f"left job {event.get('job')} in the queue, because others wait for it",
    "on_end_ran": lambda event: f"--on-end: {event.get('text')}",
}
