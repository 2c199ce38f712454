"""`ckptrun chain ...`: parse, look, print. What is drawn and how stands in ckptrun/show."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from ckptrun import durations
from ckptrun.chain import inspect
from ckptrun.chain.home import wanted_home
from ckptrun.cli.chain_save import save
from ckptrun.errors import CkptrunError, UsageError

if TYPE_CHECKING:
    from ckptrun.show.look import Looker, OnDisk
    from ckptrun.show.seen import SeenChain


class Lasting(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # click 8.3 made it generic
    """A duration as everywhere in ckptrun."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        try:
            return durations.parse(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


NAME = click.argument("name", metavar="[ID]", required=False)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(short_help="List chains and show what happened in them.")
def chain() -> None:
    """See chains, stop them, go on with them.

    ID is a chain's id, a unique beginning of it, or any job in it. Without it the newest chain that was started in this directory
    is meant.
    """


chain.add_command(save)


@chain.command("list")
@click.option("--all", "everything", is_flag=True, help="Every chain, not only those that live and the newest others.")
@click.option("--state", "states", multiple=True, metavar="STATE", help="Only chains in this state, e.g. running, lost.")
@click.option("--name", "names", multiple=True, metavar="TEXT", help="Only chains whose id has this in it, or fits this pattern.")
@click.option("--age", type=Lasting(), help="Only chains that live, or were heard of in this time: 12h, 7d.")
@JSON
def list_(everything: bool, states: tuple[str, ...], names: tuple[str, ...], age: float | None, as_json: bool) -> None:
    """List chains, one line each, the newest first."""
    from ckptrun.show import as_json as form
    from ckptrun.show import pages
    from ckptrun.show.listing import Wanted, listing
    from ckptrun.show.seen import STATES

    if unknown := [state for state in states if state not in STATES]:
        raise UsageError(f"--state {unknown[0]}: no chain is ever that. A state is one of {', '.join(STATES)}")
    looker = _look()
    found = listing(wanted_home(), Wanted(everything, states, names, age), looker)
    if as_json:
        _print_json("chain-list", [form.summary(one) for one in found.chains])
        return
    if not found.chains:
        click.echo("no chain yet. `ckptrun demo` makes one" if not (states or names or age) else "no chain is like that")
        return
    _print(pages.list_lines(found.chains, looker.now, _width(), _paint))
    if found.hidden:
        click.echo(f"and {found.hidden} older: `ckptrun chain list --all`")


@chain.command("show", short_help="Show one chain: its links, why each ended, and what comes next.")
@NAME
@click.option("--link", "number", metavar="N", help="One link with its evidence; 3.2 is the second start of link 3.")
@JSON
def show(name: str | None, number: str | None, as_json: bool) -> None:
    """Show one chain: its links, how each ended and why, what it cost, and what comes next."""
    from ckptrun.show import look, pages

    looker = _look()
    one, seen = look.closely(inspect.find_chain(name), looker)
    for oddity in seen.oddities:
        click.echo(f"ckptrun: {oddity}", err=True)
    if as_json:
        _print_json(*_shown(one, seen, number))
    elif number is None:
        _print(pages.show_lines(seen, looker.now, _width(), _paint))
    else:
        link = look.link_of(seen, number)
        _print(pages.link_lines(seen, link, *look.record_of(one, link), looker.now, _width()))


def _shown(one: OnDisk, seen: SeenChain, number: str | None) -> tuple[str, Any]:
    """Return the kind and the data of what `chain show --json` prints."""
    from ckptrun.show import as_json, look

    if number is None:
        return "chain", as_json.whole(seen)
    link = look.link_of(seen, number)
    events, turns = look.record_of(one, link)
    return "chain-link", as_json.link(link) | {"events": events, "turns": turns}


@chain.command("log", short_help="Print the logs of all links, one after the other.")
@NAME
@click.option("--link", "number", metavar="N", help="Only this link's log.")
@click.option("-f", "--follow", is_flag=True, help="Go on as the log grows, into the next link, to the chain's end.")
def log(name: str | None, number: str | None, follow: bool) -> None:
    """Print the logs of all links, one after the other, each under a line that names it."""
    from ckptrun.show import logs

    logs.print_logs(inspect.find_chain(name), number, follow=follow, out=sys.stdout.buffer)


@chain.command("watch", short_help="Watch a chain on a live screen until it has ended.")
@NAME
def watch(name: str | None) -> int:
    """Watch a chain on a live screen until it has ended: its progress, the countdown to its checkpoint time, its last lines."""
    from ckptrun.show import watching

    if not os.isatty(1) or os.environ.get("TERM", "").lower() in ("dumb", "unknown"):
        raise UsageError(
            "watch needs a terminal whose cursor can be moved: `ckptrun chain show` prints where a chain stands, `chain log -f` "
            "follows its logs"
        )
    ended = watching.watch(inspect.find_chain(name))
    click.echo(f"chain {ended.id} has ended: {ended.state}{f': {ended.reason}' if ended.reason else ''}")
    return 0


@chain.command("report", short_help="Write one chain as one HTML file that needs no network.")
@NAME
@click.option("-o", "--output", metavar="FILE", default="report.html", show_default=True, help="The file to write; - for stdout.")
def report(name: str | None, output: str) -> None:
    """Write one chain as one HTML file that needs no network: when it waited, ran and lost work, its steps, saves and links."""
    from ckptrun.show import look
    from ckptrun.show.report import page

    looker = _look()
    _, seen = look.closely(inspect.find_chain(name), looker)
    text = page(seen, looker.now)
    if output == "-":
        click.echo(text, nl=False)
        return
    # Both names through one path: two mounts of one folder are two devices to a rename.
    path = os.path.realpath(output)
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise CkptrunError(f"--output {output} cannot be written ({error.strerror}): name a file that can") from None
    click.echo(f"{output} shows chain {seen.id}")


@chain.command("wait", short_help="Wait until a chain has ended, and exit as it did.")
@NAME
def wait(name: str | None) -> int:
    """Wait until a chain has ended; exit as it did: with the training's status, or 75 where it is unfinished."""
    from ckptrun.show import waiting

    ended = waiting.wait(inspect.find_chain(name))
    click.echo(f"ckptrun: chain {ended.id} has ended: {ended.state}{f': {ended.reason}' if ended.reason else ''}", err=True)
    return waiting.exit_code(ended)


@chain.command("stop", short_help="Let what runs save and end; no other link follows.")
@NAME
@click.option(
    "--now", "how", flag_value="now", help="Cancel it: the training is asked to save and has what Slurm's KillWait gives."
)
@click.option("--after-checkpoint", "how", flag_value="checkpoint", default="checkpoint", help="It saves, then ends. The default.")
@click.option("--after-link", "how", flag_value="link", help="It runs to its checkpoint time, and no other link follows.")
def stop(name: str | None, how: str) -> None:
    """Stop a chain: cancel the job that waits; what runs saves and ends, and no other link follows."""
    from ckptrun.job import stopping

    folder = inspect.find_chain(name)
    done = stopping.stop(folder, stopping.How(how))
    for job in done.cancelled:
        click.echo(f"job {job}, the next link, is cancelled")
    if done.running:
        click.echo(done.running)
    click.echo(f"chain {folder.id} is stopped; {stopping.to_go_on(folder)}")


@chain.command(
    "resume",
    short_help="Submit the next link of a chain that has ended unfinished.",
    context_settings={"ignore_unknown_options": True},
)
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


@chain.command("prune")
@click.option("--older-than", type=Lasting(), default="90d", show_default=True, help="Only what was last heard of longer ago.")
@click.option("--unfinished", is_flag=True, help="Also chains that could be resumed: stopped, stranded, lost, failed, cancelled.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(older_than: float, unfinished: bool, yes: bool) -> int:
    """Remove the records of old ended chains, after asking. Checkpoints and logs are not touched."""
    from ckptrun.show import pruning

    found = pruning.find(wanted_home(), older_than, unfinished=unfinished)
    for line in pruning.described(found):
        click.echo(line)
    if not found.folders and not found.submissions:
        return 0
    if not yes and not click.confirm("Remove these records? Checkpoints and logs stay", default=False):
        click.echo("nothing was removed")
        return 0
    removed = pruning.remove(wanted_home(), found)
    click.echo(f"removed {removed}")
    return 0


def _look() -> Looker:
    """Return who looks. What is read stays until it is printed: looking for garbage meanwhile would cost a third of the time."""
    import gc

    from ckptrun.show.look import Looker

    gc.disable()
    return Looker()


def _print(lines: list[str]) -> None:
    click.echo("\n".join(lines))


def _print_json(kind: str, data: Any) -> None:
    click.echo(json.dumps({"schema": "ckptrun/1", "kind": kind, "data": data}, indent=1))


def _width() -> int | None:
    """Return the width to fit: COLUMNS, else the terminal's; None where nobody looks, and nothing needs to be cut."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    return os.get_terminal_size(1).columns if os.isatty(1) else None


def _paint(text: str, state: str) -> str:
    if os.environ.get("NO_COLOR") or not os.isatty(1):
        return text
    from ckptrun.show.pages import COLOURS

    return click.style(text, fg=COLOURS.get(state, "yellow"))
