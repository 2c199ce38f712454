"""`--on-end CMD`: run once when the chain ends, never between its links, with the facts in its environment.

Rule: the end of the chain is on record before the command is started, and a file named after the turn `end` is made first by one
process only. So it runs once for each end, whatever dies; after a person has gone on with the chain, its next end is another one.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Sequence
from typing import Any

from ckptrun import durations
from ckptrun.chain.home import ChainFolder
from ckptrun.chain.model import so_far
from ckptrun.early import INT, Handlers
from ckptrun.link import messages
from ckptrun.link.errands import Errands, Procedure
from ckptrun.plan import Plan
from ckptrun.slurm.commands import Call, Said
from ckptrun.words import Outcome

LIMIT_S = 60.0
ENDS = frozenset({Outcome.COMPLETE, Outcome.FAILED, Outcome.CANCELLED, Outcome.STOPPED, Outcome.STRANDED, Outcome.LOST})


def run(
    plan: Plan,
    folder: ChainFolder,
    turn: int,
    facts: dict[str, object],
    handlers: Handlers,
    record: Callable[..., None],
) -> None:
    """Run the chain's command for the end with this turn, unless another process has. A failure is said and recorded, no more.

    `facts` are told as CKPTRUN_ variables, in capitals; what is None is empty.
    """
    if plan.on_end is None or not _is_first(folder, turn):
        return
    directory = str((folder.facts() or {}).get("directory") or "/")
    own = {f"CKPTRUN_{name.upper()}": "" if value is None else str(value) for name, value in facts.items()}
    environment = dict(os.environ) | own | {"CKPTRUN_CHAIN": folder.id, "CKPTRUN_DIRECTORY": directory}
    errands = Errands()
    began_at = time.monotonic()

    def heard(number: int) -> None:
        if number == INT:  # a person at the terminal does not want to wait for it
            errands.abandon()
            raise KeyboardInterrupt

    try:
        said = errands.wait_for(_command(tuple(shlex.split(plan.on_end)), environment, directory), handlers, heard)
        how = _how(said)
    except KeyboardInterrupt:
        said, how = None, "was interrupted"
    seconds = time.monotonic() - began_at
    text = f"{plan.on_end} {how} after {durations.show(seconds)}"
    ok = said is not None and said.code == 0
    record("on_end_ran", ok=ok, text=text)
    if not ok:
        last = (said.err or said.out).strip().splitlines()[-1:] if said is not None else []
        messages.say(f"--on-end: {text}{f': {last[0]}' if last else ''}")


def facts(events: Sequence[dict[str, Any]], outcome: str, why: str, exit_code: int, job: str | None) -> dict[str, object]:
    """Return what the command is told of the chain's end."""
    known = so_far(events)
    ends = [event for event in events if event.get("event") == "ended"]
    last = ends[-1] if ends else {}
    return {
        "outcome": outcome,
        "reason": why,
        "exit_code": exit_code,
        "link": last.get("link"),
        "starts": known.starts_in_all,
        "seconds": round(sum(float(event.get("seconds") or 0.0) for event in ends)),
        "step": known.best_step,
        "checkpoint": last.get("checkpoint"),
        "job": job,
    }


def _is_first(folder: ChainFolder, turn: int) -> bool:
    try:
        os.close(os.open(os.path.join(folder.path, f"on-end-{turn}"), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError:
        return False
    return True


def _command(words: tuple[str, ...], environment: dict[str, str], directory: str) -> Procedure[Said]:
    said = yield Call(words, LIMIT_S, environment, directory)
    assert said is not None
    return said


def _how(said: Said) -> str:
    if said.code is None:
        return f"was ended, because it had run for {durations.show(LIMIT_S)},"
    if said.code == 127:
        return "ended with exit code 127 (is it a program that is found here?)"
    return f"ended with exit code {said.code}" if said.code >= 0 else f"ended by signal {-said.code}"
