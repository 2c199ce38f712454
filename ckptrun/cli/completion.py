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


class TemplateName(click.types.StringParamType):
    """A template's name."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin so."""
        from ckptrun.templates.catalogue import TEMPLATES

        return [CompletionItem(name) for name in TEMPLATES if name.startswith(incomplete)]


class SiteName(click.types.StringParamType):
    """A site's name."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin so."""
        from ckptrun import sites

        return [CompletionItem(name) for name in sites.names() if name.startswith(incomplete)]


def with_names(command: click.Command) -> click.Command:
    """Let what names a chain, a template, a site or a file complete to names, in a command and in those below it.

    It is done here and not in the commands, which need not know of completion, and do not pay for it.
    """
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        for param in below.params if command.name == "template" else ():
            param.type = TemplateName() if param.name == "name" else param.type
        with_names(below)
    for param in command.params:
        if isinstance(param, click.Argument) and (param.metavar or "").lstrip("[").startswith(("ID", "CHAIN")):
            param.type = ChainId()
        if param.name == "site":
            param.type = SiteName()
        if (param.metavar or "").startswith(("FILE", "PATH")):
            param.type = click.Path()
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
