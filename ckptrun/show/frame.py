"""One frame of the live screen, as lines that fit: where the chain stands, the countdown to its checkpoint time, last lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ckptrun import durations
from ckptrun.show import phrases, story, table
from ckptrun.show.seen import SeenChain


def lines(chain: SeenChain, tail: Sequence[str], now: float, width: int, height: int) -> list[str]:
    """Return at most `height` lines of at most `width` characters. `tail` are the last lines of the link's log."""
    now_said = chain.life.sentence if chain.life is not None else chain.reason or ""
    found = [f"{chain.id}: {chain.state}", f"  {now_said}" if now_said else "", ""]
    found += _drawn([bar for bar in (_progress(chain), _link(chain, now), _budget(chain)) if bar is not None], width)
    found += ["", *_sentences(chain, now)]
    fitted = [table.cut(phrases.clean(line), width) for line in found]
    room = height - len(fitted) - 2
    if room > 0 and tail:
        fitted += ["", *(table.cut(phrases.clean(line.expandtabs()), width) for line in tail[-room:])]
    return fitted[:height]


class Bar(NamedTuple):
    """A name, a share from 0 to 1 (None: no bar, the words alone), and the words behind the bar."""

    name: str
    share: float | None
    words: str


_LONGEST, _SHORTEST = 40, 4


def _drawn(bars: Sequence[Bar], width: int) -> list[str]:
    """Return bars of one length, so long that the words behind them fit: they are what is read."""
    room = min((width - len(f"  {bar.name:<9} [] {bar.words}") for bar in bars if bar.share is not None), default=_SHORTEST)
    length = max(min(room, _LONGEST), _SHORTEST)
    return [_line(bar, length) for bar in bars]


def _line(bar: Bar, length: int) -> str:
    if bar.share is None:
        return f"  {bar.name:<9} {bar.words}"
    full = round(min(max(bar.share, 0.0), 1.0) * length)
    return f"  {bar.name:<9} [{'#' * full}{'-' * (length - full)}] {bar.words}"


def _progress(chain: SeenChain) -> Bar | None:
    progress = chain.progress
    if progress.step is None:
        return None
    if not progress.total:
        return Bar("progress", None, f"step {progress.step}")
    left = f", {durations.show(progress.running_s)} of running left" if progress.running_s is not None else ""
    return Bar("progress", progress.step / progress.total, f"{progress.step}/{progress.total}{left}")


def _link(chain: SeenChain, now: float) -> Bar | None:
    last = chain.last
    if last is None or last.outcome is not None or last.started_at is None:
        return None
    name = f"link {phrases.number(last)}"
    if last.ask_at is None:
        return Bar(name, None, f"running for {durations.show(max(now - last.started_at, 0.0))}, without a limit")
    share = (now - last.started_at) / max(last.ask_at - last.started_at, 1.0)
    if now < last.ask_at:
        return Bar(name, share, f"asked to save in {durations.show(last.ask_at - now)} ({phrases.clock(last.ask_at, now)})")
    return Bar(name, 1.0, "its checkpoint time has come")


def _budget(chain: SeenChain) -> Bar:
    if chain.max_time_s:
        words = f"{durations.show(chain.counted_s)} of {durations.show(chain.max_time_s)}"
        return Bar("time", chain.counted_s / chain.max_time_s, words)
    return Bar("starts", chain.counted / max(chain.bound, 1), f"{chain.counted} of at most {chain.bound}")


def _sentences(chain: SeenChain, now: float) -> list[str]:
    told = story.last_end(chain)[:1]
    if chain.checkpoint_at is not None:
        told.append(f"Newest checkpoint: {durations.show(max(now - chain.checkpoint_at, 0.0))} ago.")
    command = story.to_go_on(chain)
    return told + ([f"To go on: {command}"] if command is not None else [])
