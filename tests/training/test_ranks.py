"""The PyTorch adapter on several ranks: one decision, one step, one checkpoint, whoever is asked first and whoever is slow."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ckptrun import mailbox
from ckptrun.words import Verdict
from tests.checkpoints.cases import look
from tests.cluster import watch
from tests.end_to_end.harness import PROGRAMS, Ckptrun, Running

ROOT = Path(__file__).parent.parent.parent
PROGRAM = str(PROGRAMS / "exact_ranks.py")
FORKED = str(PROGRAMS / "forked_ranks.py")


def torchrun(*words: str, ranks: int = 2) -> list[str]:
    """Return the command line of a training on so many ranks."""
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), PROGRAM, *words]


def spawned(*words: str) -> list[str]:
    """Return the command line of a training that starts its two ranks itself."""
    return [sys.executable, str(PROGRAMS / "spawned_ranks.py"), *words]


def environment(**more: str) -> dict[str, str]:
    """Return an environment in which the ranks find ckptrun, are on this machine alone, and take a core each."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"} | more


def stops(output: str) -> list[tuple[str, str]]:
    """Return which ranks have stopped at which steps, in order."""
    return re.findall(r"^rank (\d) stopped at step (\d+)$", output, re.MULTILINE)


@pytest.mark.parametrize(
    ("command", "words", "form"),
    [
        pytest.param(torchrun, (), "pytorch", marks=pytest.mark.framework(1), id="ddp"),
        pytest.param(torchrun, ("--sharded",), "distributed", marks=pytest.mark.framework(2), id="fsdp"),
        pytest.param(spawned, (), "pytorch", marks=[pytest.mark.framework(1), pytest.mark.long], id="ddp, spawned"),
    ],
)
def test_a_chain_of_two_ranks(ckptrun: Ckptrun, command: Callable[..., list[str]], words: tuple[str, ...], form: str) -> None:
    """Asked twice: both stop at one step, with one checkpoint, and end with the weights of an uninterrupted run, to the bit."""
    ckptrun.environment = {**ckptrun.environment, **environment(), "CKPTRUN_HOME": str(ckptrun.home)}
    # Not its exit code: PyTorch's threads now and then abort a rank that has written its weights and leaves.
    subprocess.run(command("alone", "120", "0", *words), cwd=ckptrun.folder, env=ckptrun.environment)
    running = ckptrun.start("--time-limit", "60s", "--checkpoint", "ck", "--", *command("ck", "120", "0.05", *words))
    for _ in range(2):
        running.until(r"^rank \d trains$" if not stops("\n".join(running.lines)) else r"^rank \d from step [1-9]")
        running.send(signal.SIGUSR1)
        running.until(r"stopped at step")
    output = running.end(code=0)
    assert ckptrun.outcomes() == ["continued"] * (len(ckptrun.outcomes()) - 1) + ["complete"]
    found = stops(output)
    assert len(found) == 2 * (len(ckptrun.outcomes()) - 1) >= 4
    for one, other in zip(found[::2], found[1::2], strict=True):
        assert {one[0], other[0]} == {"0", "1"} and one[1] == other[1]
        assert output.count(f"from step {one[1]}\n") == 2
    for path in (path for path in (ckptrun.folder / "ck").iterdir()):
        assert (look(path).verdict, look(path).form) == (Verdict.WHOLE, form)
    finals = {(ckptrun.folder / f"{name}.final").read_text() for name in ("alone", "ck")}
    assert len(finals) == 1
    assert ckptrun.events("ended")[-1]["reason"] == "the training said that it is done"


@pytest.mark.long
@pytest.mark.framework(1)
@pytest.mark.parametrize(
    ("words", "same"),
    [((), False), (("--fixed-buckets",), True), (("--sharded",), True)],
    ids=["ddp", "ddp with fixed buckets", "fsdp"],
)
def test_four_ranks_add_in_one_order(tmp_path: Path, words: tuple[str, ...], same: bool) -> None:
    """DDP arranges its buckets anew after the first step of each start; the sums of more than two ranks depend on that.

    With `find_unused_parameters=True` it does not, and a training on four ranks resumes to the bit, as FSDP's does in any case.
    """

    def train(name: str, steps: int) -> str:
        command = torchrun(name, str(steps), "0", "--every", "6", *words, ranks=4)
        (tmp_path / f"{name}.final").unlink(missing_ok=True)
        subprocess.run(command, cwd=tmp_path, env=environment())
        return (tmp_path / f"{name}.final").read_text()

    whole = train("whole", 12)
    train("parts", 6)
    assert (train("parts", 12) == whole) is same


def start(folder: Path, *words: str) -> Running:
    """Start two ranks with a mailbox each, outside ckptrun, until both train."""
    for rank in (0, 1):
        (folder / str(rank)).mkdir(exist_ok=True)
    inside = {"CKPTRUN": "1", "CKPTRUN_LINK": "1", "CKPTRUN_ATTEMPT": "1", "CKPTRUN_MAILBOX": "replaced"}
    command = torchrun("ck", "2000", "0.05", "--mailboxes", str(folder), *words)
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    running = Running(subprocess.Popen(command, cwd=folder, env=environment(**inside), text=True, **output))  # type: ignore[call-overload]
    for _ in range(2):
        running.until(r"^rank \d trains$")
    return running


