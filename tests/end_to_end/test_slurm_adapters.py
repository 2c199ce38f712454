"""The guide's programs with the changes that the manual shows, and ranks on two nodes, as chains of jobs on a real Slurm.

Each program of the guide ends with the same weights, to the bit, as without an interruption.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

from ckptrun import mailbox
from tests.checkpoints.foreign import PACKAGES
from tests.end_to_end.harness import PROGRAMS
from tests.end_to_end.jobs import Jobs
from tests.end_to_end.test_slurm_guide import over_asks
from tests.patches import patched

ROOT = Path(__file__).parent.parent.parent
STAND_IN = f"{PROGRAMS}/stand_in"
FOUR_ON_TWO_NODES = ("--nodes=2", "--ntasks=4", "--ntasks-per-node=2", "--mem=4000")
WHERE_RANKS_MEET = "MASTER_ADDR=127.0.0.1 GLOO_SOCKET_IFNAME=lo OMP_NUM_THREADS=1 MASTER_PORT=$((20000 + SLURM_JOB_ID % 9000))"


def provide(jobs: Jobs, name: str) -> Path:
    """Put the guide's program, changed as the manual says, where all jobs find it; return its path."""
    path = jobs.lab.home / f"adapted_{name}"
    jobs.run("tee", path, input=patched(name))
    return path


def uninterrupted(program: Path, folder: Path, **variables: str) -> str:
    """Run a program to its end, outside Slurm and ckptrun; return what it printed."""
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": f"{STAND_IN}:{ROOT}", "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run([sys.executable, program], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def newest(folder: Path) -> Path:
    """Return the newest checkpoint of a folder."""
    return max((folder / "checkpoints").iterdir())


def test_pickle(jobs: Jobs) -> None:
    """Each number once over three jobs; it is asked by file, not by INT, and ends with 0 after its save."""
    program = provide(jobs, "guide_pickle.py")
    options = "--time-limit 26s --margin 18s --checkpoint checkpoint.pkl --max-links 3"
    jobs.submit(jobs.script(f"exec ckptrun {options} python {program}"))
    assert jobs.until_over() == ["continued", "continued", "stopped"]
    numbers = [int(number) for number in re.findall(r"Current counter value: (\d+)", jobs.log())]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) >= 3
    assert all(event["by_file"] and not event["delivered"] for event in jobs.events("asked"))
    assert "Checkpoint saved. Exiting" not in jobs.log()


def states(path: Path) -> list[Any]:
    """Return what a checkpoint of the PyTorch adapter holds."""
    found = torch.load(path, weights_only=True)
    model, optimizer = (found["parts"][name] for name in ("model", "optimizer"))
    moments = [value.tolist() for state in optimizer["state"].values() for value in state.values()]
    return [found["step"], *(tensor.tolist() for tensor in model.values()), *moments]


@pytest.mark.framework(1)
def test_pytorch(jobs: Jobs, tmp_path: Path) -> None:
    """Stopped at steps in the middle of epochs: weights and optimizer are the same, and each epoch is told once."""
    program = provide(jobs, "guide_pytorch.py")
    alone = uninterrupted(program, tmp_path, STAND_IN_SECONDS_AN_ITEM="0")
    before = f"export PYTHONPATH={STAND_IN} STAND_IN_SECONDS_AN_ITEM=0.001 OMP_NUM_THREADS=1\n"
    found = over_asks(jobs, (5 * 29, 11 * 29), f"python {program}", before)  # an epoch has 29 batches
    losses = re.findall(r"^Epoch \d+: Loss .*$", found.log(), re.MULTILINE)
    assert losses == alone.splitlines() and len(losses) == 20
    assert states(newest(found.folder)) == states(newest(tmp_path))


