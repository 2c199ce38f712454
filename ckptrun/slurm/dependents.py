"""PURE. Who waits for a link's job, and what they are to wait for once its successor stands in the queue.

Sources: what Slurm 22.05.8 shows in `%E` and takes back, recorded in tests/slurm/test_dependents.py. An update replaces the whole
expression, so that every term is handed back; a term on a job that is not known any more counts as fulfilled, so that one which has
failed must not be handed back.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from typing import NamedTuple

from ckptrun.slurm.parse import JobId, Queued

# `after` waits for a start, and ours has started; `singleton` goes by name; the others are not about how a job ended.
_MOVED = frozenset({"afterok", "afternotok", "afterany", "aftercorr"})
_PART = re.compile(r"(\d+(?:_(?:\d+|\*))?)(\+\d+)?(?:\(([a-z]+)\))?")
# A waiting array is `7_[1-4,9%2]`. Its throttle is no part of its address, and a list that was cut short is none.
_ARRAY = re.compile(r"(\d+)_\[([\d,:-]+)(?:%\d+)?\]")


class Ours(NamedTuple):
    """A job as others name it: its address, and for an array task the job id that it has of its own."""

    job: JobId
    bare: int | None = None

    def is_named(self, text: str) -> bool:
        """Return whether a term's id is this job alone. An array's own id is never shown without `_*`."""
        return text in (str(self.job), str(self.bare))

    def is_in(self, text: str) -> bool:
        """Return whether a term's id is the whole array that this job is a task of."""
        return self.job.task is not None and text == f"{self.job.number}_*"


class Term(NamedTuple):
    """One condition: `afterok` on a job, with `+minutes` for `after`, and what has become of it. `singleton` has no job."""

    kind: str
    job: str = ""
    minutes: str = ""
    state: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.job}{self.minutes}" if self.job else self.kind


class Move(NamedTuple):
    """A waiting job, and what it is to wait for; empty where that cannot be said in Slurm's words, and then `why`.

    `shared`: it waits for other jobs, too, whose links may give it another expression in the same moment.
    """

    job: str
    expression: str
    why: str = ""
    shared: bool = False


def terms(expression: str) -> tuple[Term, ...]:
    """Read `%E`, one term a job. What is not understood is a term of its own, as it stands."""
    found: list[Term] = []
    for text in re.split(r"[,?]", expression):
        kind, _, jobs = text.partition(":")
        parts = [_PART.fullmatch(part) for part in jobs.split(":")] if jobs else []
        if parts and None not in parts:
            found += [Term(kind, part[1], part[2] or "", part[3] or "") for part in parts if part is not None]
        elif (alone := re.fullmatch(r"([a-z]+)\(([a-z]+)\)", text)) is not None:
            found.append(Term(alone[1], state=alone[2]))
        elif text and text != "(null)":
            found.append(Term(text))
    return tuple(found)


def moved(job: str, expression: str, ours: Ours, successor: JobId) -> Move | None:
    """Return what a waiting job is to wait for instead; None where nothing of it has to change.

    A whole array that we are a task of stays, and the successor is added: the other tasks have chains of their own.
    """
    any_of = "?" in expression
    before = terms(expression)
    if not any(_is_about(term, ours) for term in before) or not _can_come_true(before, ours, any_of=any_of):
        return None
    after: list[str] = []
    for term in before:
        added = str(Term(term.kind, str(successor)))
        if not _is_about(term, ours):
            after += [str(term)] if term.state != "failed" else []
        elif ours.is_named(term.job):
            after.append(added)
        elif any_of:
            return Move(job, "", f"it waits for the array {term.job} or for something else")
        elif term.kind == "aftercorr":
            return Move(job, "", f"each of its tasks waits for the same task of {term.job}")
        else:
            after += [str(term), added]
    after = list(dict.fromkeys(after))
    if after == [str(term) for term in before]:
        return None
    return Move(job, ("?" if any_of else ",").join(after), shared=len(after) > 1)


def _is_about(term: Term, ours: Ours) -> bool:
    return term.kind in _MOVED and (ours.is_named(term.job) or ours.is_in(term.job))


def _can_come_true(found: Iterable[Term], ours: Ours, *, any_of: bool) -> bool:
    """Return whether a job may still start: where all terms must come true, none of the others' has failed."""
    return any_of or not any(term.state == "failed" and not ours.is_named(term.job) for term in found)


def left_behind(move: Move, job: JobId, successor: JobId | None) -> str:
    """Return that a job still waits for ours, and what a person types who wants it to wait for the chain."""
    expression = move.expression or f"afterok:{successor}"
    command = shlex.join(["scontrol", "update", f"JobId={move.job}", f"Dependency={expression}"])
    return f"job {move.job} still waits for job {job} ({move.why}); to let it wait for the chain, type: {command}"


def moves(lines: Iterable[Queued], ours: Ours, successor: JobId, chain: str) -> tuple[Move, ...]:
    """Return what is to change for those who wait for us. `chain` is the folder of our links: its own jobs stay as they are."""
    found = (
        moved(address(line.job), line.dependency, ours, successor)
        for line in lines
        if line.waiting and not line.command.startswith(f"{chain}/")
    )
    return tuple(move for move in found if move is not None)


def waited_for(lines: Iterable[Queued], job: JobId, chain: str) -> tuple[str, ...]:
    """Return the jobs outside our chain that wait for the end of one of its jobs and may still start."""
    ours = Ours(job, job.number)
    return tuple(
        line.job for line in lines if line.waiting and not line.command.startswith(f"{chain}/") and _waits(line.dependency, ours)
    )


def _waits(expression: str, ours: Ours) -> bool:
    found = terms(expression)
    return any(_is_about(term, ours) for term in found) and _can_come_true(found, ours, any_of="?" in expression)


def address(job: str) -> str:
    """Return how `scontrol update` names a waiting job: an array's tasks where the list is whole, else the array."""
    array = _ARRAY.fullmatch(job)
    return f"{array[1]}_[{array[2]}]" if array else job.partition("_[")[0]
