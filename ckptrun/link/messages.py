"""The lines that a link prints. To stderr, prefix `ckptrun: `; a closed stderr is no reason to stop anything."""

from __future__ import annotations

import os
import time

from ckptrun import durations
from ckptrun.link.times import Times
from ckptrun.words import Checkpoint, Verdict

verbose = False


def say(text: str) -> None:
    """Print one line, in one write so that it is not torn by what the training prints."""
    for line in text.split("\n"):
        try:
            os.write(2, f"ckptrun: {line}\n".encode("utf-8", "replace"))
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


def checkpoint(found: Checkpoint) -> str:
    """Return a checkpoint in a few words: path, verdict, size."""
    verdict = "not checked" if found.verdict is Verdict.NOT_CHECKED else "whole"
    return f"{os.path.relpath(found.path)} ({verdict}, {size(found.size)})"


def starting(
    chain: str,
    link: int,
    resumption: tuple[bool, Checkpoint | None, str],
    times: Times | None,
    *,
    sees: bool,
    bound: int,
    now: float,
) -> str:
    """Return the line at the start: chain, link, resuming from what, when it will ask.

    `resumption` is whether the start resumes, from which checkpoint, and a note about that; `bound` is how many links there may be.
    """
    resumes, found, note = resumption
    if found is not None:
        origin = f"resuming from {checkpoint(found)}{note}"
    elif sees:
        origin = "nothing to resume from yet, starting fresh"
    else:
        origin = "resuming (no --checkpoint: from what, only the training knows)" if resumes else "starting"
    if times is None:
        return f"link {link} of {chain}, {origin}; no time limit"
    clock = time.strftime("%H:%M:%S", time.localtime(time.time() + times.ask_at - now))
    line = (
        f"link {link} of {chain}, {origin}; will ask it to save at {clock}, {durations.show(times.margin_s)} "
        f"before its {durations.show(times.limit_s)} are over ({times.why})"
    )
    return line if sees else f"{line}; at most {bound} links: no --checkpoint, progress cannot be seen"


def limit_too_short(times: Times) -> str:
    """Return the advice for a limit under which a save does not fit into half of it."""
    needed_s = times.needed_limit_s or 0.0
    return (
        f"{times.why}: a limit of {durations.show(times.limit_s)} leaves too little for the training. "
        f"--time-limit {_round_up(needed_s)} or more would do"
    )


def _round_up(seconds: float) -> str:
    if seconds <= 120:
        return f"{-(-seconds // 1):.0f}s"
    return f"{-(-seconds // 60):.0f}m"
