"""The files of `ckptrun template`: programs that came with it are read, new files are written, all of them or none.

Rules of this file.
- A file that stands there is not touched, unless that was asked for: a new one appears under its name by `link`, which fails where
  the name is taken, in whatever moment somebody else took it.
- All names are looked at before the first is written.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from ckptrun.errors import UsageError
from ckptrun.sites import shipped


class NewFile(NamedTuple):
    """A file to be written: its path, its text, whether it is a program to be started by its name."""

    path: str
    text: str
    executable: bool = False


def program(template: str) -> str:
    """Return the training program of a template, as it came with ckptrun."""
    return (shipped() / template / "train.py").read_text(encoding="utf-8")


def write(files: tuple[NewFile, ...], *, force: bool) -> None:
    """Write all files. Raises UsageError, and has written none, where one is in the way or a folder cannot be written to."""
    mistakes = list(dict.fromkeys(why for file in files if (why := _in_the_way(file.path, force)) is not None))
    if len({os.path.realpath(file.path) for file in files}) < len(files):
        mistakes.append(f"{files[0].path} would be both the job script and the program: name another file with -o")
    if mistakes:
        raise UsageError(*mistakes)
    done: list[str] = []
    try:
        for file in files:
            _write(file, force)
            done.append(file.path)
    except OSError as error:
        for path in () if force else done:
            os.unlink(path)
        raise UsageError(f"{file.path} cannot be written: {error.strerror}") from None


def _in_the_way(path: str, force: bool) -> str | None:
    folder = os.path.dirname(path) or "."
    if path in ("", "-"):
        return f"-o {path!r}: name a file; `template show` prints the script"
    if not path.isprintable():
        return f"-o {path!r}: a line end, or what is no text, in a file's name: name another file"
    if os.path.isdir(path):
        return f"{path} is a folder: name a file in it"
    if not os.path.isdir(folder):
        return f"{folder}: no such folder, make it first"
    if os.path.exists(path) and not os.path.isfile(path):
        return f"{path} is no file but a device or a pipe, and is not replaced: name another file"
    if os.path.lexists(path) and not force:
        return f"{path} stands there already: --force replaces it, -o names another file"
    return None


def _write(file: NewFile, force: bool) -> None:
    temporary = os.path.join(os.path.dirname(file.path), f".{os.path.basename(file.path)[:100]}.{os.urandom(4).hex()}.tmp")
    mode = 0o777 if file.executable else 0o666  # less what the umask takes away
    try:
        with open(
            os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "w", encoding="utf-8", newline="\n"
        ) as out:
            out.write(file.text)
            out.flush()
            os.fsync(out.fileno())
        if force:
            os.replace(temporary, file.path)
        else:
            os.link(temporary, file.path)
    finally:
        if os.path.lexists(temporary):
            os.unlink(temporary)
