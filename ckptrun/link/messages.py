"""The lines that a link prints. To stderr, prefix `ckptrun: `; a closed stderr is no reason to stop anything."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ckptrun import durations
from ckptrun.link.outcome import Decision
from ckptrun.link.supervision import NAMES
from ckptrun.link.times import Times
from ckptrun.words import Checkpoint, Outcome, Verdict, one_line

if TYPE_CHECKING:
    from ckptrun.link.target import Target

verbose = False
# Who speaks, where many print into one log.
voice = ""


def say(text: str) -> None:
    """Print one line, in one write so that it is not torn by what the training prints."""
    for line in text.split("\n"):
        try:
            os.write(2, f"ckptrun: {voice}{line}\n".encode("utf-8", "replace"))
        except OSError:
            return


def detail(text: str) -> None:
    """Print one line under `-v`."""
    if verbose:
        say(text)


def size(number: float) -> str:
    """Return bytes for people: `812 B`, `44.7 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def checkpoint(found: Checkpoint, note: str = "") -> str:
    """Return a checkpoint in a few words: path, verdict, size, and a note about it."""
    verdict = "not checked" if found.verdict is Verdict.NOT_CHECKED else "whole"
    return f"{one_line(os.path.relpath(found.path))} ({verdict}, {size(found.size)}{f', {note}' if note else ''})"


def starting(
    chain: str,
    link: int,
    resumption: tuple[bool, Checkpoint | None, str],
    times: Times | None,
    *,
    sees: bool,
    bound: int | None,
    now: float,
    who: str = "it",
    by: str = "",
) -> str:
    """Return the line at the start: chain, link, resuming from what, who will be asked, when, and by which signal.

    `resumption` is whether the start resumes, from which checkpoint, and a note about that; `bound` is how many links there may
    be where nobody can see whether the chain gets anywhere, else None; `who` and `by` are known as far as the command says.
    """
    origin = f"link {link} of {chain}, {_origin(resumption, sees=sees)}"
    if times is None:
        return f"{origin}; no time limit"
    line = f"{origin}; {will_ask(times, now, who)}{f', by {by}' if by else ''}"
    return line if bound is None else f"{line}; at most {bound} links: no --checkpoint, progress cannot be seen"


def _origin(resumption: tuple[bool, Checkpoint | None, str], *, sees: bool) -> str:
    resumes, found, note = resumption
    if found is not None:
        return f"resuming from {checkpoint(found, note)}"
    if sees:
        return "nothing to resume from yet, starting fresh"
    return "resuming (no --checkpoint: from what, only the training knows)" if resumes else "starting"


def rehearsing(start: int, resumption: tuple[bool, Checkpoint | None, str], times: Times, *, sees: bool) -> str:
    """Return the line at one of the two starts of a rehearsal."""
    after, limit = durations.show(times.ask_at - times.start_at), durations.show(times.limit_s)
    origin = _origin(resumption, sees=sees)
    return f"start {start} of 2, {origin}; will ask it to save after {after}, as if a limit of {limit} were near"


def will_ask(times: Times, now: float | None = None, who: str = "it") -> str:
    """Return when the training will be asked, and why then."""
    at = time.time() + times.ask_at - (time.monotonic() if now is None else now)
    clock = time.strftime("%H:%M:%S", time.localtime(at))
    return (
        f"will ask {who} to save at {clock}, {durations.show(times.margin_s)} before its {durations.show(times.limit_s)} are over "
        f"({times.why})"
    )


def window_begins(at: float) -> str:
    """Return that a service window begins at a time (Unix seconds)."""
    return f"a service window begins on {time.strftime('%a %d %b at %H:%M', time.localtime(at))}"


def told(targets: Sequence[Target]) -> str:
    """Return who was sent what, the workers of one launcher together: `SIGUSR1 to 11, 12 (python train.py catches it)`."""
    groups: dict[tuple[int, str], list[int]] = {}
    for one in targets:
        groups.setdefault((one.signal, one.why), []).append(one.pid)
    return "; ".join(
        f"{NAMES.get(number, f'signal {number}')} to {', '.join(map(str, pids))} ({why})" for (number, why), pids in groups.items()
    )


def little_room(where: str, free_bytes: int | None, free_files: int | None, saved: Checkpoint) -> str:
    """Return the warning that the next save may not fit, with what is left and what the last checkpoint has."""
    left = [size(free_bytes)] if free_bytes is not None else []
    left += [f"{free_files} files"] if free_files is not None and free_files < len(saved.parts) else []
    count = f" in {len(saved.parts)} files" if len(saved.parts) > 1 else ""
    return (
        f"the next save may not fit: {where} has {' and '.join(left)} left, and {os.path.relpath(saved.path)} has "
        f"{size(saved.size)}{count}. Make room now; older checkpoints can go"
    )


def limit_too_short(times: Times) -> str:
    """Return the advice for a limit under which a save does not fit into half of it."""
    needed_s = times.needed_limit_s or 0.0
    return (
        f"the margin is {times.why}: a limit of {durations.show(times.limit_s)} leaves too little for the training. "
        f"--time-limit {_round_up(needed_s)} or more would do"
    )


def _round_up(seconds: float) -> str:
    if seconds <= 120:
        return f"{-(-seconds // 1):.0f}s"
    return f"{-(-seconds // 60):.0f}m"


def what_follows(link: int, decision: Decision, in_job: bool) -> str:
    """Return what comes after a link that goes on."""
    after = f" after {durations.show(decision.delay_s)}" if decision.delay_s else ""
    if in_job:
        return f"link {link} starts{after or ' when this job is over'}"
    return f"link {link} starts {f'in {durations.show(decision.delay_s)}' if decision.delay_s else 'now'}"


def how_to_go_on(chain: str, decision: Decision, in_job: bool) -> str:
    """Return what the user can do after a link that does not go on."""
    story = f"`ckptrun chain show {chain}` tells the story"
    if decision.outcome is Outcome.REQUEUED:
        return f"Slurm starts this job again; {story}"
    if in_job:
        return f"`ckptrun chain resume {chain}` goes on; {story}"
    return f"The same command again goes on; {story}"


def taken_over(chain: str) -> str:
    """Return that another start of the chain was first."""
    return f"another start has taken over chain {chain}: nothing is done here"


REQUEUES_ITSELF = (
    "the job is requeued while the training saves: Slurm goes on with it, and no other job is submitted. If it is the training "
    "that requeues it (Lightning does, unless it has plugins=[SLURMEnvironment(auto_requeue=False)]; so does submitit), leave that "
    "to ckptrun: a requeue costs 121 s, a new job about one"
)
