"""The adapters of frameworks that are too large for every run: installed into folders of their own, and run."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.checkpoints.foreign import PACKAGES
from tests.end_to_end.harness import PROGRAMS, Ckptrun

ROOT = Path(__file__).parent.parent.parent


# Releases beside the newest of tests/checkpoints/foreign.py: the oldest that can be resumed exactly, and old names and majors.
BESIDE = ("lightning-utilities", "torchmetrics", "tqdm", "setuptools==75.8.0")
OLDER = {
    "lightning 2.2": (("--no-deps", "lightning==2.2.5", *BESIDE),),
    "lightning 2.4": (("--no-deps", "pytorch-lightning==2.4.0", *BESIDE),),
    "lightning 2.1": (("--no-deps", "pytorch-lightning==2.1.4", *BESIDE),),
    "transformers 5.24": (("transformers==5.24.0",), ("--no-deps", "accelerate==1.15.0")),
    "transformers 4.57": (("transformers==4.57.6", "numpy<2"), ("--no-deps", "accelerate==1.15.0")),
    "transformers 4.41": (("transformers==4.41.2", "numpy<2"), ("--no-deps", "accelerate==0.30.1")),
}


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Return a function that installs a framework, once, and returns its folder."""

    @functools.cache
    def install(name: str) -> str:
        folder = str(tmp_path_factory.mktemp(name.replace(" ", "-")))
        for words in OLDER[name] if name in OLDER else PACKAGES[name]:
            subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", folder, *words], check=True)
        return folder

    return install


