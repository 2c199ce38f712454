"""Write the pages that are made from the code: `python docs/generate.py`. A test says when one of them is out of date."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ckptrun.cli.options import CONFIGURABLE, LIMITED, OPTIONS, Option
from ckptrun.cli.sbatch import HELP as SBATCH_HELP
from ckptrun.cli.settings import SITE_FILE
from ckptrun.doctor.judge import ABOUT
from ckptrun.doctor.program import ABOUT as OF_PROGRAMS
from ckptrun.job.protocol import NEVER
from ckptrun.link.events import Phase
from ckptrun.link.supervision import TABLE as STEPS
from ckptrun.sites import load
from ckptrun.slurm.answers import TABLE, Answer
from ckptrun.templates.catalogue import KEYS, TEMPLATES, Template
from ckptrun.templates.render import job_script
from ckptrun.templates.settings import job

DOCS = Path(__file__).parent


def options_page() -> str:
    """Return the reference of `ckptrun run`'s options."""
    lines = ["# Options of `ckptrun run`", "", "    ckptrun [OPTIONS] [--] COMMAND...", ""]
    lines += ["| option | meaning | default |", "|---|---|---|"]
    for option in OPTIONS:
        name = f"{option.short}, {option.name}" if option.short else option.name
        value = f" {option.value}".replace("|", "\\|") if option.value else ""
        lines.append(f"| `{name}{value}` | {option.help} | {option.default} |")
    lines += ["", "Durations are `30s`, `5m`, `1.5h`, `2d`, or Slurm's forms with a colon or a day: `1:30` (minutes and seconds),"]
    lines += ["`12:00:00`, `1-06` (a day and six hours). A bare number is refused: Slurm would read minutes, most people seconds."]
    lines += [
        "",
        "Options come from the command line, else from the variable `CKPTRUN_OPTIONS`, else from files (configuration.md).",
    ]
    lines += [
        "`--` ends the options; without it the first word that is no option is a subcommand (`run`, `sbatch`, `template`, `chain`,",
        "`verify`, `doctor`, `demo`) if it is one, else the",
        "training command. A script that `ckptrun sbatch` submits has its options in `#CKPTRUN` lines: how-to/submit-a-script.md.",
    ]
    return "\n".join(lines) + "\n"


def diagram_page() -> str:
    """Return the page of one link's states, with the diagram and the table that the machine runs on."""
    arrows: dict[tuple[Phase, Phase], list[str]] = {}
    for (phase, event), row in STEPS.items():
        for target in row.to:
            if target is not phase:
                arrows.setdefault((phase, target), []).append(event.__name__)
    lines = ["# One link, state by state", "", "Made from the table in `ckptrun/link/supervision.py`, which is what runs.", ""]
    lines += ["```mermaid", "stateDiagram-v2", "    [*] --> start"]
    for (phase, target), names in arrows.items():
        lines.append(f"    {phase.value} --> {target.value}: {', '.join(sorted(names))}")
    lines += ["    ended --> [*]", "```", "", "| phase | event | may lead to |", "|---|---|---|"]
    for (phase, event), row in STEPS.items():
        told = (event.__doc__ or "").splitlines()[0]
        lines.append(f"| {phase.value} | {event.__name__}: {told} | {', '.join(to.value for to in row.to)} |")
    return "\n".join(lines) + "\n"


_MEANINGS = {
    "accepted": "the job exists; it is looked at again, before and after this job's end",
    "later": "nobody has looked at it, so there is no job: tried again, 1 s to 30 s apart, as long as there is time",
    "unknown": "there may be a job: it is looked for by its script's path, twice, before anything is tried again",
    "limited": "no job, there is no room now: tried again until the training has ended; then this job is requeued, else stranded",
    "refused": "no job, and the same would be refused again: this job is requeued when it ends, else the chain is stranded",
}


