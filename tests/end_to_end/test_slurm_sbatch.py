"""`ckptrun sbatch` on a real Slurm: job scripts as people write them are chains; sbatch's own answers are passed on."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

import pytest

from tests.end_to_end.jobs import Jobs

# Asked after six seconds; the rest is for the save, however slow the machine is.
OPTIONS = "--checkpoint ck --time-limit 26s --margin 20s"
OWN = "#CKPTRUN --checkpoint ck --time-limit 26s\n#CKPTRUN --margin=20s\n"
HEAD = f"#SBATCH --job-name=count --time=5\n#SBATCH --output=%x_%j.out\n{OWN}"
# Two steps, each of which lasts until it is asked: three links, however busy the machine is.
TRAIN = "python {home}/counter.py ck 2 1000 --hear USR1"


class Written(NamedTuple):
    """A script as somebody wrote it, what stands behind it on the command line, options before it, and what links print.

    `prints` is found once in each link, `resumes` in each but the first.
    """

    text: str
    arguments: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    prints: str = r"^from \d with \[\]$"
    resumes: str = r"^ckptrun: link \d of .* resuming from ck/step-00000[12].json"


SCRIPTS = {
    "plain": Written(f"#!/bin/bash\n{HEAD}{TRAIN}\n"),
    "several": Written(f"#!/bin/bash\n{HEAD}echo start; {TRAIN}; echo end\n", prints="^end$"),
    "module": Written(
        f'#! /bin/bash -e\n{HEAD}\nmodule() {{ export LOADED="${{LOADED:-}}$2;"; }}\nmodule load cuda\nexport RUN=a\\ b\n'
        f'echo "loaded $LOADED $RUN"\n{TRAIN}\n',
        prints="^loaded cuda; a b$",
    ),
    "venv": Written(
        f'#!/usr/bin/env bash\n{HEAD}source venv/bin/activate\necho "in $VIRTUAL_ENV"\n{TRAIN}\n', prints="^in .*/venv$"
    ),
    "strict": Written(f"#!/bin/bash\n{HEAD}set -euo pipefail\ntrap 'echo \"exit $?\"' EXIT\n{TRAIN}\n", prints="^exit 0$"),
    "arguments": Written(
        f"#!/bin/bash\n{HEAD}#CKPTRUN --resume-flag '--from {{checkpoint}}' # for the script\n{TRAIN} \"$@\"\n",
        ("two  words", "", 'c "d" $HOME', "it's"),
        ("-J", "a job; of 'mine'", "--output=%j.out"),
        prints=re.escape("with ['two  words', '', 'c \"d\" $HOME', \"it's\""),
        resumes=r"\"it's\", '--from', '.*/ck/step-00000[12]\.json'\]$",
    ),
    "python": Written(
        f"#!/usr/bin/env python\n{HEAD}import runpy, sys\nprint('named', sys.argv[1], flush=True)\n"
        "sys.argv = ['counter.py', 'ck', '2', '1000', '--hear', 'USR1', *sys.argv[1:]]\n"
        "runpy.run_path('{home}/counter.py')\n",
        ("x y",),
        prints=r"^from \d with \['x y'\]$",
    ),
    "srun": Written(f"#!/bin/bash\n{HEAD}srun -n1 {TRAIN}\n"),
    "sh": Written(
        f"#!/bin/sh\n{HEAD}PATH={{path}}; export PATH\ncd sub || exit 1\n{TRAIN.replace('ck ', '../ck ')}\n", (), ("--export=NONE",)
    ),
}


def write(jobs: Jobs, text: str, name: str = "job.sh") -> str:
    """Write a script as it is; return its name."""
    jobs.run(
        "tee", jobs.folder / name, input=text.replace("{home}", str(jobs.lab.home)).replace("{path}", jobs.environment["PATH"])
    )
    return name


def assert_three_links(jobs: Jobs, prints: str, resumes: str = Written._field_defaults["resumes"]) -> None:
    """Wait for the chain's end: three links at least, each step once, and each that trained printed what its script says."""
    jobs.until_event("ended", 3)
    outcomes = jobs.until_over()
    assert outcomes == ["continued"] * (len(outcomes) - 1) + ["complete"] and len(outcomes) >= 3, jobs.story()
    assert jobs.steps() == [1, 2]
    # Three links, and as many more as were asked before their training had begun to hear; those may print nothing.
    trained = len(re.findall(r"^from \d with", jobs.log(), re.MULTILINE))
    assert 3 <= trained <= len(re.findall(prints, jobs.log(), re.MULTILINE)) <= len(outcomes), jobs.log()
    assert 2 <= len(re.findall(resumes, jobs.log(), re.MULTILINE)) <= len(outcomes) - 1, jobs.log()


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_as_people_write_them(jobs: Jobs, name: str) -> None:
    """Submitted once, not changed: three links, each step counted once, arguments, environment, folder and interpreter as ever."""
    written = SCRIPTS[name]
    jobs.run("mkdir", "sub")
    if name == "venv":
        jobs.run("python", "-m", "venv", "--without-pip", "venv")
    said = jobs.run("ckptrun", "sbatch", *written.options, write(jobs, written.text), *written.arguments)
    assert re.fullmatch(r"Submitted batch job \d+\n", said)
    assert_three_links(jobs, written.prints, written.resumes)
    (chain,) = jobs.state.glob("chains/*/chain.json")
    assert json.loads(chain.read_text())["slurm"]["same"]["source"] == "the command line as typed"


