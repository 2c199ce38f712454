"""What `ckptrun template` writes, on a real Slurm: accepted in every variant, and run as written, as chains of jobs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ckptrun.templates.render import job_script
from tests.checkpoints.foreign import PACKAGES
from tests.end_to_end.jobs import Jobs
from tests.end_to_end.limits import TRIES, Seconds
from tests.end_to_end.programs import bubblewrap
from tests.templates.test_templates import HOSTILE
from tests.templates.variants import variants

TEMPLATES = Path(__file__).parents[2] / "slurm-templates"
# A container runtime needs images. This one has its command line and its place among the processes, and shows all files inside.
SINGULARITY = """\
#!{python}
import os, sys
assert sys.argv[1] == "exec"
words = sys.argv[2:]
while words[0].startswith("--"):
    words = words[{{"--nv": 1, "--bind": 2}}[words[0]] :]
assert words[0] == "image.sif"
os.execv({bwrap!r}, ["bwrap", "--dev-bind", "/", "/", "--chdir", os.getcwd(), *words[1:]])
"""
# As pyxis has it: srun itself takes the image, no process stands between the step's daemon and the program, which has a user and a
# mount namespace of its own.
PYXIS = """\
#!{python}
import os, sys
own, container, words = [], {{}}, sys.argv[1:]
while words[0].startswith("--"):
    word = words.pop(0)
    name, _, value = word.partition("=")
    if name.startswith("--container-"):
        container[name[12:]] = value
    else:
        own.append(word)
here = os.getcwd()
assert container == {{"image": "image.sif", "mounts": f"{{here}}:{{here}}", "workdir": here, "mount-home": ""}}, container
os.execv("/usr/bin/srun", ["srun", *own, "unshare", "--user", "--map-current-user", "--mount", *words])
"""
# What conda does of an environment: a function for the shell, which asks the program for the lines that it evaluates; a level that
# counts, so that an environment which is active already, as in the second job of a chain, is activated anew and no deeper.
CONDA = """\
#!{python}
import os, shlex, sys
command, *names = sys.argv[2:]
if command == "hook":
    print('conda() {{ local lines; lines=$("$CONDA_EXE" shell.posix "$@") || return; eval "$lines"; hash -r; }}')
    print("export CONDA_EXE=" + shlex.quote(sys.argv[0]) + "; export CONDA_SHLVL=${{CONDA_SHLVL:-0}}")
else:
    assert command == "activate", command
    prefix = os.path.join(os.path.dirname(os.path.dirname(sys.argv[0])), "envs", *names)
    assert os.path.isdir(os.path.join(prefix, "conda-meta")), f"EnvironmentNameNotFound: {{prefix}}"
    level, active = int(os.environ["CONDA_SHLVL"]), os.environ.get("CONDA_PREFIX")
    paths = [path for path in os.environ["PATH"].split(":") if path != f"{{active}}/bin"]
    facts = {{"PATH": ":".join([f"{{prefix}}/bin", *paths]), "CONDA_PREFIX": prefix}}
    facts |= {{}} if active == prefix else {{"CONDA_SHLVL": str(level + 1)}}
    print("\\n".join(f"export {{name}}={{shlex.quote(value)}}" for name, value in facts.items()))
    for script in sorted(os.listdir(f"{{prefix}}/etc/conda/activate.d")):
        print(". " + shlex.quote(f"{{prefix}}/etc/conda/activate.d/{{script}}"))
