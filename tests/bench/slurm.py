"""What ckptrun costs on a real Slurm, beside what else people use, in the same run: `python -m tests.bench.slurm [--write]`.

Needs what `python -m tests.cluster up` needs. `--write` puts the table into docs/explanation/slurm-cost.md.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from tests.cluster import lab as labs
from tests.cluster.lab import Lab
from tests.end_to_end.jobs import Jobs

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "slurm-cost.md"
STEPS, STEP_S, SAVE_S, EVERY = 3000, 0.05, 2.0, 400
TRAINING = f"training.py {STEPS} {STEP_S} {SAVE_S} {EVERY}"
IDIOM = """\
#!/bin/bash
#SBATCH --job-name=idiom --time=1 --signal=B:USR1@20 --output=%x_%j.out
trap 'kill -USR1 $child' USR1
python {training} & child=$!
wait $child; code=$?
while kill -0 $child 2> /dev/null; do wait $child; code=$?; done
[ $code = 3 ] && sbatch {script}
exit $code
"""
# What AI-LAB's guide to requeueing does, in our words: on TERM, 30 s before the end, the batch shell requeues, with srun in front.
AI_LAB = """\
#!/bin/bash
#SBATCH --job-name=requeue --time=1 --signal=B:TERM@30 --output=%x_%j.out --open-mode=append
again() {{ [ "${{SLURM_RESTART_COUNT:-0}}" -lt 20 ] && scontrol requeue $SLURM_JOB_ID; exit; }}
trap again TERM
srun python {training}
"""


class Share(NamedTuple):
    """How a training went.

    Its runs, seconds of work, whether that is all, seconds of allocation, and those between the trainings of two runs.
    """

    runs: int
    work_s: float
    done: bool
    allocated_s: float
    idle_s: tuple[float, ...]


def begin_ckptrun(lab: Lab) -> Jobs:
    """Submit the training with one word in front of it."""
    jobs = Jobs(lab, "share-ckptrun")
    jobs.submit(jobs.script(f"exec ckptrun --checkpoint ck python {lab.home}/{TRAINING}", "--time=1"))
    return jobs


def begin_script(lab: Lab, name: str, text: str) -> Jobs:
    """Submit the training in a script that people write."""
    jobs = Jobs(lab, f"share-{name}")
    path = jobs.folder / "job.sh"
    jobs.run("tee", path, input=text.format(training=f"{lab.home}/{TRAINING}", script=path))
    jobs.submit(path)
    return jobs


def begin_submitit(lab: Lab) -> Jobs:
    """Submit the training by submitit's newest release."""
    jobs = Jobs(lab, "share-submitit")
    packages = lab.home / "submitit-packages"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", packages, "submitit"], check=True)
    shutil.copy(Path(__file__).parent / "with_submitit.py", lab.home / "with_submitit.py")
    environment = jobs.environment | {"PYTHONPATH": f"{packages}:{lab.home}"}
    jobs.run("python", lab.home / "with_submitit.py", *TRAINING.split()[1:], env=environment)
    return jobs


def notes(jobs: Jobs) -> list[tuple[str, float, str]]:
    """Return what the trainings wrote down: begun, ended or done, when (Unix time), in which run of which job."""
    path = jobs.folder / "times.jsonl"
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []  # type: ignore[misc]


def _queued(jobs: Jobs) -> list[str]:
    """Return which jobs of this folder are waiting or running."""
    found = (line.split() for line in jobs.run("squeue", "-h", "-o", "%i %Z").splitlines())
    return [job for job, folder in found if folder == str(jobs.folder)]


def share(jobs: Jobs) -> Share:
    """Wait until all steps are done or nothing of it is left in the queue, and return how it went."""
    while queued := _queued(jobs):
        jobs.lab.run("srun", "-Q", "-p", "batch", "-d", f"afterany:{queued[-1]}", "true", user=False, timeout=3600)
    found = notes(jobs)
    runs = list(dict.fromkeys(run for _, _, run in found))
    listed = jobs.run("sacct", "-n", "-P", "-X", "-D", "-j", ",".join({run.split(".")[0] for run in runs}), "-o", "end,elapsedraw")
    ends = sorted(line.split("|") for line in listed.split())
    begun = {run: at for what, at, run in found if what == "begun"}
    ended = {run: at for what, at, run in found if what != "begun"}
    # A training that was killed wrote down no end: its job's end counts.
    over = [ended.get(run, datetime.fromisoformat(end).timestamp()) for run, (end, _) in zip(runs, ends, strict=True)]
    idle = tuple(begun[later] - at for later, at in zip(runs[1:], over, strict=False))
    done = any(what == "done" for what, _, _ in found)
    checkpoints = sorted(path.name for path in jobs.folder.glob("ck/*.json"))
    steps = STEPS if done else int(checkpoints[-1][5:12]) if checkpoints else 0
    return Share(len(runs), steps * STEP_S, done, sum(float(seconds) for _, seconds in ends), idle)


