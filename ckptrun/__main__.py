"""The entry: handlers first, then the command. The one place that turns an error into a sentence and an exit code."""

from __future__ import annotations

import errno
import os
import sys

from ckptrun import __version__

_SUBCOMMANDS_WITHOUT_HANDLERS = frozenset({"chain", "demo", "template", "verify", "doctor", "sbatch", "--help", "-h"})
_OUR_FAILURE = 125  # CkptrunError's, known here without the import that may be what failed
_NO_READER = 1
_CANNOT_PRINT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def main(argv: list[str] | None = None) -> int:
    """Run ckptrun with `argv` (without the program's name) and return its exit code."""
    words = sys.argv[1:] if argv is None else argv
    handlers = None
    try:
        _fill_closed_descriptors()
        if words == ["--version"]:
            print(f"ckptrun {__version__}")
            return _flushed(0)
        if words and words[0] not in _SUBCOMMANDS_WITHOUT_HANDLERS:
            from ckptrun.early import Handlers

            handlers = Handlers()
        from ckptrun.cli.dispatch import dispatch
        from ckptrun.errors import CkptrunError

        return _flushed(dispatch(words, handlers))
    except BrokenPipeError:  # who read it has read enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return _NO_READER
    except OSError as error:
        print(f"ckptrun: {_sentence(error)}", file=sys.stderr)
        return _OUR_FAILURE
    except CkptrunError as error:
        for line in str(error).split("\n"):
            print(f"ckptrun: {line}", file=sys.stderr)
        return error.exit_code
    finally:
        if handlers is not None:
            handlers.restore()


def _fill_closed_descriptors() -> None:
    """Take the places of a stdin, stdout or stderr that was closed at our start, for ourselves: the child gets none of them.

    Else the next file that we open stands there, and what we print goes into the ledger, or as signals into our own pipe.
    """
    while (number := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
        pass
    os.close(number)
    if sys.stdout is None or sys.stderr is None:
        nowhere = open(os.devnull, "w")  # noqa: SIM115  it stays open as long as we run
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere


def _flushed(code: int) -> int:
    """Return the exit code once all is printed: as the interpreter ends, a failure would be a traceback."""
    sys.stdout.flush()
    return code


def _sentence(error: OSError) -> str:
    if error.filename:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if error.errno == errno.ENOENT:
        return "the working directory has been removed: cd to another folder, or make it again and cd to it"
    if error.errno in _CANNOT_PRINT:
        return f"what is printed here cannot be written: {error.strerror}"
    return f"the system: {error.strerror}"


if __name__ == "__main__":
    sys.exit(main())
