"""PURE. Mistakes in the lines that sbatch reads: `#SBATCH`, `#CKPTRUN`, the first line, the line ends."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterator

from ckptrun import durations
from ckptrun.doctor.findings import Edit, Finding, Severity
from ckptrun.doctor.script import Script, count_of_gpus
from ckptrun.slurm import job_script, sbatch_options
from ckptrun.slurm.read_back import megabytes, minutes
from ckptrun.slurm.sbatch_options import Placed

_ERROR, _WARNING = Severity.ERROR, Severity.WARNING
_DAY_S = 86400
_GPU_OPTIONS = ("gres", "gpus", "gpus-per-node", "gpus-per-task")


def slurm_time(seconds: float) -> str:
    """Return a time as `--time` takes it: `12:00:00`, `2-00:00:00`."""
    whole = int(seconds)
    clock = f"{whole % _DAY_S // 3600:02}:{whole % 3600 // 60:02}:{whole % 60:02}"
    return f"{whole // _DAY_S}-{clock}" if whole >= _DAY_S else clock


def crlf(script: Script) -> Iterator[Finding]:
    """Line ends of DOS: sbatch refuses the script."""
    if script.crlf:
        what = "this line ends as DOS lines do (CRLF): sbatch refuses such a script"
        yield Finding("crlf", script.crlf, _ERROR, what, advice=f"sed -i 's/\\r$//' {shlex.quote(script.world.name)}")


def shebang(script: Script) -> Iterator[Finding]:
    """No `#!` in the first line: sbatch refuses the script."""
    if not job_script.interpreter(script.text):
        what = "the first line does not say what runs the script: sbatch refuses it"
        yield Finding("shebang", 1, _ERROR, what, (Edit(0, 0, "#!/bin/bash\n"),))


def late_option(script: Script) -> Iterator[Finding]:
    """A `#SBATCH` or `#CKPTRUN` line below the first command: it is a comment."""
    first = len(sbatch_options.head(script.text)) + 1
    body = {
        number for one in script.commands for number in range(one.line, one.line + script.text[one.start : one.end].count("\n"))
    }
    for number, line in enumerate(script.text.split("\n"), 1):
        if number > first and number not in body and re.match(r"#(?:SBATCH|CKPTRUN)\s+-", line):
            start, end = script.line_span(number)
            what = f"{line.split()[0]} stands below the first command (line {first}): it is a comment there, and changes nothing"
            edits = (Edit(start, min(end + 1, len(script.text)), ""), script.add_line(line))
            yield Finding("late-option", number, _ERROR, what, edits)


def sbatch_option(script: Script) -> Iterator[Finding]:
    """An option that sbatch does not have: it refuses the script."""
    for placed in script.options:
        if placed.given is None:
            name, equals, value = placed.text.partition("=")
            close = difflib.get_close_matches(name, [f"--{option.name}" for option in sbatch_options.OPTIONS], n=1)
            edits = (Edit(placed.start, placed.end, close[0] + equals + value),) if close and close[0] != name else ()
            what = f"{placed.text}: sbatch has no such option, or its value is missing: it refuses the script"
            yield Finding("sbatch-option", placed.line, _ERROR, what, edits, "" if edits else "see `man sbatch`")


def own_option(script: Script) -> Iterator[Finding]:
    """An option of ckptrun with no meaning: exit code 2 at the start of the job."""
    for line, why in script.world.own_mistakes:
        nearest = re.match(r"(--\S+): no such option, did you mean (--\S+)\?", why)
        place = script.text.find(nearest[1], script.line_span(line)[0]) if nearest else -1
        edits = (Edit(place, place + len(nearest[1]), nearest[2]),) if nearest and place >= 0 else ()
        yield Finding("own-option", line, _ERROR, why, edits, "`ckptrun run --help` lists the options")


def no_time(script: Script) -> Iterator[Finding]:
    """No `--time`: the partition's default counts, often an hour, and every link is as short."""
    if script.option("time") is None and script.option("time-min") is None:
        limit_s = script.world.limits.time_of(script.value("partition")) or 12 * 3600
        what = "no --time: each link gets the partition's default limit, which may be an hour or less"
        yield Finding(
            "no-time", script.last_option_line, _WARNING, what, (script.add_line(f"#SBATCH --time={slurm_time(limit_s)}"),)
        )


def over_time(script: Script) -> Iterator[Finding]:
    """More time than the partition gives: the job is accepted and never starts."""
    placed, asked = script.option("time"), minutes(script.value("time") or "")
    limit_s = script.world.limits.time_of(script.value("partition"))
    if placed is None or asked is None or limit_s is None:
        return
    if asked == 0 or asked * 60 > limit_s:
        where = script.world.limits.source
        what = f"--time={script.value('time')} is above the limit of {durations.show(limit_s)} ({where}): the job "
        what += "would be accepted and never start"
        yield Finding("over-time", placed.line, _ERROR, what, (script.with_value(placed, slurm_time(limit_s)),))


