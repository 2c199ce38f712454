"""PURE. Who gets the ask, with which signal, and why.

Rules:
- On each branch of the tree the training alone is asked: the first process that is no launcher. What is below it is its own affair.
- A launcher is never asked, whatever it catches: GNU `timeout` hands TERM on, `torchrun` ends its workers by it. The one exception
  is a shell with a trap, where nothing below it can be told: then the script is the training.
- bash with a trap on EXIT catches every signal that ends a process, and dies of those without a trap of their own. The kernel shows
  no difference, so such a shell is not asked, not even with a signal that the user named.
- What stands beside the training (`squashfuse`, `wandb-core`) is passed over, and so is a branch that catches INT only while
  another hears: a filter at the end of a pipe would die of it.
- An orphan, whose parent is gone, is either a training that was started in the background or a daemon that one has left behind, and
  nothing about it says which. It is asked only when it can be told more than everybody on the branches of the command itself:
  a signal where those hear none, or INT where those catch nothing. A daemon beside a training that hears is never asked; a
  training in the background of a script that waits is.
- Nobody is sent a signal that he does not catch, before the stopping phase: it would kill him.
- The second try is for those who had the first, with a signal that they have not had.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from ckptrun.link import launchers
from ckptrun.link.launchers import Kind
from ckptrun.words import Hearing, Process

INT, USR1, USR2, TERM = 2, 10, 12, 15
ASKING = (USR1, USR2, TERM)
# ILL, FPE, SYS: a shell catches them only where its trap on EXIT has made it catch all (bash: initialize_terminating_signals).
_TRAPPED_BY_NOBODY = frozenset({4, 8, 31})


class Target(NamedTuple):
    """One process that gets the ask."""

    pid: int
    signal: int
    why: str


class Audience(NamedTuple):
    """The trainings of a tree: who they are, what they hear, who gets which signal, and who does not, with the reasons."""

    hearing: Hearing
    targets: tuple[Target, ...]
    trainings: tuple[int, ...]
    passed_over: tuple[str, ...] = ()


class _Training(NamedTuple):
    """The training of one branch, and the launchers before it."""

    process: Process
    behind: tuple[str, ...]


_NOBODY: Mapping[int, Collection[int]] = {}


def audience(
    processes: tuple[Process, ...], root: int, wanted: int | None, told: Mapping[int, Collection[int]] = _NOBODY
) -> Audience:
    """Return who is asked with what.

    `wanted` is the signal that the user named, None for auto: the first of USR1, USR2, TERM that the training catches, else INT.
    `told` are the signals that were sent before, by pid: then only those who had one get another.
    """
    walk = _Walk(processes, root, wanted)
    over, trainings = walk.passed_over, walk.own
    own = _best(walk.own, wanted)
    for orphan in walk.orphans:
        if _can_be_told(orphan.process, wanted) > own:
            trainings.append(orphan)
        else:
            over.append(f"{_who(orphan.process)}: an orphan, and can be told no more than what the command's own branches hold")
    best = _best(trainings, wanted)
    targets = []
    for one in trainings:
        target, why_not = _target(one, wanted, best, told)
        if target is not None:
            targets.append(target)
        else:
            over.append(f"{_who(one.process)}: {why_not}")
    return Audience(_HEARING[best], tuple(targets), tuple(one.process.pid for one in trainings), tuple(over))


def announce(command: tuple[str, ...]) -> str:
    """Return who would be asked, as far as the command alone says."""
    if _only_starts_others(command):
        return f"{subject(command)}: the first process that is no launcher, on each path down from it"
    return f"{subject(command)} itself, and nobody below it"


def subject(command: tuple[str, ...]) -> str:
    """Return who would be asked, in two or three words."""
    name = launchers.name(command)
    return f"what {name} starts" if _only_starts_others(command) else name


def by(signal: str) -> str:
    """Return by which signal, as far as that is known before the training has begun; `signal` as in `--signal`."""
    return (
        "the first of SIGUSR1, SIGUSR2, SIGTERM, SIGINT that it catches" if signal == "auto" else f"SIG{signal}, if it catches it"
    )


def _only_starts_others(command: tuple[str, ...]) -> bool:
    return launchers.kind(command) in (Kind.SHELL, Kind.LAUNCHER)


def told_by_file(found: Audience) -> Audience:
    """Return the audience of a training that looks for asks in its mailbox: it hears, and is spared an INT that would end it."""
    return found if found.hearing is Hearing.HEARS else found._replace(hearing=Hearing.HEARS, targets=())


def told_by_relays(found: Audience, hearing: Hearing, *, beside: bool) -> Audience:
    """Return the audience whose trainings stand behind relays, of which the best can be told `hearing`.

    A relay itself catches everything; what it says of its branch is what counts. `beside`: the relays are no part of our own tree,
    whose training counts too.
    """
    both = _HEARING[max(_HEARING.index(hearing), _HEARING.index(found.hearing))]
    return found._replace(hearing=both if beside else hearing)


# What a training can be told: nothing, INT at a moment when nothing is lost by it, or a signal that it waits for.
_HEARING = (Hearing.DEAF, Hearing.ONLY_INT, Hearing.HEARS)
_NOTHING, _ONLY_INT, _HEARS = range(3)


def _best(trainings: list[_Training], wanted: int | None) -> int:
    return max((_can_be_told(one.process, wanted) for one in trainings), default=_NOTHING)


def _can_be_told(process: Process, wanted: int | None) -> int:
    if _signals(process, wanted):
        return _HEARS
    return _ONLY_INT if wanted is None and INT in process.caught else _NOTHING


def _signals(process: Process, wanted: int | None) -> list[int]:
    """Return the signals that the process waits for, the best first."""
    signals = [number for number in (ASKING if wanted is None else (wanted,)) if number in process.caught]
    if launchers.kind(process.argv) is not Kind.SHELL:
        return signals
    # bash catches INT by itself while it waits for a program: that is no trap.
    return [] if process.caught & _TRAPPED_BY_NOBODY else [number for number in signals if number != INT]


def _target(training: _Training, wanted: int | None, best: int, told: Mapping[int, Collection[int]]) -> tuple[Target | None, str]:
    """Return what is sent to a training, or why nothing is."""
    process = training.process
    had = told.get(process.pid, ())
    if told and not had:
        return None, "not asked the first time"
    signals = _signals(process, wanted)
    if not signals and best == _ONLY_INT and INT in process.caught:
        signals = [INT]
    left = [number for number in signals if number not in had]
    if left:
        catches = f"handed on to {process.stands_for}" if process.stands_for else f"{launchers.name(process.argv)} catches it"
        return Target(process.pid, left[0], f"{catches}{_behind(training.behind)}"), ""
    if had:
        return None, "catches no other"
    return None, "catches only INT, and another hears" if INT in process.caught and best == _HEARS else "catches nothing of it"


def _behind(names: tuple[str, ...]) -> str:
    return f", behind {', '.join(names)}" if names else ""


def _who(process: Process) -> str:
    return f"{process.pid} {launchers.name(process.argv)}"


class _Walk:
    """A walk through the tree: the trainings on the command's own branches, those of orphans, and who was passed over."""

    def __init__(self, processes: tuple[Process, ...], root: int, wanted: int | None) -> None:
        self._root, self._wanted = root, wanted
        self._children: dict[int, list[Process]] = {}
        self.own: list[_Training] = []
        self.orphans: list[_Training] = []
        self.passed_over: list[str] = []
        for process in processes:
            self._children.setdefault(process.ppid, []).append(process)
        alive = {process.pid for process in processes}
        for process in processes:
            if process.pid == root:
                self.own += self._below(process, ())
            elif process.ppid not in alive:  # its parent is gone: we, a subreaper, have adopted it
                self.orphans += self._below(process, ())

    def _below(self, process: Process, behind: tuple[str, ...]) -> list[_Training]:
        """Return the trainings of the branch that begins with this process."""
        kind = Kind.PROGRAM if process.stands_for else launchers.kind(process.argv)
        if kind is Kind.ATTENDANT and process.pid != self._root:
            self.passed_over.append(f"{_who(process)}: stands beside the training")
            return []
        if kind in (Kind.PROGRAM, Kind.ATTENDANT):
            return [_Training(process, behind)]
        through = (*behind, launchers.name(process.argv))
        below = [found for child in self._started_by(process, through) for found in self._below(child, through)]
        if kind is Kind.SHELL and _best(below, self._wanted) < _HEARS and _signals(process, self._wanted):
            return [_Training(process, behind)]
        self.passed_over.append(f"{_who(process)}: a {kind.value}")
        return below

    def _started_by(self, launcher: Process, through: tuple[str, ...]) -> list[Process]:
        """Return the children that a launcher has started; what an init has adopted since then are orphans."""
        children = sorted(self._children.get(launcher.pid, ()), key=lambda child: (child.started, child.pid))
        if not launchers.adopts(launcher.argv):
            return children
        for adopted in children[1:]:
            self.orphans += self._below(adopted, through)
        return children[:1]
