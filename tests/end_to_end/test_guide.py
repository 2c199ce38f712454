"""The three programs of the guide, as they stand there, over links that are shorter than the training."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.harness import PROGRAMS, Ckptrun
from tests.end_to_end.programs import UNBUFFERED, each_saved_once


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


def over_asks(
    ckptrun: Ckptrun, lines: tuple[str, ...], *words: str, limit: str = "100s", margin: str = "10s"
) -> tuple[str, list[str]]:
    """Run a training that saves to `checkpoints` as a chain that is told to save and go on at each of these lines of it.

    However slow this machine is, each ask comes in mid-training. The limit is met only where it is very slow; a link of less than a
    tenth of it is followed by a pause. A training that cannot be told trains on for up to the margin. Returns what the chain
    printed, and its outcomes.
    """
    options = ("--time-limit", limit, "--margin", margin, "--checkpoint", "checkpoints")
    running = ckptrun.start(*options, "--", sys.executable, *words)
    for line in lines:
        running.until(line)
        running.send(signal.SIGUSR1)
    output = running.end(code=0)
    outcomes = ckptrun.outcomes()
    assert outcomes == ["continued"] * (len(outcomes) - 1) + ["complete"] and len(outcomes) > len(lines)
    return output, outcomes


@pytest.mark.framework(1)
def test_pytorch_epochs_each_once(ckptrun: Ckptrun) -> None:
    """It catches only INT and does not save on it: it is stopped right after a save. Each epoch that was saved is run once."""
    shutil.copy(PROGRAMS / "guide_pytorch.py", ckptrun.folder / "train.py")
    ckptrun.environment |= UNBUFFERED | {"PYTHONPATH": str(PROGRAMS / "stand_in"), "STAND_IN_SECONDS_AN_ITEM": "0.001"}
    output, _ = over_asks(ckptrun, ("Epoch 5:", "Epoch 12:"), "train.py")
    assert not each_saved_once(r"Epoch (\d+):", output, 0) and "Epoch 19:" in output


@pytest.mark.framework(2)
def test_tensorflow_epochs_each_once(ckptrun: Ckptrun) -> None:
    """The guide's Keras program, period=1 and `.ckpt` weights as they stand: each epoch that was saved is run once."""
    shutil.copy(PROGRAMS / "guide_tensorflow.py", ckptrun.folder / "train.py")
    ckptrun.environment |= UNBUFFERED | {"PYTHONPATH": str(PROGRAMS / "stand_in"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    output, outcomes = over_asks(ckptrun, ("Epoch 3: saving", "Epoch 9: saving"), "train.py", limit="50s", margin="2s")
    assert not each_saved_once(r"Epoch (\d+): saving model to", output, 1) and "Epoch 20: saving" in output
    resumed = [int(epoch) for epoch in re.findall(r"Continuing calculation from epoch step:(\d+)", output)]
    assert resumed == sorted(resumed)
    assert len(resumed) == len(outcomes) - 1


@pytest.mark.framework(2)
def test_a_training_that_saves_everything_is_bit_for_bit_the_uninterrupted_one(ckptrun: Ckptrun, tmp_path: Path) -> None:
    """Four links of a PyTorch training with model, optimizer, generators and data order: the same weights to the bit."""
    program = str(PROGRAMS / "exact_pytorch.py")
    alone = tmp_path / "alone"
    subprocess.run([sys.executable, program, str(alone), "300", "0"], check=True, capture_output=True)
    shutil.copy(program, ckptrun.folder / "train.py")
    output, outcomes = over_asks(ckptrun, ("step 100$", "step 180$", "step 260$"), "train.py", "checkpoints", "300", "0.1")
    starts = [int(step) for step in re.findall(r"from step (\d+)", output)]
    assert starts == sorted(set(starts)) and len(starts) == len(outcomes), "each start goes on where the last one stopped"
    assert (ckptrun.folder / "checkpoints.final").read_text() == (tmp_path / "alone.final").read_text()
