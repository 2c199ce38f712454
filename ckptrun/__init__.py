"""ckptrun: one word in front of a training command, and it runs longer than the time limit.

This module is what a training imports. It stands alone: standard library only, Python 3.8 and newer, so that this one file can be
copied or mounted into any container as `ckptrun.py`.

    run = ckptrun.current()
    state = load(run.checkpoint) if run.checkpoint else fresh()
    for step in range(state.step, TOTAL):
        train(step)
        run.progress(step + 1, TOTAL)
        if run.checkpoint_requested or step % 1000 == 999:
            with ckptrun.atomic_path("ckpt/step-%07d.pt" % (step + 1)) as path:
                save(path)
            run.saved("ckpt/step-%07d.pt" % (step + 1))
        if run.stop_requested:
            break
    else:
        run.done()

Rules of this file. Outside ckptrun everything is a no-op. Nothing of ours is raised into the training: what cannot be written to
the mailbox is said once on stderr. What the training itself writes, through `atomic_path`, is its own, and so are the errors of
that. The other half of the format of asks and words is `mailbox.py` of ckptrun; a test keeps the two the same.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # `typing` itself is an import that the start does without
    from collections.abc import Callable

__version__ = "0.1.0"
__all__ = ["AtomicFolder", "AtomicPath", "Run", "atomic_dir", "atomic_path", "current"]

_VERSION = 1
_NEVER = float("inf")
# The mailbox may lie on a file system that a thousand processes share: one look a second, one word of progress in ten.
_LOOK_EVERY_S = 1.0
_PROGRESS_EVERY_S = 10.0
_LONGEST_LETTER = 65536
# A step beyond this is none; a number of thousands of digits could not even be written down.
_HIGHEST_NUMBER = 2**63 - 1
_current: Run | None = None
_first: dict[str, Run] = {}


def current() -> Run:
    """Return the run of this process: always the same object.

    The first call tells ckptrun that this training can be asked by file: call it in a program that goes on to read
    `checkpoint_requested` or `stop_requested`. Outside ckptrun it returns a run that asks for nothing and writes nothing.
    """
    global _current  # noqa: PLW0603
    if _current is None:
        # Two threads may come here at once: the first to enter its run wins. A lock that a fork has copied would never be opened.
        made = Run(os.environ)
        _current = _first.setdefault("run", made)
        if _current is made:
            made._begin()
    return _current


def atomic_path(name: str | os.PathLike[str]) -> AtomicPath:
    """Return a context manager that gives a temporary path; when its block ends well, what stands there becomes `name`, whole.

    The temporary is in the same folder, which is made where it is missing, and keeps the suffix. It is synced, renamed over `name`,
    and the folder is synced: whatever dies when, `name` is the old file or the new one. A block that raises leaves the old file,
    and the temporary is removed. A folder may be written instead of a file, where none of that name stands yet. Raises OSError as
    writing does, FileNotFoundError where nothing was written.
    """
    return AtomicPath(name)


def atomic_dir(name: str | os.PathLike[str]) -> AtomicFolder:
    """Return a context manager that gives a temporary folder; when its block ends well, the folder becomes `name`, whole.

    As `atomic_path`, for a checkpoint of several files: all of them are synced before the folder is renamed. One that stands under
    that name is replaced in one step where the system can exchange two names, and removed after that; where it cannot, there is a
    moment in which nothing stands under the name. Raises OSError as writing does, and for the working directory or one above it.
    """
    return AtomicFolder(name)


class Run:
    """One start of one link, as the training sees it.

    `checkpoint`: the path to resume from, or None. `chain`: the chain's id, or None outside ckptrun. `link` and `attempt`: which
    start this is, both from 1, or None. `resume`: whether there is something to resume. `end_time`: the link's end in Unix seconds,
    or None.
    """

    __slots__ = (
        *("checkpoint", "chain", "link", "attempt", "resume", "end_time"),
        *("_answered", "_ask_path", "_clock", "_complained", "_heard", "_look_at", "_looks", "_mailbox", "_pid"),
        *("_progress_at", "_reads_checkpoint_requested", "_seen", "_step", "_stop", "_told_step", "_total"),
    )

    def __init__(self, environment: os._Environ[str] | dict[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        inside = environment.get("CKPTRUN") == "1"
        known = environment if inside else {}
        self.checkpoint: str | None = known.get("CKPTRUN_CHECKPOINT") or None
        self.chain: str | None = known.get("CKPTRUN_CHAIN") or None
        self.link: int | None = _whole_number(known.get("CKPTRUN_LINK"))
        self.attempt: int | None = _whole_number(known.get("CKPTRUN_ATTEMPT"))
        self.resume: bool = known.get("CKPTRUN_RESUME") == "1"
        self.end_time: int | None = _whole_number(known.get("CKPTRUN_END_TIME"))
        mailbox = known.get("CKPTRUN_MAILBOX")
        reachable = bool(mailbox) and self.link is not None and self.attempt is not None
        self._mailbox: str = mailbox if mailbox and reachable else ""
        self._ask_path = os.path.join(self._mailbox, f"ask-{self.link}-{self.attempt}")
        # Outside ckptrun both times never come, and a call costs one comparison.
        self._look_at = self._progress_at = 0.0 if self._mailbox else _NEVER
        self._clock = clock
        self._seen: tuple[int, int] | None = None
        self._heard = self._answered = 0
        self._stop = self._looks = self._reads_checkpoint_requested = self._complained = False
        self._step: object = None
        self._total: object = None
        self._told_step: int | None = None
        self._pid = os.getpid()  # who has introduced itself: a fork has not

    def __reduce__(self) -> tuple[object, ...]:
        """Be the run of the process that unpickles it: a callback that holds one is copied, and sent to spawned processes."""
        return current, ()

    # --- what ckptrun wants

    @property
    def checkpoint_requested(self) -> bool:
        """Return whether a checkpoint is wanted now; True until `saved` is said. The asking file is looked at once a second."""
        self._reads_checkpoint_requested = True
        if self._clock() >= self._look_at:
            self._look()
        return self._heard > self._answered

    @property
    def ask(self) -> int:
        """Return the number of the last ask that this process has heard of, 0 for none; it grows. No look is made."""
        return self._heard

    @property
    def stop_requested(self) -> bool:
        """Return whether the training is to stop once it has saved. It stays True.

        A loop that also reads `checkpoint_requested` hears there first: an ask that came between the two lines of one step would
        else stop it without a save.
        """
        if not self._reads_checkpoint_requested and self._clock() >= self._look_at:
            self._look()
        return self._stop

    # --- what the training tells

    def progress(self, step: int, total: int | None = None) -> None:
        """Tell how many steps are done, and of how many. Written at most every ten seconds, at a save and at the end."""
        self._step, self._total = step, total
        if self._clock() >= self._progress_at:
            self._tell_progress()

    def saved(self, path: str | os.PathLike[str]) -> None:
        """Tell that a checkpoint stands, whole. `checkpoint_requested` is answered with it; `stop_requested` stays."""
        if not self._mailbox:
            return
        self._say("saved", {"path": _absolute(path), "step": self._highest_step()})
        # An ask that comes to light only now may be younger than what was saved: this save does not answer it. For one who never
        # looks by himself no look is made here: he would not act on it.
        self._answered = self._heard
        if self._looks and self._clock() >= self._look_at:
            self._look()

    def answer(self, ask: int) -> None:
        """Count the asks up to this number as heard and, by the next save, answered.

        For processes that agree on one save: each is given the highest `ask` that any of them has heard, so that none asks for the
        same save again. One that does not write the checkpoint calls it in place of `saved`.
        """
        number = _whole_number(ask) or 0
        self._heard, self._answered = max(self._heard, number), max(self._answered, number)

    def done(self) -> None:
        """Tell that the training is finished: however it ends now, no further link follows."""
        if self._step is not None:
            self._tell_progress()
        self._say("done", {})

    # --- letters

    def _begin(self) -> None:
        if self._mailbox:
            import atexit

            atexit.register(self._end)
            self._introduce()

    def _end(self) -> None:
        """Write the last progress, unless this is a fork that has never spoken for itself."""
        if self._pid == os.getpid() and _whole_number(self._step) != self._told_step:
            self._tell_progress()

    def _introduce(self) -> None:
        """Say that this process can be told by file, and in which pid namespace its pid means something."""
        self._pid = os.getpid()
        try:
            namespace = os.readlink("/proc/self/ns/pid")
        except OSError:
            namespace = ""
        self._say("ready", {"looks": self._looks, "namespace": namespace})

    def _look(self) -> None:
        """Look for an ask. One stat, unless the file is another than before."""
        self._look_at = self._clock() + _LOOK_EVERY_S
        heard, looks = self._heard, self._looks
        self._looks = True
        try:
            found = os.stat(self._ask_path)
            if (found.st_ino, found.st_mtime_ns) != self._seen and self._take(_read(self._ask_path)):
                self._seen = found.st_ino, found.st_mtime_ns
        except Exception:  # no ask, or a mailbox that is gone: there is nothing to be heard
            pass
        if self._heard > heard or not looks or self._pid != os.getpid():  # the last: a fork looks
            self._introduce()

    def _take(self, ask: object) -> bool:
        """Take in an ask; return False where it is torn, foreign, newer, or for another start."""
        if not isinstance(ask, dict) or ask.get("v") != _VERSION:
            return False
        serial, stop = ask.get("serial"), ask.get("stop")
        if (ask.get("link"), ask.get("attempt")) != (self.link, self.attempt):
            return False
        if not isinstance(serial, int) or not isinstance(stop, bool):
            return False
        self._heard = max(self._heard, serial)
        self._stop = self._stop or stop
        return True

    def _tell_progress(self) -> None:
        self._progress_at = self._clock() + _PROGRESS_EVERY_S if self._mailbox else _NEVER
        self._say("progress", {"step": self._highest_step(), "total": _whole_number(self._total)})

    def _highest_step(self) -> int | None:
        step = _whole_number(self._step)
        if step is not None and (self._told_step is None or step > self._told_step):
            self._told_step = step
        return self._told_step

    def _say(self, kind: str, facts: dict[str, object]) -> None:
        if not self._mailbox:
            return
        try:
            import json

            host = "".join(one if one.isalnum() or one in "._-" else "-" for one in os.uname().nodename)
            name = f"word-{self.link}-{self.attempt}-{host}-{os.getpid()}-{kind}"
            letter: dict[str, object] = {"v": _VERSION, "link": self.link, "attempt": self.attempt, "kind": kind, "at": time.time()}
            letter.update(facts, heard=self._heard)
            # Threads, and processes of one pid in several containers, may say the same at once.
            temporary = os.path.join(self._mailbox, f".{name}.{os.urandom(4).hex()}.tmp")
            _write_private(temporary, json.dumps(letter).encode())
            os.replace(temporary, os.path.join(self._mailbox, name))
        except Exception as error:
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        """Say once that ckptrun does not hear us; the training goes on."""
        if self._complained:
            return
        self._complained = True
        why = getattr(error, "strerror", None) or error
        text = f"ckptrun: process {os.getpid()} cannot write to its mailbox {self._mailbox} ({why}); the training goes on\n"
        try:
            import sys

            if sys.__stderr__ is not None:  # else 2 is no standard error: it may be a file of the training's
                os.write(2, text.encode("utf-8", "replace"))
        except OSError:
            return


def _whole_number(value: object) -> int | None:
    """Return a step, or a variable, as an int: it may be a text, a numpy integer or a tensor. None for what is none."""
    try:
        number: int = int(value)  # type: ignore[call-overload]
    except Exception:
        return None
    return number if 0 <= number <= _HIGHEST_NUMBER else None


def _absolute(path: str | os.PathLike[str]) -> str | None:
    try:
        return os.path.abspath(os.fsdecode(path)) if path else None
    except Exception:
        return None


def _read(path: str) -> object:
    """Return what a letter says. Raises OSError or ValueError. A pipe of that name does not hold us up."""
    import json

    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return json.loads(os.read(descriptor, _LONGEST_LETTER))
    finally:
        os.close(descriptor)


def _write_private(path: str, content: bytes) -> None:
    """Write a new file with mode 0600; one that cannot be written whole is removed again. Raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
    except OSError:
        os.unlink(path)
        raise


