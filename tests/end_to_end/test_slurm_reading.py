"""What is read of scripts and of command lines, held against the real sbatch and the real accounting: words nobody would choose."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

from ckptrun.slurm import commands, parse
from ckptrun.slurm.parse import JobId, JobRecord, job_record
from ckptrun.slurm.read_back import Shown
from ckptrun.slurm.sbatch_options import BY_NAME, Given, effective, read, script_options
from ckptrun.slurm.submit_line import Job, Refusal, read_line
from tests.end_to_end.jobs import Jobs

ODD = (
    "a",
    "b",
    "  ",
    " ",
    "#",
    " # ",
    '"x y"',
    "'x y'",
    "\\ ",
    '\\"',
    "\\'",
    "\\\\",
    "=",
    "\t",
    "$HOME",
    ";",
    "é",
    "--mem=7",
    "-s",
)
ODD += ("%", "*", "`", "!", '""', "'\"'", '"\'"', '"a\\"b"', '"a\\\\b"', "-N1", " -t 3 ", ",", "|", "job.sh", "--", "-J x")
BEGINNINGS = ("#SBATCH ", "#SBATCH ", "#SBATCH ", "#SBATCH\t", "#SBATCH", "##SBATCH ", " #SBATCH ", "# SBATCH ", "#SLURM ")
BETWEEN = ("", "# x", "   ", "\t", "#", "  # y", "true")


def dice(name: str) -> random.Random:
    """Return the dice of one test: the same in each run, unless others are asked for. What they throw is printed by what fails."""
    return random.Random(None if os.environ.get("CKPTRUN_TEST_EXPLORE") else name)


def held(jobs: Jobs, *words: str) -> str | None:
    """Submit, held; return the job's id, None where sbatch refuses the words."""
    argv = jobs.lab.argv("sbatch", "--parsable", "-H", *words, cwd=jobs.folder)
    done = subprocess.run(argv, env=jobs.environment, capture_output=True, text=True, timeout=120)
    return done.stdout.strip().split(";")[0] if done.returncode == 0 else None


def records(jobs: Jobs, ids: list[str]) -> dict[str, JobRecord]:
    """Return the records of jobs; the folder's jobs are cancelled behind it."""
    found = {job: job_record(jobs.run("scontrol", "-o", "-d", "show", "job", job)) for job in ids}
    return {job: record for job, record in found.items() if record is not None}


def test_script_lines_are_cut_as_sbatch_cuts_them(jobs: Jobs) -> None:
    """Names and comments of odd characters in scripts of several lines: each job has what was read of its script."""
    thrown = dice("scripts")
    scripts: dict[str, str] = {}
    while len(scripts) < 20:
        lines = ["#!/bin/bash"]
        for _ in range(thrown.randint(1, 3)):
            form = thrown.choice(["--comment=", "--comment ", "--com=", "-J", "-J ", "--job-name="])
            value = "".join(thrown.choice(ODD) for _ in range(thrown.randint(1, 4)))
            lines += [thrown.choice(BEGINNINGS) + form + value, *thrown.sample(BETWEEN, thrown.choice([0, 0, 0, 1]))]
        text = "\n".join(lines) + thrown.choice(["\n", "", "\nexit 0\n"])
        jobs.run("tee", jobs.folder / "job.sh", input=text)
        if (job := held(jobs, "job.sh")) is not None:
            scripts[job] = text
    for job, record in records(jobs, list(scripts)).items():
        options = script_options(scripts[job])
        read_of_it = options.get("job-name", "job.sh"), options.get("comment", "")
        shown = record.fields.get("JobName", ""), record.fields.get("Comment", "")
        # A record is shown on one line, without the blanks at the ends of a value.
        assert tuple(text.strip() for text in read_of_it) == tuple(text.strip() for text in shown), repr(scripts[job])
    jobs.run("scancel", *scripts)


