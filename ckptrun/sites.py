"""Site profiles: what a cluster has and what it does not allow, one small YAML file each.

Rules of this file.
- A person's own profile wins over one of /etc, and that over one that came with ckptrun.
- Scalars are texts until their key says otherwise: for YAML 1.1 `12:00:00` is the number 43200.
- Every mistake of a file is told at once, with its line and the nearest key. A file never runs anything.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ckptrun import durations
from ckptrun.errors import UsageError
from ckptrun.site import CONTAINERS, GPU_OPTIONS, Advice, Limits, Site

if TYPE_CHECKING:
    from importlib.abc import Traversable

_IMAGES = ("python", "pytorch", "tensorflow")
_MOST_BYTES = 1 << 20
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


def shipped() -> Traversable:
    """Return the folder `slurm-templates`, as it was installed or as it stands in a clone."""
    from importlib.resources import files
    from pathlib import Path

    installed = files("ckptrun") / "_templates"
    return installed if installed.is_dir() else Path(__file__).parents[1] / "slurm-templates"


def folders() -> tuple[str, ...]:
    """Return where people keep profiles of their own, the strongest first."""
    own = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(own, "ckptrun", "sites"), "/etc/ckptrun/sites"


def names() -> tuple[str, ...]:
    """Return the names of all profiles, sorted."""
    found = {entry.name for entry in (shipped() / "sites").iterdir()}
    for folder in folders():
        try:
            found |= set(os.listdir(folder))
        except OSError:
            continue
    return tuple(sorted(name[:-5] for name in found if name.endswith(".yaml") and re.fullmatch(_NAME, name[:-5])))


def load(name: str) -> Site:
    """Return a site's profile. Raises UsageError: there is none of that name, or with every mistake in its file."""
    for folder in folders():
        path = os.path.join(folder, f"{name}.yaml")
        if re.fullmatch(_NAME, name) and os.path.lexists(path):
            return read(name, _content(path), path)
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f", did you mean {close[0]}?" if close else ""
        raise UsageError(
            f"--site {name!r}: no such site{hint or ','} there are {', '.join(names())}; your own stand in {folders()[0]}"
        )
    return read(name, (shipped() / "sites" / f"{name}.yaml").read_text(encoding="utf-8"), f"{name}.yaml")


def read(name: str, text: str, origin: str) -> Site:
    """Return the profile that a text holds; `origin` is what its mistakes are called after. Raises UsageError with all of them."""
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        # What is missing at the end of a file is missing in its last line.
        line = min(error.problem_mark.line, text.rstrip().count("\n")) + 1 if error.problem_mark else 1
        raise UsageError(f"{origin}:{line}: this is no YAML: {error.problem}") from None
    except yaml.reader.ReaderError as error:
        line = text[: int(error.position)].count("\n") + 1
        raise UsageError(f"{origin}:{line}: this is no YAML: {error.reason}") from None
    mistakes: list[str] = []
    values = _mapping(node, _KEYS, origin, "", mistakes) if node is not None else {}
    if not mistakes:
        mistakes = _misfits(values, node, origin)
    if mistakes:
        raise UsageError(*mistakes)
    site = Site(name, **values)
    longest_s = site.limits.time_s
    if longest_s is not None and "time" not in values and durations.parse(site.time) > longest_s:
        return site._replace(time=f"{longest_s:.0f}s")
    return site


