"""links/N: what belongs to one link before it runs - its script, the intent to submit it, the job that came of it.

Rule: the intent is taken by one process only, by `link()` of a complete temporary that was padded and prepared before, so that a
full disk cannot stop a hand-over. Where it exists, what it led to is adopted and never repeated, unless `refused` says that no
job came of it. `job` is a hint: an id is acted on only while the queue shows our script's path for it.
"""

from __future__ import annotations

import json
import os
import time

from ckptrun.chain.home import ChainFolder
from ckptrun.chain.turns import PADDED_BYTES


class LinkFiles:
    """The folder of link `number`."""

    def __init__(self, folder: ChainFolder, number: int) -> None:
        self.number = number
        self.chain = folder.links
        self.path = os.path.join(self.chain, str(number))
        self.script = os.path.join(self.path, "script")
        self._intent = os.path.join(self.path, "intent")
        self._refused = os.path.join(self.path, "refused")
        self._job = os.path.join(self.path, "job")
        self._prepared: str | None = None

    def prepare(self, script: str, *, anew: bool = False) -> None:
        """Write the script and get the intent ready. `anew`: in place of one that is there. Raises OSError."""
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        if anew or not os.path.exists(self.script):
            _write_whole(self.script, script.encode("utf-8", "surrogateescape"), 0o700)
        self._prepared = os.path.join(self.path, f".intent.{os.uname().nodename}.{os.getpid()}.{time.monotonic_ns()}")
        with open(os.open(self._prepared, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(b" " * PADDED_BYTES)

    def intend(self, job: str, turn: int) -> bool:
        """Take the intent for a job that submits this link; return False where it was taken before. Raises OSError."""
        if self._prepared is None:
            raise FileNotFoundError(2, "the intent was not prepared", self.path)
        content = json.dumps({"v": 1, "job": job, "turn": turn, "at": round(time.time(), 3)}).encode()
        descriptor = os.open(self._prepared, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(descriptor, content.ljust(PADDED_BYTES - 1) + b"\n", 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            os.link(self._prepared, self._intent)
        except FileExistsError:
            return os.path.samefile(self._prepared, self._intent)
        return True

    @property
    def intended_at(self) -> float | None:
        """Return when the intent was taken (Unix time), None where it was not."""
        try:
            return os.stat(self._intent).st_mtime
        except OSError:
            return None

    @property
    def turn(self) -> int:
        """Return the turn with which the intent was taken, 0 where there is none."""
        try:
            with open(self._intent, encoding="utf-8") as file:
                found = json.load(file)
        except (OSError, ValueError, RecursionError):
            return 0
        turn = found.get("turn") if isinstance(found, dict) else None
        return turn if isinstance(turn, int) else 0

    @property
    def refused(self) -> bool:
        """Return whether the last submission was refused for certain."""
        return os.path.exists(self._refused)

    def note_refused(self, said: str) -> None:
        """Note that no job came of the submission. A note that cannot be written only makes the next one look first."""
        _try_to_write(self._refused, said)

    def forget_refusal(self) -> None:
        """Take the note back before the next submission: from now on there may be a job."""
        try:
            os.unlink(self._refused)
        except OSError:
            return

    def forget_job(self) -> None:
        """Take the note of a job back that was accepted and is gone: the next one is this link then, noted or not."""
        try:
            os.unlink(self._job)
        except OSError:
            return

    def note_job(self, job: str) -> None:
        """Note which job the link is."""
        _try_to_write(self._job, job)

    @property
    def job(self) -> str | None:
        """Return the job that was noted."""
        try:
            with open(self._job, encoding="ascii") as file:
                return file.read().strip() or None
        except (OSError, UnicodeDecodeError):
            return None

    def clear_away(self) -> None:
        """Remove what was prepared and not used."""
        if self._prepared is not None:
            try:
                os.unlink(self._prepared)
            except OSError:
                return


def highest_intent(folder: ChainFolder) -> int:
    """Return the highest link that anybody has meant to submit, 0 for none."""
    try:
        names = [int(name) for name in os.listdir(folder.links) if name.isdigit()]
    except OSError:
        return 0
    return max((number for number in names if LinkFiles(folder, number).intended_at is not None), default=0)


def _try_to_write(path: str, text: str) -> None:
    try:
        _write_whole(path, f"{text}\n".encode("utf-8", "replace"), 0o600)
    except OSError:
        return


def _write_whole(path: str, content: bytes, mode: int) -> None:
    temporary = f"{path}.{os.uname().nodename}.{os.getpid()}"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
