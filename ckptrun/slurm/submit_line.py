"""PURE. The command line of a submission, as accounting has it: its words joined by one blank, without their quotes.

Rule of this file: read as typed, or refused, never wrong. A line can be cut into words in several ways where a value may hold a
blank. All of them are tried, and one is taken only if it is the only one that fits what the job shows. A value with a blank in
it must be shown by the job word for word; a value without one must not be contradicted. What follows the options must be what the
record shows as the job's command. So a line is refused, too, when somebody has changed the job since, and the record decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ckptrun.slurm.read_back import BY_NAME as READABLE
from ckptrun.slurm.read_back import Shown, fits, unexplained
from ckptrun.slurm.sbatch_options import BY_NAME as OPTIONS
from ckptrun.slurm.sbatch_options import Given, Option, Takes, effective, given, opening

_TRIES = 20_000


class Job(NamedTuple):
    """What the readings of a line are held against: the record's Command=, the script's text, what else the job shows.

    `elsewhere` are the options of the script and of the SBATCH_* variables.
    """

    command: str
    script: str
    shown: Shown
    elsewhere: frozenset[str] = frozenset()


class Refusal(NamedTuple):
    """Why a line is not taken, as the end of a sentence that begins with the line."""

    why: str


def read_line(line: str, job: Job) -> tuple[Given, ...] | Refusal:
    """Return the options of a submission as they were typed, or why they cannot be known for certain."""
    program, *pieces = line.split(" ")
    if program.rpartition("/")[2] != "sbatch":
        return Refusal("is not sbatch's")
    search = _Search(pieces, job)
    found = list(dict.fromkeys(search.readings(0, ())))
    if search.tries <= 0:
        return Refusal("can be read in too many ways")
    found = [options for options in found if _fits_in_the_end(options, job)]
    if len(found) > 1:
        found = [options for options in found if not unexplained({*effective(options), *job.elsewhere}, job.shown)]
    if len({_what_counts(options) for options in found}) > 1:
        return Refusal("can be read in more than one way")
    if found and any(_is_unproved(one) for one in found[0]):
        return Refusal("has a value with a blank that the job does not show")
    return found[0] if found else Refusal("does not fit what the job is now")


def _is_unproved(option: Given) -> bool:
    """Return whether a value may have swallowed what stands behind it: no job shows it, and nothing else contradicts it."""
    return " " in (option.value or "") and option.name not in (*READABLE, "wrap")


def _what_counts(options: tuple[Given, ...]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, value) for name, value in effective(options).items() if OPTIONS[name].goes_on))


def _fits_in_the_end(options: tuple[Given, ...], job: Job) -> bool:
    return all(_can_be(name, value, job) is not False for name, value in effective(options).items())


def _can_be(name: str, value: str, job: Job) -> bool | None:
    if name == "wrap":
        return job.command == "(null)" and _wrapped(job.script) == value.rstrip("\n")
    verdict = fits(name, value, job.shown)
    return verdict if " " not in value or name not in READABLE else verdict is True


def _wrapped(script: str) -> str | None:
    """Return the text that `--wrap` was given: behind a comment and an empty line."""
    head, empty, text = script.partition("\n\n")
    return text.rstrip("\n") if empty and head.startswith("#!/bin/sh\n#") else None


class _Search:
    """All ways to cut the pieces between blanks into words that sbatch would take."""

    def __init__(self, pieces: list[str], job: Job) -> None:
        self._pieces, self._job = pieces, job
        self.tries = _TRIES

    def readings(self, at: int, found: tuple[Given, ...]) -> Iterator[tuple[Given, ...]]:
        """Return the options of each reading of what begins at piece `at`."""
        self.tries -= 1
        if self.tries <= 0:
            return
        piece = self._pieces[at] if at < len(self._pieces) else None
        if piece == "--":
            if self._is_command(at + 1):
                yield found
        elif piece is None or not piece.startswith("-") or piece == "-":
            if self._is_command(at):
                yield found
        else:
            for option, behind in self._option(at):
                if self._may_be(option[-1], behind):
                    yield from self.readings(behind, (*found, *option))

    def _is_command(self, at: int) -> bool:
        rest = " ".join(self._pieces[at:])
        if at >= len(self._pieces):
            return self._job.command == "(null)"
        return self._job.command == rest or self._job.command.endswith(f"/{rest}")

    def _may_be(self, option: Given, behind: int) -> bool:
        """Return whether a value is worth following: one that is wrong now may be overridden by a later one."""
        if _can_be(option.name, option.value or "", self._job) is not False:
            return True
        return any((opened := opening(piece)) is not None and opened.option.name == option.name for piece in self._pieces[behind:])

    def _option(self, at: int) -> Iterator[tuple[tuple[Given, ...], int]]:
        """Return the ways to read an option at piece `at`, with the piece behind it."""
        opened = opening(self._pieces[at])
        if opened is None:
            return
        option = opened.option
        if option.takes is Takes.NOTHING or (option.takes is Takes.MAYBE and not opened.inside):
            yield (*opened.before, given(option, None)), at + 1
            return
        first = opened.value if opened.inside else None
        for value, behind in self._values(option, first, at + 1):
            yield (*opened.before, given(option, value)), behind
            if first is None and option.free and option.name in READABLE and not self._pieces[at].startswith("--"):
                yield (*opened.before, given(option, f" {value}")), behind  # one word: '-J name'

    def _values(self, option: Option, first: str | None, at: int) -> Iterator[tuple[str, int]]:
        last = len(self._pieces) if option.free else at + (first is None)
        for behind in range(at + (first is None), last + 1):
            words = self._pieces[at:behind]
            if behind <= len(self._pieces):
                yield " ".join(words if first is None else [first, *words]), behind