def _content(path: str) -> str:
    """Return the text of a file. A pipe would never answer, and a device never end."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UsageError(f"{path} is no file: a profile is a small YAML file")
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > _MOST_BYTES:
        raise UsageError(f"{path} is larger than 1 MiB: that is no profile")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}:{line}: not UTF-8: write the file as plain text") from None


def _misfits(values: Mapping[str, Any], node: Any, origin: str) -> list[str]:
    """Return what is right by itself and does not fit together."""
    longest_s = values["limits"].time_s if "limits" in values else None
    if longest_s is None or "time" not in values or durations.parse(values["time"]) <= longest_s:
        return []
    line = next(key.start_mark.line + 1 for key, _ in node.value if key.value == "time")
    return [f"{origin}:{line}: time: {values['time']} is longer than limits: time, {durations.show(longest_s)}"]


# --- the table of keys, and the walk over a file


class _Key(NamedTuple):
    """One key of a profile: how its node is read, and what a right value looks like."""

    take: Callable[[Any], Any]
    form: str


def _text(node: Any) -> str:
    if node.id != "scalar" or not node.value or any(ord(letter) < 32 for letter in node.value):
        raise ValueError
    return str(node.value)


def _count(node: Any) -> int:
    if not re.fullmatch(r"[1-9]\d{0,5}", _text(node)):
        raise ValueError
    return int(node.value)


def _time(node: Any) -> str:
    durations.parse(_text(node))
    return str(node.value)


def _seconds(node: Any) -> float:
    return durations.parse(_text(node))


def _memory(node: Any) -> str:
    if not re.fullmatch(r"[1-9]\d{0,8}[KMGT]?", _text(node)):
        raise ValueError
    return str(node.value)


def _one_of(*words: str) -> Callable[[Any], str]:
    def take(node: Any) -> str:
        if _text(node) not in words:
            raise ValueError
        return str(node.value)

    return take


def _containers(node: Any) -> tuple[str, ...]:
    if node.id != "sequence" or not node.value:
        raise ValueError
    return tuple(_one_of(*CONTAINERS)(one) for one in node.value)


def _texts(node: Any) -> dict[str, str]:
    if node.id != "mapping":
        raise ValueError
    return {_text(key): _text(value) for key, value in node.value}


_LIMITS = {
    "time": _Key(_seconds, "a duration, as 12:00:00 or 2d"),
    "gpus": _Key(_count, "a number from 1"),
    "gpus-running": _Key(_count, "a number from 1"),
    "jobs-running": _Key(_count, "a number from 1"),
}
_ADVICE = {"cpus-per-gpu": _Key(_count, "a number from 1"), "mem-per-gpu": _Key(_memory, "a size, as 24G")}
_IMAGE_KEYS = {kind: _Key(_text, "the path of an image") for kind in _IMAGES}
_KEYS = {
    "description": _Key(_text, "one line"),
    "partition": _Key(_text, "the name of a partition"),
    "time": _Key(_time, "a duration, as 12:00:00 or 2d"),
    "gpu-option": _Key(_one_of(*GPU_OPTIONS), " or ".join(GPU_OPTIONS)),
    "containers": _Key(_containers, f"a list of {', '.join(CONTAINERS)}"),
    "images": _Key(_texts, "a mapping"),
    "limits": _Key(_texts, "a mapping"),
    "advice": _Key(_texts, "a mapping"),
    "service-windows": _Key(_text, "the address of a page"),
    "not-allowed": _Key(_texts, "a mapping: a setting, and why it is not allowed"),
}
_PARTS = {"images": (_IMAGE_KEYS, dict), "limits": (_LIMITS, Limits), "advice": (_ADVICE, Advice)}


def _mapping(node: Any, keys: Mapping[str, _Key], origin: str, inside: str, mistakes: list[str]) -> dict[str, Any]:
    """Return the values of a mapping by the names of their fields, and add what is wrong with it to `mistakes`."""
    found: dict[str, Any] = {}
    if node.id != "mapping":
        what = inside.removesuffix(": ") or "a profile"
        mistakes.append(f"{origin}:{node.start_mark.line + 1}: {what} is a mapping: `key: value` on each line")
        return found
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.id != "scalar":
            mistakes.append(f"{origin}:{line}: {inside}a key is one word")
            continue
        name = str(key.value)
        field = name.replace("-", "_") if keys is not _LIMITS or name != "time" else "time_s"
        if name not in keys:
            close = difflib.get_close_matches(name, keys, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(keys)}"
            mistakes.append(f"{origin}:{line}: {inside}{name}: no such key, {hint}")
        elif field in found:
            mistakes.append(f"{origin}:{line}: {inside}{name} stands here a second time")
        elif name in _PARTS and not inside:
            part, kind = _PARTS[name]
            found[field] = kind(**_mapping(value, part, origin, f"{name}: ", mistakes))
        else:
            try:
                found[field] = keys[name].take(value)
            except ValueError:
                mistakes.append(f"{origin}:{line}: {inside}{name} is {keys[name].form}")
    return found
