"""Before a link trains: whatever an earlier start has left at work on this very node is gone.

A node that comes back ends what it finds on it, and gives it KillWait for that; a cluster without cgroups leaves orphans behind. Of
other nodes only time tells (`succession.wait_behind`).
"""

from __future__ import annotations

from ckptrun.chain import liveness
from ckptrun.chain.history import read_events
from ckptrun.chain.home import ChainFolder
from ckptrun.chain.turns import Turns
from ckptrun.job.succession import FENCING_S
from ckptrun.link import child, messages
from ckptrun.link.errands import Pause, Procedure

_AGAIN_S = 1.0


def left_here(folder: ChainFolder, own_turn: int, node: str) -> tuple[int, ...]:
    """Return the processes on this node of the last start before our turn, where that start has not ended."""
    turns = [turn for turn in Turns(folder.turns).read() if turn.number < own_turn]
    start = next((turn for turn in reversed(turns) if turn.kind == "start"), None)
    if start is None or start.facts.get("node") != node or start.facts.get("boot_id") != liveness.boot_id():
        return ()
    if any(turn.kind == "end" and turn.number > start.number for turn in turns):
        return ()
    pid = int(start.facts.get("pid", 0))
    leader = (pid,) if liveness.process_started(pid) == start.facts.get("pid_started") else ()
    return (*leader, *(one for one, _ in liveness.survivors(folder.mailbox, read_events(folder.events)[0])))


def wait_for_those_here(folder: ChainFolder, own_turn: int, node: str) -> Procedure[None]:
    """Wait until nothing of the last start is left on this node. What is still there after the fencing time is ended."""
    left = left_here(folder, own_turn, node)
    if left:
        messages.say(f"{len(left)} processes of the last start are still at work on {node}: waiting for their end")
    waited_s = 0.0
    while left:
        if waited_s >= FENCING_S:
            messages.say(f"ending {len(left)} processes of the last start, which outlived their job")
            for pid in left:
                child.send(pid, 9)
        yield Pause(_AGAIN_S)
        waited_s += _AGAIN_S
        left = left_here(folder, own_turn, node)