def ask(folder: Path, rank: int, *, stop: bool) -> int:
    """Ask one rank; return the number of the ask."""
    return mailbox.ask(str(folder / str(rank)), 1, 1, stop=stop, reason="a test").serial


def until_heard(folder: Path, rank: int, ask: int) -> None:
    """Wait until a rank has heard of its ask."""

    def heard() -> bool | None:
        return any(word.heard >= ask for word in mailbox.words(str(folder / str(rank)), 1, 1)) or None

    watch.until(folder / str(rank), heard, 120.0, lambda: f"rank {rank} has not heard")


@pytest.mark.framework(1)
def test_one_rank_is_asked_first_and_the_other_is_slow(tmp_path: Path) -> None:
    """Rank 1 hears while rank 0 is three seconds in one step, and rank 0 never or later: both stop at one step with one checkpoint.

    An ask that only one of them has heard of, to save and go on, leads to one save, and both go on.
    """
    running = start(tmp_path, "--slow", "0", "8", "3")
    until_heard(tmp_path, 1, ask(tmp_path, 1, stop=False))
    saved = watch.until(tmp_path, lambda: list((tmp_path / "ck").glob("step-*.pt")) or None, 120.0, lambda: "nothing saved")
    assert len(saved) == 1
    ask(tmp_path, 0, stop=False)  # the same save, asked for later: by its number it is answered already
    until_heard(tmp_path, 1, ask(tmp_path, 1, stop=True))
    ask(tmp_path, 0, stop=True)
    found = stops(running.end(code=0))
    assert len(found) == 2 and found[0][1] == found[1][1]
    names = sorted(path.name for path in (tmp_path / "ck").iterdir())
    assert names == [saved[0].name, f"step-{int(found[0][1]):07d}.pt"]


@pytest.mark.framework(2)
def test_a_rank_that_cannot_save_takes_all_of_them_down(tmp_path: Path) -> None:
    """A file stands where their folder is to be: the first rank says why, the other ends, too, and nobody waits for ever."""
    running = start(tmp_path)
    (tmp_path / "ck").write_text("a file")
    ask(tmp_path, 1, stop=True)
    output = running.end()
    assert running.process.returncode == 1
    assert "FileExistsError" in output, "the other rank says that one has failed, unless torchrun has ended it before"


def forked(*cases: str) -> str:
    """Return what two ranks that are forks of one process have said, one case after the other."""
    done = subprocess.run([sys.executable, FORKED, *cases], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


ALIKE = "all ranks call resume, step and save alike (no `if rank == 0`), and count the same steps"
ALL = ("rank 0", "rank 1")
Expected = dict[str, tuple[tuple[str, ...], str, list[str]]]
MISUSED: Expected = {
    "made before init": (ALL, "Checkpoints was made before init_process_group, for one rank alone: make it after that", []),
    "saves at other steps": (ALL, ALIKE, []),
    "the first alone saves": (ALL, ALIKE, []),
    "destroyed": (ALL, "destroy_process_group was called before the last step or save of Checkpoints", []),
    "one ends": (("rank 0",), "another rank has ended, and this one cannot go on alone", []),
    "one is killed": (("rank 0",), "another rank has ended, and this one cannot go on alone", []),
    "another default device": (ALL, "none, saved step-0000001.pt", ["step-0000001.pt"]),
}
MISUSED_SHARDED: Expected = {
    "two sharded models": (ALL, "one sharded model can be saved, not 2", []),
    "full on one rank": (ALL, "cannot be saved: rank 1: OSError: [Errno 28] No space left on device", ["step-0000000"]),
    "cannot be loaded": (ALL, "Weights only load failed", []),
    "not sharded before": (ALL, "is of a model that was not sharded, and this one is", ["step-0000000.pt"]),
    "sharded after it was made": (ALL, "none, saved step-0000000", ["step-0000000"]),
}


@pytest.mark.parametrize(
    "expected",
    [
        pytest.param(MISUSED, marks=pytest.mark.framework(1), id="plain"),
        pytest.param(MISUSED_SHARDED, marks=[pytest.mark.framework(2), pytest.mark.long], id="sharded"),
    ],
)
def test_what_ranks_may_not_do(expected: Expected) -> None:
    """One sentence on every rank that is left, nobody waits for ever or trains on alone, and nothing half saved stays behind."""
    output = forked(*expected)
    for case, (who, said, stands) in expected.items():
        for rank in who:
            (line,) = [line for line in output.splitlines() if line.startswith(f"{case}: {rank}: ")]
            assert said in line
        assert f"{case}: stands {stands}\n" in output


KINDS = (
    *(
        "DDP",
        "DDP of a compiled model",
        "DDP, compiled",
        "FSDP1",
        "FSDP2",
        "FSDP2, compiled",
        "frozen",
        "two optimizers",
        "bfloat16",
    ),
    *("2 to 1", "1 to 2"),
)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.framework(2)
def test_kinds_of_models() -> None:
    """Wrapped in all ways: resumed to the bit. FSDP on fewer ranks and on more: what is restored is what was saved."""
    output = forked(*KINDS)
    assert re.findall(r"^(.*): the same \[(?:0, )*0\]$", output, re.MULTILINE) == list(KINDS), output
