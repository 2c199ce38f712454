"""PURE. The options as link 1 resolved them, and their form in `chain.json`.

What is not set is None and the reader of the value knows the default: a default may depend on what else is set
(`max_links` is 5 where progress cannot be seen).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ckptrun import durations


class Plan(NamedTuple):
    """One chain's options. Durations are seconds, paths are absolute, `signal` is `auto` or a name like `USR1`."""

    command: tuple[str, ...]
    checkpoints: tuple[str, ...] = ()
    resume_flag: str | None = None
    signal: str = "auto"
    margin_s: float | None = None
    limit_s: float | None = None
    max_links: int | None = None
    max_time_s: float | None = None
    retries: int = 0
    done_file: str | None = None
    again_exit: int | None = None
    continued_exit: int = 0
    fresh: bool = False
    stop_file: str | None = None
    chain: str | None = None
    continue_with: str = "auto"
    successor: str | None = None
    on_end: str | None = None
    most_links: int | None = None  # the site's limit, which is not the same as somebody's wish: the default may be less

    def bound(self, *, sees_progress: bool) -> int:
        """Return how many starts the chain may have: fewer where nobody can see whether it gets anywhere."""
        wanted = self.max_links if self.max_links is not None else (20 if sees_progress else 5)
        return wanted if self.most_links is None else min(wanted, self.most_links)


def to_json(plan: Plan) -> dict[str, Any]:
    """Return the plan as `chain.json` keeps it."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plan._asdict().items()}


def from_json(data: dict[str, Any]) -> Plan:
    """Return the plan that `to_json` gave. Unknown keys, written by a newer version, are left out."""
    known = {name: data[name] for name in Plan._fields if name in data}
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in known.items()}
    return Plan(**values)


def overridden(data: Mapping[str, Any], facts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the options that hold now: the chain's, and over them those that persons gave when they went on with it, in order."""
    found = dict(data)
    for one in facts:
        options = one.get("options")
        if isinstance(options, dict):
            found |= options
    return found


_OPTIONS = {"checkpoints": "checkpoint", "margin_s": "margin", "limit_s": "time-limit", "max_time_s": "max-time"}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return what a person changes when going on with a chain, a line for each option, in the command line's words."""
    changed = [name for name, value in after.items() if before.get(name) != value]
    return [f"--{_option(name)}: {_shown(name, after[name])} instead of {_shown(name, before.get(name))}" for name in changed]


def _option(name: str) -> str:
    return _OPTIONS.get(name, name).replace("_", "-")


def _shown(name: str, value: Any) -> str:
    if value is None or value == []:
        return "the default"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return durations.show(value) if name.endswith("_s") else str(value)


_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh"})
_PARAMETER = r"\$(?:[@*0-9]|\{[@*0-9])"


def resume_words(flag: str, *, checkpoint: str, link: int, chain: str) -> tuple[str, ...]:
    """Return the words that a resuming start appends. Filled in after the split: a path with a blank stays one word."""
    facts = {"{checkpoint}": checkpoint, "{link}": str(link), "{chain}": chain}
    return tuple(re.sub(r"\{(?:checkpoint|link|chain)\}", lambda found: facts[found[0]], word) for word in shlex.split(flag))


def swallowed_by_shell(command: tuple[str, ...]) -> str | None:
    """Return the corrected command line where appended words would not arrive, else None.

    `bash -c TEXT word` gives the word to TEXT as `$0`, where nobody looks for it.
    """
    for place, word in enumerate(command[:-1]):
        if word.rsplit("/", 1)[-1] not in _SHELLS:
            continue
        for at in range(place + 1, len(command) - 1):
            if not command[at].startswith("-"):
                break
            if re.fullmatch(r"-[a-z]*c[a-z]*", command[at]):
                text = command[at + 1]
                if re.search(_PARAMETER, text):
                    return None
                return shlex.join([*command[: at + 1], f'{text.rstrip().rstrip(";")} "$@"', word.rsplit("/", 1)[-1]])
    return None
