"""The ready command: one line that goes on with a chain whose link could not hand over. Kept in the chain's folder as `ready`."""

from __future__ import annotations

import os
import shlex
import sys

from ckptrun.chain.home import ChainFolder, usual_home


def own_program() -> tuple[str, ...]:
    """Return ckptrun's own words, with an absolute path: elsewhere PATH may be another."""
    own = os.path.abspath(sys.argv[0])
    if os.path.basename(own) == "ckptrun" and os.access(own, os.X_OK):
        return (own,)
    return (sys.executable, "-m", "ckptrun")


def ready_command(folder: ChainFolder) -> str:
    """Return the line, for any shell that the same user opens on a node where sbatch works."""
    home = os.path.dirname(os.path.dirname(folder.path))
    setting = f"CKPTRUN_HOME={shlex.quote(home)} " if home != usual_home() else ""
    return f"{setting}{shlex.join(own_program())} chain resume {folder.id}"


def keep(folder: ChainFolder, line: str) -> None:
    """Write the line into the chain's folder. One that cannot be written was printed at least."""
    temporary = f"{folder.ready}.{os.getpid()}"
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as file:
            file.write(f"{line}\n")
        os.replace(temporary, folder.ready)
    except OSError:
        return


def kept(folder: ChainFolder) -> str | None:
    """Return the line that a stranded link has left, None where there is none."""
    try:
        with open(folder.ready, encoding="utf-8") as file:
            return file.read().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def forget(folder: ChainFolder) -> None:
    """Take the line away: the chain goes on."""
    try:
        os.unlink(folder.ready)
    except OSError:
        return
