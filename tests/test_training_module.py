"""What a training imports: what it hears, what it says, and that it never stands in the way."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

import ckptrun
from ckptrun import mailbox
from tests.end_to_end.harness import Ckptrun
from tests.test_mailbox import Clock, training

MODULE = Path(ckptrun.__file__)
DOCS = Path(__file__).parent.parent / "docs"
# What a training calls, in the order of the manual's example.
EVERYTHING = """
run = ckptrun.current()
assert run is ckptrun.current()
run.progress(1, 2)
asked = run.checkpoint_requested, run.stop_requested
with ckptrun.atomic_path("saved/step-1.json") as path:
    open(path, "w").write("{}")
run.saved("saved/step-1.json")
run.done()
print(asked, run.checkpoint, run.chain, run.link, run.attempt, run.resume, run.end_time)
"""


def run_alone(folder: Path, program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program that finds the module as the single file `ckptrun.py`, and nothing else of ckptrun."""
    folder.mkdir(exist_ok=True)
    (folder / "ckptrun.py").write_bytes(MODULE.read_bytes())
    head = f"import sys; sys.path.insert(0, {str(folder)!r}); import ckptrun\n"
    command = [sys.executable, "-I", "-S", "-c", head + program]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


def test_outside_ckptrun_nothing_happens(tmp_path: Path) -> None:
    """All calls work, nothing is asked, nothing is known, no file but the training's own is written, nothing is said."""
    done = run_alone(tmp_path / "t", EVERYTHING)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "(False, False) None None None None False None\n"
    assert {path.name for path in (tmp_path / "t").rglob("*") if path.is_file() and path.suffix != ".pyc"} == {
        "ckptrun.py",
        "step-1.json",
    }


INSIDE = {"CKPTRUN": "1", "CKPTRUN_CHAIN": "mnist-7", "CKPTRUN_LINK": "2", "CKPTRUN_ATTEMPT": "1", "CKPTRUN_RESUME": "1"}


