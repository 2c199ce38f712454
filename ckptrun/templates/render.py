"""PURE. A job as a value -> the text of its script.

Rules of this file.
- A value is quoted where it stands: for sbatch in its lines, for bash in the command. Outside the quotes a backslash means the same
  to every release of sbatch; inside them it does not, so none stands there.
- A comment stands above each line that is not obvious. The last line begins with `exec`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from ckptrun.templates.settings import Job

_SAFE = r"[A-Za-z0-9_@%+=:,./\[\]-]+"


def job_script(job: Job) -> str:
    """Return the script, with LF at the end of each line."""
    command = " \\\n    ".join(" ".join(part) for part in (_own(job), *_command(job)))
    setup = _setup(job)
    why = "# exec: ckptrun takes the place of this shell, because Slurm's signals reach the job's first process only."
    relay = ["# The second ckptrun, one on each node, tells the processes below its torchrun."] if _relayed(job) else []
    lines = ["#!/bin/bash", *_options(job), "", *setup, *([""] if setup else []), why, *relay, f"exec {command}"]
    return "\n".join(lines) + "\n"


# --- what sbatch reads


def _options(job: Job) -> list[str]:
    gpus = f"gres=gpu:{job.gpus}" if job.site.gpu_option == "gres" else f"gpus-per-node={job.gpus}"
    lines = [_option("job-name", job.name)]
    lines += [_option(name, value) for name, value in _names(job) if value]
    lines += [_option("time", job.time)]
    lines += [_option("nodes", str(job.nodes))] if job.nodes > 1 else []
    lines += [_option("ntasks-per-node", str(_tasks(job)))] if job.nodes > 1 or _tasks(job) > 1 else []
    lines += [f"#SBATCH --{gpus}"] if job.gpus else []
    lines += [_option("cpus-per-task", str(_cpus_of_task(job))), _option("mem", job.mem)]
    if job.array:
        lines += ["# Each task of the array is a chain of its own.", _option("array", job.array)]
    if re.search("%[jJA]", job.output):
        lines += ["# A log for each job: one name for all would be overwritten by the next job of the chain."]
    else:
        lines += ["# One log for all jobs of the chain: each adds to it.", _option("open-mode", "append")]
    return [*lines, _option("output", job.output)]


def _names(job: Job) -> Iterable[tuple[str, str | None]]:
    return ("partition", job.partition), ("account", job.account), ("qos", job.qos), ("exclude", job.exclude)


def _option(name: str, value: str) -> str:
    return f"#SBATCH --{name}={for_sbatch(value)}"


def for_sbatch(text: str) -> str:
    """Return a value so that sbatch reads it whole from a line of a script."""
    if re.fullmatch(_SAFE, text):
        return text
    parts = re.findall(r"[\\']|[^\\']+", text)
    return "".join(f"\\{part}" if part in ("\\", "'") else f"'{part}'" for part in parts)


def _tasks(job: Job) -> int:
    """Return how many processes srun starts on a node: where no torchrun starts them, one for each GPU."""
    return job.gpus if job.template.torchrun and job.container == "pyxis" else 1


def _cpus_of_task(job: Job) -> int:
    return max(job.cpus // _tasks(job), 1)


def _relayed(job: Job) -> bool:
    return job.template.torchrun and job.nodes > 1 and job.container != "pyxis"


# --- what bash reads


def for_bash(text: str) -> str:
    """Return a word that bash reads as this text, nothing in it expanded."""
    if not re.search(r"[$`\\]", text):
        return shlex.quote(text)
    return '"' + re.sub(r'([$`"\\])', r"\\\1", text) + '"'


def _path(text: str) -> str:
    """Return a path as a word; `~/` is the home of the job's user, as people type it."""
    return f'"$HOME"/{for_bash(text[2:])}' if text.startswith("~/") and text[2:] else for_bash(text)


