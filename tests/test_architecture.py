"""The house: imports run one way, there are no cycles, and the modules marked PURE touch nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "ckptrun"
MODULES = sorted(ROOT.rglob("*.py"))
# Rooms of one floor never import each other; a floor imports only floors below it.
FLOORS = [
    {"__main__"},
    {"cli"},
    {"show", "doctor"},
    {"job", "templates"},
    {"link"},
    {"chain", "checkpoints", "slurm"},
    {"plan", "early", "mailbox", "sites"},
    {"words", "site", "training"},
    {"durations", "errors", "demo", "__init__"},
]
PURE_MAY_IMPORT = {
    "__future__",
    "collections",
    "enum",
    "typing",
    "re",
    "shlex",
    "ast",
    "bisect",
    "functools",
    "itertools",
    "math",
    "json",
    "difflib",
    "ckptrun",
}
# The path of `run` up to the child's start loads none of these: together they cost more than the whole budget.
HEAVY = {
    *(
        "click",
        "rich",
        "yaml",
        "psutil",
        "pathlib",
        "tempfile",
        "logging",
        "dataclasses",
        "asyncio",
        "socket",
        "subprocess",
    ),
    *("importlib.metadata", "shutil", "inspect", "threading", "unittest", "argparse", "zipfile", "pickletools"),
}


def name_of(path: Path) -> str:
    """Return a module's dotted name."""
    parts = ("ckptrun", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Return the modules that a module imports, at its top or inside functions, but not for type checking only."""
    known = {name_of(module) for module in MODULES}
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in names}
    return found


def room(module: str) -> str:
    """Return the room of a module: the word after `ckptrun.`."""
    return module.split(".")[1] if "." in module else "__init__"


def floor(module: str) -> int:
    """Return how far from the ground a module's room stands; 0 is the top."""
    return next(number for number, rooms in enumerate(FLOORS) if room(module) in rooms)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_one_way(path: Path) -> None:
    """A module imports its own room and the floors below, never a neighbour or a floor above."""
    own = name_of(path)
    for other in imports_of(path):
        if other.split(".")[0] == "ckptrun" and room(other) != room(own):
            assert floor(other) > floor(own), f"{own} imports {other}"


def test_there_are_no_cycles() -> None:
    """No module imports itself through others."""
    graph = {name_of(path): {one for one in imports_of(path) if one.startswith("ckptrun.")} for path in MODULES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"cycle: {' -> '.join((*trail, module))}"
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("path", [path for path in MODULES if ROOT / "training" in path.parents], ids=name_of)
def test_what_is_copied_into_containers_stands_alone(path: Path) -> None:
    """The adapters import of ckptrun what a training imports, and each other; their grammar is that of Python 3.8."""
    ours = {one for one in imports_of(path) if one.split(".")[0] == "ckptrun"}
    assert all(one == "ckptrun" or one.startswith("ckptrun.training.") for one in ours), ours
    ast.parse(path.read_text(), feature_version=(3, 8))
    top = {alias.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import) for alias in node.names}
    assert not top & {"torch", "tensorflow", "keras", "lightning", "transformers", "numpy"}, (
        "a framework is imported when it is used"
    )


PURE = [path for path in MODULES if (ast.get_docstring(ast.parse(path.read_text())) or "").startswith("PURE.")]


def test_the_core_is_pure() -> None:
    """The modules that decide are marked PURE."""
    decide = {
        "supervision",
        "outcome",
        "protocol",
        "ledger",
        "rehearsal",
        "target",
        "times",
        "reason",
        "parse",
        "fidelity",
        "dependents",
        "sbatch_options",
        "job_script",
        "submit_line",
        "read_back",
        "environment",
        "catalogue",
        "render",
        "site",
        "plan",
        "words",
        "durations",
        "model",
        "pending",
        "seen",
        "starts",
        "building",
        "table",
        "timeline",
        "settings",
        "shell",
        "judge",
        "program",
        "cluster",
        "findings",
    }
    assert decide <= {path.stem for path in PURE}


@pytest.mark.parametrize("path", PURE, ids=name_of)
def test_pure_modules_touch_nothing(path: Path) -> None:
    """A PURE module imports only PURE modules and what computes; it opens no file and reads no clock."""
    tree = ast.parse(path.read_text())
    pure = {name_of(other) for other in PURE} | {"ckptrun", "ckptrun.errors"}
    for other in imports_of(path):
        assert other.split(".")[0] in PURE_MAY_IMPORT, f"{name_of(path)} imports {other}"
        assert not other.startswith("ckptrun") or other in pure, f"{name_of(path)} imports {other}, which is not PURE"
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not called & {"open", "print", "input", "exec", "eval", "__import__"}


def loaded(*words: str) -> set[str]:
    """Return which modules a ckptrun process has loaded when its main function returns."""
    program = (
        f"import sys, ckptrun.__main__ as m\ntry: m.main({list(words)!r})\nexcept SystemExit: pass\nprint('LOADED', *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program_with_path(program)], capture_output=True, text=True, check=True
    )
    return set(done.stdout.rpartition("LOADED")[2].split())


def program_with_path(program: str) -> str:
    """Return the program with our import path: `-S` keeps the environment's own .pth files out of the measurement."""
    return f"import sys; sys.path[:0] = {[str(ROOT.parent), *[p for p in sys.path if 'site-packages' in p]]!r}\n{program}"


def test_the_start_is_light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--version` loads next to nothing; `run -- true` none of the heavy modules."""
    monkeypatch.setenv("CKPTRUN_HOME", str(tmp_path / "home"))
    assert not loaded("--version") & (HEAVY | {"re", "json", "typing", "ckptrun.cli"})
    # psutil is read after the end, for what is left of the tree; it is not on the path to the child's start.
    assert not loaded("run", "--", "true") & HEAVY


def test_help_imports_no_subcommand(tmp_path: Path) -> None:
    """`--help` lists the subcommands without importing them."""
    assert not loaded("--help") & {"ckptrun.cli.chain", "ckptrun.cli.demo", "rich", "yaml", "psutil"}
