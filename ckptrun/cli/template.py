"""`ckptrun template`: a job script and a training program that are right from the first line."""

from __future__ import annotations

import difflib
import json
import os
import shlex
from collections.abc import Sequence
from typing import Any

import click

from ckptrun import durations, sites
from ckptrun.errors import UsageError
from ckptrun.site import Site
from ckptrun.templates import files, render, settings
from ckptrun.templates.catalogue import TEMPLATES, Template, keys_of
from ckptrun.templates.settings import Job

_SITE = click.option(
    "--site", default="generic", show_default=True, metavar="NAME", help="The cluster: `template list` names them."
)
_SET = click.option("--set", "given", multiple=True, metavar="KEY=VALUE", help="A setting: `template show NAME` lists them.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(short_help="Write a job script and a training program to begin with.")
def template() -> None:
    """Write a job script and a training program to begin with."""


@template.command("list")
@_JSON
def list_(as_json: bool) -> None:
    """List the templates and the sites."""
    profiles, mistakes = _profiles()
    if as_json:
        rows = [{"name": one.name, "about": one.about, "needs": one.needs.split()} for one in TEMPLATES.values()]
        _print_json("templates", {"templates": rows, "sites": [{"name": one.name, "about": one.description} for one in profiles]})
    else:
        _print_list(profiles)
    if mistakes:
        raise UsageError(*mistakes)


def _profiles() -> tuple[list[Site], list[str]]:
    """Return the sites, and what is wrong with those that cannot be read: one keeps no other from being listed."""
    found: list[Site] = []
    mistakes: list[str] = []
    for name in sites.names():
        try:
            found.append(sites.load(name))
        except UsageError as error:
            mistakes += error.mistakes
    return found, mistakes


def _print_list(profiles: list[Site]) -> None:
    width = max(len(name) for name in (*TEMPLATES, *(one.name for one in profiles)))
    for one in TEMPLATES.values():
        click.echo(f"{one.name:{width}}  {one.about}")
    click.echo("\nSites, for --site:")
    for site in profiles:
        click.echo(f"{site.name:{width}}  {site.description}")


@template.command(short_help="Show the settings of a template and its job script.")
@click.argument("name")
@_SITE
@_SET
@_JSON
def show(name: str, site: str, given: tuple[str, ...], as_json: bool) -> None:
    """Show the settings of a template, and the job script that `new` would write."""
    job = _job(name, site, given)
    keys = keys_of(job.template)
    if as_json:
        rows = [{"key": key.name, "value": key.value, "help": key.help, "default": key.default} for key in keys]
        _print_json(
            "template", {"name": job.template.name, "about": job.template.about, "keys": rows, "script": render.job_script(job)}
        )
        return
    click.echo(f"{job.template.name}: {job.template.about}\n\nSettings, for --set KEY=VALUE:")
    words = [f"{key.name}={key.value}" for key in keys]
    for key, word in zip(keys, words, strict=True):
        click.echo(f"  {word:{max(map(len, words))}}  {key.help} [{key.default}]")
    click.echo(f"\nThe job script, for the site {job.site.name}:\n\n{render.job_script(job)}", nl=False)


@template.command()
@click.argument("name")
@_SITE
@_SET
@click.option(
    "-o", "--output", "path", default="job.sh", show_default=True, metavar="FILE", help="The job script; the program beside it."
)
@click.option("--force", is_flag=True, help="Replace files that stand there.")
@_JSON
def new(name: str, site: str, given: tuple[str, ...], path: str, force: bool, as_json: bool) -> None:
    """Write a job script, and the training program that goes with it."""
    job = _job(name, site, given)
    new_files = [files.NewFile(path, render.job_script(job), executable=True)]
    if job.template.program and not job.own_program:
        new_files.append(files.NewFile(os.path.join(os.path.dirname(path), "train.py"), files.program(job.template.name)))
    files.write(tuple(new_files), force=force)
    for why in (*settings.warnings(job), *_missing(job, os.path.dirname(path))):
        click.echo(f"ckptrun: {why}", err=True)
    if as_json:
        _print_json("new", {"files": [file.path for file in new_files], "next": _next(path)})
        return
    click.echo(f"ckptrun: {shlex.quote(path)}: {_summary(job)}")
    for file in new_files[1:]:
        click.echo(
            f"ckptrun: {shlex.quote(file.path)}: the training{f', needs {job.template.needs}' if job.template.needs else ''}"
        )
    if job.site.service_windows:
        click.echo(f"ckptrun: service windows of {job.site.name}: {job.site.service_windows}")
    click.echo(f"ckptrun: next: {_next(path)}")


def _missing(job: Job, folder: str) -> list[str]:
    """Return what the job will look for and does not stand yet, seen from the folder in which it is submitted."""
    why = []
    logs = os.path.dirname(job.output)
    if logs and "%" not in logs and not os.path.isdir(os.path.join(folder, logs)):
        why.append(
            f"{shlex.quote(logs)}, the folder of the logs, is not there: make it first, sbatch does not, and the job would fail"
        )
    if job.own_program and not job.program.startswith(("/", "~")) and not os.path.exists(os.path.join(folder, job.program)):
        why.append(f"{shlex.quote(job.program)}, the program, is not there yet")
    return why


def _job(name: str, site: str, given: Sequence[str]) -> Job:
    return settings.job(_template(name), sites.load(site), _settings(given))


def _template(name: str) -> Template:
    if name in TEMPLATES:
        return TEMPLATES[name]
    close = difflib.get_close_matches(name, TEMPLATES, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(TEMPLATES)}"
    raise UsageError(f"{name!r}: no such template, {hint}")


def _settings(given: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    mistakes = []
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            mistakes.append(f"--set {text!r}: write KEY=VALUE")
        elif key in found:
            mistakes.append(f"--set {key} stands there twice")
        found[key] = value
    if mistakes:
        raise UsageError(*mistakes)
    return found


def _summary(job: Job) -> str:
    size = f"{job.gpus} GPU{'s' if job.gpus > 1 else ''}" if job.gpus else f"{job.cpus} CPU{'s' if job.cpus > 1 else ''}"
    many = f" on each of {job.nodes} nodes" if job.nodes > 1 else ""
    inside = f", in {job.container}" if job.container != "none" else ""
    return f"jobs of {durations.show(durations.parse(job.time))} with {size}{many}{inside}"


def _next(path: str) -> str:
    folder, name = os.path.split(path)
    move = f"cd {'-- ' if folder.startswith('-') else ''}{shlex.quote(folder)} && " if folder else ""
    return f"{move}sbatch {shlex.quote(f'./{name}' if name.startswith('-') else name)}"


def _print_json(kind: str, data: Any) -> None:
    click.echo(json.dumps({"schema": "ckptrun/1", "kind": kind, "data": data}, indent=1))
