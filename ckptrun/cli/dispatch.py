"""Which word is meant. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import os

from ckptrun.early import Handlers


def dispatch(words: list[str], handlers: Handlers | None) -> int:
    """Run what the words mean and return the exit code. Raises CkptrunError."""
    completing = not words and "_CKPTRUN_COMPLETE" in os.environ
    if completing or (words and (words[0] in ("chain", "demo", "template", "verify", "doctor") or words[0] in ("--help", "-h"))):
        from ckptrun.cli.app import main

        return main(words)
    if words[:1] == ["sbatch"]:
        from ckptrun.cli.sbatch import main as sbatch

        return sbatch(words[1:])
    from ckptrun.cli import run

    if handlers is None:
        handlers = Handlers()
    return run.main(words, handlers)