def over_gpus(script: Script) -> Iterator[Finding]:
    """More GPUs than the site gives one job."""
    most = script.world.limits.gpus
    if most is None:
        return
    for name in _GPU_OPTIONS:
        placed, value = script.option(name), script.value(name) or ""
        asked = count_of_gpus(name, value)
        if placed is not None and asked is not None and asked[0] > most:
            cut = value[: asked[1].start(1)] + str(most) + value[asked[1].end(1) :]
            what = f"--{name}={value}: {script.world.limits.source} gives one job at most {most} GPUs: it would never start"
            yield Finding("over-gpus", placed.line, _ERROR, what, (script.with_value(placed, cut),))


def not_allowed(script: Script) -> Iterator[Finding]:
    """An option that the site has no use for, or refuses."""
    for name, why in script.world.limits.not_allowed.items():
        placed, value = script.option(name), script.value(name)
        if placed is not None and (name, value) not in (("nodes", "1"), ("nodes", "1-1")):
            what = f"--{name}={value}: {why}"
            yield Finding("not-allowed", placed.line, _ERROR, what, (script.without(placed),))


def over_advice(script: Script) -> Iterator[Finding]:
    """More CPUs or memory for each GPU than the site asks for."""
    limits = script.world.limits
    asked = (count_of_gpus(name, script.value(name) or "") for name in _GPU_OPTIONS)
    gpus = next((found[0] for found in asked if found is not None), 0)
    if not gpus:
        return
    placed, cpus = script.option("cpus-per-task"), script.value("cpus-per-task") or ""
    if placed is not None and limits.cpus_per_gpu and cpus.isdigit() and int(cpus) > limits.cpus_per_gpu * gpus:
        what = f"--cpus-per-task={cpus}: {limits.source} asks for at most {limits.cpus_per_gpu} CPUs for each GPU"
        yield Finding("over-advice", placed.line, _WARNING, what, (script.with_value(placed, str(limits.cpus_per_gpu * gpus)),))
    placed, memory = script.option("mem"), megabytes(script.value("mem") or "")
    if placed is not None and limits.megabytes_per_gpu and memory is not None and memory > limits.megabytes_per_gpu * gpus:
        most = f"{limits.megabytes_per_gpu / 1024:.0f}"
        what = f"--mem={script.value('mem')}: {limits.source} asks for at most {most}G for each GPU"
        yield Finding("over-advice", placed.line, _WARNING, what, (script.with_value(placed, f"{int(most) * gpus}G"),))


def fixed_log(script: Script) -> Iterator[Finding]:
    """A log name without the job's number: each link truncates the log of the one before."""
    if (script.value("open-mode") or "").startswith("a"):
        return
    for name in ("output", "error"):
        placed, value = script.option(name), script.value(name) or ""
        if placed is None or not value or re.search(r"%\d*[jJA]", value) or value == "/dev/null":
            continue
        stem, dot, ending = value.rpartition(".")
        stem, ending = (stem, dot + ending) if dot and "/" not in ending and stem else (value, "")
        number = "%A_%a" if script.is_array else "%j"
        what = f"--{name}={value}: every link has the same log, and truncates what the one before wrote"
        yield Finding("fixed-log", placed.line, _WARNING, what, (script.with_value(placed, f"{stem}_{number}{ending}"),))


def missing_folder(script: Script) -> Iterator[Finding]:
    """A log or working folder that does not exist."""
    for name in ("output", "error"):
        placed, value = script.option(name), script.value(name) or ""
        folder, _, file = value.rpartition("/")
        if placed is not None and folder in script.world.missing:
            what = f"--{name}={value}: there is no folder {folder}: the job would fail at its start and leave no log at all"
            advice = f"mkdir -p {shlex.quote(folder)}"
            yield Finding("log-folder", placed.line, _ERROR, what, (script.with_value(placed, file),), advice)
    placed = script.option("chdir")
    if placed is not None and script.value("chdir") in script.world.missing:
        what = f"--chdir={script.value('chdir')}: there is no such folder: the job would run in /tmp, and find no checkpoint"
        yield Finding("chdir", placed.line, _ERROR, what, (script.without(placed),))


def waits(script: Script) -> Iterator[Finding]:
    """`--dependency=singleton`, `--deadline`: options with which Slurm works against a chain."""
    placed = script.option("dependency")
    if placed is not None and "singleton" in (script.value("dependency") or ""):
        what = (
            "--dependency=singleton goes by the job's name: the job waits for all jobs of that name, and so for the end of every "
        )
        what += "other chain with it"
        yield Finding("singleton", placed.line, _WARNING, what, (_without_singleton(script, placed),))
    placed = script.option("deadline")
    if placed is not None:
        what = "--deadline lets Slurm cancel a job that could not end by then, the links that wait too: it is no time limit"
        yield Finding("deadline", placed.line, _ERROR, what, (script.without(placed),))


def _without_singleton(script: Script, placed: Placed) -> Edit:
    rest = [part for part in (script.value("dependency") or "").split(",") if part != "singleton"]
    return script.with_value(placed, ",".join(rest)) if rest else script.without(placed)


RULES = (
    *(
        crlf,
        shebang,
        late_option,
        sbatch_option,
        own_option,
        no_time,
        over_time,
        over_gpus,
        not_allowed,
        over_advice,
        fixed_log,
        missing_folder,
        waits,
    ),
)