@pytest.mark.framework(2)
def test_tensorflow(jobs: Jobs, tmp_path: Path) -> None:
    """Keras 2, stopped at batches in the middle of epochs: weights and optimizer are the same."""
    program = provide(jobs, "guide_tensorflow.py")
    exact = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "TF_NUM_INTRAOP_THREADS": "1"}
    uninterrupted(program, tmp_path, **exact)
    before = f"export PYTHONPATH={STAND_IN} OMP_NUM_THREADS=1 {' '.join(f'{name}={value}' for name, value in exact.items())}\n"
    found = over_asks(jobs, (5 * 57, 11 * 57), f"python {program}", before)  # an epoch has 57 batches
    with numpy.load(newest(found.folder)) as one, numpy.load(newest(tmp_path)) as other:
        assert sorted(one) == sorted(other) and len(list(one)) > 8
        assert all(numpy.array_equal(one[name], other[name]) for name in one if name.startswith("variable"))


@pytest.mark.long
@pytest.mark.framework(1)
@pytest.mark.parametrize("kind", ["--fixed-buckets", "--sharded"])
def test_four_ranks_on_two_nodes(jobs: Jobs, kind: str) -> None:
    """`srun` with two tasks on each of two nodes: all four stop at one step, with one checkpoint, and go on from it.

    They end with the weights of a job of the same shape that nobody interrupts, to the bit.
    """
    program = f"{PROGRAMS}/exact_ranks.py"
    before = f"export {WHERE_RANKS_MEET}\n"
    line = f"exec srun python {program} alone 100 0 {kind}"
    alone = jobs.script(line, *FOUR_ON_TWO_NODES, "--output=alone.txt", name="alone.sh", before=before)
    jobs.after(jobs.submit(alone))
    command = f"exec ckptrun --checkpoint checkpoints --time-limit 60s srun python {program} checkpoints 100 0.1 {kind}"
    jobs.submit(jobs.script(command, *FOUR_ON_TWO_NODES, before=before))
    for link in (1, 2):
        jobs.until_line(r"^rank 0 trains$" if link == 1 else r"^rank 0 from step [1-9]", limit_s=280)
        jobs.run("scancel", "-b", "-s", "USR1", jobs.jobs()[link - 1])
        jobs.until_event("started", link + 1, limit_s=280)
    outcomes = jobs.until_over(limit_s=400)
    assert outcomes == ["continued"] * (len(outcomes) - 1) + ["complete"], jobs.story()
    stops = re.findall(r"^rank (\d) stopped at step (\d+)$", jobs.log(), re.MULTILINE)
    assert len(stops) >= 8 and len(stops) % 4 == 0, jobs.story()
    for place in range(0, len(stops), 4):
        four = stops[place : place + 4]
        assert {rank for rank, _ in four} == set("0123") and len({step for _, step in four}) == 1, four
        assert jobs.log().count(f"from step {four[0][1]}\n") == 4
    assert (jobs.folder / "checkpoints.final").read_text() == (jobs.folder / "alone.final").read_text()