class AtomicPath:
    """What `atomic_path` returns: the temporary path inside the block, the whole file after it."""

    __slots__ = ("_target", "_temporary")

    def __init__(self, name: str | os.PathLike[str]) -> None:
        text = os.fsdecode(name)
        if not text:  # it would mean the working directory
            raise FileNotFoundError(2, "a checkpoint cannot have an empty name", text)
        # A link stays a link, as it does for `open`: what it points to is replaced.
        self._target = os.path.realpath(text)
        folder, base = os.path.split(self._target)
        stem, suffix = os.path.splitext(base)
        # The dot and `.tmp` say that this is no checkpoint yet; the suffix stays, because writers choose the format by it.
        # The random part keeps two writers apart, in other containers too.
        # A name is 255 bytes at most, and a letter up to four. What is that long after the last dot is no suffix.
        suffix = suffix if len(suffix) <= 20 else ""
        self._temporary = os.path.join(folder, f".{stem[:30]}.{os.urandom(4).hex()}.tmp{suffix}")

    def __enter__(self) -> str:
        self._refuse()
        os.makedirs(os.path.dirname(self._target), exist_ok=True)
        return self._temporary

    def _refuse(self) -> None:
        """Raise OSError where what stands there must not be replaced: /dev/null would be an ordinary file, for everybody."""
        if os.path.exists(self._target) and not os.path.isfile(self._target) and not os.path.isdir(self._target):
            raise OSError(22, "neither a file nor a folder: a checkpoint would take its place", self._target)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is None:
                self._publish()
        finally:
            _remove(self._temporary)

    def _publish(self) -> None:
        if not os.path.lexists(self._temporary):
            raise FileNotFoundError(2, "nothing was written to the path that atomic_path gave", self._temporary)
        _keep_mode(self._target, self._temporary)
        _sync_tree(self._temporary)
        os.replace(self._temporary, self._target)
        _sync_folder(os.path.dirname(self._target))


