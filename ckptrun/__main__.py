"""The entry: handlers first, then the command. The one place that turns an error into a sentence and an exit code."""

from __future__ import annotations

import sys

from ckptrun import __version__

_SUBCOMMANDS_WITHOUT_HANDLERS = frozenset({"chain", "demo", "template", "verify", "doctor", "sbatch", "--help", "-h"})


def main(argv: list[str] | None = None) -> int:
    """Run ckptrun with `argv` (without the program's name) and return its exit code."""
    words = sys.argv[1:] if argv is None else argv
    if words == ["--version"]:
        print(f"ckptrun {__version__}")
        return 0
    handlers = None
    if words and words[0] not in _SUBCOMMANDS_WITHOUT_HANDLERS:
        from ckptrun.early import Handlers

        handlers = Handlers()
    from ckptrun.cli.dispatch import dispatch
    from ckptrun.errors import CkptrunError

    try:
        return dispatch(words, handlers)
    except CkptrunError as error:
        for line in str(error).split("\n"):
            print(f"ckptrun: {line}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"ckptrun: {error.filename or 'the system'}: {error.strerror}", file=sys.stderr)
        return CkptrunError.exit_code
    finally:
        if handlers is not None:
            handlers.restore()


if __name__ == "__main__":
    sys.exit(main())
