"""PURE. What a person set, and a site: a job as a value, or every mistake in it.

Nothing passes that a line of a script cannot hold: no value has a line end, and none that stands where options stand begins with a
dash. What remains is quoted by `render.py`, whatever it is.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ckptrun import durations
from ckptrun.errors import UsageError
from ckptrun.site import CONTAINERS, Site
from ckptrun.slurm.sbatch_options import OPTIONS
from ckptrun.templates.catalogue import KEYS, Template, keys_of

_LONGEST = 220  # bytes of a log's name, so that a job's number and a task's have room
_GB = {"K": 1e-6, "M": 1e-3, "": 1e-3, "G": 1.0, "T": 1e3}  # sbatch reads a bare number as megabytes


class Job(NamedTuple):
    """A job as its script says it. What is None or empty does not stand in the script; `time` is in Slurm's form."""

    template: Template
    site: Site
    name: str
    time: str
    gpus: int
    cpus: int
    mem: str
    output: str
    checkpoint: str
    container: str
    image: str | None
    program: str
    words: tuple[str, ...]
    ckptrun: str
    nodes: int = 1
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    exclude: str | None = None
    array: str | None = None
    venv: str | None = None
    conda: str | None = None
    resume_flag: str | None = None
    own_program: bool = False


def job(template: Template, site: Site, given: Mapping[str, str]) -> Job:
    """Return the job. Raises UsageError with every mistake in what was given."""
    mistakes = unknown_names(site)
    mistakes += [_no_such_key(template, name) for name in given if KEYS.get(name) not in keys_of(template)]
    values: dict[str, str] = {}
    for name, text in given.items():
        if KEYS.get(name) in keys_of(template):
            try:
                values[name] = _READ[name](text)
            except ValueError as error:
                mistakes.append(f"--set {name}={text}: {error}" if text.isprintable() else f"--set {name}: {error}")
    if not mistakes:
        found = _job(template, site, values)
        mistakes = _misfits(found, given)
        if not mistakes:
            return found
    raise UsageError(*mistakes)


def unknown_names(site: Site) -> list[str]:
    """Return what of a site's `not-allowed` is neither a setting nor an option of sbatch, and so would forbid nothing."""
    known = sorted({*KEYS, *(option.name for option in OPTIONS)})
    unknown = [name for name in site.not_allowed if name not in known]
    close = {name: difflib.get_close_matches(name, known, n=1) for name in unknown}
    hints = {name: f", did you mean {near[0]}?" if near else "" for name, near in close.items()}
    return [f"site {site.name}: not-allowed: {name}: no such setting or option of sbatch{hints[name]}" for name in unknown]


def warnings(job: Job) -> list[str]:
    """Return what a site asks for and this job does not keep."""
    advice, gpus, said = job.site.advice, max(job.gpus, 1), []
    if advice.cpus_per_gpu and job.cpus > advice.cpus_per_gpu * gpus:
        said.append(f"cpus={job.cpus} is more than the {advice.cpus_per_gpu} for each GPU that {job.site.name} asks for")
    if advice.mem_per_gpu and _gigabytes(job.mem) > _gigabytes(advice.mem_per_gpu) * gpus:
        said.append(f"mem={job.mem} is more than the {advice.mem_per_gpu} for each GPU that {job.site.name} asks for")
    at_once = _at_once(job)
    if at_once is not None and _tasks_at_once(job) > at_once:
        said.append(f"array={job.array}: {job.site.name} runs {at_once} jobs of this size of one user at a time, the others wait")
    return said


