"""`ckptrun chain resume`: which chains are meant, what is wanted of them, and what was done."""

from __future__ import annotations

from typing import Any

import click

from ckptrun import durations
from ckptrun.chain import inspect
from ckptrun.chain.home import ChainFolder, chain_folder, wanted_home
from ckptrun.cli import options, sources
from ckptrun.cli.settings import Setting
from ckptrun.errors import CkptrunError, Refused, UsageError
from ckptrun.job import new_script
from ckptrun.job import resume as links
from ckptrun.job.resume import Wish
from ckptrun.link import messages


def resume(words: tuple[str, ...], *, every: bool, script: str | None, dry_run: bool) -> None:
    """Go on with the chain that the words name, or with every one that is stranded or lost."""
    given, names = _read(list(words))
    values, told = sources.within_limits(given)
    for line in told:
        messages.say(line)
    if len(names) > 1:
        raise UsageError(f"one chain at a time: {', '.join(names)}")
    if every and (names or script is not None):
        raise UsageError("--all goes on with every chain that is stranded or lost: it takes neither an ID nor a --script")
    if every:
        _resume_all(values, dry_run)
        return
    folder = inspect.find_chain(names[0] if names else None)
    if script is not None:
        _check_time(folder, script)
    for line in links.resume(folder, Wish(_overrides(folder, values), script, dry_run)):
        click.echo(line)


def _read(words: list[str]) -> tuple[tuple[Setting, ...], list[str]]:
    """Return the options of `run`, and the words that are none, wherever they stand."""
    given: tuple[Setting, ...] = ()
    names = []
    while words:
        found = options.read(words)
        given += found.given
        words = list(found.rest)
        names += words[:1]
        words = words[1:]
    return given, names


def _check_time(folder: ChainFolder, path: str) -> None:
    """Refuse a script that asks for more time than its partition gives: sbatch takes such a job, and it never starts."""
    from ckptrun.doctor import look
    from ckptrun.slurm import sbatch_options
    from ckptrun.slurm.read_back import minutes

    typed = ((folder.facts() or {}).get("slurm") or {}).get("same", {}).get("options", ())
    # What is said again to sbatch counts more than what stands in the script.
    said = sbatch_options.script_options(new_script.read(path)) | dict(map(_split, typed))
    limit_s, asked = look.limits().time_of(said.get("partition")), minutes(said.get("time") or "")
    if limit_s is not None and asked is not None and (asked == 0 or asked * 60 > limit_s):
        where = f"partition {said['partition']}" if said.get("partition") else "the default partition"
        most = f"{durations.show(limit_s)}, the limit of {where}"
        raise Refused(f"--script {path}: --time={said['time']} is above {most}: the job would be accepted and never start")


def _split(option: str) -> tuple[str, str]:
    name, _, value = option.removeprefix("--").partition("=")
    return name, value


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
