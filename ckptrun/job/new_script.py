"""The script of a chain's next link: the last link's own, or another one that a person gives to `chain resume`."""

from __future__ import annotations

import os

from ckptrun.chain.home import ChainFolder
from ckptrun.chain.links import LinkFiles, highest_intent
from ckptrun.errors import Refused, UsageError
from ckptrun.slurm import sbatch_options

_LINES = 40
_MOST = 64 << 20  # letters: far above what sbatch takes (max_script_size, 4 MiB); a device has no end


def of_link(folder: ChainFolder, number: int) -> str:
    """Return the script that link `number` runs: link 1's is the chain's, and each later one has its own copy. Raises OSError."""
    own = LinkFiles(folder, number).script
    with open(own if os.path.exists(own) else folder.script, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def current(folder: ChainFolder) -> str:
    """Return the script of the last link that anybody has meant to submit. Raises OSError."""
    return of_link(folder, highest_intent(folder))


def read(path: str) -> str:
    """Return a script that a person names. Raises UsageError where it is none, Refused where the chain would end in it."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read(_MOST)
    except OSError as error:
        raise UsageError(f"--script {path}: {error.strerror}") from None
    if not text.startswith("#!"):
        raise UsageError(f"--script {path}: sbatch takes a script whose first line is like #!/bin/bash")
    if "ckptrun" not in text:
        raise Refused(
            f"--script {path} does not mention ckptrun, and the chain would end in it: write `exec ckptrun ...` at its end"
        )
    return text


def differences(old: str, new: str, path: str, given: tuple[str, ...]) -> list[str]:
    """Return what differs, line by line, and which of the new script's options do not count: `given` is said again to sbatch."""
    import difflib

    lines = list(difflib.unified_diff(old.splitlines(), new.splitlines(), "the chain's script", path, lineterm="", n=1))
    told = lines[:_LINES] + [f"... and {len(lines) - _LINES} lines more"] * (len(lines) > _LINES)
    wins = {option.removeprefix("--").partition("=")[0]: option for option in given if option.startswith("--")}
    mine, before = sbatch_options.script_options(new), sbatch_options.script_options(old)
    hidden = [name for name, value in mine.items() if name in wins and before.get(name) != value]
    told += [f"#SBATCH --{name} of {path} does not count: the chain's jobs are submitted with {wins[name]}" for name in hidden]
    return told or [f"{path} is the chain's script, unchanged"]