def answers_page() -> str:
    """Return the reference of sbatch's answers: the table by which a submission is read."""
    lines = ["# What sbatch answers, and what follows", "", "Made from the table in `ckptrun/slurm/answers.py`.", ""]
    lines += ["| answer | what follows |", "|---|---|"]
    lines += [f"| {one.value} | {_MEANINGS[one.value]} |" for one in Answer]
    lines += [
        "",
        "An sbatch that was killed, ran out of time or said nothing is unknown. What is not in this table is refused.",
        "",
    ]
    lines += ["| sbatch's last line holds | answer |", "|---|---|"]
    lines += [f"| {text} | {answer.value} |" for answer, texts in TABLE for text in texts]
    lines += [
        "",
        "Where a policy was violated, the line before names the limit. One that this very job is above, whatever else runs",
        "(`...PerJob...`, `...MaxWall...`), is refused. A refusal of the reservation is followed by one submission without it.",
        "",
        "An accepted job whose pending reason no waiting ends is cancelled, and the chain is stranded. Such reasons are",
        ", ".join(f"`{reason}`" for reason in sorted(NEVER)) + ".",
        "A partition that is down or inactive is none of them: the job waits until it is opened.",
    ]
    return "\n".join(lines) + "\n"


def doctor_page() -> str:
    """Return the reference of `ckptrun doctor`: the page as written, and the table of the rules."""
    words = (DOCS / "reference" / "doctor.head.txt").read_text()
    rows = [f"| `{name}` | {about} |" for name, about in ABOUT.items()]
    programs = [f"| `{name}` | {about} |" for name, about in OF_PROGRAMS.items()]
    table = ["", "| rule | what it finds |", "|---|---|"]
    told = ["", "Of training programs, `ckptrun doctor train.py`; all are warnings, and `--fix` leaves programs alone:"]
    return "\n".join([words.rstrip(), *table, *rows, *told, *table, *programs]) + "\n"


_DURATION = {
    "type": "string",
    # durations.py: numbers with units, or Slurm's forms with a colon or a day; none of them may be nothing.
    "pattern": r"^(?!(?:[0.:-]|[smhdSMHD])*$)(?:(?:(?:\d+(?:\.\d+)?|\.\d+)[smhdSMHD])+|\d+-\d+(?::\d+){0,2}|\d+:\d+(?::\d+)?)$",
}
_OF_VALUE: dict[str | None, dict[str, Any]] = {
    None: {"type": "boolean"},
    "DURATION": _DURATION,
    "DURATION|auto": {"anyOf": [{"const": "auto"}, _DURATION]},
    "N": {"type": ["integer", "string"], "minimum": 1, "maximum": 999_999_999, "pattern": r"^(?=.*[1-9])\d{1,9}$"},
    "CODE": {"type": ["integer", "string"], "minimum": 0, "maximum": 255, "pattern": r"^(\d{1,2}|[01]\d\d|2[0-4]\d|25[0-5])$"},
    "PATH": {"type": ["string", "number"], "minLength": 1, "not": {"type": "string", "pattern": r"^(~/|\$)"}},
    "NAME|auto": {"type": ["string", "integer"], "minLength": 1},
    "TEXT": {"type": ["string", "number"], "minLength": 1},
    "CMD": {"type": ["string", "number"], "minLength": 1},
    "NAME": {"type": ["string", "integer"], "pattern": r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}$"},
}


def _schema_of(option: Option) -> dict[str, Any]:
    if option.key == "retries":
        return _OF_VALUE["N"] | {"minimum": 0, "pattern": r"^\d{1,9}$"}
    if option.value in _OF_VALUE:
        one = _OF_VALUE[option.value]
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]} if option.repeatable else one
    assert option.value is not None
    return {"enum": option.value.split("|")}


def schema() -> str:
    """Return the JSON schema of a configuration file, for editors."""
    options = {option.word: {"description": option.help, **_schema_of(option)} for option in CONFIGURABLE}
    limits = {option.word: _schema_of(option) for option in LIMITED}
    limits_schema = {"type": "object", "properties": limits, "additionalProperties": False}
    told = f"What nobody exceeds; in {SITE_FILE} alone."
    return (
        json.dumps(
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "title": "Configuration of ckptrun",
                "type": ["object", "null"],
                "properties": options | {"limits": {"description": told, **limits_schema}},
                "additionalProperties": False,
            },
            indent=1,
        )
        + "\n"
    )


