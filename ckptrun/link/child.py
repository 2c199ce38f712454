"""Start the training command, signal processes, reap them. Nothing of ours leaks into the child."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` imports enum: 4 ms in which USR1 would kill us
import errno
import os

from ckptrun.early import Handlers
from ckptrun.errors import CkptrunError, CommandNotFound, CommandNotRunnable
from ckptrun.words import Status

_PR_SET_CHILD_SUBREAPER = 36
# Python ignores these two in itself; an ignored signal would stay ignored through the exec.
_IGNORED_BY_PYTHON = (_signal.SIGPIPE, _signal.SIGXFSZ)


class Reaped:
    """How one process ended: its pid, its status and the largest resident size of it and its descendants in bytes."""

    def __init__(self, pid: int, wait_status: int, peak_bytes: int) -> None:
        self.pid = pid
        self.peak_bytes = peak_bytes
        code = os.waitstatus_to_exitcode(wait_status)
        self.status = Status(code, None) if code >= 0 else Status(None, -code)


def become_subreaper() -> None:
    """Keep double-forked descendants in our tree (man prctl, PR_SET_CHILD_SUBREAPER). A kernel that refuses is no error."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(command: tuple[str, ...], environment: dict[str, str], mask: set[int]) -> int:
    """Start the command in our process group, so that the terminal treats it as it would without us; return its pid.

    `mask` is the signal mask that we were started with. Raises CommandNotFound or CommandNotRunnable as `env` would, CkptrunError
    where no process can be made at all.
    """
    if not command[0]:
        raise CommandNotFound("an empty word is no program: is a variable in front of the command not set?")
    try:
        pid, number = _spawn(command, environment, mask)
    except OSError as error:
        raise CkptrunError(f"{command[0]} cannot be started: no process can be made ({error.strerror}): `ulimit -a`") from None
    if number == errno.ENOEXEC:  # a script without `#!`: execvp gives it to the shell, and so do we
        pid, number = _spawn(("/bin/sh", _which(command[0]) or command[0], *command[1:]), environment, mask)
    if number in (errno.ENOENT, errno.ENOTDIR) and not _exists(command[0]):
        raise CommandNotFound(f"{command[0]}: no such program. Is it installed, and is its folder on PATH?")
    if number:
        raise CommandNotRunnable(f"{command[0]} cannot be run: {_why_not(command[0], number)}")
    return pid


def _why_not(program: str, number: int) -> str:
    """Return why an exec failed: of a script whose `#!` line names what is not there, the system says that the script is not."""
    path = _which(program) or program
    if number == errno.ENOENT and os.access(path, os.R_OK):
        with open(path, "rb") as script:
            named = script.readline(256).removeprefix(b"#!").rstrip(b"\n")
        if named.endswith(b"\r"):
            return f"its lines end as in Windows, and its first one names no program then. `sed -i 's/\\r$//' {path}` mends that"
        return f"its first line names {os.fsdecode(named.strip())}, which is not here"
    if number == errno.EACCES and os.path.isdir(path):
        return "it is a folder"
    if number == errno.EACCES:
        return f"{os.strerror(number)}. Is it to be executable (`chmod +x {path}`), or the argument of a program (`python {path}`)?"
    return os.strerror(number)


def _spawn(command: tuple[str, ...], environment: dict[str, str], mask: set[int]) -> tuple[int, int]:
    """Return the child's pid and 0, or 0 and the error number of the exec.

    fork and exec instead of posix_spawn: glibc's leaves signal 32 ignored in the child. All signals are blocked around the fork,
    because until the exec the child has our handlers, and they would tell us of signals that were the child's.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    ours = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _become(command, environment, mask, writer)
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ours)
        os.close(writer)
    with open(reader, "rb") as report:
        number = int(report.read() or b"0")
    if number:
        os.waitpid(pid, 0)
        return 0, number
    return pid, 0


def _become(command: tuple[str, ...], environment: dict[str, str], mask: set[int], writer: int, *, in_words: bool = False) -> None:
    """In the child: put back what is ours, and exec. Never returns. Why an exec failed is written as a number, or `in_words`."""
    try:
        for number in (*Handlers.NUMBERS, *_IGNORED_BY_PYTHON):
            if _signal.getsignal(number) != _signal.SIG_IGN or number in _IGNORED_BY_PYTHON:
                _signal.signal(number, _signal.SIG_DFL)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        os.execvpe(command[0], command, environment)
    except OSError as error:
        os.write(writer, (str(error.strerror) if in_words else str(error.errno)).encode())
    finally:
        os._exit(127)


def find(program: str) -> str | None:
    """Return the path of a program that a command word names, as the shell would find it, else None."""
    if "/" in program:
        return program if os.access(program, os.X_OK) and not os.path.isdir(program) else None
    return _which(program)


def _which(program: str) -> str | None:
    if "/" in program:
        return program
    for folder in os.get_exec_path():
        path = os.path.join(folder, program)
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    return None


def _exists(program: str) -> bool:
    if "/" in program:
        return os.path.lexists(program)
    return any(os.path.lexists(os.path.join(folder, program)) for folder in os.get_exec_path())


def reap() -> tuple[Reaped, ...]:
    """Return all children, adopted orphans included, that have ended since the last call; does not wait."""
    found = []
    while True:
        try:
            pid, wait_status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            break
        found.append(Reaped(pid, wait_status, usage.ru_maxrss * 1024))
    return tuple(found)


def has_children() -> bool:
    """Return whether this process has any child, dead ones that were not reaped included."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def send(pid: int, number: int) -> bool:
    """Send a signal; return False where the process is gone or not ours."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end_apart(pid: int) -> None:
    """End a program of ours with all that it started and that stayed in its process group."""
    try:
        os.killpg(pid, 9)
    except (ProcessLookupError, PermissionError):  # it has not made the group yet, or is gone
        send(pid, 9)


def out_of_memory_kills() -> int:
    """Return how often this kernel has killed for want of memory since its boot; 0 where it does not say."""
    try:
        with open("/proc/vmstat", encoding="ascii") as lines:
            return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
    except OSError:
        return 0


class Apart:
    """A program of ours, no part of the training: its pid and the descriptors of what it prints."""

    def __init__(self, pid: int, out: int, err: int) -> None:
        self.pid, self.out, self.err = pid, out, err


def start_apart(command: tuple[str, ...], environment: dict[str, str], directory: str | None) -> Apart:
    """Start a program in a process group of its own, with nothing to read; a program that cannot be run ends with 127."""
    out_reader, out = os.pipe2(os.O_CLOEXEC)
    err_reader, err = os.pipe2(os.O_CLOEXEC)
    ours = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            try:
                os.setpgid(0, 0)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(out, 1)
                os.dup2(err, 2)
                if directory is not None and os.path.isdir(directory):
                    os.chdir(directory)
                _become(command, environment, set(), err, in_words=True)
            finally:
                os._exit(127)
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ours)
        os.close(out)
        os.close(err)
    for reader in (out_reader, err_reader):
        os.set_blocking(reader, False)
    return Apart(pid, out_reader, err_reader)