def test_what_the_environment_tells(tmp_path: Path) -> None:
    """The facts of the start, as values; what is empty is None."""
    mailbox.ask(str(tmp_path), 2, 1, stop=False, reason="r")
    variables = INSIDE | {"CKPTRUN_CHECKPOINT": "/ck/1.pt", "CKPTRUN_END_TIME": "1700000000", "CKPTRUN_MAILBOX": str(tmp_path)}
    done = run_alone(tmp_path / "t", EVERYTHING, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "(True, False) /ck/1.pt mnist-7 2 1 True 1700000000\n"
    assert {word.kind for word in mailbox.words(str(tmp_path), 2, 1)} == {"ready", "progress", "saved", "done"}
    bare = run_alone(tmp_path / "t", EVERYTHING, CKPTRUN="1", CKPTRUN_LINK="two", CKPTRUN_END_TIME="", CKPTRUN_MAILBOX="m")
    assert (bare.returncode, bare.stderr) == (0, "")
    assert bare.stdout == "(False, False) None None None None False None\n"


def test_a_mailbox_that_is_gone_is_said_once(tmp_path: Path) -> None:
    """No folder there: every call works, and one sentence on stderr says that ckptrun does not hear."""
    done = run_alone(tmp_path / "t", EVERYTHING, **INSIDE, CKPTRUN_MAILBOX=str(tmp_path / "gone"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(False, False)")
    assert done.stderr.count("\n") == 1
    assert "cannot write to its mailbox" in done.stderr and "goes on" in done.stderr


def test_a_mailbox_that_vanishes_while_it_is_used(tmp_path: Path) -> None:
    """The folder is removed between two calls, with an ask that was heard: it stays heard, nothing is raised."""
    clock, folder = Clock(), tmp_path / "mailbox"
    folder.mkdir()
    run = training(folder, clock)
    mailbox.ask(str(folder), 2, 1, stop=True, reason="r")
    assert run.checkpoint_requested
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    clock.now += 60.0
    run.progress(1)
    run.saved("ck")
    run.done()
    assert not run.checkpoint_requested and run.stop_requested


def test_a_full_disk_is_said_once(tmp_path: Path) -> None:
    """No byte can be written to the mailbox, an ask stands in it: it is heard, all calls work, one sentence is said."""
    (tmp_path / "mailbox").mkdir()
    mailbox.ask(str(tmp_path / "mailbox"), 2, 1, stop=True, reason="r")
    program = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
run = ckptrun.current()
for step in range(3):
    run.progress(step)
    asked = run.checkpoint_requested, run.stop_requested
    run.saved("ck")
run.done()
sys.stdout.write(str(asked))
"""
    done = run_alone(tmp_path / "t", program, **INSIDE, CKPTRUN_MAILBOX=str(tmp_path / "mailbox"))
    assert (done.returncode, done.stdout.strip()) == (0, "(False, True)"), done.stderr
    assert done.stderr.count("\n") == 1 and "File too large" in done.stderr
    assert [path.name for path in (tmp_path / "mailbox").iterdir()] == ["ask-2-1"]


def test_one_save_of_several_processes(tmp_path: Path) -> None:
    """One of two has heard an ask; both answer it by its number, and the other does not ask for the same save again later."""
    clock = Clock()
    first, second = training(tmp_path, clock), training(tmp_path, clock)
    assert not second.checkpoint_requested
    mailbox.ask(str(tmp_path), 2, 1, stop=False, reason="r")
    assert first.checkpoint_requested and (first.ask, second.ask) == (1, 0)
    for run in (first, second):
        run.answer(max(first.ask, second.ask))
    clock.now += 5.0
    assert not first.checkpoint_requested and not second.checkpoint_requested
    mailbox.ask(str(tmp_path), 2, 1, stop=True, reason="r")
    clock.now += 5.0
    assert first.checkpoint_requested and second.checkpoint_requested and second.stop_requested


def test_odd_arguments_do_not_stop_a_training(tmp_path: Path) -> None:
    """A step that is no number, a path that is none: what cannot be told is left out."""
    run = training(tmp_path, Clock())
    run.progress("many", object())  # type: ignore[arg-type]
    run.saved(None)  # type: ignore[arg-type]
    run.done()
    facts = {word.kind: word.facts for word in mailbox.words(str(tmp_path), 2, 1) if word.kind != "ready"}
    assert facts == {"progress": {"step": None, "total": None}, "saved": {"path": None, "step": None}, "done": {}}


def test_one_look_a_second(tmp_path: Path) -> None:
    """An ask that comes right after a look is heard a second later, not before."""
    clock = Clock()
    run = training(tmp_path, clock)
    assert not run.checkpoint_requested
    mailbox.ask(str(tmp_path), 2, 1, stop=True, reason="r")
    clock.now += 0.99
    assert not run.checkpoint_requested
    clock.now += 0.02
    assert run.checkpoint_requested


def test_save_now_and_go_on_is_answered_by_a_save(tmp_path: Path) -> None:
    """stop false: a checkpoint is wanted until one was saved, the training goes on, and the next ask is heard again."""
    clock = Clock()
    run = training(tmp_path, clock)
    for _ in range(2):
        mailbox.ask(str(tmp_path), 2, 1, stop=False, reason="r")
        clock.now += 1.0
        assert (run.checkpoint_requested, run.stop_requested) == (True, False)
        run.saved("ck")
        clock.now += 1.0
        assert (run.checkpoint_requested, run.stop_requested) == (False, False)
    mailbox.ask(str(tmp_path), 2, 1, stop=True, reason="r")
    clock.now += 1.0
    assert (run.checkpoint_requested, run.stop_requested) == (True, True)
    run.saved("ck")
    clock.now += 1.0
    assert (run.checkpoint_requested, run.stop_requested) == (False, True)


def test_an_ask_between_the_two_lines_of_a_step_stops_nobody_without_a_save(tmp_path: Path) -> None:
    """A loop that reads both: what comes after checkpoint_requested was read is heard in the next step, and saved first."""
    clock = Clock()
    run = training(tmp_path, clock)
    assert not run.checkpoint_requested
    mailbox.ask(str(tmp_path), 2, 1, stop=True, reason="r")
    clock.now += 5.0
    assert not run.stop_requested
    assert run.checkpoint_requested and run.stop_requested


def test_a_loop_that_reads_only_stop_requested_hears(tmp_path: Path) -> None:
    """It looks by itself where nobody reads checkpoint_requested."""
    clock = Clock()
    run = training(tmp_path, clock)
    assert not run.stop_requested
    mailbox.ask(str(tmp_path), 2, 1, stop=True, reason="r")
    clock.now += 1.0
    assert run.stop_requested


def test_an_ask_during_a_periodic_save(tmp_path: Path) -> None:
    """It stops the loop right after that save; a loop that goes on a step more is still asked to save: no step is lost."""
    clock = Clock()
    run = training(tmp_path, clock)
    assert not run.checkpoint_requested
    mailbox.ask(str(tmp_path), 2, 1, stop=True, reason="r")
    clock.now += 3.0
    run.saved("ck")
    assert run.stop_requested and run.checkpoint_requested
    (saved,) = (word for word in mailbox.words(str(tmp_path), 2, 1) if word.kind == "saved")
    assert saved.heard == 0, "this save is no answer to the ask"


def test_progress_is_written_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    """Ten seconds between two words, the highest step; a save and the end tell the rest."""
    clock = Clock()
    run = training(tmp_path, clock)

    def told() -> object:
        return next(word.facts["step"] for word in mailbox.words(str(tmp_path), 2, 1) if word.kind == "progress")

    run.progress(1, 9)
    clock.now += 9.0
    run.progress(2, 9)
    assert told() == 1
    clock.now += 1.0
    run.progress(3, 9)
    assert told() == 3
    clock.now += 10.0
    run.progress(2, 9)
    assert told() == 3
    run.progress(4, 9)
    run.done()
    assert told() == 4
    program = "run = ckptrun.current()\nfor step in range(5): run.progress(step)"
    assert run_alone(tmp_path / "t", program, **INSIDE, CKPTRUN_MAILBOX=str(tmp_path)).returncode == 0
    assert max(word.facts["step"] for word in mailbox.words(str(tmp_path), 2, 1) if word.kind == "progress") == 4


def test_a_fork_does_not_speak_for_its_parent(tmp_path: Path) -> None:
    """A forked worker that ends tells no progress of the training's."""
    program = """
import os
run = ckptrun.current()
run.progress(1); run.progress(2)
if (pid := os.fork()) == 0:
    sys.exit(0)
os.waitpid(pid, 0)
os.write(1, b"%d" % pid)
os._exit(0)
"""
    done = run_alone(tmp_path / "t", program, **INSIDE, CKPTRUN_MAILBOX=str(tmp_path))
    words = mailbox.words(str(tmp_path), 2, 1)
    assert done.stdout.isdecimal() and {word.pid for word in words}.isdisjoint({int(done.stdout)})
    assert [word.facts["step"] for word in words if word.kind == "progress"] == [1]


def test_a_fork_that_trains_speaks_for_itself(tmp_path: Path) -> None:
    """The parent has looked before: the child, which looks from now on, says so, hears, and tells its last step at its end."""
    program = """
import os
run = ckptrun.current()
run.progress(1)
assert not run.checkpoint_requested
if (pid := os.fork()) == 0:
    run._look_at = 0.0
    assert run is ckptrun.current()
    run.checkpoint_requested
    run.progress(7)
    sys.exit(0)
os.waitpid(pid, 0)
os.write(1, b"%d" % pid)
"""
    done = run_alone(tmp_path / "t", program, **INSIDE, CKPTRUN_MAILBOX=str(tmp_path))
    words = {(word.pid, word.kind): word.facts for word in mailbox.words(str(tmp_path), 2, 1)}
    child = int(done.stdout)
    assert words[child, "ready"]["looks"] is True and words[child, "progress"]["step"] == 7
    assert {word[0] for word in words} - {child}, "the parent has spoken, too"


def test_many_threads_are_one_run(tmp_path: Path) -> None:
    """All of them get the same object, and say the same at once: no letter is torn, nothing is said on stderr, nothing is left."""
    program = """
import threading
sys.setswitchinterval(1e-6)
together, runs = threading.Barrier(6), []
def train():
    together.wait()
    runs.append(ckptrun.current())
    for step in range(60):
        runs[0].progress(step)
        runs[0].checkpoint_requested
        runs[0].saved("ck")
threads = [threading.Thread(target=train) for _ in range(6)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(runs) == 6 and len(set(map(id, runs))) == 1
"""
    done = run_alone(tmp_path / "t", program, **INSIDE, CKPTRUN_MAILBOX=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert {word.kind for word in mailbox.words(str(tmp_path), 2, 1)} == {"ready", "progress", "saved"}
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_a_worker_of_a_loader(tmp_path: Path, method: str) -> None:
    """A worker may call all of it, and be given the run inside a callback: it hears, and speaks under its own process id."""
    folder = tmp_path / "t"
    folder.mkdir()
    (folder / "loading.py").write_text(
        "import ckptrun\n"
        "def load(run, results):\n"
        "    assert run is ckptrun.current()\n"
        "    run.progress(5)\n"
        "    run._look_at = 0.0\n"
        "    results.put((run.checkpoint_requested, run.chain))\n"
    )
    program = f"""
import multiprocessing, loading
context = multiprocessing.get_context({method!r})
results = context.SimpleQueue()
run = ckptrun.current()
run.checkpoint_requested
worker = context.Process(target=loading.load, args=(run, results))
worker.start()
sys.stdout.write(str((results.get(), worker.pid)))
worker.join()
"""
    mailbox.ask(str(tmp_path), 2, 1, stop=False, reason="r")
    done = run_alone(folder, program, **INSIDE, CKPTRUN_MAILBOX=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    heard, pid = ast.literal_eval(done.stdout)
    assert heard == (True, "mnist-7")
    words = {word.kind: word.facts for word in mailbox.words(str(tmp_path), 2, 1) if word.pid == pid}
    assert words["ready"]["looks"] is True


NUMBERS = {
    "not a number": (float("nan"), None),
    "infinite": (float("inf"), None),
    "negative": (-1, None),
    "of 5000 digits": (10**5000, None),
    "too high for any counter": (2**63, None),
    "a float": (3.0, 3),
    "a text": ("12", 12),
    "bytes": (b"12", 12),
    "numpy's integer": (numpy.int64(4), 4),
    "numpy's float": (numpy.float32(5.0), 5),
    "numpy's not a number": (numpy.float64("nan"), None),
    "an array": (numpy.arange(3), None),
    "a dictionary": ({}, None),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_what_is_told_as_a_step(tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str) -> None:
    """What counts as a number is told as one; what does not is left out, and nothing is raised or said of the mailbox."""
    step, told = NUMBERS[kind]
    run = training(tmp_path, Clock())
    run.progress(step, step)
    run.answer(step)
    (word,) = mailbox.words(str(tmp_path), 2, 1)
    assert word.facts == {"step": told, "total": told}
    assert capfd.readouterr().err == ""


def test_what_is_told_as_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text, bytes or a Path, also of a file that is missing; a relative one as it is meant where it is said."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mailbox").mkdir()
    run = training(tmp_path / "mailbox", Clock())

    def told(path: object) -> object:
        run.saved(path)  # type: ignore[arg-type]
        (word,) = mailbox.words(str(tmp_path / "mailbox"), 2, 1)
        return word.facts["path"]

    assert told("missing.pt") == told(b"missing.pt") == told(Path("missing.pt")) == str(tmp_path / "missing.pt")
    assert [told(path) for path in (7, None, "")] == [None, None, None]
    assert told(b"not \xff utf-8") == str(tmp_path / "not \udcff utf-8")
    os.chdir("elsewhere")
    assert told("a.pt") == str(tmp_path / "elsewhere" / "a.pt")
    (tmp_path / "elsewhere").rmdir()
    assert told("a.pt") is None
    assert told(tmp_path / "a.pt") == str(tmp_path / "a.pt")


def test_where_there_is_no_standard_error(tmp_path: Path) -> None:
    """It was closed, and a file of the training's has its number: what cannot be written to the mailbox is not said into that."""
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "ckptrun.py").write_bytes(MODULE.read_bytes())
    program = "import sys, os; sys.path.insert(0, ''); import ckptrun\nfile = open('data', 'wb')\n"
    program += "assert file.fileno() == 2\nckptrun.current().saved('ck')\nfile.write(b'mine')"
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-I", "-S", "-c", program]
    environment = {**INSIDE, "CKPTRUN_MAILBOX": str(tmp_path / "gone")}
    subprocess.run(command, cwd=tmp_path / "t", env=environment, check=True)
    assert (tmp_path / "t" / "data").read_bytes() == b"mine"


def test_how_often_it_looks_and_tells(tmp_path: Path) -> None:
    """A minute of steps of a tenth of a second: sixty looks and a first one, six words of progress and a first one, no more."""
    program = """
looks, words = [], []
def hook(event, args):
    if event == "open" and str(args[0]).endswith("ask-2-1"):
        looks.append(args)
    if event == "os.rename" and args[1].endswith("-progress"):
        words.append(args)
now = 0.0
run = ckptrun.Run(ckptrun.os.environ, lambda: now)
sys.addaudithook(hook)
for step in range(600):
    run.progress(step)
    run.checkpoint_requested
    run.stop_requested
    now += 0.1
sys.stdout.write(f"{len(looks)} {len(words)}")
"""
    (tmp_path / "ask-2-1").write_text("torn: it is read at each look")
    done = run_alone(tmp_path / "t", program, **INSIDE, CKPTRUN_MAILBOX=str(tmp_path))
    looks, words = map(int, done.stdout.split())
    assert 55 <= looks <= 61 and words in (6, 7), done.stderr


# --- the module itself

# What the manual's examples take for granted: a model, and how it is loaded and trained.
STAND_INS = """
import os, time, types, torch
TOTAL = last_step = 120
model = torch.nn.Linear(2, 1)
def state(step): return {"step": step, "model": model.state_dict()}
def fresh(): return types.SimpleNamespace(step=0)
def load(path): return types.SimpleNamespace(step=torch.load(path)["step"])
def train(step):
    time.sleep(0.1)
    print("step", step + 1, flush=True)
first_step = load(os.environ["CKPTRUN_CHECKPOINT"]).step if os.environ["CKPTRUN_CHECKPOINT"] else 0
"""

# What Python 3.8's standard library has of the modules that are used; a name that is missing here has to be looked up there first.
IN_3_8 = {
    "os": {
        *("O_CLOEXEC", "O_CREAT", "O_EXCL", "O_NONBLOCK", "O_RDONLY", "O_WRONLY", "PathLike", "_Environ", "chmod", "close"),
        *(
            "environ",
            "fsdecode",
            "fsencode",
            "listdir",
            "rename",
            "fsync",
            "getcwd",
            "getpid",
            "makedirs",
            "open",
            "path",
            "read",
            "readlink",
            "replace",
            "stat",
            "uname",
        ),
        *("unlink", "urandom", "walk", "write"),
    },
    "time": {"monotonic", "time"},
    "json": {"dumps", "loads"},
    "atexit": {"register"},
    "errno": {"EACCES", "EINVAL", "ENOTSUP", "EPERM"},
    "shutil": {"rmtree"},
    "ctypes": {"CDLL"},
    "sys": {"__stderr__"},
}


def test_the_module_is_of_python_3_8() -> None:
    """Its grammar is 3.8's, it stands alone, and of the standard library it uses what 3.8 has."""
    tree = ast.parse(MODULE.read_text(), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert imported == set(IN_3_8)
    froms = {(node.module, node.level) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert froms == {("__future__", 0), ("collections.abc", 0)}, "the second for type checkers alone"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in IN_3_8:
            assert node.attr in IN_3_8[node.value.id], f"{node.value.id}.{node.attr}"
        # Methods of built-in types that are younger, and `|` of dictionaries at run time.
        assert not (isinstance(node, ast.Attribute) and node.attr in {"removeprefix", "removesuffix", "bit_count"})
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        assert not any(
            isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and not _flags(node) for node in _body(function)
        )


def _flags(node: ast.BinOp) -> bool:
    return "O_" in ast.unparse(node)


def _body(function: ast.FunctionDef) -> list[ast.AST]:
    """Return what runs in a function: its annotations do not."""
    annotations = {
        id(part)
        for node in ast.walk(function)
        for note in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if note is not None
        for part in ast.walk(note)
    }
    return [node for node in ast.walk(function) if id(node) not in annotations]


@pytest.mark.parametrize("name", ["json", "re", "atexit", "shutil", "contextlib", "typing", "collections.abc"])
def test_importing_it_is_light(name: str) -> None:
    """`import ckptrun` loads none of what only a training needs; collections.abc comes with `os` under another name."""
    program = f"import sys; sys.path.insert(0, {str(MODULE.parent.parent)!r}); import ckptrun; print({name!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.framework(1)
@pytest.mark.parametrize("page", ["reference/training-module.md", "how-to/ask-by-file.md"])
def test_the_example_of_the_manual_runs(page: str, ckptrun: Ckptrun) -> None:
    """As it stands there, with a model of PyTorch: asked by file after a SIGUSR1 to ckptrun, resumed, each step once, complete."""
    example = re.search(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert example is not None
    (ckptrun.folder / "train.py").write_text(STAND_INS + example[1])
    # A link of less than a tenth of its limit would delay the next: 61 steps take longer than that.
    options = ("--time-limit", "60s", "--checkpoint", "ckpt", "--checkpoint", "checkpoints")
    running = ckptrun.start(*options, "--", sys.executable, "train.py")
    running.until(r"^step 61$")
    running.send(signal.SIGUSR1)
    output = running.end(code=0)
    assert [int(step) for step in re.findall(r"^step (\d+)$", output, re.MULTILINE)] == list(range(1, 121))
    assert [event["by_file"] for event in ckptrun.events("asked")] == [True]
    assert ckptrun.outcomes() == ["continued", "complete"]
    assert ckptrun.events("ended")[-1]["reason"] == "the training said that it is done"


def test_the_letters_are_json() -> None:
    """The example of the reference is what the module takes."""
    page = (DOCS / "reference" / "ledger.md").read_text()
    line = next(line for line in page.splitlines() if line.strip().startswith('{"v": 1, "link"'))
    assert set(json.loads(line)) == set(mailbox.Ask._fields) | {"v"}