@pytest.mark.long
@pytest.mark.framework(1)
def test_one_of_four_ranks_on_two_nodes_is_asked_first_and_another_is_slow(jobs: Jobs) -> None:
    """The last rank, on the second node, hears while the first one is three seconds in one step; two are never asked themselves.

    An ask to save and go on leads to one save, and all go on. One to stop stops all four at one step, with one checkpoint, from
    which all four go on.
    """
    for rank in range(4):
        jobs.run("mkdir", "-p", f"asks/{rank}")
    inside = "CKPTRUN=1 CKPTRUN_LINK=1 CKPTRUN_ATTEMPT=1 CKPTRUN_MAILBOX=replaced"

    def train(name: str, *words: str) -> str:
        line = f"exec srun python {PROGRAMS}/exact_ranks.py checkpoints {' '.join(words)}"
        return jobs.submit(jobs.script(line, *FOUR_ON_TWO_NODES, name=name, before=f"export {WHERE_RANKS_MEET} {inside}\n"))

    def ask(rank: int, *, stop: bool) -> int:
        call = f"ckptrun.mailbox.ask('asks/{rank}', 1, 1, stop={stop}, reason='a test').serial"
        return int(jobs.run(sys.executable, "-c", f"import ckptrun.mailbox; print({call})"))

    def until_heard(rank: int, serial: int) -> None:
        folder = str(jobs.folder / f"asks/{rank}")
        jobs.until(lambda: any(word.heard >= serial for word in mailbox.words(folder, 1, 1)) or None)

    first = train("first.sh", "2000", "0.05", "--mailboxes", "asks", "--slow", "0", "8", "3")
    for rank in range(4):
        jobs.until_line(rf"^rank {rank} trains$")
    until_heard(3, ask(3, stop=False))
    saved = jobs.until(lambda: list((jobs.folder / "checkpoints").glob("step-*.pt")) or None)
    assert len(saved) == 1
    ask(0, stop=False)  # the same save, asked for later: by its number it is answered already
    until_heard(3, ask(3, stop=True))
    ask(0, stop=True)
    jobs.after(first)
    stops = re.findall(r"^rank (\d) stopped at step (\d+)$", jobs.log(), re.MULTILINE)
    (step,) = {step for _, step in stops}
    assert sorted(rank for rank, _ in stops) == list("0123"), jobs.log()
    names = sorted(path.name for path in (jobs.folder / "checkpoints").iterdir())
    assert names == [saved[0].name, f"step-{int(step):07d}.pt"]
    jobs.run("rm", "-r", "asks")
    jobs.after(train("second.sh", str(int(step) + 5), "0"))
    assert jobs.log().count(f"from step {step}\n") == 4 and jobs.log().count("is done\n") == 4


PAGES = {
    "pytorch.md": ("", "from step 0"),
    "keras.md": ("", "after batch 100"),
    "lightning.md": ("lightning", "after step 100"),
    "hugging-face.md": ("transformers", "after step 40"),
}


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.framework(1)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_followed_to_the_letter(jobs: Jobs, page: str) -> None:
    """Its program as train.py in a fresh folder, its line as the last one of a job script: one job, which says that it is done."""
    framework, said = PAGES[page]
    text = (ROOT / "docs" / "how-to" / page).read_text()
    program = re.search(r"```python file=train.py\n(.*?)```", text, re.DOTALL)
    line = re.search(r"^    (exec ckptrun .* python train.py)$", text, re.MULTILINE)
    assert program is not None and line is not None
    packages = jobs.folder / "packages"
    for words in PACKAGES[framework] if framework else ():
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", packages, *words], check=True)
    jobs.run("tee", jobs.folder / "train.py", input=program[1])
    jobs.submit(jobs.script(line[1], "--mem=4000", before=f"export PYTHONPATH={packages}\n"))
    assert jobs.until_over(limit_s=400) == ["complete"], jobs.story()
    assert said in jobs.log() and jobs.events("ended")[-1]["reason"] == "the training said that it is done"
    assert [path for path in (jobs.folder / "checkpoints").iterdir() if re.search(r"-\d+", path.name)]


def test_save_now_behind_relays(jobs: Jobs) -> None:
    """`chain save` in a job whose tasks have relays above them: saved, nobody is stopped, and a later ask to stop is heard."""
    jobs.provide(PROGRAMS / "api_counter.py")
    command = f"srun ckptrun python {jobs.lab.home}/api_counter.py ck 150 0.15"
    jobs.submit(jobs.script(f"exec ckptrun --checkpoint ck --time-limit 60s --margin 41s {command}"))
    jobs.until_line(r"^step 3$")
    said = jobs.run("ckptrun", "chain", "save")
    assert re.match(r"saved .*/ck/step-\d+\.json, .* after the ask; the training goes on$", said)
    outcomes = jobs.until_over()
    assert outcomes[-1] == "complete" and set(outcomes[:-1]) == {"continued"}, jobs.story()
    assert jobs.steps() == list(range(1, 151))
    assert len(outcomes) - 1 <= len(jobs.events("asked")) <= len(outcomes)
