"""One frame of the live screen, as lines that fit: where the chain stands, the countdown to its checkpoint time, last lines."""

from __future__ import annotations

from collections.abc import Sequence

from ckptrun import durations
from ckptrun.show import phrases, story, table
from ckptrun.show.seen import SeenChain


def lines(chain: SeenChain, tail: Sequence[str], now: float, width: int, height: int) -> list[str]:
    """Return at most `height` lines of at most `width` characters. `tail` are the last lines of the link's log."""
    now_said = chain.life.sentence if chain.life is not None else chain.reason or ""
    found = [f"{chain.id}: {chain.state}", f"  {now_said}" if now_said else "", ""]
    found += [line for line in (_progress(chain, width), _link(chain, now, width), _budget(chain, width)) if line]
    found += ["", *_sentences(chain, now)]
    fitted = [table.cut(phrases.clean(line), width) for line in found]
    room = height - len(fitted) - 2
    if room > 0 and tail:
        fitted += ["", *(table.cut(phrases.clean(line.expandtabs()), width) for line in tail[-room:])]
    return fitted[:height]


def _bar(name: str, share: float, words: str, width: int) -> str:
    length = max(min(width - 60, 40), 10)
    full = round(min(max(share, 0.0), 1.0) * length)
    return f"  {name:<9} [{'#' * full}{'-' * (length - full)}] {words}"


def _progress(chain: SeenChain, width: int) -> str:
    progress = chain.progress
    if progress.step is None:
        return ""
    if not progress.total:
        return f"  {'progress':<9} step {progress.step}"
    left = f", {durations.show(progress.running_s)} of running left" if progress.running_s is not None else ""
    return _bar("progress", progress.step / progress.total, f"{progress.step}/{progress.total}{left}", width)


def _link(chain: SeenChain, now: float, width: int) -> str:
    last = chain.last
    if last is None or last.outcome is not None or last.started_at is None:
        return ""
    name = f"link {phrases.number(last)}"
    if last.ask_at is None:
        return f"  {name:<9} running for {durations.show(max(now - last.started_at, 0.0))}, without a limit"
    share = (now - last.started_at) / max(last.ask_at - last.started_at, 1.0)
    if now < last.ask_at:
        return _bar(name, share, f"asked to save in {durations.show(last.ask_at - now)} ({phrases.clock(last.ask_at, now)})", width)
    return _bar(name, 1.0, "its checkpoint time has come", width)


def _budget(chain: SeenChain, width: int) -> str:
    if chain.max_time_s:
        words = f"{durations.show(chain.counted_s)} of {durations.show(chain.max_time_s)}"
        return _bar("time", chain.counted_s / chain.max_time_s, words, width)
    return _bar("starts", chain.counted / max(chain.bound, 1), f"{chain.counted} of at most {chain.bound}", width)


def _sentences(chain: SeenChain, now: float) -> list[str]:
    told = story.last_end(chain)[:1]
    if chain.checkpoint_at is not None:
        told.append(f"Newest checkpoint: {durations.show(max(now - chain.checkpoint_at, 0.0))} ago.")
    command = story.to_go_on(chain)
    return told + ([f"To go on: {command}"] if command is not None else [])