def exit_and_calls(lab: Lab) -> tuple[float, int]:
    """Return the seconds from the training's exit to ckptrun's, and how often one undisturbed link called the controller."""
    jobs = Jobs(lab, "exit-and-calls")
    jobs.run("mkdir", "bin")
    for name in ("scontrol", "squeue", "sbatch", "scancel"):
        jobs.run(
            "tee", f"bin/{name}", input=f'#!/bin/sh\necho {name} >> {jobs.folder}/calls-$SLURM_JOB_ID\nexec /usr/bin/{name} "$@"\n'
        )
        jobs.run("chmod", "+x", f"bin/{name}")
    training = f"python {lab.home}/training.py 100000 0.02 0.5 1000000"
    before = f"PATH={jobs.folder}/bin:$PATH\n"
    line = f"ckptrun --checkpoint ck --time-limit 25s --margin 13s --max-links 2 {training}; date +%s.%N > exited-$SLURM_JOB_ID"
    job = jobs.submit(jobs.script(line, before=before))
    jobs.until(lambda: (jobs.folder / f"exited-{job}").exists() or None)
    ended = max(at for what, at, run in notes(jobs) if run == f"{job}.0" and what == "ended")
    jobs.until_over()
    seconds = float((jobs.folder / f"exited-{job}").read_text()) - ended
    return seconds, len((jobs.folder / f"calls-{job}").read_text().splitlines())


def slurms_own_gaps(lab: Lab) -> tuple[float, ...]:
    """Return the seconds between jobs that do nothing: what no program in them can shorten."""
    jobs = Jobs(lab, "gaps")
    path = jobs.folder / "sleep.sh"
    jobs.run("tee", path, input="#!/bin/bash\n#SBATCH -o /dev/null\ndate +%s.%N >> gaps\nsleep 1\ndate +%s.%N >> gaps\n")
    job = jobs.submit(path)
    for _ in range(8):
        job = jobs.submit(f"--dependency=afterany:{job}", path)
    jobs.after(job)
    found = [float(line) for line in (jobs.folder / "gaps").read_text().split()]
    return tuple(found[place] - found[place - 1] for place in range(2, len(found), 2))


def _how_far(one: Share) -> str:
    return f"{one.runs}" if one.done else f"{one.runs}, then nothing: {one.work_s:.0f} of {STEPS * STEP_S:.0f} s done"


def _gaps(seconds: tuple[float, ...]) -> str:
    if not seconds:
        return ""
    return f"{statistics.median(seconds):.2f} s (at most {max(seconds):.2f} s)"


def main() -> None:
    """Measure, print, and with `--write` put the table into its page."""
    lab = labs.start(owner=os.getpid())
    try:
        shutil.copy(Path(__file__).parent / "training.py", lab.home / "training.py")
        begun = {
            "ckptrun": begin_ckptrun(lab),
            "the bash idiom": begin_script(lab, "idiom", IDIOM),
            "submitit": begin_submitit(lab),
            "AI-LAB's script": begin_script(lab, "ai-lab", AI_LAB),
        }
        found = {name: share(jobs) for name, jobs in begun.items()}
        exit_s, calls = exit_and_calls(lab)
        gaps = slurms_own_gaps(lab)
    finally:
        labs.stop(lab)
    rows = [
        f"| {name} | {_how_far(one)} | {one.work_s / one.allocated_s:.2f} | {_gaps(one.idle_s)} |" for name, one in found.items()
    ]
    rows.append(f"| Slurm itself: jobs that sleep for a second, each held by afterany | | | {_gaps(gaps)} |")
    table = "\n".join(
        [
            "| 150 s of work, saves of 2 s, jobs of 60 s | runs | useful share of the allocation | gaps between two runs |",
            "|---|---|---|---|",
            *rows,
            "",
            "| what | measured |",
            "|---|---|",
            f"| the training's exit to ckptrun's exit, successor already submitted | {exit_s * 1000:.0f} ms |",
            f"| calls to the Slurm controller in an undisturbed first link | {calls} |",
        ]
    )
    print(table)
    if "--write" in sys.argv:
        head = PAGE.read_text().partition("<!-- measured -->")[0]
        PAGE.write_text(f"{head}<!-- measured -->\n\n{table}\n")


if __name__ == "__main__":
    main()