class AtomicFolder(AtomicPath):
    """What `atomic_dir` returns: a temporary folder inside the block, the whole one after it."""

    __slots__ = ()

    def __enter__(self) -> str:
        self._refuse()
        os.makedirs(self._temporary)
        return self._temporary

    def _refuse(self) -> None:
        """Raise OSError also for the folder in which the training works, or one above it: what is replaced is removed."""
        super()._refuse()
        try:
            here = os.path.join(os.getcwd(), "")
        except OSError:  # it has been removed
            return
        if here.startswith(os.path.join(self._target, "")):
            raise OSError(16, "the working directory, or a folder above it, cannot be replaced by a checkpoint", self._target)

    def _publish(self) -> None:
        if not os.listdir(self._temporary):
            raise FileNotFoundError(2, "nothing was written to the folder that atomic_dir gave", self._temporary)
        _sync_tree(self._temporary)
        if os.path.isdir(self._target):
            _keep_mode(self._target, self._temporary)
        if not self._rename() and not _exchange(self._temporary, self._target):
            self._swap()
        _sync_folder(os.path.dirname(self._target))

    def _rename(self) -> bool:
        """Give the folder its name; return False where something stands there, put by another process perhaps."""
        if os.path.lexists(self._target):
            return False
        try:
            os.rename(self._temporary, self._target)
        except OSError:
            if os.path.lexists(self._target):
                return False
            raise
        return True

    def _swap(self) -> None:
        """Move the old folder out of the way first; it comes back where the new one cannot take its place, or Ctrl-C is pressed."""
        aside = f"{self._temporary}.old.tmp"
        try:
            os.rename(self._target, aside)
            os.rename(self._temporary, self._target)
        except BaseException:
            if os.path.lexists(aside) and not os.path.lexists(self._target):
                os.rename(aside, self._target)
            raise
        _remove(aside)