"""


def test_sbatch_accepts_every_variant(jobs: Jobs) -> None:
    """Each template, site, container, environment and array: sbatch says where it would run."""
    names = []
    for name, one in variants(partition="batch"):
        names.append(name)
        jobs.run("tee", jobs.folder / f"{name}.sh", input=job_script(one))
    each = 'for script in *.sh; do sbatch --test-only $script 2>&1 | sed "s/^/$script: /"; done'
    said = jobs.run("bash", "-c", each).splitlines()
    accepted = {line.partition(".sh: ")[0] for line in said if re.search(r": Job \d+ to start at .* in partition batch", line)}
    assert accepted == set(names), [line for line in said if line.partition(".sh: ")[0] not in accepted]


def test_hostile_values_arrive_in_a_job(jobs: Jobs) -> None:
    """Names of jobs and logs, and words, with quotes, blanks and the shell's signs: queue, log and training have them whole."""
    program = jobs.folder / "show.py"
    jobs.run("tee", program, input="import sys\nprint('WORDS', sys.argv[1:], flush=True)\n")
    names = [
        "two words",
        'it\'s;"$HOME"',
        "$(touch canary) `touch canary`",
        "a\\b # c",
        "\\",
        "'",
        '"',
        "#x",
        " a  b ",
        "é-漢",
        "-x",
    ]
    submitted = {}
    for number, name in enumerate(names):
        script = jobs.folder / f"{number}.sh"
        command = shlex.join(["python", str(program), *HOSTILE])
        settings = [
            "--set",
            f"job-name={name}",
            "--set",
            f"command={command}",
            "--set",
            f"output={number} {name};%j.out",
            "--set",
            f"checkpoint={number}",
        ]
        jobs.run("ckptrun", "template", "new", "command", *settings, "-o", script)
        held = [] if number < 3 else ["--hold"]
        submitted[jobs.submit(*held, script)] = name
    seen = jobs.run("squeue", "--me", "-h", "-t", "all", "-o", "%i|%j").splitlines()
    found = dict(line.split("|", 1) for line in seen)
    assert {job: found[job] for job in submitted} == submitted
    jobs.run("scancel", *list(submitted)[3:])
    for job, name in list(submitted.items())[:3]:
        jobs.after(job)
        log = jobs.folder / f"{names.index(name)} {name};{job}.out"
        assert f"WORDS {list(HOSTILE)!r}\n" in log.read_text()
    assert not list(jobs.folder.glob("canary"))


# --- chains

TORCHRUN = (sys.executable, "-m", "torch.distributed.run")


def finished(name: str, steps: int, *start: str, **variables: str) -> str:
    """Return the last line of a run that nobody interrupts."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*(start or (sys.executable,)), str(TEMPLATES / name / "train.py"), folder, "--steps", str(steps)]
        environment = {"PATH": "/usr/bin:/bin", "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_NUM_THREADS": "1", "HOME": folder}
        settings = {"env": environment | variables, "cwd": folder}
        done = subprocess.run(words, capture_output=True, text=True, timeout=600, **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def chain(jobs: Jobs, name: str, steps: int, limit_s: float, *settings: str, least: int = 3, **variables: str) -> Jobs:
    """Write a template, submit it as it was written, and return its chain: one that needed `least` jobs or more.

    The limit shrinks until the training needs so many jobs, and grows where jobs are too short: six of them are not enough, or they
    are asked before the framework is loaded.
    """
    outcomes: list[str] = []
    limit = Seconds(limit_s)
    for attempt in range(TRIES):
        tried = Jobs(jobs.lab, f"{jobs.folder.name}/try-{attempt}")
        given = [f"args=--steps {steps}", "time=5m", "cpus=1", "mem=4G", *settings]
        tried.run("ckptrun", "template", "new", name, *(word for one in given for word in ("--set", one)))
        own = {
            "CKPTRUN_OPTIONS": f"--time-limit {limit.now:.1f}s --max-links 6",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "OMP_NUM_THREADS": "1",
        }
        own |= variables | {"PATH": f"{jobs.folder}/bin:{tried.environment['PATH']}"}
        tried.run("sbatch", "job.sh", env=tried.environment | own)
        outcomes = tried.until_over(limit_s=400)
        if outcomes[-1] in ("stopped", "failed"):
            limit.was_too_short()
        elif len(outcomes) >= least:
            assert outcomes == ["continued"] * (len(outcomes) - 1) + ["complete"], tried.story()
            return tried
        else:
            limit.was_too_long()
    raise AssertionError(f"never {least} jobs: {outcomes} at last, and next would be a limit of {limit.now} s")


def each_further(starts: list[int]) -> bool:
    """Return whether each start but those after the last step was further on than the one before."""
    on_the_way = [step for step in starts if step < max(starts)]
    return starts == sorted(starts) and len(on_the_way) == len(set(on_the_way))


def same_end(tried: Jobs, alone: str) -> None:
    """The chain resumed, each time further on, and ended with what the uninterrupted run ended with."""
    text = tried.log()
    starts = [int(step) for step in re.findall(r"^from step (\d+)$", text, re.MULTILINE)]
    # After the last step there is no further: a job that is stopped on its way out is followed by one that begins there again.
    assert each_further(starts) and len(set(starts)) >= 2, starts
    kept = [path for path in (tried.folder / "checkpoints").iterdir() if not path.name.startswith(".")]
    assert len(kept) == 2, kept
    assert alone.startswith("done: ") and set(re.findall(r"^done: .*$", text, re.MULTILINE)) == {alone}, tried.story()


def test_pickle(jobs: Jobs) -> None:
    """Plain Python."""
    same_end(chain(jobs, "pickle", 2500, 5.0), finished("pickle", 2500))


def on_path(jobs: Jobs, name: str, text: str) -> None:
    """Put a program where the jobs of a chain find it first."""
    jobs.run("mkdir", "-p", "bin")
    jobs.run("tee", jobs.folder / "bin" / name, input=text)
    jobs.run("chmod", "755", jobs.folder / "bin" / name)


def test_pickle_in_a_container(jobs: Jobs) -> None:
    """Inside singularity, where no ckptrun is."""
    on_path(jobs, "singularity", SINGULARITY.format(python=sys.executable, bwrap=bubblewrap()))
    tried = chain(jobs, "pickle", 2500, 5.0, "container=singularity", "image=image.sif", "gpus=1")
    assert "exec ckptrun --checkpoint checkpoints \\\n    singularity exec --nv image.sif" in (tried.folder / "job.sh").read_text()
    same_end(tried, finished("pickle", 2500))


def test_pickle_under_pyxis(jobs: Jobs) -> None:
    """Below srun, which takes the container's options: the task of the step hears the ask."""
    on_path(jobs, "srun", PYXIS.format(python=sys.executable))
    tried = chain(jobs, "pickle", 2500, 5.0, "container=pyxis", "image=image.sif", least=2)
    same_end(tried, finished("pickle", 2500))


