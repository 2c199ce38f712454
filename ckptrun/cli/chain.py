"""`ckptrun chain list` and `chain show`: what stands in the ledger, for people and as JSON."""

from __future__ import annotations

import json
import os
import shlex
import time
from typing import Any

import click

from ckptrun import durations
from ckptrun.chain import inspect
from ckptrun.chain.model import Chain, Link

ENDED = {
    "complete": "finished",
    "continued": "went on in the next link",
    "failed": "failed",
    "requeued": "was requeued",
    "cancelled": "was cancelled",
    "stopped": "was stopped",
    "stranded": "could not go on",
    "replaced": "was replaced",
    "lost": "died without a word",
}
COLOURS = {"complete": "green", "running": "cyan", "failed": "red", "lost": "red", "stranded": "red"}


@click.group(short_help="List chains and show what happened in them.")
def chain() -> None:
    """List chains and show what happened in them."""


@chain.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List all chains, one line each, the newest first."""
    chains = inspect.load_all(_living())
    if as_json:
        click.echo(_envelope("chain-list", [_summary(one) for one in chains]))
        return
    if not chains:
        click.echo("no chain yet. `ckptrun demo` makes one")
    for one in chains:
        word = f"{one.state:<9}"
        last = one.links[-1] if one.links else None
        at = f"step {last.step}" if last and last.step is not None else ""
        links = f"{len(one.links)} link{'s' if len(one.links) != 1 else ''}"
        click.echo(f"{one.id:<36} {_coloured(word, one.state)} {links:>9}  {durations.show(one.seconds):>10}  {at}".rstrip())


@chain.command("show")
@click.argument("name", metavar="[ID]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str | None, as_json: bool) -> None:
    """Show one chain: its links, how each ended, and what comes next.

    Without ID the newest chain that was started in this directory; a unique beginning of an id is enough.
    """
    loaded = inspect.load(inspect.find_chain(name), _living())
    if loaded is None:
        raise click.ClickException(f"the record of chain {name} cannot be read")
    found, oddities = loaded
    for oddity in oddities:
        click.echo(f"ckptrun: {oddity}", err=True)
    click.echo(_envelope("chain", _whole(found)) if as_json else "\n".join(_lines(found)))


@chain.command("stop")
@click.argument("name", metavar="[ID]", required=False)
def stop(name: str | None) -> None:
    """Stop a chain: cancel the job that waits; the link that runs saves and ends, and no other follows."""
    from ckptrun.link import people

    folder = inspect.find_chain(name)
    done = people.stop(folder)
    for job in done.cancelled:
        click.echo(f"job {job}, the next link, is cancelled")
    if done.running:
        click.echo(f"what runs ({done.running}) saves and ends within about ten seconds of its next look")
    click.echo(f"chain {folder.id} is stopped; `ckptrun chain resume {folder.id}` goes on")


@chain.command("resume", context_settings={"ignore_unknown_options": True})
@click.argument("words", metavar="[ID] [OPTIONS OF run]", nargs=-1, type=click.UNPROCESSED)
@click.option("--all", "every", is_flag=True, help="Every chain that is stranded or lost, and no other.")
@click.option("--script", metavar="FILE", help="Go on with this script instead of the chain's own, and say what differs.")
@click.option("--dry-run", is_flag=True, help="Say what would happen, and do nothing.")
def resume(words: tuple[str, ...], every: bool, script: str | None, dry_run: bool) -> None:
    """Go on with a chain that was stopped, cancelled, stranded or lost: submit its next link.

    Options of `ckptrun run` that are given here hold from now on in place of the chain's own.
    """
    from ckptrun.cli import resuming

    resuming.resume(words, every=every, script=script, dry_run=dry_run)


def _living() -> inspect.Living:
    from ckptrun.link.people import Onlooker

    return Onlooker().living


def _envelope(kind: str, data: Any) -> str:
    return json.dumps({"schema": "ckptrun/1", "kind": kind, "data": data}, indent=1)


def _summary(one: Chain) -> dict[str, Any]:
    last = one.links[-1] if one.links else None
    return {
        "id": one.id,
        "state": one.state,
        "reason": one.reason,
        "directory": one.directory,
        "created": one.created,
        "links": len(one.links),
        "seconds": round(one.seconds, 3),
        "step": last.step if last else None,
    }


def _whole(one: Chain) -> dict[str, Any]:
    links = [link._asdict() for link in one.links]
    facts = {"command": list(one.command), "options": one.options, "max_links": one.bound, "ready": one.ready}
    return _summary(one) | facts | {"links": links}


def _lines(one: Chain) -> list[str]:
    """Return the chain as lines of at most 80 columns where names allow it."""
    lines = [
        f"{one.id}: {_coloured(one.state, one.state)}",
        f"  {shlex.join(one.command)}",
        f"  in {one.directory}, since {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(one.created))}",
        "",
        "  link  started    ran        from -> to                       how it ended",
    ]
    for link in one.links:
        lines += _link(link)
    lines += ["", *_story(one)]
    return lines


def _link(link: Link) -> list[str]:
    started = _clock(link.started)
    ran = durations.show(link.seconds) if link.seconds is not None else "-"
    ended = ENDED.get(link.outcome or "", "runs") if link.outcome else "runs"
    span = f"{_name(link.resumed_from)} -> {_name(link.checkpoint)}"
    lines = [f"  {link.number:>4}  {started:<9}  {ran:<9}  {span:<31}  {ended}"]
    details = [f"job {link.job}"] if link.job else []
    if link.reason and link.outcome != "continued":
        details.append(link.reason)
    if link.asked_save_s is not None:
        details.append(f"saved {durations.show(link.asked_save_s)} after it was asked")
    if link.margin_s is not None and link.asked:
        details.append(f"margin {durations.show(link.margin_s)} ({link.margin_why})")
    details += [f"{os.path.basename(path)} was truncated and set aside" for path in link.set_aside]
    return lines + [f"        {detail}" for detail in details]


def _story(one: Chain) -> list[str]:
    count = f"{len(one.links)} link{'s' if len(one.links) != 1 else ''}"
    total = f"{count} of at most {one.bound}, {durations.show(one.seconds)} in all."
    if one.state == "complete":
        return [f"{total} The chain is complete: {one.reason}."]
    if one.state == "running":
        return [f"{total} It runs: {one.reason}."]
    if one.state == "new":
        return ["No link has started."]
    ended = f"The chain {ENDED.get(one.state, one.state)}: {one.reason}."
    again = one.ready or f"`ckptrun chain resume {one.id}`" if one.in_jobs else f"the same command again, in {one.directory}"
    return [f"{total} {ended}", f"To go on: {again}"]


def _name(path: str | None) -> str:
    if path is None:
        return "nothing"
    name = os.path.basename(path)
    return name if len(name) <= 14 else f"...{name[-11:]}"


def _clock(stamp: str | None) -> str:
    if stamp is None:
        return "-"
    import calendar

    try:
        unix = calendar.timegm(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return stamp[:9]
    return time.strftime("%H:%M:%S", time.localtime(unix))


def _coloured(text: str, state: str) -> str:
    if os.environ.get("NO_COLOR") or not os.isatty(1):
        return text
    return click.style(text, fg=COLOURS.get(state, "yellow"))
