"""`ckptrun verify`: is this checkpoint whole? For people one line each, for programs JSON and an exit code."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from ckptrun.checkpoints import state_file
from ckptrun.checkpoints.find import find_named
from ckptrun.checkpoints.formats import verify as verify_one
from ckptrun.words import Checkpoint, Verdict, one_line

_COLOURS = {Verdict.WHOLE: "green", Verdict.TRUNCATED: "red", Verdict.NOT_CHECKED: "yellow"}
_UNITS = ("B", "kB", "MB", "GB", "TB")


@click.command(short_help="Say whether checkpoints are whole.")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option("--full", is_flag=True, help="Read every byte and compare every checksum that the format has.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def verify(paths: tuple[str, ...], full: bool, as_json: bool) -> int:
    """Say whether checkpoints are whole, without loading them.

    PATH is a file, a checkpoint of several files (a folder, or TensorFlow's prefix), or a folder of checkpoints, which are listed
    newest first. The exit code is 0 if all are whole, 1 if one is truncated or in a format that is not checked, 2 if a path does
    not exist.
    """
    rows: list[Checkpoint] = []
    code = 0
    for path in paths:
        found = find_named(path)
        if found is None:
            click.echo(f"ckptrun: {one_line(path)}: no such file or folder", err=True)
            code = 2
        elif not found:
            click.echo(f"ckptrun: {one_line(path)}: no checkpoint is in it", err=True)
            code = max(code, 1)
        for one in found or ():
            rows.append(verify_one(one, full))
            _say(rows[-1], as_json)
        for one in state_file.check(path, {one.form for one in found or ()}) if os.path.isdir(path) else ():
            rows.append(one)
            _say(one, as_json)
    if as_json:
        click.echo(json.dumps({"schema": "ckptrun/1", "kind": "verify", "data": [_row(one) for one in rows]}, indent=1))
    return max(code, int(any(one.verdict is not Verdict.WHOLE for one in rows)))


def _say(one: Checkpoint, as_json: bool) -> None:
    if not as_json:
        click.echo(_line(one))


def _row(one: Checkpoint) -> dict[str, Any]:
    facts = {"path": one.path, "status": one.verdict.value if one.verdict else None, "why": one.why}
    return facts | {"format": one.form or None, "size": one.size, "step": one.step}


def _line(one: Checkpoint) -> str:
    assert one.verdict is not None
    word = one.verdict.value.replace("-", " ")
    if os.isatty(1) and not os.environ.get("NO_COLOR"):
        word = click.style(word, fg=_COLOURS[one.verdict])
    form = f"{one.form}, " if one.form else ""
    return f"{one_line(one.path)}: {word}: {one_line(one.why)} ({form}{_size(one.size)})"


def _size(count: int) -> str:
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.3g} {_UNITS[unit]}" if unit else f"{count} B"