def test_pickle_in_a_conda_environment(jobs: Jobs) -> None:
    """Activated in each job anew: the environment's Python runs, its variables are there, one level deep in the second job, too."""
    on_path(jobs, "conda", CONDA.format(python=sys.executable))
    prefix = jobs.folder / "envs" / "my env"
    jobs.run("python", "-m", "venv", "--without-pip", prefix)
    jobs.run("mkdir", "-p", prefix / "conda-meta", prefix / "etc/conda/activate.d")
    jobs.run("tee", prefix / "etc/conda/activate.d/one.sh", input="export FROM_ACTIVATE=yes\n")
    told = "import os, sys\nprint('IN', sys.prefix, os.environ['CONDA_SHLVL'], os.environ['FROM_ACTIVATE'], flush=True)\n"
    (packages,) = (prefix / "lib").glob("python*/site-packages")
    jobs.run("tee", packages / "sitecustomize.py", input=told)
    tried = chain(jobs, "pickle", 2500, 5.0, "conda=my env", least=2)
    same_end(tried, finished("pickle", 2500))
    seen = re.findall(r"^IN .*$", tried.log(), re.MULTILINE)
    assert set(seen) == {f"IN {prefix} 1 yes"} and len(seen) >= 2, tried.story()


def test_pickle_in_an_array(jobs: Jobs) -> None:
    """Each task is a chain of its own, with checkpoints, logs and a result of its own."""
    limit_s = 8.0
    for attempt in range(4):
        tried = Jobs(jobs.lab, f"{jobs.folder.name}/try-{attempt}")
        given = ["args=--steps 2000", "time=5m", "array=1-2", "cpus=1", "mem=1G"]
        tried.run("ckptrun", "template", "new", "pickle", *(word for one in given for word in ("--set", one)))
        tried.run("sbatch", "job.sh", env=tried.environment | {"CKPTRUN_OPTIONS": f"--time-limit {limit_s:.1f}s --max-links 6"})
        tried.until(lambda tried=tried: len(over(tried)) == 2 or None, limit_s=400)
        if over(tried) == ["complete"] * 2:
            break
        assert {"stopped", "failed"} & {*over(tried)}, tried.story()
        limit_s *= 1.6
    assert sorted(path.name for path in (tried.folder / "checkpoints").iterdir()) == ["1", "2"]
    alone = finished("pickle", 2000)
    for task in "12":
        text = "".join(path.read_text() for path in sorted(tried.folder.glob(f"pickle_*_{task}.out")))
        starts = [int(step) for step in re.findall(r"^from step (\d+)$", text, re.MULTILINE)]
        assert each_further(starts) and starts[0] == 0, tried.story()
        assert set(re.findall(r"^done: .*$", text, re.MULTILINE)) == {alone}, tried.story()


