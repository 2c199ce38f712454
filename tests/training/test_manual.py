"""What the manual says of the adapters: its table is shown by tests, its programs run and resume."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkpoints.foreign import PACKAGES
from tests.patches import patched

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
TABLE = (DOCS / "reference" / "adapters.md").read_text()


def says_nothing(cell: str) -> bool:
    """Return whether a cell claims nothing."""
    return cell == "-" or cell.startswith("not tried")


def cells() -> list[tuple[str, str, str]]:
    """Return the cells of the table of exactness: adapter, what is restored, and whether."""
    lines = [line for line in TABLE.partition("## Exactness")[2].partition("<!--")[0].splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [(adapter, row[0], said) for row in rows for adapter, said in zip(head[1:], row[1:], strict=True)]


def test_each_cell_is_shown_by_a_test() -> None:
    """Every cell that says something has a test, its own or its adapter's, and that test exists."""
    lines = TABLE.partition("<!-- shown by\n")[2].partition("-->")[0].splitlines()
    shown = dict(line.split(": ", 1) for line in lines)
    known = cells()
    assert len(known) == 130
    for adapter, what, said in known:
        if not says_nothing(said):
            assert said.startswith(("yes", "no")), said
            assert f"{adapter} / {what}" in shown or adapter in shown, (adapter, what)
    for key, test in shown.items():
        path, name = test.split("::")
        names = {node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)}
        assert name in names, f"{test} of {key}"
        adapter, _, what = key.partition(" / ")
        assert any((adapter, what or one[1]) == one[:2] and not says_nothing(one[2]) for one in known), key


@pytest.mark.parametrize("name", ["guide_pickle.py", "guide_tensorflow.py", "guide_pytorch.py"])
def test_the_diffs_fit(name: str) -> None:
    """To the character and the line number, as patch and git want it; what comes out is Python."""
    compile(patched(name), name, "exec")


def program_of(page: str) -> str:
    """Return the program that a page shows."""
    program = re.search(r"```python file=train.py\n(.*?)```", (DOCS / "how-to" / page).read_text(), re.DOTALL)
    assert program is not None
    return program[1]


def run(program: str, folder: Path, packages: str = "") -> str:
    """Run a program in a folder; return what it printed."""
    (folder / "train.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": f"{packages}:{ROOT}", "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "train.py"], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def runs(page: str, folder: Path, last: str, packages: str = "") -> None:
    """Run a page's program to its end, and once more: it finds its own newest checkpoint, and has nothing left to do."""
    said = [run(program_of(page), folder, packages) for _ in range(2)]
    assert last in said[1]
    assert 1 <= len([path for path in (folder / "checkpoints").iterdir() if re.search(r"-\d+", path.name)]) <= 2


def test_plain_page(tmp_path: Path) -> None:
    """A hundred steps; the second run has nothing left to do."""
    said = [run(program_of("plain-data.md"), tmp_path) for _ in range(2)]
    assert [one.count("step") for one in said] == [100, 0] and "sum 5050" in said[1]
    assert (tmp_path / "state.json").exists()


@pytest.mark.framework(1)
def test_pytorch_page(tmp_path: Path) -> None:
    """100 steps, saved each 25."""
    runs("pytorch.md", tmp_path, "from step 100")


@pytest.mark.framework(2)
def test_keras_page(tmp_path: Path) -> None:
    """Ten epochs of ten batches, saved each epoch."""
    runs("keras.md", tmp_path, "after batch 100")


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("page", "framework", "last"),
    [("lightning.md", "lightning", "after step 100"), ("hugging-face.md", "transformers", "after step 40")],
)
def test_pages_of_large_frameworks(tmp_path: Path, page: str, framework: str, last: str) -> None:
    """As they stand there, with the framework installed into a folder of its own."""
    packages = str(tmp_path / "packages")
    for words in PACKAGES[framework]:
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", packages, *words], check=True)
    runs(page, tmp_path, last, packages)
