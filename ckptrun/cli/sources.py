"""Where options come from: the command line, CKPTRUN_OPTIONS, `--config FILE`, the user's file, the site's file.

Two stats are all that a start pays for files that are not there; YAML is imported only for one that is.
"""

from __future__ import annotations

import os
import shlex
from typing import Any, NamedTuple

from ckptrun.cli import options, settings
from ckptrun.cli.settings import SITE_FILE, Setting
from ckptrun.errors import UsageError

# Set by the submitter of a later link. Options hold for the chain as its first link resolved them, so that a file that somebody has
# broken meanwhile is no matter of the links that follow.
_LATER_LINK = "SLURM_CKPTRUN_BASE"


class Sources(NamedTuple):
    """All that was set: what counts, by key; the values; the site's limits; what was cut to them; and every mistake."""

    counts: dict[str, tuple[Setting, ...]]
    values: dict[str, Any]
    limits: tuple[Setting, ...]
    told: tuple[str, ...]
    mistakes: tuple[str, ...]
    files: tuple[str, ...] = ()


def gather(given: tuple[Setting, ...] = (), mistakes: list[str] | None = None, *, array: bool = False) -> Sources:
    """Add to what stood on the command line what stands elsewhere, and keep to the site's limits. Raises nothing: see `mistakes`.

    `array`: what is read is meant for the tasks of an array, each of which will know what `%a` is.
    """
    wrong = list(mistakes or ())
    layers = [given, _variable(wrong, array)]
    limits: tuple[Setting, ...] = ()
    read = []
    for path in [] if _LATER_LINK in os.environ else _files(layers):
        from ckptrun.cli import config_file

        found = config_file.read(path, array=array)
        read.append(path)
        layers.append(found.settings)
        limits += found.limits
        wrong += found.mistakes
    counts, told = settings.within(settings.layered(layers), limits)
    values = settings.values(counts, options.REPEATABLE)
    for limit in limits:
        if limit.key == "max_links":
            values["most_links"] = limit.value
    return Sources(counts, values, limits, told, tuple(wrong), tuple(read))


def resolve(given: tuple[Setting, ...], mistakes: list[str] | None = None, *, array: bool = False) -> Sources:
    """Gather, and raise UsageError with every mistake of every place."""
    found = gather(given, mistakes, array=array)
    if found.mistakes:
        raise UsageError(*found.mistakes)
    return found


def within_limits(given: tuple[Setting, ...]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the values of what was given, cut to the site's limits, and what was cut. Raises UsageError for a broken file.

    For a chain that goes on: nothing else is read, because its other options are its own.
    """
    limits: tuple[Setting, ...] = ()
    if given and os.path.exists(SITE_FILE):
        from ckptrun.cli import config_file

        found = config_file.read(SITE_FILE)
        if found.mistakes:
            raise UsageError(*found.mistakes)
        limits = found.limits
    asked = {setting.key for setting in given}
    counts, told = settings.within(settings.layered([given]), [limit for limit in limits if limit.key in asked])
    return settings.values(counts, options.REPEATABLE), told


def _variable(mistakes: list[str], array: bool) -> tuple[Setting, ...]:
    text = os.environ.get(settings.VARIABLE, "")
    if not text:
        return ()
    try:
        words = shlex.split(text.replace("%a", "0") if array else text)
    except ValueError as error:
        mistakes.append(f"{settings.VARIABLE}: {error} in {text!r}")
        return ()
    before = len(mistakes)
    found = options.read(words, settings.VARIABLE, mistakes)
    if found.rest and len(mistakes) == before:
        mistakes.append(f"{settings.VARIABLE}: {found.rest[0]!r} is no option; the command stands on the command line")
    return found.given


def _files(layers: list[tuple[Setting, ...]]) -> list[str]:
    """Return the files to read, the one that counts most first."""
    named = settings.layered(layers).get("config", ())
    own = os.environ.get("XDG_CONFIG_HOME", "")
    own = own if own.startswith("/") else os.path.join(os.path.expanduser("~"), ".config")
    present = [path for path in (f"{own}/ckptrun/config.yaml", SITE_FILE) if os.path.exists(path)]
    return [*(one.value for one in named[-1:]), *present]