def over(jobs: Jobs) -> list[str]:
    """Return how those chains ended that have ended for good."""
    return [outcome for outcome in jobs.outcomes() if outcome not in ("continued", "requeued")]


@pytest.mark.framework(1)
def test_pytorch(jobs: Jobs) -> None:
    """Model, optimizer, schedule, random numbers and data order: the same loss to the last digit."""
    same_end(chain(jobs, "pytorch", 2000, 11.0), finished("pytorch", 2000))


@pytest.mark.framework(1)
def test_pytorch_ddp(jobs: Jobs) -> None:
    """Two processes below torchrun, both told: they stop at the same step, and go on from it."""
    alone = finished("pytorch-ddp", 1500, *TORCHRUN, "--standalone", "--nproc-per-node=2")
    same_end(chain(jobs, "pytorch-ddp", 1500, 14.0), alone)


@pytest.mark.framework(2)
def test_keras_2(jobs: Jobs) -> None:
    """A `fit` that goes on in the middle of an epoch, with the Keras that TensorFlow 2.15 has."""
    same_end(chain(jobs, "keras", 1000, 14.0), finished("keras", 1000))


@pytest.mark.long
@pytest.mark.framework(1)
def test_pytorch_ddp_on_two_nodes(jobs: Jobs) -> None:
    """`srun ckptrun torchrun` on two nodes: each node's ckptrun hands the ask on."""
    alone = finished("pytorch-ddp", 600, *TORCHRUN, "--standalone", "--nproc-per-node=2")
    tried = chain(jobs, "pytorch-ddp", 600, 40.0, "nodes=2", "gpus=1", least=2)
    assert "srun --cpus-per-task=1 ckptrun" in (tried.folder / "job.sh").read_text()
    same_end(tried, alone)


@pytest.mark.long
@pytest.mark.framework(1)
def test_pytorch_ddp_under_pyxis(jobs: Jobs) -> None:
    """srun starts a process for each GPU, in the container, where no torchrun and no ckptrun is."""
    on_path(jobs, "srun", PYXIS.format(python=sys.executable))
    alone = finished("pytorch-ddp", 600, *TORCHRUN, "--standalone", "--nproc-per-node=2")
    tried = chain(jobs, "pytorch-ddp", 600, 20.0, "container=pyxis", "image=image.sif", least=2)
    assert "#SBATCH --ntasks-per-node=2\n" in (tried.folder / "job.sh").read_text()
    same_end(tried, alone)


@pytest.mark.long
@pytest.mark.framework(2)
@pytest.mark.parametrize(
    ("name", "packages", "steps"),
    [("keras", ("tensorflow-cpu==2.21.0",), 1000), ("jax", ("jax==0.10.2", "orbax-checkpoint==0.12.8"), 3000)],
    ids=["keras-3", "jax-orbax"],
)
def test_in_an_environment_of_its_own(jobs: Jobs, name: str, packages: tuple[str, ...], steps: int) -> None:
    """Frameworks that cannot stand beside those of the other tests: in a virtual environment, as the template calls it."""
    environment = jobs.folder / "an environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    subprocess.run([environment / "bin" / "pip", "install", "--quiet", *packages], check=True)
    alone = finished(name, steps, str(environment / "bin" / "python"))
    same_end(chain(jobs, name, steps, 14.0, f"venv={environment}"), alone)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.framework(2)
@pytest.mark.parametrize(("name", "steps"), [("lightning", 1200), ("huggingface", 500)])
def test_programs_with_a_callback_of_ours(jobs: Jobs, name: str, steps: int) -> None:
    """Lightning and Hugging Face's Trainer, installed into a folder of their own: the same weights after three jobs and more."""
    packages = jobs.folder / "packages"
    for words in PACKAGES["transformers" if name == "huggingface" else name]:
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", packages, *words], check=True)
    alone = finished(name, steps, PYTHONPATH=f"{packages}:{TEMPLATES.parent}")
    same_end(chain(jobs, name, steps, 25.0, PYTHONPATH=str(packages)), alone)