def test_a_wrapped_command(jobs: Jobs) -> None:
    """`--wrap` is the whole script; options come from CKPTRUN_OPTIONS; `--parsable` prints the id alone."""
    jobs.environment["CKPTRUN_OPTIONS"] = OPTIONS
    text = f"echo begin && {TRAIN.replace('{home}', str(jobs.lab.home))}"
    said = jobs.run("ckptrun", "sbatch", "--parsable", "-o", "%x_%j.out", "--time=5", "--wrap", text)
    assert re.fullmatch(r"\d+\n", said)
    assert_three_links(jobs, "^begin$")
    assert [path.name for path in (jobs.state / "chains").iterdir()] == [f"wrap-{said.strip()}"]


def test_a_script_that_calls_ckptrun_itself(jobs: Jobs) -> None:
    """It is submitted as it is, its own options hold, and the words that were typed are known to the job."""
    script = write(jobs, f'#!/bin/bash\n{HEAD.replace(OWN, "")}# ckptrun does it\nexec ckptrun {OPTIONS} {TRAIN} "$@"\n')
    done = jobs.run("ckptrun", "sbatch", "--hold", "--parsable", "--comment=a  b", script, "one  word")
    assert re.fullmatch(r"\d+\n", done)
    assert jobs.run("scontrol", "write", "batch_script", done.strip(), "-") == (jobs.folder / script).read_text()
    jobs.run("scontrol", "release", done.strip())
    assert_three_links(jobs, re.escape("with ['one  word']"))
    (chain,) = jobs.state.glob("chains/*/chain.json")
    assert json.loads(chain.read_text())["slurm"]["same"]["source"] == "the command line as typed"


def test_the_next_jobs_have_what_was_typed(jobs: Jobs) -> None:
    """Options that no job shows, standard input, a folder; the value of a variable is kept nowhere, and reaches every link."""
    script = f'#!/bin/bash\n{HEAD}echo "word=$WORD in $PWD"\n{TRAIN}\n'.replace("{home}", str(jobs.lab.home))
    jobs.run("mkdir", "a folder")
    words = (
        "--signal=B:USR2@70",
        "--propagate=CORE",
        "--export=ALL,WORD=s3cret",
        f"--output={jobs.folder}/%j.out",
        "-D",
        "a folder",
    )
    jobs.run("ckptrun", "sbatch", *words, input=script)
    assert_three_links(jobs, f"^word=s3cret in {jobs.folder}/a folder$")
    (chain,) = jobs.state.glob("chains/*/chain.json")
    assert {"--signal=B:USR2@70", "--propagate=CORE", "--export=ALL,WORD"} <= set(
        json.loads(chain.read_text())["slurm"]["same"]["options"]
    )
    kept = [path for path in jobs.state.rglob("*") if path.is_file() and b"s3cret" in path.read_bytes()]
    assert kept == []


def test_what_sbatch_refuses_leaves_nothing(jobs: Jobs) -> None:
    """Its sentence and its exit code are passed on; `--test-only` submits nothing; neither leaves a copy."""
    script = write(jobs, f"#!/bin/bash\n{HEAD}{TRAIN}\n")
    line = f"ckptrun sbatch -p nowhere {script}; echo rc=$?; ckptrun sbatch --test-only {script}; echo rc=$?; ckptrun sbatch -V"
    said = jobs.run("bash", "-c", f"({line}) 2>&1")
    assert re.search(r"invalid partition specified: nowhere\n(?:.*\n)*rc=1\nsbatch: Job \d+ to start at .*\nrc=0\nslurm", said), (
        said
    )
    assert list((jobs.state / "submissions").iterdir()) == []


def test_it_waits_as_sbatch_does(jobs: Jobs) -> None:
    """`--wait` says the id at once, lasts as long as the job, and ends with its exit code; `-Q` says nothing."""
    script = write(jobs, "#!/bin/bash\n#SBATCH --output=%j.out\necho no; exit 3\n")
    assert jobs.run("bash", "-c", f"ckptrun sbatch --wait -Q {script}; echo rc=$?") == "rc=3\n"


