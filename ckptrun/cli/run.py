"""`ckptrun run`, the command that needs no word: resolve the options, find the chain, run its links."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from ckptrun.cli import options
from ckptrun.cli.options import SUBCOMMANDS
from ckptrun.cli.sources import resolve
from ckptrun.early import Handlers
from ckptrun.errors import CommandNotFound, UsageError
from ckptrun.link import child, messages
from ckptrun.plan import Plan

if TYPE_CHECKING:
    from ckptrun.job.job_membership import Inside


def main(words: list[str], handlers: Handlers) -> int:
    """Run a chain, or tell what would be run."""
    started_at = time.monotonic()
    mistakes: list[str] = []
    found = options.read(words, mistakes=mistakes)
    if found.rest[:1] == ("run",) and not found.settled:
        more = options.read(list(found.rest[1:]), mistakes=mistakes)
        found = more._replace(given=found.given + more.given)
    values, command = found.values, found.rest
    if values.get("help"):
        from ckptrun.cli.app import main as app_main

        return app_main(["run", "--help"])
    sources = resolve(found.given, mistakes)
    if not command:
        raise UsageError("no command: write the training command behind it, as in `ckptrun python train.py`")
    if not found.settled:
        _check_word(command[0], values)
    values = sources.values
    plan = options.to_plan(values, command)
    messages.verbose = bool(values.get("verbose"))
    for line in sources.told:
        messages.say(line)
    rehearse_s, dry_run = values.get("rehearse"), values.get("dry_run")
    if rehearse_s is not None and dry_run:
        raise UsageError("--rehearse runs the training and --dry-run runs nothing: write one of the two")
    if dry_run:
        return _dry_run(plan, handlers, started_at)
    if rehearse_s is not None:
        return _rehearse(plan, handlers, started_at, rehearse_s)
    return _run(plan, handlers, started_at)


def _check_word(word: str, values: dict[str, Any]) -> None:
    """A first word that is neither a subcommand nor a program is most likely a mistyped subcommand."""
    if word in SUBCOMMANDS:
        raise UsageError(f"{word} takes no options of `run` before it")
    if not word or os.path.lexists(word) or "/" in word or child.find(word):
        return
    import difflib

    close = difflib.get_close_matches(word, [*SUBCOMMANDS], n=1)
    hint = f"Did you mean `ckptrun {close[0]}`?" if close else "Is it installed, and is its folder on PATH?"
    if word == "python" and child.find("python3"):
        hint = "Here it is called python3"
    raise CommandNotFound(f"{word}: neither a subcommand nor a program. {hint}")


def _run(plan: Plan, handlers: Handlers, started_at: float) -> int:
    from ckptrun.chain.home import state_home

    if (inside := _inside(plan, handlers, state_home(), started_at)) is not None:
        return inside.run()
    from ckptrun.link.local import LocalChain
    from ckptrun.link.membership import join_or_create

    membership = join_or_create(plan, state_home())
    if membership.folder is None:
        return 0
    chain = LocalChain(plan, membership.folder, handlers, started_at)
    if membership.joined:
        messages.say(f"going on with chain {membership.folder.id}, which is not finished: this is its link {membership.link}")
        chain.join(membership.link, membership.after)
    return chain.run(membership.link)


def _inside(plan: Plan, handlers: Handlers, home: str, started_at: float) -> Inside | None:
    """Return our place in the Slurm job around us, None outside Slurm; then none of Slurm's modules is imported."""
    if "SLURM_JOB_ID" not in os.environ:
        return None
    from ckptrun.slurm.job import here

    if (job := here(os.environ)) is None:
        return None
    from ckptrun.job.job_membership import Inside

    return Inside(plan, handlers, job, home, started_at)


def _dry_run(plan: Plan, handlers: Handlers, started_at: float) -> int:
    from ckptrun.chain.home import wanted_home
    from ckptrun.link.dry_run import describe

    inside = _inside(plan, handlers, wanted_home(), started_at)
    for line in inside.dry_run() if inside is not None else describe(plan):
        print(line)
    return 0


def _rehearse(plan: Plan, handlers: Handlers, started_at: float, seconds: float) -> int:
    from ckptrun.chain.home import state_home

    if (inside := _inside(plan, handlers, state_home(), started_at)) is not None:
        return inside.rehearse(seconds)
    from ckptrun.link.membership import is_live
    from ckptrun.link.one_link import Where
    from ckptrun.link.rehearsing import Around, Rehearsal

    home = state_home()
    around = Around(Where(os.uname().nodename), lambda chain: is_live(home, chain))
    return Rehearsal(plan, handlers, home, seconds, around).run()
