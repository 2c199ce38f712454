"""PURE. What was set, by whom: one value a line, layers of which the higher one counts, and the bounds that a site sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

COMMAND_LINE = "the command line"
VARIABLE = "CKPTRUN_OPTIONS"
SITE_FILE = "/etc/ckptrun/config.yaml"


class Setting(NamedTuple):
    """One value of one option: the option's key, what stood there, how it was read, and where: a file has its line."""

    key: str
    text: str
    value: Any
    source: str


def layered(layers: Sequence[Sequence[Setting]]) -> dict[str, tuple[Setting, ...]]:
    """Return what counts, by key: all that the highest layer says of it. The first layer is the highest.

    `signal: USR1@120` says something of the margin, too: a margin of a layer below does not undo it.
    """
    found: dict[str, tuple[Setting, ...]] = {}
    for layer in layers:
        here: dict[str, tuple[Setting, ...]] = {}
        for setting in layer:
            here[setting.key] = (*here.get(setting.key, ()), setting)
        if found.get("signal") and found["signal"][-1].value[1] is not None:
            here.pop("margin", None)
        found |= {key: settings for key, settings in here.items() if key not in found}
    return found


def values(found: dict[str, tuple[Setting, ...]], repeatable: frozenset[str]) -> dict[str, Any]:
    """Return the values by key: a list for an option that may be given several times, else the last."""
    return {key: [one.value for one in all_] if key in repeatable else all_[-1].value for key, all_ in found.items()}


def within(
    found: dict[str, tuple[Setting, ...]], limits: Sequence[Setting]
) -> tuple[dict[str, tuple[Setting, ...]], tuple[str, ...]]:
    """Return the settings with none above a site's limits, and a sentence for each that was.

    `max_time` without a value would be without bounds: the limit is its value then. The other defaults depend on more than is known
    here, or are the least that can be.
    """
    kept, told = dict(found), []
    for limit in limits:
        own = found.get(limit.key, ())
        if own and own[-1].value > limit.value:
            option = "--" + limit.key.replace("_", "-")
            told.append(
                f"{option} {own[-1].text} ({own[-1].source}) is above this site's limit: {limit.text} counts ({limit.source})"
            )
        if (own and own[-1].value > limit.value) or (not own and limit.key == "max_time"):
            kept[limit.key] = (limit,)
    return kept, tuple(told)