def run_cases(module: str, folder: Path, packages: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the cases of one module; what it found stands behind the word CASES."""
    environment = {**os.environ, "PYTHONPATH": f"{packages}:{ROOT}", "USE_TF": "0", **variables}
    command = [sys.executable, "-m", f"tests.training.{module}", str(folder)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def cases(module: str, folder: Path, packages: str, **variables: str) -> dict[str, bool]:
    """Return which cases of one module are the same, to the bit, as without an interruption."""
    done = run_cases(module, folder, packages, **variables)
    assert done.returncode == 0, done.stderr
    found: dict[str, bool] = json.loads(done.stdout.rpartition("CASES")[2])
    return found


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_lightning(packages: Callable[[str], str], tmp_path: Path) -> None:
    """With ResumableLoader the place in the epoch and the random states are restored, without it they are not.

    In a job neither SIGTERM nor SIGUSR1 is caught: Lightning's own requeue is off.
    """
    found = cases("lightning_cases", tmp_path, packages("lightning"))
    assert found == {"resumable": True, "without ResumableLoader": False, "handlers": True}


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("release", "name"),
    [
        ("lightning", "lightning.pytorch"),
        ("lightning", "pytorch_lightning"),
        ("lightning 2.2", "lightning.pytorch"),
        ("lightning 2.4", "pytorch_lightning"),
    ],
)
def test_what_lightning_can_do(packages: Callable[[str], str], tmp_path: Path, release: str, name: str) -> None:
    """All of it resumes to the bit, and does everything once; only what the loader's workers draw is drawn anew."""
    found = cases("lightning_features", tmp_path, packages(release), CKPTRUN_TEST_LIGHTNING=name)
    assert found.pop("augmented in workers") is False
    assert set(found.values()) == {True} and len(found) == 12, found


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_lightning_too_old(packages: Callable[[str], str], tmp_path: Path) -> None:
    """Refused when the program starts, in one sentence: it would lose the place in the data at each resume."""
    name = "pytorch_lightning"
    done = run_cases("lightning_features", tmp_path, packages("lightning 2.1"), CKPTRUN_TEST_LIGHTNING=name)
    assert done.stderr.endswith("ImportError: Lightning 2.1.4 cannot restore the place in the data: 2.2 or newer is needed\n")


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_transformers_too_old(packages: Callable[[str], str], tmp_path: Path) -> None:
    """Refused when the callback is made, in one sentence."""
    done = run_cases("huggingface_features", tmp_path, packages("transformers 4.41"))
    assert "ImportError: transformers 4.41.2 is too old for this callback: 4.57 was tried, and is new enough" in done.stderr


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_trouble_around_lightnings_save(packages: Callable[[str], str], tmp_path: Path) -> None:
    """Kills, a full disk, writers of folders and of threads, several trainings in one program."""
    found = cases("lightning_trouble", tmp_path, packages("lightning"))
    assert set(found.values()) == {True} and len(found) == 7, found


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_trouble_around_the_trainers_save(packages: Callable[[str], str], tmp_path: Path) -> None:
    """Half-written folders, a full disk, two Trainers in one program, asks where it saves, evaluates or ends anyway."""
    found = cases("huggingface_trouble", tmp_path, packages("transformers"))
    assert set(found.values()) == {True} and len(found) == 6, found


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_hugging_face(packages: Callable[[str], str], tmp_path: Path) -> None:
    """Model, optimizer, scheduler, random states and the place in the epoch, as the Trainer saves and restores them.

    It reads a batch ahead of the step: what a batch draws when it is read has been drawn before the states are saved.
    """
    found = cases("huggingface_cases", tmp_path, packages("transformers"))
    assert found == {"plain": True, "augmented": False}


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("release", ["transformers", "transformers 5.24", "transformers 4.57"])
def test_what_the_trainer_can_do(packages: Callable[[str], str], tmp_path: Path, release: str) -> None:
    """All of it resumes to the bit, and evaluates once, but what the Trainer itself draws anew: groups by length, augmentations."""
    found = cases("huggingface_features", tmp_path, packages(release))
    anew = {"grouped", "augmented", "augmented in workers"} | ({"no length"} if release == "transformers 4.57" else set())
    assert {name for name, same in found.items() if not same} == anew and len(found) == 10, found


# Lightning starts its second process by itself; the Trainer is started by torchrun.
STARTS = {
    "lightning": (sys.executable,),
    "transformers": (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"),
}


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "program"), [("lightning", "lightning_ranks.py"), ("transformers", "huggingface_ranks.py")], ids=STARTS
)
def test_a_chain_of_two_ranks(ckptrun: Ckptrun, packages: Callable[[str], str], name: str, program: str) -> None:
    """Asked twice: both ranks stop at one step, with one checkpoint, and end with the weights of an uninterrupted run, to the bit.

    Each rank drops out others.
    """
    own = {"PYTHONPATH": f"{packages(name)}:{ROOT}", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    ckptrun.environment = {**ckptrun.environment, **own, "CKPTRUN_HOME": str(ckptrun.home)}
    command = [*STARTS[name], str(PROGRAMS / program)]
    subprocess.run([*command, "alone", "60", "0"], cwd=ckptrun.folder, env={**os.environ, **own}, check=True)
    running = ckptrun.start("--time-limit", "280s", "--checkpoint", "ck", "--", *command, "ck", "60", "0.2")
    for first in ("0", "[1-9]"):
        for _ in range(2):
            running.until(rf"^rank \d from step {first}")
        running.send(signal.SIGUSR1)
        for _ in range(2):
            running.until(r"stopped at step")
    output = running.end(code=0)
    assert ckptrun.outcomes() == ["continued", "continued", "complete"], output
    stops = re.findall(r"^rank (\d) stopped at step (\d+)$", output, re.MULTILINE)
    assert sorted(rank for rank, _ in stops) == ["0", "0", "1", "1"]
    assert [stops[0][1], stops[2][1]] == [stops[1][1], stops[3][1]] and int(stops[0][1]) < int(stops[2][1]) < 60, stops
    assert len([path for path in (ckptrun.folder / "ck").iterdir() if re.search(r"-\d+", path.name)]) == 2
    assert (ckptrun.folder / "ck.final").read_text() == (ckptrun.folder / "alone.final").read_text()


FOUR = {
    "lightning": (
        [sys.executable, str(PROGRAMS / "lightning_ranks.py")],
        ["4", "ddp_find_unused_parameters_true", "6"],
    ),
    "transformers": (
        [*STARTS["transformers"][:-1], "4", str(PROGRAMS / "huggingface_ranks.py")],
        ["--every", "6", "--unused"],
    ),
}


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", FOUR)
def test_four_ranks(packages: Callable[[str], str], tmp_path: Path, name: str) -> None:
    """With find_unused_parameters DDP adds in one order, and four ranks resume to the bit."""
    environment = {**os.environ, "PYTHONPATH": f"{packages(name)}:{ROOT}", "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command, words = FOUR[name]

    def train(folder: str, steps: int) -> str:
        whole_command = [*command, folder, str(steps), "0", *words]
        done = subprocess.run(whole_command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return (tmp_path / f"{folder}.final").read_text()

    whole = train("whole", 12)
    train("parts", 7)
    assert train("parts", 12) == whole


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_lightning_on_other_ranks_than_before(packages: Callable[[str], str], tmp_path: Path) -> None:
    """Two, then one: the model goes on, and what begins anew is said once."""
    environment = {**os.environ, "PYTHONPATH": f"{packages('lightning')}:{ROOT}", "GLOO_SOCKET_IFNAME": "lo"}
    for ranks, steps in (("2", "5"), ("1", "9")):
        command = [sys.executable, str(PROGRAMS / "lightning_ranks.py"), "ck", steps, "0", ranks, "ddp", "4"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "rank 0 from step 4" in done.stdout
    assert done.stderr.count("saved by 2 ranks and read by 1: random states and the place in the epoch begin anew") == 1
