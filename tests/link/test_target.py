"""Who is asked: trees in, targets out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptrun.link.launchers import ATTENDANTS, CONTAINERS, INITS, MPI, SHELLS, TOOLS, WRAPPERS, Kind, kind, name
from ckptrun.link.target import (
    INT,
    TERM,
    USR1,
    USR2,
    Hearing,
    Target,
    announce,
    audience,
    by,
    subject,
    told_by_file,
    told_by_relays,
)
from ckptrun.words import Process

EVERYTHING = (*range(1, 9), *range(10, 19), *range(20, 32))


def process(pid: int, ppid: int, argv: str, *caught: int, started: float = 0.0) -> Process:
    """Return one process of a tree; `X_runtime_Y` is one word with blanks."""
    words = tuple(word.replace("_runtime_", " runtime ") for word in argv.split())
    return Process(pid, ppid, words, frozenset(caught), frozenset(), started)


TREES = [
    ("direct", [process(1, 0, "python t.py", INT, USR1)], {1: USR1}, Hearing.HEARS),
    ("first of several", [process(1, 0, "python t.py", INT, TERM, USR2)], {1: USR2}, Hearing.HEARS),
    ("only INT", [process(1, 0, "python t.py", INT)], {1: INT}, Hearing.ONLY_INT),
    ("nothing", [process(1, 0, "./a.out")], {}, Hearing.DEAF),
    (
        "behind a shell",
        [process(1, 0, "bash -c x", INT), process(2, 1, "python t.py", INT, USR1)],
        {2: USR1},
        Hearing.HEARS,
    ),
    (
        "behind env, timeout and sh",
        [process(1, 0, "/usr/bin/timeout 9 x", TERM), process(2, 1, "sh t.sh"), process(3, 2, "python t.py", TERM)],
        {3: TERM},
        Hearing.HEARS,
    ),
    (
        "helpers are left alone",
        [process(1, 0, "python t.py", USR1), process(2, 1, "python t.py", USR1), process(3, 2, "wandb-core", USR1)],
        {1: USR1},
        Hearing.HEARS,
    ),
    (
        "two branches",
        [process(1, 0, "bash", INT), process(2, 1, "python a.py", USR1), process(3, 1, "python b.py", TERM)],
        {2: USR1, 3: TERM},
        Hearing.HEARS,
    ),
    (
        "a shell script with a trap",
        [process(1, 0, "bash t.sh", USR1), process(2, 1, "sleep 1")],
        {1: USR1},
        Hearing.HEARS,
    ),
    ("an orphan of the tree", [process(1, 0, "sh t.sh"), process(7, 0, "python t.py", USR2)], {7: USR2}, Hearing.HEARS),
    (
        "timeout catches TERM and hands it on: it is not the training",
        [process(1, 0, "timeout 9 x", TERM, INT), process(2, 1, "python t.py", INT)],
        {2: INT},
        Hearing.ONLY_INT,
    ),
    (
        "torchrun kills its workers on TERM",
        [process(1, 0, "python /v/bin/torchrun t.py", TERM, INT), process(2, 1, "./a.out"), process(3, 1, "./a.out")],
        {},
        Hearing.DEAF,
    ),
    (
        "bash with a trap on EXIT catches everything and dies of it",
        [process(1, 0, "bash t.sh", *EVERYTHING), process(2, 1, "python t.py", INT)],
        {2: INT},
        Hearing.ONLY_INT,
    ),
    (
        "a shell's trap gives way to a training that hears",
        [process(1, 0, "bash t.sh", USR1), process(2, 1, "python t.py", TERM)],
        {2: TERM},
        Hearing.HEARS,
    ),
    (
        "a filter at the end of a pipe is not sent INT",
        [process(1, 0, "bash", INT), process(2, 1, "python t.py", USR2, INT), process(3, 1, "python filter.py", INT)],
        {2: USR2},
        Hearing.HEARS,
    ),
    (
        "what an image is mounted with is no training",
        [process(1, 0, "Apptainer_runtime_parent"), process(2, 1, "squashfuse_ll", TERM), process(3, 1, "python t.py", INT)],
        {3: INT},
        Hearing.ONLY_INT,
    ),
    (
        "a daemon beside a training that hears",
        [process(1, 0, "python t.py", TERM), process(9, 0, "telemetry", *EVERYTHING)],
        {1: TERM},
        Hearing.HEARS,
    ),
    (
        "a daemon beside one that only catches INT is asked: it may be the training",
        [process(1, 0, "python start.py", INT), process(9, 0, "python t.py", USR1)],
        {9: USR1},
        Hearing.HEARS,
    ),
    ("two that catch INT", [process(1, 0, "python t.py", INT), process(9, 0, "python d.py", INT)], {1: INT}, Hearing.ONLY_INT),
    (
        "what an init has adopted is an orphan",
        [process(1, 0, "tini"), process(2, 1, "python t.py", TERM, started=1.0), process(3, 1, "d", USR1, started=2.0)],
        {2: TERM},
        Hearing.HEARS,
    ),
    (
        "a ckptrun is its branch's training",
        [
            process(1, 0, "bash", INT),
            process(2, 1, "python -m ckptrun", INT, USR1, USR2, TERM),
            process(3, 2, "python t.py", USR1),
            process(4, 1, "python /v/bin/ckptrun", INT, USR1, USR2, TERM),
        ],
        {2: USR1, 4: USR1},
        Hearing.HEARS,
    ),
    ("a login shell", [process(1, 0, "-bash", INT), process(2, 1, "python t.py", USR1)], {2: USR1}, Hearing.HEARS),
]


@pytest.mark.parametrize(("tree", "asked", "hearing"), [row[1:] for row in TREES], ids=[row[0] for row in TREES])
def test_auto(tree: list[Process], asked: dict[int, int], hearing: Hearing) -> None:
    """The first process on each branch that is no launcher, with the first signal that it catches."""
    found = audience(tuple(tree), 1, None)
    assert {target.pid: target.signal for target in found.targets} == asked
    assert found.hearing is hearing


def test_a_named_signal_is_sent_only_to_one_that_catches_it() -> None:
    """A signal that nobody catches would kill: it is not sent."""
    deaf = (process(1, 0, "python t.py", INT),)
    assert audience(deaf, 1, USR1).targets == ()
    assert audience(deaf, 1, INT).hearing is Hearing.HEARS


def test_a_shell_that_dies_of_it_is_not_even_asked_what_the_user_named() -> None:
    """`--signal USR1` before a training has its handler: the bash above it, with a trap on EXIT, would die."""
    tree = (process(1, 0, "bash t.sh", *EVERYTHING), process(2, 1, "python t.py", INT))
    assert audience(tree, 1, USR1).targets == ()
    assert audience((process(1, 0, "bash t.sh", USR1),), 1, USR1).targets[0].pid == 1


def test_the_second_try_is_the_next_signal_that_is_caught() -> None:
    """Another of USR1, USR2, TERM, for those who were told before; INT never follows one that was heard."""
    both = process(1, 0, "python t.py", INT, USR1, TERM)
    assert [target.signal for target in audience((both,), 1, None, {1: {USR1}}).targets] == [TERM]
    assert audience((both,), 1, None, {1: {USR1, TERM}}).targets == ()
    assert audience((process(1, 0, "python t.py", INT, USR1),), 1, None, {1: {USR1}}).targets == ()
    once = process(1, 0, "python t.py", INT, TERM)
    assert [target.signal for target in audience((once,), 1, None, {1: {USR1}}).targets] == [TERM], "USR1 was good for one signal"


def test_the_second_try_asks_nobody_else() -> None:
    """The training that was told is on its way out: a daemon that it has left, or a worker that came later, hears nothing."""
    tree = (process(1, 0, "bash t.sh", INT), process(8, 0, "telemetry", *EVERYTHING), process(9, 1, "python other.py", USR1))
    assert audience(tree, 1, None, {2: {USR1}}).targets == ()


def test_who_is_passed_over_is_told_with_the_reason() -> None:
    """One sentence for each process that stands before or beside the training, none for its helpers."""
    tree = (
        process(1, 0, "timeout 9 bash", TERM),
        process(2, 1, "bash -c x", INT),
        process(3, 2, "python -u t.py", INT, USR1),
        process(4, 3, "python -u t.py", INT, USR1),
        process(5, 2, "python filter.py", INT),
        process(9, 0, "telemetry", USR1),
    )
    found = audience(tree, 1, None)
    assert found.targets == (Target(3, USR1, "python t.py catches it, behind timeout, bash"),)
    assert [one.split(":")[0] for one in found.passed_over] == ["2 bash", "1 timeout", "9 telemetry", "5 python filter.py"]
    assert "INT" in found.passed_over[-1] and "orphan" in found.passed_over[-2]


@st.composite
def trees(draw: st.DrawFn) -> tuple[Process, ...]:
    """Return a tree of any shape: process 1 is the command, those whose parent is 0 or gone are orphans."""
    programs = [
        "bash t.sh",
        "timeout 9 x",
        "python /v/torchrun t.py",
        "tini",
        "python t.py",
        "./a.out",
        "squashfuse",
        "python -m ckptrun",
    ]
    signals = st.frozensets(st.sampled_from([INT, USR1, USR2, TERM, 4, 17]))

    def one(pid: int) -> Process:
        parent = draw(st.integers(0, pid - 1)) if pid > 1 else 0
        return process(pid, parent, draw(st.sampled_from(programs)), *draw(signals), started=pid)

    return tuple(one(pid) for pid in range(1, draw(st.integers(2, 9))))


@settings(deadline=None)
@given(trees(), st.sampled_from([None, None, None, USR1, TERM, INT]))
def test_rules_that_hold_in_every_tree(tree: tuple[Process, ...], wanted: int | None) -> None:
    """Whoever is asked catches it; no launcher but a shell is; nobody below another; INT never beside a signal that is heard."""
    found = audience(tree, 1, wanted)
    by_pid = {one.pid: one for one in tree}
    asked = {target.pid: target.signal for target in found.targets}
    for pid, number in asked.items():
        one = by_pid[pid]
        assert number in one.caught
        assert kind(one.argv) in (Kind.PROGRAM, Kind.SHELL) or pid == 1
        assert kind(one.argv) is not Kind.SHELL or (number != INT and 4 not in one.caught)
        while (one := by_pid.get(one.ppid)) is not None:  # type: ignore[assignment]
            assert one.pid not in asked
            assert kind(one.argv) in (Kind.LAUNCHER, Kind.SHELL)
    assert len(set(asked.values()) - {INT}) == 0 or INT not in asked.values() or wanted == INT
    assert (found.hearing is Hearing.DEAF) == (not asked)


# --- launchers

IS = {
    Kind.SHELL: ["bash", "-bash", "/bin/sh -c x", "busybox sh t.sh", "dash t.sh"],
    Kind.LAUNCHER: [
        *(
            "/usr/bin/env A=1 x",
            "timeout 9 x",
            "tee log",
            "busybox timeout 9 x",
            "/usr/bin/perl -w /usr/bin/parallel x",
            "tini -- x",
        ),
        *(
            "torchrun t.py",
            "python /v/bin/torchrun t.py",
            "python3.11 -I /v/bin/torchrun t.py",
            "python -u -m torch.distributed.run t.py",
        ),
        *(
            "python -X dev -m torch.distributed.launch t.py",
            "python -Xdev -um torch.distributed.run t.py",
            "pypy3 -mtorch.distributed.run",
        ),
        *(
            "python -W ignore -- /v/bin/torchrun t.py",
            "python --check-hash-based-pycs never /v/bin/torchrun",
            "python3.13t /v/bin/torchrun",
        ),
        *("python /s/torch/distributed/run.py t.py", "accelerate launch t.py", "python /v/bin/accelerate launch t.py"),
        *("python /v/bin/accelerate-launch t.py", "python -m accelerate.commands.launch t.py", "python /v/bin/deepspeed t.py"),
        *(
            "python -u -m deepspeed.launcher.launch --world_info=e30= t.py",
            "uv run t.py",
            "uv --offline run python t.py",
            "uvx tool",
        ),
        *(
            "python /opt/conda/bin/conda run -n e x",
            "mamba run x",
            "micromamba run x",
            "poetry -C d run x",
            "python -m pipenv run x",
        ),
        *(
            "pixi run x",
            "hatch run x",
            "apptainer exec i.sif x",
            "starter-suid",
            "Apptainer_runtime_parent",
            "Singularity_runtime_parent",
        ),
        *("appinit", "sinit", "bwrap x", "podman run i x", "enroot start i", "mpirun -n 2 x", "prterun x", "hydra_pmi_proxy --x y"),
        *("python /site/bin/singularity exec i.sif x", "python -m wandb agent s", "nsys profile x"),
    ],
    Kind.PROGRAM: [
        *("python run.py", "python launch.py", "python torchrun.py", "python torchrun/train.py", "/torchrun/bin/python train.py"),
        *(
            "./train",
            "python -c torchrun",
            "python -m train torchrun",
            "python -W torchrun train.py",
            "python - torchrun",
            "python",
        ),
        *(
            "python train.py -m torch.distributed.run",
            "python -m torch.distributed.run.mine",
            "python time",
            "python script",
            "python -m",
        ),
        *("accelerate config", "python accelerate t.py", "uv pip install x", "conda install run-time", "conda list -- run"),
        *(
            "python -m ckptrun -- x",
            "python /v/bin/ckptrun -- x",
            "ckptrun -- x",
            "wandb sync run",
            "pythonic torchrun",
            "python-torchrun x",
        ),
        *("perl t.pl", "perl", "/opt/bash/train"),
    ],
    Kind.ATTENDANT: [
        "squashfuse_ll i.sif /m",
        "wandb-core --port 1",
        "python /v/bin/tensorboard --logdir d",
        "python -m tensorboard.main",
    ],
}


@pytest.mark.parametrize(("line", "expected"), [(line, one) for one, lines in IS.items() for line in lines])
def test_kinds(line: str, expected: Kind) -> None:
    """A command line is what it is by the whole name of its program, or of the script or module that its interpreter runs."""
    assert kind(process(1, 0, line).argv) is expected


@settings(deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=6), max_size=6), st.sampled_from(["", "python", "perl", "busybox"]))
def test_any_command_line_is_of_some_kind(words: list[str], program: str) -> None:
    """Whatever programs call themselves: a kind, and a name to tell people."""
    argv = tuple([program, *words] if program else words)
    assert isinstance(kind(argv), Kind)
    assert name(argv)


def test_what_is_announced() -> None:
    """The command names the training, or the launcher whose branches will."""
    assert announce(("/v/bin/python3", "-u", "train.py")) == "python3 train.py itself, and nobody below it"
    assert announce(("bash", "-c", "x")).startswith("what bash starts")
    assert subject(("/v/bin/python3", "-u", "train.py")) == "python3 train.py"
    assert subject(("torchrun", "--standalone", "train.py")) == "what torchrun starts"


def test_every_launcher_is_on_the_page() -> None:
    """The reference lists exactly the names that the tables hold."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "who-is-asked.md").read_text()
    rows = [line for line in page.partition("## Launchers")[2].splitlines() if line.startswith("| ")]
    listed = {word.split()[0] for line in rows for word in re.findall(r"`([^`]+)`", line)}
    known = SHELLS | WRAPPERS | INITS | CONTAINERS | MPI | set(TOOLS) | ATTENDANTS
    assert listed == known | {"Apptainer", "Singularity"}


