"""What ckptrun costs on a real Slurm, beside the bash idiom in the same run: `python -m tests.bench.slurm [--write]`.

Needs what `python -m tests.cluster up` needs. `--write` puts the table into docs/explanation/slurm-cost.md.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from tests.cluster import lab as labs
from tests.cluster.lab import Lab
from tests.end_to_end.jobs import Jobs

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "slurm-cost.md"
STEPS, STEP_S, SAVE_S = 3000, 0.05, 2.0
IDIOM = """\
#!/bin/bash
#SBATCH --job-name=idiom --time=1 --signal=B:USR1@20 --output=%x_%j.out
date +%s.%N > begun-$SLURM_JOB_ID
trap 'kill -USR1 $child' USR1
python {training} & child=$!
wait $child; code=$?
while kill -0 $child 2> /dev/null; do wait $child; code=$?; done
[ $code = 3 ] && sbatch {script}
exit $code
"""


class Share(NamedTuple):
    """How a training went: jobs, seconds of work, of allocation, and from the end of one training to the start of the next job."""

    jobs: int
    work_s: float
    allocated_s: float
    idle_s: tuple[float, ...]


def begin_ckptrun(lab: Lab) -> Jobs:
    """Submit the training with one word in front of it."""
    jobs = Jobs(lab, "share-ckptrun")
    training = f"python {lab.home}/training.py {STEPS} {STEP_S} {SAVE_S}"
    before = "date +%s.%N > begun-$SLURM_JOB_ID\n"
    jobs.submit(jobs.script(f"exec ckptrun --checkpoint ck {training}", "--time=1", before=before))
    return jobs


def begin_idiom(lab: Lab) -> Jobs:
    """Submit the training in the script that people write."""
    jobs = Jobs(lab, "share-idiom")
    path = jobs.folder / "idiom.sh"
    text = IDIOM.format(training=f"{lab.home}/training.py {STEPS} {STEP_S} {SAVE_S}", script=path)
    jobs.run("tee", path, input=text)
    jobs.submit(path)
    return jobs


def times(jobs: Jobs) -> list[tuple[str, float, str]]:
    """Return what the trainings wrote down: begun or ended, when (Unix time), in which job."""
    path = jobs.folder / "times.jsonl"
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []  # type: ignore[misc]


def share(jobs: Jobs) -> Share:
    """Wait until all steps are done, and return how it went."""
    last = f"step-{STEPS:07d}"

    def done() -> bool | None:
        found = times(jobs)
        ended = bool(found) and found[-1][0] == "ended"
        checkpoints = sorted(path.name for path in jobs.folder.glob("ck/*.json"))
        over = ended and not any(name > last for name in checkpoints)
        saved = int(checkpoints[-1][5:12]) if checkpoints else 0
        worked = sum(end[1] - start[1] for start, end in pairwise(found) if start[0] == "begun" and end[0] == "ended")
        return True if over and (worked >= STEPS * STEP_S and found[-1][1] - found[-2][1] >= (STEPS - saved) * STEP_S) else None

    jobs.until(done, limit_s=900)
    found = times(jobs)
    ids = list(dict.fromkeys(job for _, _, job in found))
    jobs.after(ids[-1])
    begun = {job: float((jobs.folder / f"begun-{job}").read_text()) for job in ids}
    ended = {job: max(at for what, at, of in found if of == job and what == "ended") for job in ids}
    idle = tuple(begun[later] - ended[earlier] for earlier, later in pairwise(ids))
    elapsed = jobs.run("sacct", "-n", "-P", "-X", "-j", ",".join(ids), "-o", "elapsedraw").split()
    return Share(len(ids), STEPS * STEP_S, sum(float(one) for one in elapsed), idle)


def exit_and_calls(lab: Lab) -> tuple[float, int]:
    """Return the seconds from the training's exit to ckptrun's, and how often one undisturbed link called the controller."""
    jobs = Jobs(lab, "exit-and-calls")
    jobs.run("mkdir", "bin")
    for name in ("scontrol", "squeue", "sbatch", "scancel"):
        jobs.run(
            "tee", f"bin/{name}", input=f'#!/bin/sh\necho {name} >> {jobs.folder}/calls-$SLURM_JOB_ID\nexec /usr/bin/{name} "$@"\n'
        )
        jobs.run("chmod", "+x", f"bin/{name}")
    training = f"python {lab.home}/training.py 100000 0.02 0.5"
    before = f"PATH={jobs.folder}/bin:$PATH\n"
    line = f"ckptrun --checkpoint ck --time-limit 25s --margin 13s --max-links 2 {training}; date +%s.%N > exited-$SLURM_JOB_ID"
    job = jobs.submit(jobs.script(line, before=before))
    jobs.until(lambda: (jobs.folder / f"exited-{job}").exists() or None)
    ended = max(at for what, at, of in times(jobs) if of == job and what == "ended")
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


def _gaps(seconds: tuple[float, ...]) -> str:
    return f"{statistics.median(seconds):.2f} s (at most {max(seconds):.2f} s)"


def main() -> None:
    """Measure, print, and with `--write` put the table into its page."""
    lab = labs.start(owner=os.getpid())
    try:
        shutil.copy(Path(__file__).parent / "training.py", lab.home / "training.py")
        both = {"ckptrun": begin_ckptrun(lab), "the bash idiom": begin_idiom(lab)}
        found = {name: share(jobs) for name, jobs in both.items()}
        exit_s, calls = exit_and_calls(lab)
        gaps = slurms_own_gaps(lab)
    finally:
        labs.stop(lab)
    rows = [f"| {name} | {one.jobs} | {one.work_s / one.allocated_s:.2f} | {_gaps(one.idle_s)} |" for name, one in found.items()]
    rows.append(f"| Slurm itself: jobs that sleep for a second, each held by afterany | | | {_gaps(gaps)} |")
    table = "\n".join(
        [
            "| 150 s of work, saves of 2 s, jobs of 60 s | jobs | useful share of the allocation | gaps between two links |",
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
