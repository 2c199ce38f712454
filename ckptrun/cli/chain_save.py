"""`ckptrun chain save`: save now and go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ckptrun import durations
from ckptrun.errors import Stranded, UsageError

if TYPE_CHECKING:
    from ckptrun.job.save_now import Saved


@click.command("save", short_help="Ask the training that runs to save now and go on.")
@click.argument("name", metavar="[ID]", required=False)
@click.option("--wait", "wait", metavar="DURATION", default="60s", show_default=True, help="How long to wait for the save.")
def save(name: str | None, wait: str) -> None:
    """Ask the training that runs to save now and go on.

    Only a training that imports ckptrun and reads `checkpoint_requested` can be asked that. The exit code is 75 where it has not
    saved in time: the ask stands, and it saves when it looks.
    """
    from ckptrun.chain import inspect
    from ckptrun.job import save_now

    try:
        wait_s = 0.0 if wait == "0s" else durations.parse(wait)
    except ValueError as error:
        raise UsageError(f"--wait: {error}") from None
    folder = inspect.find_chain(name)
    try:
        found = save_now.save(folder, wait_s)
    except OSError as error:
        raise Stranded(f"the mailbox of chain {folder.id} cannot be written: {error.strerror}") from None
    if found.path is not None:
        unseen = "" if found.stands else ", of which nothing is to be seen here"
        then = "it was asked to stop since" if found.stops else "the training goes on"
        click.echo(f"saved {found.path}{unseen}, {durations.show(found.after_s)} after the ask; {then}")
        return
    raise Stranded(_why_not(folder.id, found))


def _why_not(chain: str, found: Saved) -> str:
    if found.ended:
        return f"the link of chain {chain} ended before it saved; `ckptrun chain show {chain}` says how"
    if found.heard:
        return f"the training of chain {chain} has heard the ask and has not saved yet; it does so at the end of its step"
    if found.looks:
        return f"the training of chain {chain} has not looked since the ask; it saves when it does, at the end of its step"
    return f"the training of chain {chain} has never looked for an ask; if it reads `checkpoint_requested` it saves when it does"