def test_relays_say_what_their_branches_hear() -> None:
    """A relay catches everything; what it says of the training behind it counts. Beside us, our own training counts too."""
    behind = audience((process(1, 0, "srun ckptrun x"), process(2, 1, "python -m ckptrun x", INT, USR1, TERM)), 1, None)
    assert told_by_relays(behind, Hearing.DEAF, beside=False).hearing is Hearing.DEAF
    assert told_by_relays(behind, Hearing.ONLY_INT, beside=False).hearing is Hearing.ONLY_INT
    own = audience((process(1, 0, "python t.py", INT),), 1, None)
    assert told_by_relays(own, Hearing.DEAF, beside=True).hearing is Hearing.ONLY_INT
    assert told_by_relays(own, Hearing.HEARS, beside=True).hearing is Hearing.HEARS


def test_one_that_is_told_by_file_is_spared_int() -> None:
    """A training that looks for asks hears, whatever it catches; a signal that asks is sent all the same, INT is not."""
    for caught, asked in (((), []), ((INT,), []), ((INT, USR1), [USR1])):
        found = told_by_file(audience((process(1, 0, "python t.py", *caught),), 1, None))
        assert ([target.signal for target in found.targets], found.hearing, found.trainings) == (asked, Hearing.HEARS, (1,))


def test_by_which_signal_is_known_before_the_training_has_begun() -> None:
    """As far as it is: the one that the user named, or which ones come into question."""
    assert by("USR2") == "SIGUSR2, if it catches it"
    assert by("auto").startswith("the first of SIGUSR1, SIGUSR2, SIGTERM")
