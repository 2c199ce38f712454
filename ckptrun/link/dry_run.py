"""What `--dry-run` tells: what would happen, and where each fact was learned. Nothing is written."""

from __future__ import annotations

import os
import shlex
import time
from typing import Any, NamedTuple

from ckptrun import durations
from ckptrun.chain import claims, home
from ckptrun.chain.history import read_events
from ckptrun.chain.ledger import final_outcome, highest_link
from ckptrun.chain.model import ChainSoFar, so_far
from ckptrun.chain.state import why_live
from ckptrun.chain.turns import Turns
from ckptrun.link import membership, messages
from ckptrun.link.target import announce
from ckptrun.link.times import times
from ckptrun.plan import Plan, resume_words
from ckptrun.words import Checkpoint


class InJob(NamedTuple):
    """What is known of a start inside a Slurm job: its chain, link and history, its end, its successor."""

    chain: str
    link: int
    events: tuple[dict[str, Any], ...]
    end_at: float | None
    successor: tuple[str, ...]


def describe_in_job(plan: Plan, job: InJob) -> list[str]:
    """Return the lines that tell what a start inside a job would do now."""
    known = so_far(job.events)
    lines = [f"chain: {job.chain}", _resuming(plan, _newest(plan), job.link, known)]
    limits = {"the job's end time": job.end_at} if job.end_at is not None else {}
    if plan.limit_s is not None:
        limits["--time-limit"] = time.time() + plan.limit_s
    if limits:
        where = min(limits, key=lambda name: limits[name])
        lines += _times_until(plan, known, limits[where] - time.time(), where)
    else:
        lines.append("time limit: none; nobody is asked by the clock")
    return [*lines, _who(plan), _bounds(plan, known), *job.successor]


def describe(plan: Plan) -> list[str]:
    """Return the lines that tell what a start with this plan would do now."""
    folder_of = _state_home()
    name = plan.chain or (claims.recall_command(folder_of, membership.command_key(plan)) if folder_of else None)
    known = home.open_chain(folder_of, name) if folder_of and name else None
    events = read_events(known.events)[0] if known else []
    turns = Turns(known.turns).read() if known else ()
    lines = []
    link = 1
    if known is not None and final_outcome(turns) != "complete":
        living = why_live(known)
        link = highest_link(turns) + 1
        lines.append(f"chain: {known.id}, unfinished; this would be its link {link}" + (f". It lives: {living}" if living else ""))
    elif known is not None and plan.chain is not None:
        return [f"chain: {known.id} is complete; nothing would be started"]
    else:
        events = []
        lines.append(f"chain: a new one, {plan.chain or home.make_id(os.path.basename(plan.command[0]), time.time())}")
    so_far_ = so_far(events)
    newest = _newest(plan)
    lines += [_resuming(plan, newest, link, so_far_), *_times(plan, so_far_), _who(plan), _bounds(plan, so_far_)]
    return lines


def _state_home() -> str | None:
    """Return the state folder where there is one already: a dry run creates none."""
    path = home.wanted_home()
    return path if os.path.isdir(path) else None


def _newest(plan: Plan) -> Checkpoint | None:
    if not plan.checkpoints:
        return None
    from ckptrun.checkpoints.find import newest_whole

    return newest_whole(plan.checkpoints)[0]


def _resuming(plan: Plan, newest: Checkpoint | None, link: int, known: ChainSoFar) -> str:
    resumes = newest is not None or (not plan.checkpoints and link > 1)
    command = plan.command
    if resumes and plan.resume_flag:
        command += resume_words(plan.resume_flag, checkpoint=newest.path if newest else "", link=link, chain="CHAIN")
    if newest is None and plan.checkpoints and known.seen_whole and not plan.fresh:
        return "would not train: no whole checkpoint stands, although this chain has seen one"
    origin = messages.checkpoint(newest) if newest else ("no checkpoint seen" if plan.checkpoints else "--checkpoint is not given")
    return f"would run: {shlex.join(command)}\nresuming: {'yes' if resumes else 'no'} ({origin})"


def _times(plan: Plan, known: ChainSoFar) -> list[str]:
    if plan.limit_s is None:
        return ["time limit: none (--time-limit sets one); one link, nobody is asked by the clock"]
    return _times_until(plan, known, plan.limit_s, "--time-limit")


def _times_until(plan: Plan, known: ChainSoFar, seconds: float, where: str) -> list[str]:
    found = times(0.0, seconds, known.saves, plan.margin_s)
    now = time.time()

    def clock(at: float) -> str:
        return time.strftime("%H:%M:%S", time.localtime(now + at))

    return [
        f"end time: {clock(found.end_at)}, {durations.show(found.limit_s)} after the start ({where})",
        f"checkpoint time: {clock(found.ask_at)}, {durations.show(found.margin_s)} before it ({found.why})",
        f"TERM to what is left: {clock(found.term_at)}; KILL: {clock(found.kill_at)}",
    ]


def _who(plan: Plan) -> str:
    if plan.signal != "auto":
        return f"asked: {announce(plan.command)}, with SIG{plan.signal} if it catches it (--signal)"
    return (
        f"asked: {announce(plan.command)}, with the first of SIGUSR1, SIGUSR2, SIGTERM that it catches when the time comes; SIGINT "
        "after the last save that fits where it catches only that"
    )


def _bounds(plan: Plan, known: ChainSoFar) -> str:
    sees = bool(plan.checkpoints) or known.best_step is not None
    why = "as told" if plan.max_links else ("the default" if sees else "no --checkpoint, progress cannot be seen")
    text = f"bounds: --max-links {plan.bound(sees_progress=sees)} ({why})"
    return text + (f", {durations.show(plan.max_time_s)} in all (--max-time)" if plan.max_time_s else "")
