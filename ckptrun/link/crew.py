"""The tasks of one step that are all ckptrun (`srun -n6 ckptrun python train.py`): one leads, the others relay.

Rules of this file. Who takes the first turn of the step leads; it is the only one that looks for its place in the chain. The
second turn says that training begins, for which link, with what; the third how the leader ended. The others start their trainings
after the second and end after the third, so that no task of the step ends before it is decided what follows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ckptrun.chain import jobs, liveness
from ckptrun.chain.ledger import Turn
from ckptrun.chain.turns import Turns
from ckptrun.errors import CkptrunError, TurnTaken
from ckptrun.link.errands import Pause, Procedure
from ckptrun.link.relay import Lead
from ckptrun.slurm.job import Here
from ckptrun.words import Outcome, Status

LOOK_EVERY_S = 0.5


class Crew:
    """The tasks of our step. `size` is how many there are beside us."""

    def __init__(self, home: str, here: Here, environment: Mapping[str, str]) -> None:
        tasks = environment.get("SLURM_STEP_NUM_TASKS", "")
        self.size = int(tasks) - 1 if here.step is not None and tasks.isdecimal() else 0
        attempt = environment.get("SLURM_RESTART_COUNT", "0")
        self._turns = Turns(jobs.step_folder(home, here.cluster, str(here.job), f"{attempt}.{here.step}"))

    def lead(self) -> bool:
        """Try to lead; return False where another task does. Raises OSError."""
        node, boot_id, pid, pid_started = liveness.me()
        try:
            self._turns.take("lead", {"node": node, "boot_id": boot_id, "pid": pid, "pid_started": pid_started}, after=0)
        except TurnTaken:
            return False
        return True

    # --- the leader's part

    def begin(self, lead: tuple[Any, ...], variables: dict[str, str], appended: tuple[str, ...]) -> None:
        """Let the others start: whom they follow (the fields of a Lead), their ckptrun variables, what their commands end with.

        Raises CkptrunError where that cannot be written: then none of them would ever start.
        """
        facts: dict[str, Any] = {"lead": list(lead), "variables": variables, "appended": list(appended)}
        try:
            self._turns.take("begin", facts, after=1)
        except OSError as error:
            raise CkptrunError(
                f"the tasks beside this one cannot be told to start ({error.strerror}): nothing was started"
            ) from None

    def over(self, code: int, outcome: Outcome | None) -> None:
        """Let the others end. Where that cannot be written, they see that we are gone, or end with the job."""
        begun = self._turns.passed(1)
        try:
            self._turns.take("over", {"code": code, "outcome": outcome.value if outcome else None}, after=2 if begun else 1)
        except (OSError, TurnTaken):
            return

    # --- the others' part

    def wait_for(self, kind: str) -> Procedure[Turn | None]:
        """Return the leader's turn of a kind, or the one with which it ended; None where it is gone without one."""
        while True:
            gone = self._leader_is_gone()
            found = next((turn for turn in self._turns.read() if turn.kind in (kind, "over")), None)
            if found is not None or gone:
                return found
            yield Pause(LOOK_EVERY_S)

    def _leader_is_gone(self) -> bool:
        """Return whether the leader was on this node and has ended; of one on another node nobody can tell."""
        first = next((turn.facts for turn in self._turns.read() if turn.kind == "lead"), None)
        if first is None or first.get("node") != os.uname().nodename:
            return False
        return liveness.alive(first["node"], first["boot_id"], first["pid"], first["pid_started"]) is False


def lead_of(turn: Turn) -> Lead:
    """Return whom the others follow."""
    return Lead(*turn.facts["lead"])


def exit_code(own: Status, over: Turn | None) -> int:
    """Return what a relay beside its leader exits with: where the chain goes on, as the leader; else its own status."""
    facts = over.facts if over is not None else {}
    code, outcome = facts.get("code", 75), facts.get("outcome")
    if outcome in (Outcome.CONTINUED.value, Outcome.REQUEUED.value):
        return int(code)
    if outcome == Outcome.COMPLETE.value:
        return own.exit_code
    return own.exit_code or int(code)
