"""Completion of words in bash, zsh and fish: click's own, for a command whose first word may be left out.

`eval "$(_CKPTRUN_COMPLETE=bash_source ckptrun)"` makes a shell ask us; it then runs `ckptrun` with the line in variables.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

import click
from click.shell_completion import CompletionItem

from ckptrun.cli.options import SUBCOMMANDS

VARIABLE = "_CKPTRUN_COMPLETE"
_MOST = 200


class ChainId(click.types.StringParamType):
    """A chain's id, or any word that leads to one."""

    name = "chain"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the ids that begin so: one listing of one folder, no chain is read."""
        from ckptrun.chain.home import wanted_home

        try:
            names = os.listdir(os.path.join(wanted_home(), "chains"))
        except OSError:
            return []
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)][:_MOST]


def with_chain_ids(command: click.Command) -> click.Command:
    """Let the arguments of a command, and of those below it, that name a chain complete to chain ids."""
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        with_chain_ids(below)
    for param in command.params:
        if isinstance(param, click.Argument) and (param.metavar or "").strip("[]. ") in ("ID", "CHAIN"):
            param.type = ChainId()
    return command


def name_the_command(environment: MutableMapping[str, str]) -> None:
    """Put the word `run` into the line that is completed where it was left out: `ckptrun --chec`, `ckptrun --retries 3 pyth`."""
    line = environment.get("COMP_WORDS", "")
    separator = "\n" if "\n" in line else " "
    program, _, rest = line.partition(separator)
    first, more, _ = rest.partition(separator)
    if first in SUBCOMMANDS or first in ("", "--help", "-h", "--version"):
        return
    if not first.startswith("-") and not more:  # it is being typed, and may become a subcommand
        return
    environment["COMP_WORDS"] = separator.join([program, "run", rest])
    if not environment[VARIABLE].startswith("fish"):  # whose second variable is the word itself, not its number
        environment["COMP_CWORD"] = str(int(environment.get("COMP_CWORD") or 0) + 1)
