"""The Keras adapter: stopped at batches everywhere, it ends as an uninterrupted training does, with Keras 2 and 3."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
# What each Keras is given, with each of its backends.
EVERYWHERE = (
    *("arrays*", "dropout, scaled*", "sequence", "sequence that draws", "augmented", "not built", "recurrent", "two inputs"),
    *("list of inputs", "split", "steps of arrays", "several at a time", "bfloat16"),
    *(
        "another model",
        "refusals",
        "as a callback",
        "asked in a validation",
        "remembered",
        "own state",
        "nothing left",
        "another folder",
    ),
)
WITH_TENSORFLOW = (
    *("dataset*", "not built, dataset", "gan", "gan, arrays", "tensors", "endless", "compiled"),
    "endless without steps",
)


def environment_with(packages: str = "", **variables: str) -> dict[str, str]:
    """Return the environment of a process with packages of its own."""
    return {**os.environ, "PYTHONPATH": f"{packages}:{ROOT}", "OMP_NUM_THREADS": "1", **variables}


def cases(folder: Path, *words: str, packages: str = "", **variables: str) -> dict[str, bool]:
    """Run the cases in a process of their own, TensorFlow being as large as it is; return which were as they should."""
    command = [sys.executable, "-m", "tests.training.keras_cases", str(folder), *words]
    environment = environment_with(packages, **variables)
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, bool] = json.loads(done.stdout.rpartition("CASES")[2])
    assert len(found) == len(words)
    return found


def wrong(found: dict[str, bool]) -> list[str]:
    """Return the cases that were not as they should."""
    return [case for case, right in found.items() if not right]


@pytest.fixture(scope="session")
def keras_3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Install TensorFlow 2.21 with its Keras 3, Keras 2 as `tf_keras`, and JAX into a folder of their own; PyTorch is there."""
    packages = str(tmp_path_factory.mktemp("keras-3"))
    wanted = ("tensorflow-cpu==2.21.0", "jax==0.10.2")
    for words in (wanted, ("--no-deps", "tf_keras==2.21.0")):
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", packages, *words], check=True)
    yield packages
    subprocess.run(["rm", "-rf", packages], check=True)  # a gigabyte


@pytest.mark.framework(2)
def test_keras_2(tmp_path: Path) -> None:
    """Weights, optimizer, layers' states, random states, and the place in the epoch: to the bit.

    The order of arrays is the adapter's, that of a dataset its own; dropout is restored with TensorFlow's generators. What cannot
    be resumed is refused before anything is trained.
    """
    assert not wrong(cases(tmp_path, "dataset", "dropout, scaled*", "another model", "as a callback", "refusals", "another folder"))


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_keras_2_in_full(tmp_path: Path) -> None:
    """All of it; the dropout that Keras 2 has by default keeps a state that nobody can read: it is not restored."""
    found = cases(tmp_path, "-dropout", *EVERYWHERE, *WITH_TENSORFLOW, "legacy optimizer")
    assert not found.pop("dropout"), "it is restored now: say so in the table"
    assert not wrong(found)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_keras_3(tmp_path: Path, keras_3: str) -> None:
    """TensorFlow 2.21 with its Keras 3: all of it, dropout without any switch."""
    assert not wrong(cases(tmp_path, *EVERYWHERE, *WITH_TENSORFLOW, packages=keras_3))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_keras_2_beside_keras_3(tmp_path: Path, keras_3: str) -> None:
    """`tf_keras`, chosen as it is for `tf.keras`."""
    assert not wrong(cases(tmp_path, "arrays", "dropout, scaled", packages=keras_3, TF_USE_LEGACY_KERAS="1"))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends(tmp_path: Path, keras_3: str, backend: str) -> None:
    """Keras 3 on JAX and on PyTorch, where TensorFlow is loaded, too, because Keras does so for a seed."""
    # With PyTorch Keras itself trains no stateful layers, and one batch at a time; and a validation draws from what dropout draws
    # from: it is restored where the stop was not in one.
    left_out = ("recurrent", "several at a time", "dropout, scaled*")
    words = [*EVERYWHERE] if backend == "jax" else [*(set(EVERYWHERE) - set(left_out)), "dropout*", "dropout, scaled"]
    assert not wrong(cases(tmp_path, *words, packages=keras_3, KERAS_BACKEND=backend))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("version", [2, 3])
def test_two_devices(tmp_path: Path, version: int, request: pytest.FixtureRequest) -> None:
    """A MirroredStrategy: what each device has for itself (averages of a BatchNormalization, dropout) is its own after a resume."""
    packages = request.getfixturevalue("keras_3") if version == 3 else ""
    for word in ("dropout", "sequence", "dataset", "not built"):  # TensorFlow's collectives know one model in a process
        assert not wrong(cases(tmp_path, word, packages=packages, KERAS_CASES_DEVICES="2"))


def two_workers(folder: Path, asked: int, packages: str = "") -> list[tuple[int, str]]:
    """Run both workers to their end; return the status of each, and what it said."""
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("localhost", 0))
    hosts = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    command = [sys.executable, "-m", "tests.training.keras_workers", str(folder), str(asked)]
    clusters = [json.dumps({"cluster": {"worker": hosts}, "task": {"type": "worker", "index": number}}) for number in range(2)]
    environments = [environment_with(packages, TF_CONFIG=one) for one in clusters]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    workers = [subprocess.Popen(command, env=one, **pipes) for one in environments]  # type: ignore[call-overload]
    said = [worker.communicate()[0] for worker in workers]
    return [(worker.returncode, text) for worker, text in zip(workers, said, strict=True)]


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_two_workers(tmp_path: Path) -> None:
    """A MultiWorkerMirroredStrategy of Keras 2: one hears the ask, both stop at one batch, one writes, both resume to the bit.

    Each has random numbers of its own.
    """

    def run(name: str, asked: int) -> list[dict[str, object]]:
        found = two_workers(tmp_path / name, asked)
        assert [status for status, _ in found] == [0, 0], found
        return [json.loads(text.rpartition("WORKER")[2]) for _, text in found]

    expected = run("whole", -1)
    stopped = run("parts", 1)
    assert all(one["stopped"] for one in stopped) and stopped[0]["steps"] == stopped[1]["steps"] != 128
    assert (tmp_path / "parts" / f"step-{stopped[0]['steps']:07d}.npz").exists() and stopped[0]["wrote"] and not stopped[1]["wrote"]
    resumed = run("parts", -1)
    same = ("steps", "digest", "drawn")
    assert [[one[fact] for fact in same] for one in resumed] == [[one[fact] for fact in same] for one in expected]
    assert expected[0]["drawn"] != expected[1]["drawn"] and expected[0]["digest"] == expected[1]["digest"]


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_two_workers_of_keras_3(tmp_path: Path, keras_3: str) -> None:
    """Keras 3 itself cannot train on two workers, which its own `fit` shows: that is said in one sentence, and nobody hangs."""
    for status, said in two_workers(Path("-"), -1, keras_3):
        assert status == 1 and "PerReplica" in said, said
    for status, said in two_workers(tmp_path / "three", -1, keras_3):
        assert status == 1 and "MultiWorkerMirroredStrategy with Keras 2 alone" in said.splitlines()[-1], said
