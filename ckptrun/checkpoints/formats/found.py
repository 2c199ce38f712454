"""PURE. What a check of one file or folder found: whole, truncated or not checked, and why, for people."""

from __future__ import annotations

from typing import NamedTuple

from ckptrun.words import Verdict


class Found(NamedTuple):
    """One finding: the verdict, a clause that says why, and the name of the format."""

    verdict: Verdict
    why: str
    form: str = ""

    @property
    def is_truncated(self) -> bool:
        """Return whether something is missing or wrong."""
        return self.verdict is Verdict.TRUNCATED


class Cut(ValueError):
    """The bytes end where the format says that more must follow, or they cannot be what the format says."""


def whole(why: str) -> Found:
    """Return a finding of a whole one."""
    return Found(Verdict.WHOLE, why)


def truncated(why: str) -> Found:
    """Return a finding of a truncated one."""
    return Found(Verdict.TRUNCATED, why)


def unchecked(why: str) -> Found:
    """Return a finding of one that could not be proved either way."""
    return Found(Verdict.NOT_CHECKED, why)


def all_of(parts: list[tuple[str, Found]]) -> Found:
    """Return what the findings of named parts say together: the first truncated part decides, unchecked ones are counted."""
    for name, found in parts:
        if found.is_truncated:
            return truncated(f"{name}: {found.why}")
    checked = [name for name, found in parts if found.verdict is Verdict.WHOLE]
    if not checked:
        return unchecked("none of its files is in a format that is checked")
    rest = len(parts) - len(checked)
    return whole(f"{number_of(len(checked), 'file')} whole" + (f", {rest} in formats that are not checked" if rest else ""))


def number_of(count: int, thing: str) -> str:
    """Return a number with its noun."""
    return f"{count} {thing}{'s' if count != 1 else ''}"
