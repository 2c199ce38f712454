"""Where the ledger is kept: the state folder, a chain's folder, and the chain's id.

A chain's id is reserved by `mkdir`, which one process only can do; `chain.json` is written whole into it by a rename. Between the
two a reader sees a folder without `chain.json` and passes it over.
"""

from __future__ import annotations

import json
import os
import re
import time
from typing import Any

from ckptrun.errors import StateUnusable


class ChainFolder:
    """The paths of one chain's folder. Nothing needs to exist."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.id = os.path.basename(path)
        self.json = os.path.join(path, "chain.json")
        self.events = os.path.join(path, "events.jsonl")
        self.turns = os.path.join(path, "turns")
        self.links = os.path.join(path, "links")
        self.mailbox = os.path.join(path, "mailbox")
        self.script = os.path.join(path, "script")
        self.stop = os.path.join(path, "stop")
        self.ready = os.path.join(path, "ready")

    def facts(self) -> dict[str, Any] | None:
        """Return what `chain.json` says, None where it cannot be read."""
        try:
            with open(self.json, encoding="utf-8") as file:
                found = json.load(file)
        except (OSError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


def wanted_home() -> str:
    """Return where the state folder should be, whether or not it can be there."""
    if named := os.environ.get("CKPTRUN_HOME"):
        return os.path.abspath(named)
    return usual_home()


def usual_home() -> str:
    """Return where the state folder is when CKPTRUN_HOME names no other."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "ckptrun")


def state_home() -> str:
    """Return the state folder, made with mode 0700 where it is missing.

    `$CKPTRUN_HOME`, else `$XDG_STATE_HOME/ckptrun`, else `~/.local/state/ckptrun`; where that cannot be written, `.ckptrun` in the
    working directory. A folder that the user named is not replaced by another. Raises StateUnusable.
    """
    wanted = wanted_home()
    named = "CKPTRUN_HOME" in os.environ and bool(os.environ["CKPTRUN_HOME"])
    tried = []
    for path in [wanted] if named else [wanted, os.path.abspath(".ckptrun")]:
        error = _usable(path)
        if error is None:
            return path
        tried.append(f"{path} ({error})")
    raise StateUnusable(
        f"no folder for the record of the chain can be used: {', '.join(tried)}. Set CKPTRUN_HOME to a folder that is yours"
    )


def rehearsal_home(home: str) -> str:
    """Make a state folder of a rehearsal's own inside the state folder, where all nodes see it; return its path. Raises OSError."""
    import tempfile

    room = os.path.join(home, "rehearsals")
    os.makedirs(room, mode=0o700, exist_ok=True)
    path = tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=room)
    os.mkdir(os.path.join(path, "chains"), 0o700)
    return path


def _usable(path: str) -> str | None:
    """Make the folder and its first level; return None, or why it cannot be used."""
    if len(path.splitlines()) > 1:  # the next job is found in squeue's lines by its script's path: it would count as lost
        return "its name holds a line break"
    try:
        for folder in (path, os.path.join(path, "chains"), os.path.join(path, "paths"), os.path.join(path, "commands")):
            os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        return error.strerror or str(error)
    return None if os.access(path, os.W_OK | os.X_OK) else "not writable"


def make_id(program: str, unix: float) -> str:
    """Return `<program>-<yyyymmdd-hhmmss>` in local time; characters other than letters, digits, `.`, `_`, `-` become `-`."""
    name = re.sub(r"[^A-Za-z0-9._-]", "-", program).lstrip(".-") or "chain"
    return f"{name[:48]}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(unix))}"


def valid_chain_id(text: str) -> bool:
    """Return whether a text can be a chain's id, and so a folder's name."""
    return re.fullmatch(r"[A-Za-z0-9._-]{1,64}", text) is not None and text not in (".", "..")


def create_chain(home: str, wanted_id: str, facts: dict[str, Any], script: str | None = None) -> ChainFolder:
    """Create a chain's folder under the wanted id, or with `-2`, `-3` ... where it is taken. Raises OSError.

    `script` is the batch script as first run, kept for the links that follow.
    """
    number, chain_id = 1, wanted_id
    while True:
        folder = ChainFolder(os.path.join(home, "chains", chain_id))
        try:
            os.mkdir(folder.path, 0o700)
            break
        except FileExistsError:
            number += 1
            chain_id = f"{wanted_id[: 64 - 1 - len(str(number))]}-{number}"
    os.mkdir(folder.turns, 0o700)
    os.mkdir(folder.mailbox, 0o700)
    if script is not None:
        with open(os.open(folder.script, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as copy:
            copy.write(script.encode("utf-8", "surrogateescape"))
    temporary = f"{folder.json}.{os.getpid()}"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as file:
        json.dump({"v": 1, "id": chain_id, **facts}, file, indent=1)
    # No fsync: the first turn is synced right after, in the same file system; a chain without a turn has not begun.
    os.rename(temporary, folder.json)
    return folder


def remove_unborn(folder: ChainFolder) -> None:
    """Remove the folder of a chain that was refused before its first turn. A folder with turns stays."""
    try:
        os.rmdir(folder.turns)
        os.rmdir(folder.mailbox)
        if os.path.exists(folder.script):
            os.unlink(folder.script)
        os.unlink(folder.json)
        os.rmdir(folder.path)
    except OSError:
        return


def chain_folder(chain_id: str) -> ChainFolder:
    """Return the folder of a chain in the state folder that is meant now. Nothing needs to exist."""
    return ChainFolder(os.path.join(wanted_home(), "chains", chain_id))


def open_chain(home: str, chain_id: str) -> ChainFolder | None:
    """Return the folder of a chain that has a readable `chain.json`, else None."""
    if not valid_chain_id(chain_id):
        return None
    folder = ChainFolder(os.path.join(home, "chains", chain_id))
    return folder if os.path.isfile(folder.json) else None


def chain_ids(home: str) -> list[str]:
    """Return the ids of all chains, the newest first by the time at which their folder's record was made."""
    found = []
    try:
        entries = list(os.scandir(os.path.join(home, "chains")))
    except OSError:
        return []
    for entry in entries:
        try:
            found.append((os.stat(os.path.join(entry.path, "chain.json")).st_mtime_ns, entry.name))
        except OSError:
            continue
    return [name for _, name in sorted(found, reverse=True)]
