"""What people look at: help, `chain`, `demo`. Built on click, imported only here."""

from __future__ import annotations

import importlib
import os
from typing import Any

import click

from ckptrun import __version__
from ckptrun.cli import completion, options
from ckptrun.cli.completion import with_names
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
            return _sbatch_command()
        if cmd_name not in SUBCOMMANDS:
            return None
        command = getattr(importlib.import_module(f"ckptrun.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return with_names(command) if completion.VARIABLE in os.environ else command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Subcommands"):
            formatter.write_dl(list(SUBCOMMANDS.items()))


def _run_command() -> click.Command:
    """Return `run` as click shows it: the options come from the one table."""
    params: list[click.Parameter] = [
        click.Option(
            [name for name in (option.short, option.name) if name],
            is_flag=option.value is None,
            multiple=option.repeatable,
            metavar=option.value,
            type=_type(option),
            help=f"{option.help} [default: {option.default}]" if option.value else option.help,
        )
        for option in options.OPTIONS
        if option.name != "--help"
    ]
    params.append(click.Argument(["command"], nargs=-1, metavar="COMMAND...", type=click.Path()))
    text = "Run a training command; near its time limit ask it to save, stop it, and go on in the next link."
    epilog = "Durations: 30s, 5m, 1.5h, 2d, 12:00:00, 1-06. A bare number is refused."
    own_words_end = {"allow_interspersed_args": False}
    return click.Command(
        "run",
        params=params,
        help=text,
        short_help=SUBCOMMANDS["run"],
        epilog=epilog,
        options_metavar="[OPTIONS] [--]",
        context_settings=own_words_end,
    )


def _type(option: options.Option) -> click.ParamType[Any] | None:
    """Return what an option's value completes to."""
    if option.is_path:
        return click.Path()
    choices = (option.value or "").split("|")
    return click.Choice(choices) if len(choices) > 1 and all(word.islower() for word in choices) else None


def _sbatch_command() -> click.Command:
    """Return `sbatch` with sbatch's own options, as its completion needs it; its help and its work are elsewhere."""
    from ckptrun.slurm.sbatch_options import OPTIONS, Takes

    params: list[click.Parameter] = [
        click.Option([f"--{one.name}"], is_flag=one.takes is Takes.NOTHING, type=click.Path() if one.free else None)
        for one in OPTIONS
    ]
    params.append(click.Argument(["script"], nargs=-1, type=click.Path()))
    return click.Command(
        "sbatch",
        params=params,
        short_help=SUBCOMMANDS["sbatch"],
        context_settings={"allow_interspersed_args": False},
        add_help_option=False,
    )


@click.group(
    cls=LazyGroup,
    options_metavar="[OPTIONS OF run] [--]",
    subcommand_metavar="COMMAND... | SUBCOMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
)
@click.version_option(__version__, message="ckptrun %(version)s")
def app() -> None:
    """One word in front of a training command, and it runs longer than the time limit.

    \b
    ckptrun --checkpoint checkpoints/ python train.py      in a job script
    ckptrun --time-limit 10m --checkpoint checkpoints/ python train.py
    ckptrun run --help                                     all options
    """


def main(words: list[str]) -> int:
    """Run a subcommand, or complete one, and return the exit code."""
    if completion.VARIABLE in os.environ:
        from ckptrun.cli import shells

        shells.register()
        completion.name_the_command(os.environ)
    try:
        result = app.main(words, prog_name="ckptrun", standalone_mode=False)
    except click.ClickException as error:
        raise UsageError(error.format_message()) from None
    except click.Abort:
        return 130
    return result if isinstance(result, int) else 0