def manual() -> str:
    """Return the manual page: what `--help` says of each command, in the language of `man`."""
    import click

    from ckptrun.cli.app import app

    lines = [".TH CKPTRUN 1", ".SH NAME", "ckptrun \\- a training command that outlives its time limit", ".SH SYNOPSIS"]
    lines += [
        r"\fBckptrun\fR [\fIOPTIONS OF run\fR] [\-\-] \fICOMMAND\fR...",
        ".PP",
        r"\fBckptrun\fR \fISUBCOMMAND\fR [\fIARGS\fR]...",
    ]
    context = click.Context(app, info_name="ckptrun")
    for name in app.list_commands(context):
        command = app.get_command(context, name)
        assert command is not None
        lines += [f".SH {name.upper()}", *_manual_of(command, click.Context(command, context, info_name=name))]
    lines += [".SH SEE ALSO", r"\fBsbatch\fR(1), \fBscancel\fR(1), \fBsqueue\fR(1)"]
    return "\n".join(lines) + "\n"


def _manual_of(command: Any, context: Any) -> list[str]:
    import click

    if command.name == "sbatch":  # its help is its own
        return [".nf", *(_roff(line) for line in SBATCH_HELP.rstrip().split("\n")), ".fi"]
    lines = [_roff(" ".join([context.command_path, *command.collect_usage_pieces(context)]))]
    for paragraph in (command.help or "").replace("\b", "").split("\n\n"):
        lines += [".PP", _roff(" ".join(paragraph.split()))]
    for param in command.params:
        record = param.get_help_record(context) if isinstance(param, click.Option) else None
        if record is not None:
            lines += [".TP", rf"\fB{_roff(record[0])}\fR", _roff(record[1])]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            lines += [f".SS {command.name} {name}", *_manual_of(below, click.Context(below, context, info_name=name))]
    if command.epilog:
        lines += [".PP", _roff(command.epilog)]
    return lines


def _roff(text: str) -> str:
    """Return a text as `man` prints it: backslashes and hyphens are themselves, and no line begins with a request."""
    kept = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{kept}" if kept[:1] in (".", "'") else kept


def templates_page() -> str:
    """Return the reference of the templates and their settings."""
    lines = [_TEMPLATES_HEAD, "| template | what for | needs | imports ckptrun |", "|---|---|---|---|"]
    lines += [f"| `{one.name}` | {one.about} | {one.needs or 'nothing'} | {_imports(one)} |" for one in TEMPLATES.values()]
    lines += ["", "## Settings", "", "`--set KEY=VALUE`, as often as needed.", "", "| key | meaning | default |", "|---|---|---|"]
    for key in KEYS.values():
        only = f" Only in {', '.join(f'`{name}`' for name in key.only)}." if key.only else ""
        never = f" Not in {', '.join(f'`{name}`' for name in key.never)}." if key.never else ""
        lines.append(f"| `{key.name}={key.value}` | {key.help}{only}{never} | {key.default} |")
    return "\n".join([*lines, _TEMPLATES_FOOT])


def _imports(template: Template) -> str:
    if not template.program:
        return "it has no program"
    return "yes, its callback" if "ckptrun" in template.needs.split() else "no"


