"""`ckptrun doctor` without a script: the cluster, the state folder, the installation, the options."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from ckptrun.cli import options, settings, sources
from ckptrun.cli.settings import Setting
from ckptrun.cli.sources import Sources
from ckptrun.doctor import look
from ckptrun.doctor.cluster import Check
from ckptrun.doctor.findings import Severity
from ckptrun.errors import UsageError
from ckptrun.slurm.job import has_clients

_MARKS = {Severity.GOOD: ("ok", "green"), Severity.WARNING: ("!!", "yellow"), Severity.ERROR: ("no", "red")}


def checkup(*, as_json: bool) -> int:
    """Look at everything, tell it, and return 0 if a chain would work here, else 1."""
    found = sources.gather()
    rooms = {
        "cluster": look.slurm(),
        "state folder": look.state_folder(has_clients()),
        "installation": look.installation(),
        "options": (*_mistakes(found),),
    }
    good = all(check.severity is not Severity.ERROR for checks in rooms.values() for check in checks)
    if as_json:
        rows = {room: [_row(check) for check in checks] for room, checks in rooms.items()}
        data = {"works": good, "checks": rows, "options": [_setting(one) for one in _settings(found)]}
        click.echo(json.dumps({"schema": "ckptrun/1", "kind": "doctor", "data": data}, indent=1))
    else:
        _tell(rooms, found, good)
    return 0 if good else 1


def _mistakes(found: Sources) -> list[Check]:
    checks = [Check("option", Severity.ERROR, mistake) for mistake in found.mistakes]
    checks += [Check("limit", Severity.WARNING, line) for line in found.told]
    if not found.mistakes:
        try:
            options.to_plan(found.values, ("true",))
        except UsageError as error:
            checks += [Check("option", Severity.ERROR, mistake) for mistake in error.mistakes]
    return checks


def _settings(found: Sources) -> list[Setting]:
    """Return each option with its value and where that came from, the defaults too; then a site's limits."""
    rows: list[Setting] = []
    for option in options.CONFIGURABLE:
        default = Setting(option.key, option.default, None, "the default")
        rows += found.counts.get(option.key, (default,))
    return rows + [limit._replace(key=f"limits.{limit.key}") for limit in found.limits]


def _tell(rooms: dict[str, tuple[Check, ...]], found: Sources, good: bool) -> None:
    for room, checks in rooms.items():
        click.echo(f"{room}:")
        for check in checks:
            click.echo(f"  {_mark(check.severity)} {check.name}: {check.what}")
    rows = [one for one in _settings(found) if one.source != "the default"]
    for one in rows:
        click.echo(f"     {_name(one)} {one.text}  ({one.source})")
    if not rows:
        click.echo(f"     every option has its default: no {settings.VARIABLE}, no configuration file says otherwise")
    warnings = sum(check.severity is Severity.WARNING for checks in rooms.values() for check in checks)
    noted = f", with {warnings} thing{'s' if warnings != 1 else ''} to know (!!)" if warnings else ""
    click.echo(f"a chain will work here{noted}" if good else "a chain would not work here: see the lines with `no`")


def _name(one: Setting) -> str:
    prefix, _, key = one.key.rpartition(".")
    return f"{prefix}: {key.replace('_', '-')}" if prefix else f"--{key.replace('_', '-')}"


def _mark(severity: Severity) -> str:
    word, colour = _MARKS[severity]
    if os.environ.get("NO_COLOR") or not os.isatty(1):
        return word
    return click.style(word, fg=colour)


def _row(check: Check) -> dict[str, Any]:
    return {"name": check.name, "severity": check.severity.value, "what": check.what}


def _setting(one: Setting) -> dict[str, Any]:
    value = list(one.value) if isinstance(one.value, tuple) else one.value
    return {"option": one.key.replace("_", "-"), "text": one.text, "value": value, "source": one.source}
