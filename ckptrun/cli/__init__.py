"""The command line: which word is meant, and one module per command. Nothing heavy is imported before it is needed."""

from __future__ import annotations

from ckptrun.early import Handlers

# name -> what `--help` says; the module of the same name is imported only when the word is used.
SUBCOMMANDS = {
    "run": "Run one training command as a chain (the same as without the word).",
    "chain": "List chains and show what happened in them.",
    "demo": "A small real training, chained over its time limit, on this machine.",
}


def dispatch(words: list[str], handlers: Handlers | None) -> int:
    """Run what the words mean and return the exit code. Raises CkptrunError."""
    if words and (words[0] in ("chain", "demo") or words[0] in ("--help", "-h")):
        from ckptrun.cli.app import main

        return main(words)
    from ckptrun.cli import run

    if handlers is None:
        handlers = Handlers()
    return run.main(words, handlers)