def _at_once(job: Job) -> int | None:
    """Return how many such jobs of one user the site runs at a time."""
    limits, gpus = job.site.limits, job.gpus * job.nodes
    most = (limits.jobs_running, limits.gpus_running // gpus if limits.gpus_running and gpus else None)
    return min((one for one in most if one is not None), default=None)


def _tasks_at_once(job: Job) -> int:
    tasks, _, throttle = (job.array or "").partition("%")
    found = [re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part) for part in tasks.split(",")]
    ranges = [(int(one[1]), int(one[2] or one[1]), int(one[3] or 1)) for one in found if one is not None]
    count = sum((last - first) // step + 1 for first, last, step in ranges)
    return min(count, int(throttle)) if int(throttle or 0) else count


def _no_such_key(template: Template, name: str) -> str:
    known = [key.name for key in keys_of(template)]
    if name in KEYS:
        where = f"only {' and '.join(KEYS[name].only)} has it" if KEYS[name].only else "it has no meaning there"
        return f"--set {name}: the template {template.name} has no such key, {where}"
    close = difflib.get_close_matches(name, known, n=1)
    hint = f", did you mean {close[0]}?" if close else "."
    return f"--set {name!r}: no such key{hint} `ckptrun template show {template.name}` lists them"


# --- reading one value


def _text(text: str) -> str:
    if not text.strip():
        raise ValueError("nothing is no value")
    if any(ord(letter) < 32 or 127 <= ord(letter) < 160 or letter in "\u2028\u2029" for letter in text):
        raise ValueError("line ends and control characters cannot stand in a job script")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("this is no UTF-8 text") from None
    return text


def _path(text: str) -> str:
    if _text(text).startswith("-"):
        raise ValueError(f"it would be read as an option, write ./{text}")
    return text


def _log(text: str) -> str:
    return _text(text)


def _name(text: str) -> str:
    if "/" in _text(text):
        raise ValueError("the log is named after the job, and a name with a / would be a folder")
    return text


def _time(text: str) -> str:
    seconds = round(durations.parse(text))
    days, rest = divmod(seconds, 86400)
    return (f"{days}-" if days else "") + f"{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"


def _number(least: int) -> Callable[[str], str]:
    def read(text: str) -> str:
        if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) < least:
            raise ValueError(f"write a number from {least} to 999999")
        return str(int(text))

    return read


def _size(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,8}[KMGT]?", text):
        raise ValueError("write a size as sbatch reads it, 16G or 16000M")
    return text


def _array(text: str) -> str:
    if not re.fullmatch(r"[0-9]+(-[0-9]+(:[0-9]+)?)?(,[0-9]+(-[0-9]+(:[0-9]+)?)?)*(%[0-9]+)?", text):
        raise ValueError("write the tasks as sbatch reads them, 1-8 or 0-15%4 or 2,5,9")
    for first, last, step in re.findall(r"([0-9]+)-([0-9]+)(?::([0-9]+))?", text):
        if int(first) > int(last) or step.strip("0") == "" != step:
            raise ValueError(
                f"{first}-{last}{f':{step}' if step else ''} has no tasks: write the smaller number first, and a step from 1"
            )
    return text


def _container(text: str) -> str:
    if text not in CONTAINERS:
        close = difflib.get_close_matches(text, CONTAINERS, n=1)
        raise ValueError(f"write one of {', '.join(CONTAINERS)}{f', did you mean {close[0]}?' if close else ''}")
    return text


def _words(text: str) -> str:
    try:
        found = shlex.split(_text(text))
    except ValueError as error:
        raise ValueError(f"{error}".lower() if "quot" in f"{error}" or "escap" in f"{error}" else f"{error}") from None
    if not found or not found[0]:
        raise ValueError("nothing is no value")
    if (sign := _sign_of_a_shell(text)) is not None:
        raise ValueError(f"no shell reads it, {sign} would be one more word: put it into a script and name that, or quote the sign")
    return text


def _flag(text: str) -> str:
    _words(text)
    return text


def _sign_of_a_shell(text: str) -> str | None:
    """Return a pipe, a redirection or the like that stands unquoted among words."""
    bare = re.sub(r"\\.|'[^']*'|\"(?:\\.|[^\"\\])*\"", "x", text)
    found = re.search(r"(?<!\S)[0-9]*[|&;<>]+|[|&;]+(?!\S)", bare)
    return found[0] if found else None


def _command(text: str) -> str:
    if _words(text).startswith("-"):
        raise ValueError("a command does not begin with a dash")
    if re.match(r"[A-Za-z_]\w*=", shlex.split(text)[0]):
        raise ValueError(f"no shell reads it: a variable in front needs env: env {text}")
    return text


_READ: dict[str, Callable[[str], str]] = dict.fromkeys(KEYS, _text)
_READ |= dict.fromkeys(("image", "venv", "conda", "checkpoint", "program", "ckptrun"), _path)
_READ |= {
    "job-name": _name,
    "time": _time,
    "gpus": _number(0),
    "nodes": _number(1),
    "cpus": _number(1),
    "mem": _size,
    "array": _array,
}
_READ |= {"container": _container, "args": _words, "command": _command, "resume-flag": _flag, "output": _log}


# --- the job, and what does not fit together


