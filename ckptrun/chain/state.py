"""What is true of a chain now: how it ended, and what of it lives. From its turns and this machine's processes."""

from __future__ import annotations

import os
from typing import NamedTuple

from ckptrun.chain import liveness
from ckptrun.chain.history import read_events
from ckptrun.chain.home import ChainFolder
from ckptrun.chain.ledger import final_outcome, stop_stands
from ckptrun.chain.turns import Turns


def why_live(folder: ChainFolder) -> str | None:
    """Return in words what of the chain lives, or None. What cannot be seen from this machine counts as living.

    A chain that has ended can still have survivors only if its ckptrun was killed; after its own end it has stopped them, or was
    complete and left them alone as the shell would.
    """
    turns = Turns(folder.turns).read()
    starts = [turn for turn in turns if turn.kind == "start"]
    if not starts or final_outcome(turns) is not None:
        return None
    facts = starts[-1].facts
    if facts.get("pid") != os.getpid():
        alive = liveness.alive(facts["node"], facts["boot_id"], facts["pid"], facts["pid_started"])
        if alive is None:
            return (
                f"it was last started on {facts['node']}, and from here nobody can see whether it runs there. "
                f"Type the command there; if that machine is gone for good, remove {folder.path}"
            )
        if alive:
            return f"its ckptrun is process {facts['pid']} on this machine; `kill {facts['pid']}` makes it save and stop"
    survivors = liveness.survivors(folder.mailbox, read_events(folder.events)[0])
    if survivors:
        pid, argv = survivors[0]
        return f"its training outlived it as process {pid} ({' '.join(argv)[:60]}); `kill {pid}` ends that"
    return None


class StopMark(NamedTuple):
    """That a person said `chain stop`: after which turn, and whether the link that runs may run to its checkpoint time."""

    turn: int
    after_link: bool = False


def stop_mark(folder: ChainFolder) -> StopMark | None:
    """Return that `chain stop` was said, None where it was not, or where a person has gone on since."""
    try:
        with open(folder.stop, encoding="ascii") as file:
            number, _, when = file.read().strip().partition(" ")
        mark = StopMark(int(number), when == _AFTER_LINK)
    except (OSError, ValueError):
        return None
    return mark if stop_stands(Turns(folder.turns).newest_first(), mark.turn) else None


_AFTER_LINK = "after-link"


def set_stop_mark(folder: ChainFolder, *, after_link: bool = False) -> None:
    """Say that no further link may start, until a person resumes the chain. Raises OSError.

    Who has been told to stop at once is not told to run on: a mark of that kind stays.
    """
    known = stop_mark(folder)
    after_link = after_link and (known is None or known.after_link)
    turns = Turns(folder.turns).read()
    temporary = f"{folder.stop}.{os.getpid()}"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w", encoding="ascii") as file:
        file.write(f"{turns[-1].number if turns else 0}{f' {_AFTER_LINK}' if after_link else ''}")
    os.replace(temporary, folder.stop)
