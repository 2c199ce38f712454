"""A chain as lines of text: the line of the list, the page of one chain, the page of one link."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any

from ckptrun import durations
from ckptrun.show import phrases, story, table
from ckptrun.show.building import age
from ckptrun.show.seen import Event, SeenChain, SeenLink
from ckptrun.show.table import Column

Paint = Callable[[str, str], str]
COLOURS = {
    "complete": "green",
    "running": "cyan",
    "pending": "yellow",
    "failed": "red",
    "lost": "red",
    "stranded": "red",
}


def list_lines(chains: Sequence[SeenChain], now: float, width: int | None, paint: Paint) -> list[str]:
    """Return a title and one line a chain. `paint` colours a text for a state; width None shows everything."""
    columns = [
        Column("CHAIN", [one.id for one in chains], least=24),
        Column("STATE", [one.state for one in chains]),
        Column("LINKS", [f"{one.counted}/{one.bound}" for one in chains], rank=3, right=True),
        Column("PROGRESS", [phrases.steps(one) for one in chains], rank=1, right=True),
        Column("USED", [phrases.budget(one) for one in chains], rank=4, right=True),
        Column("SAVED", [age(one.checkpoint_at, now) for one in chains], rank=2, right=True),
        Column("NOW", [_now(one) for one in chains], least=16),
    ]
    title, *rows = table.lines(columns, width)
    return [title, *(_painted(row, one.state, paint) for row, one in zip(rows, chains, strict=True))]


def _painted(row: str, state: str, paint: Paint) -> str:
    before, found, after = row.partition(f" {state}")
    return f"{before} {paint(state, state)}{after}" if found else row


def _now(one: SeenChain) -> str:
    if one.life is not None and one.state in ("running", "pending", "unknown"):
        return one.life.sentence
    last = one.last
    return one.reason or (last.reason if last is not None and last.reason else "") or "-"


def show_lines(chain: SeenChain, now: float, width: int | None, paint: Paint) -> list[str]:
    """Return the page of one chain."""
    head = [
        f"{chain.id}: {paint(chain.state, chain.state)}",
        f"  {phrases.clean(shlex.join(chain.command))}",
        f"  in {phrases.clean(chain.directory)}, since {phrases.moment(chain.created)}",
        "",
    ]
    rows = table.lines(_link_columns(chain.links, now), width, indent=2) if chain.links else ["  no link has started"]
    return [*head, *rows, "", *_wrapped(_below(chain, now), width), *_command(chain)]


def _link_columns(links: Sequence[SeenLink], now: float) -> list[Column]:
    def column(title: str, cell: Callable[[SeenLink], str], **options: Any) -> Column:
        return Column(title, [cell(link) for link in links], **options)

    columns = [
        column("LINK", phrases.number, right=True),
        column("JOB", lambda link: link.job or "-", rank=2),
        column("NODE", lambda link: link.node or "-", rank=4, least=5),
        column("BEGAN", lambda link: phrases.clock(link.started_at, now), rank=6),
        column("QUEUED", lambda link: phrases.about(link.waited_s), rank=3, right=True),
        column("RAN", phrases.ran, right=True),
        column("ENDED", phrases.because),
        column("CHECKPOINT", phrases.span, rank=1, least=15),
        column("SIZE", lambda link: phrases.size(link.size), rank=8, right=True),
        column("LOST", lambda link: phrases.about(link.lost_s), rank=2, right=True),
        column("EXIT", lambda link: "-" if link.exit_code is None else str(link.exit_code), rank=5, right=True),
        column("SAVE", _slowest_save, rank=9, right=True),
        column("MARGIN", lambda link: phrases.seconds(link.margin_s), rank=9, right=True),
        column("LOG", lambda link: phrases.name(link.log) if link.log else "-", rank=10, least=12),
    ]
    empty = {"JOB", "NODE", "QUEUED", "LOG", "SAVE", "SIZE", "LOST"}
    return [one for one in columns if one.title not in empty or any(cell not in ("-", "0 s") for cell in one.cells)]


def _slowest_save(link: SeenLink) -> str:
    return phrases.seconds(max((save.seconds for save in link.saves), default=None))


def _below(chain: SeenChain, now: float) -> list[str]:
    """Return the paragraphs below the table."""
    paragraphs = [" ".join(_account(chain)), *(story.forecast(chain) if chain.state != "complete" else ())]
    if chain.state == "complete":
        paragraphs.append(f"The chain is complete: {chain.last.reason if chain.last and chain.last.reason else 'it said so'}.")
    else:
        paragraphs.append(" ".join(story.last_end(chain)))
        if chain.life is None and chain.reason and (chain.last is None or chain.reason != chain.last.reason):
            paragraphs.append(f"The chain is {chain.state}: {chain.reason}.")
        paragraphs.append(" ".join(story.next_up(chain, now)))
    return [one for one in paragraphs if one]


def _account(chain: SeenChain) -> list[str]:
    totals = chain.totals
    count = f"{phrases.plural(chain.starts, 'start')}, {chain.counted} of at most {chain.bound} counted"
    used = f"{count}; ran {durations.show(totals.used_s)}"
    if chain.max_time_s:
        used += f" ({durations.show(max(chain.max_time_s - chain.counted_s, 0.0))} left of --max-time)"
    told = [f"{used}."]
    whole_s = totals.used_s + totals.waited_s
    if whole_s > 0 and (totals.lost_s >= 1 or totals.waited_s >= 1):
        shares = [("useful", totals.useful_s), ("waiting in the queue", totals.waited_s), ("lost", totals.lost_s)]
        told.append(f"Of {durations.show(whole_s)}: {', '.join(f'{value / whole_s:.0%} {name}' for name, value in shares)}.")
    if totals.idle_s >= 60:
        told.append(f"It stood still for {durations.show(totals.idle_s)}, until somebody went on with it.")
    return told


def _command(chain: SeenChain) -> list[str]:
    command = story.to_go_on(chain)
    return [f"To go on: {command}"] if command is not None else []


def link_lines(
    chain: SeenChain, link: SeenLink, events: Sequence[Event], turns: Sequence[dict[str, Any]], now: float, width: int | None
) -> list[str]:
    """Return the page of one link: its story, then the evidence."""
    facts = _link_columns([link], now)
    shown = [f"  {one.title.lower():<10}  {one.cells[0]}" for one in facts if one.cells[0] != "-" and one.title != "LOG"]
    log = [f"  {'log':<10}  {phrases.clean(link.log)}"] if link.log else []
    told = _wrapped(story.of_link(link, chain.links), width)
    proof = _wrapped(story.evidence(events, turns, link, now), width, hanging=14)
    return [f"{chain.id}, link {phrases.number(link)}", "", *shown, *log, "", *told, "", "What is on record:", *proof]


def _wrapped(paragraphs: Sequence[str], width: int | None, hanging: int = 0) -> list[str]:
    """Return paragraphs as lines; a word that is longer than a line stays whole, because people copy it."""
    import textwrap

    cleaned = [phrases.clean(one) for one in paragraphs]
    if width is None:
        return cleaned
    wrapper = textwrap.TextWrapper(width, subsequent_indent=" " * hanging, break_long_words=False, break_on_hyphens=False)
    return [line for one in cleaned for line in (wrapper.wrap(one) if len(one) > width else [one])]
