"""`ckptrun doctor`: will a chain work here, and is this script right?"""

from __future__ import annotations

import json
import os
import shlex
from typing import Any

import click

from ckptrun.cli import options
from ckptrun.cli.options import SUBCOMMANDS
from ckptrun.doctor.findings import Finding, Severity, corrected_lines
from ckptrun.doctor.judge import fixed, judge, works
from ckptrun.doctor.script import Limits, Script, World, folders, own_words
from ckptrun.errors import UsageError
from ckptrun.slurm import job_script

_MOST_BYTES = 4 << 20  # Slurm's own limit of a script, unless a site has raised it (max_script_size)
_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.GOOD: "green"}


@click.command(short_help=SUBCOMMANDS["doctor"])
@click.argument("script", metavar="[SCRIPT]", required=False, type=click.Path())
@click.option("--site", metavar="NAME", help="Judge the script by a site's limits, too: `template list` names the sites.")
@click.option("--fix", is_flag=True, help="Write the corrected script beside it, as NAME.fixed.sh; nothing is overwritten.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(script: str | None, site: str | None, fix: bool, as_json: bool) -> int:
    """Say whether a chain would work here, or what is wrong with a job script.

    With SCRIPT: each mistake with its line, what happens, and the corrected line. Without: the cluster, the state folder, the
    installation, and where each option comes from. SCRIPT may be a training program in Python, too. The exit code is 0 if a chain
    would work, 1 if not.
    """
    if script is None:
        if fix or site:
            word = "--fix" if fix else "--site NAME"
            raise UsageError(f"{word} is about a script: write its name behind it, as in `ckptrun doctor {word} job.sh`")
        from ckptrun.cli.checkup import checkup

        return checkup(as_json=as_json)
    return _script(script, site, fix=fix, as_json=as_json)


def _script(path: str, site: str | None, *, fix: bool, as_json: bool) -> int:
    text = _read(path)
    if _is_program(path, text):
        return _program(path, text, as_json=as_json)
    limits = _limits(site)
    found = judge(text, world_of(text, os.path.basename(path), os.getcwd(), limits))
    good = works(found)
    wanted = fixed(text, lambda now: world_of(now, os.path.basename(path), os.getcwd(), limits)) if fix else None
    beside = _write_beside(path, wanted) if wanted is not None and wanted != text else None
    submit = _submit_line(wanted if beside and wanted is not None else text, beside or path)
    if as_json:
        rows = [_row(one, text) for one in found]
        data = {"script": path, "works": good, "findings": rows, "fixed": beside, "submit": submit}
        click.echo(json.dumps({"schema": "ckptrun/1", "kind": "doctor-script", "data": data}, indent=1))
    else:
        _tell(path, text, found, beside, submit)
    return 0 if good else 1


def _is_program(path: str, text: str) -> bool:
    """Return whether this is a training program and no job script."""
    return path.endswith(".py") and "#SBATCH" not in text and "#CKPTRUN" not in text


def _program(path: str, text: str, *, as_json: bool) -> int:
    from ckptrun.doctor import program

    found = program.judge(text)
    if as_json:
        data = {"program": path, "works": works(found), "findings": [_row(one, text) for one in found]}
        click.echo(json.dumps({"schema": "ckptrun/1", "kind": "doctor-program", "data": data}, indent=1))
        return 0 if works(found) else 1
    for one in found:
        click.echo(f"{path}:{one.line}: {_coloured(one.severity)}: {one.what} [{one.rule}]\n    do: {one.advice}")
    click.echo(f"{path}: {len(found) or 'nothing'} found; `ckptrun --rehearse 30s python {shlex.quote(path)}` is the proof")
    return 0 if works(found) else 1


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{shlex.quote(path)}: {error.strerror}: name the job script") from None
    if len(content) > _MOST_BYTES:
        raise UsageError(f"{shlex.quote(path)} is larger than 4 MiB, and sbatch takes no such script: name the job script")
    return content.decode("utf-8", "surrogateescape")


def _write_beside(path: str, text: str) -> str:
    """Write the corrected script under the first name that is free; return the name."""
    stem, ending = os.path.splitext(path)
    for number in range(1, 1000):
        beside = f"{stem}.fixed{'' if number == 1 else number}{ending}"
        try:
            handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, os.stat(path).st_mode & 0o777)
        except FileExistsError:
            continue
        except OSError as error:
            raise UsageError(
                f"{shlex.quote(beside)} cannot be written: {error.strerror}: copy the script to a folder of yours"
            ) from None
        with open(handle, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
        return beside
    raise UsageError(f"{shlex.quote(path)} has been corrected 999 times: remove some of {shlex.quote(stem)}.fixed*")


def _submit_line(text: str, path: str) -> str:
    path = f"./{path}" if path.startswith("-") else path
    return shlex.join(["sbatch", path] if job_script.calls_ckptrun(text) else ["ckptrun", "sbatch", path])


def _row(one: Finding, text: str) -> dict[str, Any]:
    lines = corrected_lines(text.replace("\r\n", "\n"), one)
    facts = {"rule": one.rule, "line": one.line, "severity": one.severity.value, "what": one.what}
    return facts | {"corrected": list(lines) if one.edits else None, "advice": one.advice or None}


def _tell(path: str, text: str, found: tuple[Finding, ...], beside: str | None, submit: str) -> None:
    plain = text.replace("\r\n", "\n")
    for one in found:
        click.echo(f"{path}:{one.line}: {_coloured(one.severity)}: {one.what} [{one.rule}]")
        for line in corrected_lines(plain, one):
            click.echo(f"    write: {line}")
        if one.edits and not corrected_lines(plain, one):
            click.echo("    write: nothing (leave the line out)")
        if one.advice:
            click.echo(f"    or: {one.advice}" if one.edits else f"    do: {one.advice}")
    errors = sum(one.severity is Severity.ERROR for one in found)
    left = [f"line {one.line}" for one in found if one.severity is Severity.ERROR and not one.edits]
    if beside is not None and left:
        told = ", ".join(dict.fromkeys(left))
        click.echo(f"{beside}: the corrected script, but for what only you can correct ({told} of {path}). Then: {submit}")
    elif beside is not None:
        click.echo(f"{beside}: the corrected script. Submit it: {submit}")
    elif errors:
        hint = f"; `ckptrun doctor --fix {shlex.quote(path)}` writes a corrected copy" if any(one.edits for one in found) else ""
        click.echo(f"{path}: a chain would not work: {errors} error{'s' if errors != 1 else ''}{hint}")
    else:
        click.echo(f"{path}: a chain will work{' as it is' if found else ''}. Submit it: {submit}")


def _coloured(severity: Severity) -> str:
    if os.environ.get("NO_COLOR") or not os.isatty(1):
        return severity.value
    return click.style(severity.value, fg=_COLOURS[severity])


# --- what of the world a script's judgement needs


def _limits(site: str | None) -> Limits:
    """Return the limits of the cluster's partitions, where there is a cluster that answers, and those of a site's profile."""
    from ckptrun.doctor import look

    known = look.limits()
    return known if site is None else of_site(site, known)


def of_site(name: str, known: Limits) -> Limits:
    """Return a site's limits beside those that the cluster told. Raises UsageError for a site that there is not."""
    from ckptrun import sites
    from ckptrun.slurm.read_back import megabytes
    from ckptrun.templates.settings import unknown_names

    site = sites.load(name)
    if mistakes := unknown_names(site):
        raise UsageError(*mistakes)
    partitions = dict(known.partitions)
    if site.partition is not None and site.limits.time_s is not None:
        partitions.setdefault(site.partition, site.limits.time_s)
    return Limits(
        f"site {name}",
        partitions,
        known.default_partition or site.partition,
        site.limits.time_s,
        site.limits.gpus,
        site.not_allowed,
        site.advice.cpus_per_gpu,
        megabytes(site.advice.mem_per_gpu or ""),
    )


def world_of(text: str, name: str, directory: str, limits: Limits) -> World:
    """Return what of the world the judgement of a script needs; `directory` is where it is submitted."""
    chdir = Script(text, World()).value("chdir") or ""
    base = os.path.join(directory, chdir)
    base = base if os.path.isdir(base) else directory
    missing = {path for path in folders(text) if not os.path.isdir(os.path.join(directory if path == chdir else base, path))}
    return World(name, frozenset(missing), limits, tuple(_own_mistakes(text)))


def _own_mistakes(text: str) -> list[tuple[int, str]]:
    """Return what ckptrun's own options in a script do not mean, by line. What a shell fills in cannot be judged."""
    text = text.replace("\r\n", "\n")
    script = Script(text, World())
    lines: list[tuple[int, list[str]]] = []
    for number, line in job_script.own_lines(text):
        try:
            lines.append((number, shlex.split(line, comments=True)))
        except ValueError as error:
            return [(number, f"{error} in {line.strip()!r}")]
    calls = [command for command in script.main() if script.runs_ckptrun(command)]
    lines += [(command.line, [word.plain for word in own_words(command)]) for command in calls]
    found = []
    for number, words in lines:
        mistakes: list[str] = []
        options.read([word.replace("%a", "0") for word in words], mistakes=mistakes)
        unknown = [word for word in words if "$" in word or "`" in word]
        found += [(number, why) for why in mistakes if not any(word in why for word in unknown)]
    return found
