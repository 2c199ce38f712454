"""Random trees of real processes: exactly the trainings are asked, and everything lives and goes on to its next line."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.end_to_end.harness import CHILDREN, Ckptrun

INT, USR1, USR2, TERM = (int(number) for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM))
NODE = [sys.executable, "-I", "-S", str(CHILDREN / "node.py")]


class Training(NamedTuple):
    """A process that is no launcher: the signals that it catches, and whether it has forked a helper with the same handlers."""

    hears: frozenset[int]
    helper: bool


class Wrapper(NamedTuple):
    """A real program before one command."""

    words: tuple[str, ...]
    below: object


class Shell(NamedTuple):
    """A real shell: what it starts and waits for, what it starts in the background of a shell that is gone, its trap."""

    program: str
    below: tuple[object, ...]
    orphans: tuple[object, ...]
    trap: str


WRAPPERS = [
    *(("env", "A=1"), ("nice", "-n", "1"), ("timeout", "300"), ("setsid", "--wait"), ("stdbuf", "-oL"), ("nohup",)),
    *(("timeout", "--foreground", "300"), ("nice", "timeout", "300"), ("env", "bash", "-c", '"$@"; true', "bash")),
]
# Most programs catch nothing, or INT as every Python does.
QUIET = st.sampled_from([frozenset(), frozenset({INT})])
HEARS = st.one_of(QUIET, st.frozensets(st.sampled_from([INT, USR1, USR2, TERM]), min_size=1))


def shells(
    below: st.SearchStrategy[object], least: int, orphans: st.SearchStrategy[object], most: int
) -> st.SearchStrategy[object]:
    """Return shells with at least so many branches, and at most so many orphans."""
    return st.builds(
        Shell,
        st.sampled_from(["bash", "sh"]),
        st.lists(below, min_size=least, max_size=3).map(tuple),
        st.lists(orphans, max_size=most).map(tuple),
        st.sampled_from(["", "", "USR1", "EXIT"]),
    )


def branches(hears: st.SearchStrategy[frozenset[int]]) -> st.SearchStrategy[object]:
    """Return trees of wrappers and shells above trainings that catch such signals."""

    def one_above(below: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
        return st.one_of(st.builds(Wrapper, st.sampled_from(WRAPPERS), below), shells(below, 1, below, 1))

    return st.recursive(st.builds(Training, hears, st.booleans()), one_above, max_leaves=3)


TREES = {
    "any": shells(branches(HEARS), 2, branches(HEARS), 2),
    "what hears is an orphan, if anything": shells(branches(QUIET), 2, branches(HEARS), 2),
}


class Plan:
    """A tree as a command line, and who in it must hear what. The names of the processes are their places in the tree."""

    def __init__(self, tree: object) -> None:
        self.processes: list[str] = []
        self.shells: list[str] = []
        self._own: dict[str, frozenset[int]] = {}
        self._orphans: dict[str, frozenset[int]] = {}
        command, self._own = self._build(tree, "0")
        # The root waits for a second gate: an orphan that is still about to print is not to outlive the link.
        self.command = ["bash", "-c", f"{command} & echo root ready; wait; read -r _ < second; echo root went on"]

    def _build(self, tree: object, name: str) -> tuple[str, dict[str, frozenset[int]]]:
        """Return the command line of a tree and the trainings on its branches."""
        if isinstance(tree, Training):
            self.processes += [name, name + "+"] if tree.helper else [name]
            hears = ",".join(map(str, sorted(tree.hears))) or "-"
            return shlex.join([*NODE, name, "first", hears, *(["--helper"] if tree.helper else [])]), {name: tree.hears}
        if isinstance(tree, Wrapper):
            command, found = self._build(tree.below, name + ".0")
            return f"{shlex.join(tree.words)} {command}", found
        assert isinstance(tree, Shell)
        return self._build_shell(tree, name)

    def _build_shell(self, tree: Shell, name: str) -> tuple[str, dict[str, frozenset[int]]]:
        self.shells.append(name)
        lines, found = [], {}
        if tree.trap == "USR1":
            lines.append(f"trap 'heard={USR1}' USR1")
        elif tree.trap == "EXIT":
            lines.append("trap : EXIT")
        for number, orphan in enumerate(tree.orphans):
            command, trainings = self._build(orphan, f"{name}.o{number}")
            self._orphans |= trainings
            lines.append(f"({command} &)")
        for number, below in enumerate(tree.below):
            command, trainings = self._build(below, f"{name}.{number}")
            found |= trainings
            lines.append(f'{command} & pids="$pids $!"')
        # A trap interrupts `wait`: it waits again until the process is gone.
        lines.append(f"echo {name} ready; for pid in $pids; do while kill -0 $pid 2>/dev/null; do wait $pid; done; done")
        lines.append(f'echo "{name} heard [$heard]"')
        if tree.trap == "USR1" and not any(hears & {USR1, USR2, TERM} for hears in found.values()):
            found = {name: frozenset({USR1})}
        return shlex.join([tree.program, "-c", "\n".join(lines)]), found

    @property
    def heard(self) -> dict[str, str]:
        """Return what each process must have heard when all is over."""
        asked = {name: best(hears) for name, hears in self._asked().items()}
        return {name: f"[{asked.get(name) or ''}]" for name in (*self.processes, *self.shells)}

    def _asked(self) -> dict[str, frozenset[int]]:
        for group in (self._own, self._orphans):
            if any(best(hears) not in (None, INT) for hears in group.values()):
                return {name: hears - {INT} for name, hears in group.items()}
        for group in (self._own, self._orphans):
            if any(INT in hears for hears in group.values()):
                return group
        return {}


def best(hears: frozenset[int]) -> int | None:
    """Return the first of USR1, USR2, TERM, else INT."""
    return next((number for number in (USR1, USR2, TERM, INT) if number in hears), None)


def ask_and_see(tree: object) -> None:
    """Start the tree behind ckptrun, have it asked, let everything go on to its next line, and compare who heard what."""
    plan = Plan(tree)
    with tempfile.TemporaryDirectory() as folder:
        ckptrun = Ckptrun(Path(folder))
        gates = [os.path.join(ckptrun.folder, name) for name in ("first", "second")]
        for gate in gates:
            os.mkfifo(gate)
        first = os.open(gates[0], os.O_RDWR)
        running = ckptrun.start("--", *plan.command)
        for _ in (*plan.processes, *plan.shells, "root"):
            running.until(" ready$")
        running.send(signal.SIGTERM)
        running.until("asking the training to save")
        os.close(first)
        for _ in (*plan.processes, *plan.shells):
            running.until(r" heard \[")
        os.close(os.open(gates[1], os.O_WRONLY))
        text = running.end(75)
        found = dict(re.findall(r"^(\S+) heard (\[.*\])$", text, re.MULTILINE))
        assert found == plan.heard, text
        assert "root went on" in text
        assert ckptrun.events("ended")[0]["exit_code"] == 0


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("kind", TREES)
def test_exactly_the_trainings_hear(kind: str, number: int) -> None:
    """Ten trees: each training gets the first signal that it catches, once; launchers, helpers, daemons, filters get none."""

    @seed(number)
    @settings(max_examples=10, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(TREES[kind].filter(lambda tree: any(heard != "[]" for heard in Plan(tree).heard.values())))
    def trees(tree: object) -> None:
        ask_and_see(tree)

    trees()