def _job(template: Template, site: Site, values: Mapping[str, str]) -> Job:
    gpus = int(values.get("gpus", template.gpus))
    array = values.get("array")
    checkpoint = values.get("checkpoint", "checkpoints")
    container = values.get("container") or _usual_container(site, values)
    image = values.get("image") or site.images.get(template.image)
    return Job(
        template=template,
        site=site,
        name=values.get("job-name", template.name),
        time=values.get("time") or _time(site.time),
        gpus=gpus,
        cpus=int(values.get("cpus", 4 * max(gpus, 1))),
        mem=values.get("mem", f"{16 * max(gpus, 1)}G"),
        output=values.get("output", "%x_%A_%a.out" if array else "%x_%j.out"),
        checkpoint=f"{checkpoint.rstrip('/') or '/'}/%a" if array and "%a" not in checkpoint else checkpoint,
        container=container,
        image=image if container != "none" else None,
        program=values.get("program", "train.py"),
        words=tuple(shlex.split(values.get("command", "./my_program") if template.name == "command" else values.get("args", ""))),
        ckptrun=values.get("ckptrun", "ckptrun"),
        nodes=int(values.get("nodes", 1)),
        partition=values.get("partition", site.partition),
        account=values.get("account"),
        qos=values.get("qos"),
        exclude=values.get("exclude"),
        array=array,
        venv=values.get("venv"),
        conda=values.get("conda"),
        resume_flag=values.get("resume-flag"),
        own_program="program" in values,
    )


def _usual_container(site: Site, values: Mapping[str, str]) -> str:
    if "image" in values:
        return next((kind for kind in site.containers if kind != "none"), site.containers[0])
    return site.containers[0]


def _misfits(job: Job, given: Mapping[str, str]) -> list[str]:
    site, limits = job.site, job.site.limits
    why = [f"--set {name}: {reason}: leave it out" for name, reason in site.not_allowed.items() if name in given]
    if limits.time_s and durations.parse(job.time) > limits.time_s:
        why.append(f"--set time={given.get('time', job.time)}: {site.name} allows a job {durations.show(limits.time_s)}")
    if limits.gpus and job.gpus * job.nodes > limits.gpus:
        why.append(f"--set gpus={job.gpus}: {site.name} allows a job {limits.gpus} GPUs")
    elif _at_once(job) == 0:
        why.append(f"--set gpus={job.gpus}: {site.name} allows a user {limits.gpus_running} GPUs at a time")
    if job.container not in site.containers:
        why.append(f"--set container={job.container}: {site.name} has {', '.join(site.containers)}")
    elif job.container != "none" and not job.image:
        why.append(f"--set container={job.container} needs an image: --set image=PATH")
    elif job.container == "none" and "image" in given:
        why.append("--set image: without a container it has no meaning, set container as well")
    if job.template.torchrun and not job.gpus:
        why.append("--set gpus=0: it is the number of torchrun's processes, at least 1")
    if not job.array and "%a" in job.checkpoint:
        why.append(f"--set checkpoint={job.checkpoint}: %a is the task of an array: set array as well")
    if found := re.search(r"%[AJNjnstux]", job.checkpoint):
        why.append(
            f"--set checkpoint={job.checkpoint}: {found[0]} is no pattern there, and each job of the chain needs the same folder"
        )
    if len(_log_name(job).encode()) > _LONGEST:
        why.append(
            "--set job-name: the log is named after the job, and the name of a file has at most 255 bytes: set output as well"
        )
    if re.search(r"[*?\[]", job.checkpoint):
        why.append(f"--set checkpoint={job.checkpoint}: it is no pattern, name the folder")
    return why + _environment_misfits(job)


def _environment_misfits(job: Job) -> list[str]:
    if job.venv and job.conda:
        return ["--set venv and --set conda exclude each other: leave one out"]
    if job.container == "none":
        return []
    if job.conda and "/" not in job.conda:
        return [f"--set conda={job.conda}: a container knows no names of yours, give the folder of the environment"]
    program = job.program if job.own_program else None
    mounted = {"venv": job.venv, "conda": job.conda, "program": program, "checkpoint": job.checkpoint}
    return [
        f"--set {name}={path}: it cannot be mounted into a container, where the colon and the comma separate mounts"
        for name, path in mounted.items()
        if path and re.search("[:,]", path)
    ]


def _log_name(job: Job) -> str:
    return job.output.rpartition("/")[2].replace("%x", job.name)


def _gigabytes(size: str) -> float:
    unit = size[-1] if size[-1] in "KMGT" else ""
    return float(size.rstrip("KMGT")) * _GB[unit]
