"""`ckptrun chain resume`: which chains are meant, what is wanted of them, and what was done."""

from __future__ import annotations

from typing import Any

import click

from ckptrun.chain import inspect
from ckptrun.chain.home import ChainFolder, chain_folder, wanted_home
from ckptrun.cli import options
from ckptrun.errors import CkptrunError, UsageError
from ckptrun.job import resume as links
from ckptrun.job.resume import Wish


def resume(words: tuple[str, ...], *, every: bool, script: str | None, dry_run: bool) -> None:
    """Go on with the chain that the words name, or with every one that is stranded or lost."""
    values, names = _read(list(words))
    if len(names) > 1:
        raise UsageError(f"one chain at a time: {', '.join(names)}")
    if every and (names or script is not None):
        raise UsageError("--all goes on with every chain that is stranded or lost: it takes neither an ID nor a --script")
    if every:
        _resume_all(values, dry_run)
        return
    folder = inspect.find_chain(names[0] if names else None)
    for line in links.resume(folder, Wish(_overrides(folder, values), script, dry_run)):
        click.echo(line)


def _read(words: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the options of `run`, and the words that are none, wherever they stand."""
    values: dict[str, Any] = {}
    names = []
    while words:
        found = options.read(words)
        values |= found.values
        words = list(found.rest)
        names += words[:1]
        words = words[1:]
    return values, names


def _overrides(folder: ChainFolder, values: dict[str, Any]) -> dict[str, Any]:
    plan = (folder.facts() or {}).get("plan") or {}
    return options.overrides(values, tuple(plan.get("command", ()))) if values else {}


def _resume_all(values: dict[str, Any], dry_run: bool) -> None:
    """Go on with each in turn; what is wrong with one keeps no other, and decides the exit code."""
    from ckptrun.show.listing import Wanted, listing
    from ckptrun.show.look import Looker

    wanted = Wanted(everything=True, states=("stranded", "lost"))
    worst, count = 0, 0
    for chain in listing(wanted_home(), wanted, Looker()).chains:
        folder = chain_folder(chain.id)
        try:
            why = links.left_alone(folder, chain.state)
            if why is not None:
                if chain.state in ("stranded", "lost"):
                    click.echo(f"chain {chain.id} is left alone: {why}")
                continue
            count += 1
            for line in links.resume(folder, Wish(_overrides(folder, values), None, dry_run)):
                click.echo(line)
        except CkptrunError as error:
            click.echo(f"ckptrun: {error}", err=True)
            worst = max(worst, error.exit_code)
    if not count:
        click.echo("no chain is stranded or lost")
    if worst:
        raise SystemExit(worst)