def options_of(thrown: random.Random) -> list[str]:
    """Return the words of one option, in one of its forms."""
    text = "".join(thrown.choice(ODD) for _ in range(thrown.randint(1, 5)))
    forms = [
        ["-J", text],
        [f"-J{text}"],
        [f"--job-n={text}"],
        ["--comment", text],
        ["-o", text],
        [f"-e{text}"],
        [f"--output={text}"],
    ]
    forms += [["-t7"], ["--tim", "0-1"], ["--nice"], ["--nice=5"], ["-N", "1-2"], ["-s"], ["-k"], ["--contiguous"], ["--propagate"]]
    forms += [[f"--export=ALL,A={text}"], ["--export=A,Q='a,b',Z=1"], ["--export-file=variables"], ["-D", "a b"], ["-D", "/tmp"]]
    forms += [
        ["--signal=B:TERM"],
        ["--mail-user=x@y"],
        ["--begin", "now+1hour"],
        ["-d", "singleton"],
        ["--exclusive=user"],
        ["-x", "n3"],
    ]
    forms += [["--mail-user=x y"], ["--wckey=w k"], ["--extra=x y"], ["--export-file=the variables"]]
    return thrown.choice(forms)


def test_lines_of_the_real_accounting_are_read_as_typed_or_refused(jobs: Jobs) -> None:
    """Twenty odd command lines: what is read of accounting's line is what was typed, where it is not refused; most are not."""
    thrown = dice("lines")
    jobs.run("mkdir", "a b")
    for name in ("job.sh", "a b/jo b.sh", "variables", "the variables"):
        jobs.run("tee", jobs.folder / name, input="#!/bin/bash\n" if name.endswith(".sh") else "A=1\0")
    typed: dict[str, list[str]] = {}
    while len(typed) < 20:
        words = [word for _ in range(thrown.randint(0, 4)) for word in options_of(thrown)]
        behind = [["job.sh"], ["a b/jo b.sh"], ["job.sh", thrown.choice(ODD)], ["--", "job.sh", "-J", "x"], ["--wrap", "a  'b'"]]
        words += thrown.choice(behind)
        if (job := held(jobs, *words)) is not None:
            typed[job] = words
    for job in typed:
        jobs.until_line_is_known(job)
    found = {job: as_read(jobs, job, record, typed[job]) for job, record in records(jobs, list(typed)).items()}
    for job, options in found.items():
        line = read(["-H", "--parsable", *typed[job]])
        assert line is not None
        assert isinstance(options, Refusal) or what_goes_on(options) == what_goes_on(line.options), typed[job]
    assert sum(not isinstance(options, Refusal) for options in found.values()) >= 10, found
    jobs.run("scancel", *typed)


def as_read(jobs: Jobs, job: str, record: JobRecord, words: list[str]) -> tuple[Given, ...] | Refusal:
    """Return what is read of the line that accounting has of a job."""
    line = parse.submit_line(jobs.run(*submit_line_words(job)), JobId(int(job)))
    assert line is not None
    output, error, stdin, wckey = parse.names(jobs.run(*commands.names(JobId(int(job))).argv))
    typed = read(words)
    assert typed is not None
    # What the job itself would see: a held one has not started.
    environment = {"SLURM_JOB_NAME": record.fields.get("JobName", ""), "SLURM_SUBMIT_DIR": str(jobs.folder)}
    export = effective(typed.options).get("export", "ALL")
    environment |= {} if export == "ALL" else {"SLURM_EXPORT_ENV": export}
    script = jobs.run("scontrol", "write", "batch_script", job, "-")
    shown = Shown(record.fields, environment, (output, error, stdin), wckey, record.directory)
    return read_line(line, Job(record.command, script, shown))


def submit_line_words(job: str) -> tuple[str, ...]:
    """Return the question to the real accounting."""
    program, *words = commands.submit_line(JobId(int(job))).argv
    return (str(Path("/usr/bin") / program), *words)


def what_goes_on(options: tuple[Given, ...]) -> dict[str, str]:
    """Return the options that a successor gets. Blanks alone are no name that a record would show."""
    return {name: value.strip() for name, value in effective(options).items() if BY_NAME[name].goes_on}
