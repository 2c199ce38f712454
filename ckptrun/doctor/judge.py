"""PURE. A job script -> what is wrong with it, and the script as it should be.

A correction may uncover another mistake (`exec` is missed only when `| tee` is gone), so that a script is corrected until nothing
changes any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ckptrun.doctor import body_rules, option_rules, path_rules
from ckptrun.doctor.findings import Finding, Severity, corrected
from ckptrun.doctor.script import Script, World

RULES: tuple[Callable[[Script], Iterator[Finding]], ...] = (*option_rules.RULES, *body_rules.RULES, *path_rules.RULES)
_ROUNDS = 12


def judge(text: str, world: World) -> tuple[Finding, ...]:
    """Return the findings in the order of their lines."""
    script = Script(text, world)
    found = [finding for rule in RULES for finding in rule(script)]
    return tuple(sorted(found, key=lambda one: (one.line, one.rule)))


def works(findings: tuple[Finding, ...]) -> bool:
    """Return whether a chain would work."""
    return all(finding.severity is not Severity.ERROR for finding in findings)


def fixed(text: str, look: Callable[[str], World]) -> str:
    """Return the script with everything corrected that can be; `look` says what its judgement needs of the world."""
    text = text.replace("\r\n", "\n")
    for _ in range(_ROUNDS):
        edits = [edit for finding in judge(text, look(text)) for edit in finding.edits]
        if not edits:
            break
        text = corrected(text, edits)
    return text