_TEMPLATES_HEAD = """\
# Templates

    ckptrun template list
    ckptrun template show NAME [--site SITE] [--set KEY=VALUE]...
    ckptrun template new NAME [--site SITE] [--set KEY=VALUE]... [-o FILE] [--force]

`new` writes a job script, by default `job.sh`, and beside it the training program `train.py`, and says what to type next. A
file that stands there is replaced only with `--force`; otherwise nothing is written at all. `show` prints the settings of a
template, and the job script that `new` would write. `--json` prints JSON. A name, key or value that has no meaning ends with
exit code 2; all mistakes are told at once, with the nearest name. A folder of the log, or a program of your own, that is not there
yet is said, and the job script is written.

The programs save under a temporary name, bring the file to the disk and rename it; they keep two checkpoints; asked to stop, they
save between two steps and end; they resume at the very step, with the same order of the data and the same random numbers, so that
a chain of jobs ends with the same weights as one long job (with Keras 2 a model with Dropout layers does not, to the last digit:
their random numbers cannot be saved). Each takes the checkpoint folder as its first word and `--steps N`.

Most do not import ckptrun, run without it, and are asked by `SIGUSR1`: their handler sets a flag. Those of `lightning` and
`huggingface` use its callback, and need it where they run: install ckptrun into that container or environment, or copy its folder
`ckptrun`, from a clone or from where it is installed, beside `train.py`; that is enough, and brings nothing else with it.
"""

_TEMPLATES_FOOT = """
Values may hold anything but line ends and control characters: `#SBATCH` lines and the command are quoted, and nothing in a value is
expanded, but for `~/` at the beginning of a path and `%a`, the task of an array, in `checkpoint`. With a `program` of your own the
checkpoint folder is not passed to it: say it in `args`, if the program wants it. No shell reads `command` and `args`: a pipe or a
redirection that stands there unquoted is refused, and so is a variable in front of a command.

## Containers and environments

| `container=` | the training runs in |
|---|---|
| `none` | the job itself |
| `singularity`, `apptainer` | `singularity exec IMAGE`, with `--nv` where there are GPUs |
| `pyxis` | `srun --container-image=IMAGE`, with this folder and your home mounted |

The working folder and your home are there in a container; folders of absolute paths and environments are mounted where they
are. A `venv` needs no activation, its own Python is called; inside a container it must have been made with the container's
Python. A `conda` environment is activated; inside a container it is given by its folder. ckptrun itself always runs outside.

`pytorch-ddp` starts one process for each GPU: with `torchrun` on one node, with `srun ckptrun torchrun` on several, and with
`srun` alone under pyxis, where no ckptrun is inside.

## Sites

A profile is a YAML file: `~/.config/ckptrun/sites/NAME.yaml` (or below `$XDG_CONFIG_HOME`), else
`/etc/ckptrun/sites/NAME.yaml`, else one that came with ckptrun: `ai-lab`, `generic`. Every key may be left out. Mistakes are
told with file and line, exit code 2; `template list` lists the others nevertheless.

| key | meaning |
|---|---|
| `description` | one line for `template list` |
| `partition` | the partition that jobs go to |
| `time` | how long a job may run when nothing is said; by default 12 hours, or the limit where that is less |
| `gpu-option` | `gres` (`--gres=gpu:N`) or `gpus-per-node` (`--gpus-per-node=N`) |
| `containers` | which there are, of `none`, `singularity`, `apptainer`, `pyxis`; the first is the usual one |
| `images` | paths of images: `python`, `pytorch`, `tensorflow` |
| `limits` | what no job exceeds: `time`, `gpus`; and at a time, of a user: `gpus-running`, `jobs-running`: for an array a warning |
| `advice` | more than that is a warning: `cpus-per-gpu`, `mem-per-gpu` |
| `service-windows` | the page that announces them |
| `not-allowed` | a setting, or an option of sbatch, and why it is refused there |
"""


def _script(name: str) -> Callable[[], str]:
    return lambda: job_script(job(TEMPLATES[name], load("generic"), {}))


PAGES: dict[str, Callable[[], str]] = {
    "reference/options.md": options_page,
    "reference/sbatch-answers.md": answers_page,
    "explanation/one-link.md": diagram_page,
    "man/ckptrun.1": manual,
    "reference/configuration.schema.json": schema,
    "reference/doctor.md": doctor_page,
    "reference/templates.md": templates_page,
    **{f"../slurm-templates/{name}/job.sh": _script(name) for name in TEMPLATES},
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).parent.mkdir(exist_ok=True)
        (DOCS / name).write_text(page())
