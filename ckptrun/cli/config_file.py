"""Configuration files: YAML, one key an option, every mistake with its file and line.

Scalars are read as the text that stands there, because each option reads its own text: YAML 1.1 would make 43200 of 12:00:00, and
`--time-limit 43200` something else again. PyYAML is imported only here, when there is a file.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from ckptrun.cli.options import BY_KEY, CONFIGURABLE, LIMITED, Option
from ckptrun.cli.settings import SITE_FILE, Setting

_MOST_BYTES = 1 << 20
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")


class Found(NamedTuple):
    """What one file says: settings, limits, and what is wrong with it."""

    settings: tuple[Setting, ...] = ()
    limits: tuple[Setting, ...] = ()
    mistakes: tuple[str, ...] = ()


def own_file() -> str:
    """Return the path of the user's own file: `$XDG_CONFIG_HOME/ckptrun/config.yaml`, else `~/.config/ckptrun/config.yaml`."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    # A relative path is to be ignored (XDG Base Directory Specification).
    base = base if os.path.isabs(base) else os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(base, "ckptrun", "config.yaml")


def read(path: str, *, array: bool = False) -> Found:
    """Read one file. What cannot be read is a mistake. `array`: the numbers of tasks, `%a`, are not known yet."""
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        return Found(mistakes=(f"{path}: {error.strerror}: this configuration cannot be read",))
    if len(content) > _MOST_BYTES:
        return Found(mistakes=(f"{path} is larger than 1 MiB: that is no configuration",))
    try:
        return parse(content.replace(b"%a", b"0").decode() if array else content.decode(), path)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        return Found(mistakes=(f"{path}, line {line}: not UTF-8: write the file as plain text",))


def parse(text: str, path: str) -> Found:
    """Read a file's text."""
    import yaml

    try:
        node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return Found(mistakes=(f"{path}, line {mark.line + 1 if mark else 1}: {error.problem or error.context}: this is no YAML",))
    except (yaml.YAMLError, RecursionError) as error:
        why = str(error).partition("\n")[0] or "nested too deep"
        return Found(mistakes=(f"{path}, line 1: {why}: this is no YAML",))
    if node is None:
        return Found()
    if not isinstance(node, yaml.MappingNode):
        return Found(mistakes=(f"{path}, line {_line(node)}: write one option a line, as in `max-links: 20`",))
    return _Reader(path).options(node)


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


class _Reader:
    """One file's walk: what was found, and every mistake on the way."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._settings: list[Setting] = []
        self._limits: list[Setting] = []
        self._mistakes: list[str] = []

    def options(self, node: Any) -> Found:
        for key, name, value in self._pairs(node):
            if name == "limits":
                self._read_limits(key, value)
            elif (option := BY_KEY.get(name)) is not None and option in CONFIGURABLE:
                self._read_option(option, value)
            elif option is not None:
                self._wrong(key, f"{name}: this belongs on a command line, not into a file")
            else:
                self._wrong(key, f"{name}: no such option{_nearest(name, [*(one.word for one in CONFIGURABLE), 'limits'])}")
        return Found(tuple(self._settings), tuple(self._limits), tuple(self._mistakes))

    def _pairs(self, node: Any) -> list[tuple[Any, str, Any]]:
        found: dict[str, tuple[Any, str, Any]] = {}
        for key, value in node.value:
            name = key.value if isinstance(key.value, str) else "?"
            if name in found:
                self._wrong(key, f"{name} stands here twice, first in line {_line(found[name][0])}: keep one")
            found.setdefault(name, (key, name, value))
        return list(found.values())

    def _wrong(self, node: Any, why: str) -> None:
        self._mistakes.append(f"{self._path}, line {_line(node)}: {why}")

    def _read_option(self, option: Option, node: Any) -> None:
        entries = node.value if option.repeatable and node.id == "sequence" else [node]
        if node.id == "sequence" and not entries:
            self._wrong(node, f"{option.word}: the list is empty: leave the key out")
        for entry in entries:
            setting = self._setting(option, entry)
            if setting is not None:
                self._settings.append(setting)

    def _read_limits(self, key: Any, node: Any) -> None:
        if os.path.realpath(self._path) != os.path.realpath(SITE_FILE):
            return self._wrong(key, f"limits: only {SITE_FILE} can set limits")
        if node.id != "mapping":
            return self._wrong(node, "limits: write one option a line below it, as in `max-links: 20`")
        for inner, name, value in self._pairs(node):
            option = BY_KEY.get(name)
            if option not in LIMITED:
                self._wrong(inner, f"limits: {name} has no limit{_nearest(name, [one.word for one in LIMITED])}")
            elif option is not None and (setting := self._setting(option, value)) is not None:
                self._limits.append(setting)
        return None

    def _setting(self, option: Option, node: Any) -> Setting | None:
        """Read one value as the command line would."""
        if node.id != "scalar":
            self._wrong(node, f"{option.word}: one value is wanted here" + (", or a list of values" if option.repeatable else ""))
            return None
        text, plain = node.value, not node.style
        source = f"{self._path}, line {_line(node)}"
        if option.value is None:
            if plain and text in _TRUE + _FALSE:
                return Setting(option.key, text.lower(), text in _TRUE, source)
            self._wrong(node, f"{option.word}: {text!r} is neither true nor false")
            return None
        if plain and text in ("", "~", "null", "Null", "NULL"):
            self._wrong(node, f"{option.word} has no value: write `{option.word}: {option.value}`, or leave the key out")
            return None
        if plain and text in _TRUE + _FALSE:
            self._wrong(node, f"{option.word}: {text} is no {option.value}: leave the key out, or write it in quotes")
            return None
        if text.startswith(("~/", "$")) and option.is_path:
            self._wrong(node, f"{option.word}: {text!r}: no shell reads this, write the path out")
            return None
        try:
            return Setting(option.key, text, option.read(text), source)
        except ValueError as error:
            self._wrong(node, f"{option.word}: {error}")
            return None


def _nearest(name: str, known: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name.lower().replace("_", "-").lstrip("-"), known, n=1)
    return f", did you mean {close[0]}?" if close else f". There are: {', '.join(known)}"