def _exchange(one: str, other: str) -> bool:
    """Let two names change places in one step; return False where the system, or the file system, cannot."""
    try:
        import ctypes

        # renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE): Linux 3.15, glibc 2.28.
        return ctypes.CDLL(None).renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2) == 0  # type: ignore[no-any-return]
    except Exception:
        return False


def _keep_mode(old: str, new: str) -> None:
    """Give the new one the mode that the old one has: who could read it, and who could not, stays so."""
    try:
        os.chmod(new, os.stat(old).st_mode & 0o7777)
    except OSError:
        return


def _sync_tree(path: str) -> None:
    """Bring a file, or a folder with all that is in it, to the disk. Raises OSError: the disk was full, or failed."""
    if os.path.isdir(path):
        for folder, _, names in os.walk(path):
            for name in names:
                _sync_file(os.path.join(folder, name))
            _sync_folder(folder)
    else:
        _sync_file(path)


def _sync_file(path: str) -> None:
    """Bring a file to the disk. A link is part of its folder; a pipe would hold us up."""
    if os.path.isfile(path) and not os.path.islink(path):
        _sync(path)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: str) -> None:
    """Bring a folder's names to the disk. Some file systems cannot, and a folder may be closed to reading: that is no failure."""
    import errno

    try:
        _sync(path)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM):
            raise


def _remove(path: str) -> None:
    """Remove what is left of the temporary; nothing is left after the rename."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError:
        import shutil

        shutil.rmtree(path, ignore_errors=True)
