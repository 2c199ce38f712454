"""The three programs of the guide, as they stand there, over links that are shorter than the training."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.harness import PROGRAMS, Ckptrun
from tests.end_to_end.limits import TRIES, Seconds
from tests.end_to_end.programs import each_saved_once

# The programs do not flush what they print, and a signal that they do not catch ends them with it.
UNBUFFERED = {"PYTHONUNBUFFERED": "1"}


def counted(text: str) -> list[int]:
    """Return the counter values that the pickle program printed."""
    return [int(number) for number in re.findall(r"Current counter value: (\d+)", text)]


def test_pickle_counter_counts_each_number_once(ckptrun: Ckptrun) -> None:
    """Three links: it catches only INT, saves on it, and goes on at the next number. None skipped, none repeated.

    In eleven seconds one save of its own fits, after five of them, and no second: as many are left for the save that is asked for.
    """
    shutil.copy(PROGRAMS / "guide_pickle.py", ckptrun.folder)
    done = ckptrun.run(
        *(
            "--time-limit",
            "11s",
            "--checkpoint",
            "checkpoint.pkl",
            "--max-links",
            "3",
            sys.executable,
            "guide_pickle.py",
        ),
        code=75,
    )
    numbers = counted(done.stdout)
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 3
    assert ckptrun.outcomes() == ["continued", "continued", "stopped"]
    assert done.stdout.count("Checkpoint saved") == 3


def over_links(ckptrun: Ckptrun, least: int, limit_s: float, *words: str) -> tuple[str, list[str]]:
    """Run a training that saves to `checkpoints` until a chain of it had at least so many links; return its output and outcomes.

    The limit shrinks until the training needs so many links, and grows where a link is too short to save in, or twice as many of
    them do not suffice. Each try is a chain of its own that starts fresh.
    """
    outcomes: list[str] = []
    limit = Seconds(limit_s)
    most = 2 * least + 1
    for attempt in range(TRIES):
        options = ("--chain", f"try-{attempt}", "--fresh", "--time-limit", f"{limit.now:.1f}s", "--checkpoint", "checkpoints")
        done = ckptrun.run(*options, "--max-links", str(most), sys.executable, *words)
        outcomes = [link["outcome"] for link in ckptrun.show(f"try-{attempt}")["links"]]
        # A link that holds an epoch or two is too short, too: nobody waits for twenty of them.
        if done.returncode == 75 and ("without progress" in done.stderr or f"--max-links is {most}" in done.stderr):
            limit.was_too_short(by=2.5)
            continue
        assert done.returncode == 0, done.stderr
        if len(outcomes) >= least:
            return f"{done.stderr}\n{done.stdout}", outcomes
        limit.was_too_long()
    raise AssertionError(f"never {least} links: {outcomes} at last, and next would be a limit of {limit.now} s")


@pytest.mark.framework(1)
def test_pytorch_epochs_each_once(ckptrun: Ckptrun) -> None:
    """It catches only INT and does not save on it: it is stopped right after a save. Each epoch that was saved is run once."""
    shutil.copy(PROGRAMS / "guide_pytorch.py", ckptrun.folder / "train.py")
    ckptrun.environment |= UNBUFFERED | {"PYTHONPATH": str(PROGRAMS / "stand_in"), "STAND_IN_SECONDS_AN_ITEM": "0.0005"}
    output, outcomes = over_links(ckptrun, 3, 16.0, "train.py")
    assert not each_saved_once(r"Epoch (\d+):", output, 0) and "Epoch 19:" in output
    assert outcomes == ["continued"] * (len(outcomes) - 1) + ["complete"]


@pytest.mark.framework(2)
def test_tensorflow_epochs_each_once(ckptrun: Ckptrun) -> None:
    """The guide's Keras program, period=1 and `.ckpt` weights as they stand: each epoch that was saved is run once."""
    shutil.copy(PROGRAMS / "guide_tensorflow.py", ckptrun.folder / "train.py")
    ckptrun.environment |= UNBUFFERED | {"PYTHONPATH": str(PROGRAMS / "stand_in"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    output, outcomes = over_links(ckptrun, 3, 18.0, "train.py")
    assert not each_saved_once(r"Epoch (\d+): saving model to", output, 1) and "Epoch 20: saving" in output
    resumed = [int(epoch) for epoch in re.findall(r"Continuing calculation from epoch step:(\d+)", output)]
    assert resumed == sorted(resumed)
    assert 2 <= len(resumed) <= len(outcomes) - 1, "a link that is over before its framework is loaded says nothing"


@pytest.mark.framework(2)
def test_a_training_that_saves_everything_is_bit_for_bit_the_uninterrupted_one(ckptrun: Ckptrun, tmp_path: Path) -> None:
    """Four links of a PyTorch training with model, optimizer, generators and data order: the same weights to the bit."""
    program = str(PROGRAMS / "exact_pytorch.py")
    alone = tmp_path / "alone"
    subprocess.run([sys.executable, program, str(alone), "300", "0"], check=True, capture_output=True)
    shutil.copy(program, ckptrun.folder / "train.py")
    output, outcomes = over_links(ckptrun, 4, 10.0, "train.py", "checkpoints", "300", "0.06")
    starts = [int(step) for step in re.findall(r"from step (\d+)", output)]
    # One that is stopped on its way out is followed by one that has nothing left.
    on_the_way = [step for step in starts if step < 300]
    assert starts == sorted(starts) and on_the_way == sorted(set(on_the_way)), "each start goes on where the last one stopped"
    assert 3 <= len(starts) <= len(outcomes), "a link that is over before its framework is loaded says nothing"
    assert (ckptrun.folder / "checkpoints.final").read_text() == (tmp_path / "alone.final").read_text()
