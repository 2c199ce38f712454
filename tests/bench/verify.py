"""What `ckptrun verify` finds and costs: `python -m tests.bench.verify [--write]`.

`--write` puts the tables into docs/reference/checkpoints.md. Nothing here fails on a figure.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.checkpoints import sparse
from tests.checkpoints.cases import FILES, SEVERAL, Case, copy, flips, look, make

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "checkpoints.md"
BITS = 200
LARGE = 5 * 10**9
FULL_BYTES = 400 * 10**6


def found_flips(real: Path) -> list[str]:
    """Return a table: of 200 bits turned at random in each real checkpoint, how many structure and `--full` find."""
    lines = ["| format | written by | structure finds | `--full` finds |", "|---|---|---|---|"]
    for case in (*FILES, *SEVERAL):
        dice = random.Random(case.path)
        with tempfile.TemporaryDirectory() as folder:
            path = copy(real, case, Path(folder))
            parts = [Path(part) for part in look(path).parts]
            sizes = [part.stat().st_size for part in parts]
            found = [0, 0]
            for _ in range(BITS):
                (part,) = dice.choices(parts, sizes)
                raw = part.read_bytes()
                ((_, turned),) = flips(raw, dice, 1)
                part.write_bytes(turned)
                for number, full in enumerate((False, True)):
                    found[number] += look(path, full).verdict != "whole"
                part.write_bytes(raw)
        lines.append(f"| {case.form} | {_title(case)} | {found[0] / BITS:.0%} | {found[1] / BITS:.0%} |")
    return lines


def _title(case: Case) -> str:
    library, _, name = case.path.partition("/")
    return f"`{name}`" if library == "plain" else f"{library}, `{name}`"


def structural_times() -> list[str]:
    """Return a table: milliseconds for sparse files of 5 GB, median of several looks."""
    lines = ["| 5 GB in | time |", "|---|---|"]
    for name, maker in sparse.MAKERS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            maker(path, LARGE)
            times = [_seconds(lambda path=path: look(path)) for _ in range(7)]
        lines.append(f"| {path.suffix[1:]} | {statistics.median(times[1:]) * 1000:.1f} ms |")
    return lines


def full_speeds() -> list[str]:
    """Return a table: the speed of `--full`, and of what must be read by structure too, beside sha256 on the same file."""
    lines = ["| what | speed | sha256 of the same file |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        for name, write, full in _large(Path(folder)):
            path = Path(folder, name)
            write(path)
            size = sum(part.stat().st_size for part in Path(folder).glob(f"{name}*"))
            speed = size / min(_seconds(lambda path=path, full=full: look(path, full)) for _ in range(3))
            digest = size / min(_seconds(lambda path=path, name=name: _digest(Path(folder).glob(f"{name}*"))) for _ in range(2))
            title = name.removeprefix("large-") + (", full" if full else "")
            lines.append(f"| {title} | {speed / 1e6:,.0f} MB/s | {digest / 1e6:,.0f} MB/s |")
            for part in Path(folder).glob(f"{name}*"):
                part.unlink()
    return lines


def _large(folder: Path) -> list[tuple[str, Callable[[Path], object], bool]]:
    import gzip

    import torch

    dice = random.Random(1)
    numbers = [dice.random() for _ in range(2_000_000)]
    rows = [{"step": number, "loss": dice.random(), "name": "text"} for number in range(200_000)]
    return [
        ("large-pytorch.pt", lambda path: torch.save({"a": torch.rand(FULL_BYTES // 4)}, path), True),
        ("large-numpy.npz", lambda path: np.savez(path, a=np.random.default_rng(1).random(FULL_BYTES // 8)), True),
        ("large-gzip.npy.gz", lambda path: path.write_bytes(gzip.compress(_npy(FULL_BYTES // 8), 1)), True),
        ("large-tensorflow", _tensorflow, True),
        ("large-pickle-of-numbers.pkl", lambda path: path.write_bytes(pickle.dumps(numbers)), False),
        ("large-pickle-of-rows.pkl", lambda path: path.write_bytes(pickle.dumps(rows)), False),
        ("large-json-of-numbers.json", lambda path: path.write_text(json.dumps(numbers)), False),
        ("large-json-of-rows.json", lambda path: path.write_text(json.dumps(rows)), False),
    ]


def _npy(size: int) -> bytes:
    raw = io.BytesIO()
    np.save(raw, np.random.default_rng(1).integers(0, 9, size // 8))
    return raw.getvalue()


def _tensorflow(path: Path) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.train.Checkpoint(a=tf.Variable(tf.random.uniform((FULL_BYTES // 4,)))).write(str(path))


def _digest(paths: object) -> None:
    for path in paths:  # type: ignore[attr-defined]
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")


def _seconds(act: Callable[[], object]) -> float:
    before = time.perf_counter()
    act()
    return time.perf_counter() - before


def main() -> None:
    """Measure and print; with --write, put the tables into the page."""
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        tables = {"flips": found_flips(Path(folder)), "sparse": structural_times(), "full": full_speeds()}
    text = PAGE.read_text()
    for name, lines in tables.items():
        print("\n".join(lines), end="\n\n")
        begin, end = f"<!-- measured: {name} -->", "<!-- end -->"
        if begin in text:
            head, _, rest = text.partition(begin)
            text = f"{head}{begin}\n\n" + "\n".join(lines) + f"\n\n{end}{rest.partition(end)[2]}"
    if "--write" in sys.argv:
        PAGE.write_text(text)


if __name__ == "__main__":
    main()