def test_a_ckptrun_that_is_gone_is_said(jobs: Jobs) -> None:
    """One sentence in the log, exit code 127, and nothing is run."""
    script = write(jobs, "#!/bin/bash\n#SBATCH --output=%j.out\necho ran\n")
    job = jobs.run("ckptrun", "sbatch", "--hold", "--parsable", script).strip()
    (kept,) = jobs.state.glob("submissions/*/script")
    jobs.run("rm", kept)
    jobs.run("scontrol", "release", job)
    assert jobs.state_of(job) == "FAILED"
    assert (jobs.folder / f"{job}.out").read_text() == (
        f"ckptrun: {kept} is gone: put it back, or submit the script again with ckptrun sbatch\n"
    )


def test_each_task_of_an_array_is_a_chain(jobs: Jobs) -> None:
    """`%a` in the script's own lines is the task; each task goes on as itself."""
    head = HEAD.replace("--checkpoint ck", "--checkpoint ck-%a").replace("%x_%j", "%x_%A_%a")
    script = write(jobs, f"#!/bin/bash\n{head}#SBATCH --array=1-2\n{TRAIN.replace('ck', 'ck-$SLURM_ARRAY_TASK_ID')}\n")
    array = jobs.run("ckptrun", "sbatch", "--parsable", script).strip()
    jobs.until(lambda: jobs.outcomes().count("complete") == 2 or None)
    assert sorted(path.name for path in (jobs.state / "chains").iterdir()) == [f"count-{array}_{task}" for task in (1, 2)]
    assert sorted(jobs.steps()) == [1, 1, 2, 2]
    outcomes = sorted(jobs.outcomes())
    assert outcomes == ["complete"] * 2 + ["continued"] * (len(outcomes) - 2) and len(outcomes) >= 6


def test_hostile_names_arrive(jobs: Jobs) -> None:
    """Names of jobs, files and arguments with what a shell would act on: Slurm has them as they were typed, nothing is run."""
    names = ["a b", "it's; touch pwned", "$(touch pwned)", '`touch pwned` "x"', "-x", "é & *"]
    jobs.run("mkdir", "names")
    for name in names:
        jobs.run(
            "tee",
            "--",
            jobs.folder / "names" / name,
            input="#!/bin/sh\n#SBATCH --output=/dev/null\n#SBATCH --comment='a; b'\necho\n",
        )
    for name in names:
        folder = {"cwd": jobs.folder / "names"}
        named, typed = (
            jobs.lab.run(
                "ckptrun", "sbatch", "-H", "--parsable", *options, "--", name, name, env=jobs.environment, **folder
            ).strip()
            for options in ((), (f"--job-name=x{name}",))
        )
        shown = jobs.run("squeue", "-h", "-j", f"{named},{typed}", "-S", "i", "-o", "%j|%k|%o")
        first, second = shown.splitlines()
        assert first.startswith(f"{name}|a; b|/") and first.endswith(f"/job/{name} {name}")
        assert second.startswith(f"x{name}|a; b|/")
        jobs.run("scancel", named, typed)
    assert list(jobs.folder.rglob("pwned")) == []


def test_the_script_sees_what_it_would_see(jobs: Jobs) -> None:
    """Its environment is that of the same script under sbatch, but for Slurm's variables and ours; so are folder and limits."""
    script = write(jobs, "#!/bin/bash\n#SBATCH --output=%j.out --time=5\nenv -0 > $1; { pwd; umask; ulimit -a; } > $1.more\n")
    jobs.environment |= {"API_KEY": "s3cret value", "WORDS": "a\nb"}
    last = [jobs.run(*words, "--parsable", script, words[0]).strip() for words in (("sbatch",), ("ckptrun", "sbatch"))]
    for job in last:
        jobs.after(job)
    plain, ours = (
        dict(part.split("=", 1) for part in (jobs.folder / name).read_text().split("\0")[:-1]) for name in ("sbatch", "ckptrun")
    )
    own = re.compile(r"SLURM.*|CKPTRUN.*|HOSTNAME")
    assert {name: value for name, value in ours.items() if not own.fullmatch(name)} == {
        name: value for name, value in plain.items() if not own.fullmatch(name)
    }
    assert plain["API_KEY"] == "s3cret value"
    assert (jobs.folder / "sbatch.more").read_text() == (jobs.folder / "ckptrun.more").read_text()


def test_the_same_script_once_more_is_told(jobs: Jobs) -> None:
    """Without a checkpoint path nothing else tells two chains apart: the living one of the same script and words is named."""
    script = write(jobs, "#!/bin/bash\n#SBATCH --output=%j.out --time=5\npython {home}/counter.py $1 1 1000\n")
    first = jobs.run("ckptrun", "sbatch", "--parsable", script, "a").strip()
    jobs.until_event("child_started")
    other, again = (jobs.run("ckptrun", "sbatch", "--parsable", script, word).strip() for word in ("b", "a"))
    jobs.until_event("child_started", 3)
    logs = [(jobs.folder / f"{job}.out").read_text() for job in (first, other, again)]
    assert [f"chain job.sh-{first} of the same script lives" in log for log in logs] == [False, False, True]
    jobs.run("scancel", first, other, again)
    jobs.until_event("ended", 3)
    assert jobs.outcomes() == ["cancelled"] * 3