def _folder(job: Job) -> str:
    """Return the checkpoint folder as the training's word: it knows no %a, ckptrun does."""
    first, *rest = job.checkpoint.split("%a")
    return _path(first) + "".join('"$SLURM_ARRAY_TASK_ID"' + (for_bash(part) if part else "") for part in rest)


def _own(job: Job) -> list[str]:
    flag = ["--resume-flag", for_bash(job.resume_flag)] if job.resume_flag else []
    return [_path(job.ckptrun), "--checkpoint", _path(job.checkpoint), *flag]


def _setup(job: Job) -> list[str]:
    lines = []
    if job.conda and job.container == "none":
        lines += ["# A batch script knows `conda activate` only after conda's own lines for bash."]
        lines += ['eval "$(conda shell.bash hook)"', f"conda activate {_path(job.conda)}"]
    if job.template.torchrun and (job.nodes > 1 or _tasks(job) > 1):
        address, port = ("MASTER_ADDR", "MASTER_PORT") if job.container == "pyxis" else ("address", "port")
        lines += ["# All processes meet on the first node, at a port of this job's own."]
        lines += [f'{address}=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)']
        lines += [f"{port}=$((20000 + SLURM_JOB_ID % 20000))"]
        lines += [f"export {address} {port}"] if job.container == "pyxis" else []
    return lines


def _command(job: Job) -> list[list[str]]:
    """Return the training command in parts, a line each: srun, the container, torchrun, the program."""
    return [*_srun(job), *_container(job), *_torchrun(job), _program(job)]


def _srun(job: Job) -> list[list[str]]:
    if job.container == "pyxis":
        mounts = ",".join(f"{path}:{path}" for path in ('"$PWD"', *_mounts(job)))
        spread = [f"--cpus-per-task={_cpus_of_task(job)}"] if job.template.torchrun else []
        start = ["srun", *spread, f"--container-image={_path(str(job.image))}", f"--container-mounts={mounts}"]
        return [[*start, '--container-workdir="$PWD"', "--container-mount-home"]]
    return [["srun", f"--cpus-per-task={_cpus_of_task(job)}", _path(job.ckptrun)]] if _relayed(job) else []


def _container(job: Job) -> list[list[str]]:
    if job.container not in ("singularity", "apptainer"):
        return []
    mounts = [word for path in _mounts(job) for word in ("--bind", path)]
    return [[job.container, "exec", *(["--nv"] if job.gpus else []), *mounts, _path(str(job.image))]]


def _mounts(job: Job) -> list[str]:
    """Return what a container needs beside the working folder and home: environments, and the folders of absolute paths."""
    own = (job.program,) if job.own_program else ()
    folders = [path.rpartition("/")[0] for path in (*own, job.checkpoint.partition("%a")[0].rstrip("/")) if path.startswith("/")]
    return [_path(path) for path in dict.fromkeys([*filter(None, (job.venv, job.conda)), *filter(None, folders)])]


def _torchrun(job: Job) -> list[list[str]]:
    if not job.template.torchrun or job.container == "pyxis":
        return []
    words = [_in_environment(job, "torchrun", "torchrun"), *(["--standalone"] if job.nodes == 1 else [f"--nnodes={job.nodes}"])]
    words += [f"--nproc-per-node={job.gpus}"]
    if job.nodes > 1:
        words += ["--rdzv-backend=c10d", '--rdzv-id="$SLURM_JOB_ID"', '--rdzv-endpoint="$address:$port"']
    return [words]


def _program(job: Job) -> list[str]:
    words = [for_bash(word) for word in job.words]
    if not job.template.program:
        return words
    start = [] if _torchrun(job) else [_in_environment(job, "python", "python3")]
    folder = [] if job.own_program else [_folder(job)]
    return [*start, _path(job.program), *folder, *words]


def _in_environment(job: Job, name: str, otherwise: str) -> str:
    """Return a program of the virtual environment by its path, which needs no activation; else by its name."""
    folder = job.venv or (job.conda if job.container != "none" else None)
    return _path(f"{folder.rstrip('/')}/bin/{name}") if folder else otherwise
