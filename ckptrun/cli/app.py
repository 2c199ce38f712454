"""What people look at: help, `chain`, `demo`. Built on click, imported only here."""

from __future__ import annotations

import importlib

import click

from ckptrun import __version__
from ckptrun.cli import options
from ckptrun.cli.options import SUBCOMMANDS
from ckptrun.errors import UsageError


class LazyGroup(click.Group):
    """A group that knows its commands' names and imports a command only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one command, importing its module."""
        if cmd_name == "run":
            return _run_command()
        if cmd_name == "sbatch":
            return click.Command("sbatch", short_help=SUBCOMMANDS["sbatch"])
        if cmd_name not in SUBCOMMANDS:
            return None
        command = getattr(importlib.import_module(f"ckptrun.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(SUBCOMMANDS.items()))


def _run_command() -> click.Command:
    """Return `run` as click shows it: the options come from the one table."""
    params: list[click.Parameter] = [
        click.Option(
            [name for name in (option.short, option.name) if name],
            is_flag=option.value is None,
            multiple=option.repeatable,
            metavar=option.value,
            help=f"{option.help} [default: {option.default}]" if option.value else option.help,
        )
        for option in options.OPTIONS
        if option.name != "--help"
    ]
    params.append(click.Argument(["command"], nargs=-1, metavar="COMMAND..."))
    text = "Run a training command; near its time limit ask it to save, stop it, and go on in the next link."
    epilog = "Durations: 30s, 5m, 1.5h, 2d, 12:00:00, 1-06. A bare number is refused."
    return click.Command("run", params=params, help=text, epilog=epilog, options_metavar="[OPTIONS] [--]")


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(__version__, message="ckptrun %(version)s")
def app() -> None:
    """One word in front of a training command, and it runs longer than the time limit.

    \b
    ckptrun [OPTIONS] [--] COMMAND...     e.g. ckptrun --time-limit 10m --checkpoint ckpt python train.py
    """


def main(words: list[str]) -> int:
    """Run a subcommand and return its exit code."""
    try:
        result = app.main(words, prog_name="ckptrun", standalone_mode=False)
    except click.ClickException as error:
        raise UsageError(error.format_message()) from None
    except click.Abort:
        return 130
    return result if isinstance(result, int) else 0
