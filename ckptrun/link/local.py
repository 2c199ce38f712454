"""A chain without Slurm: its links run one after the other on this machine, in this process."""

from __future__ import annotations

import os
import select
import time

from ckptrun.chain.home import ChainFolder
from ckptrun.chain.state import stop_mark
from ckptrun.chain.turns import Turns
from ckptrun.early import HUP, INT, TERM, Handlers
from ckptrun.errors import Stranded, TurnTaken
from ckptrun.link import child, messages
from ckptrun.link import supervision as core
from ckptrun.link.one_link import OneLink, Where
from ckptrun.link.outcome import Decision
from ckptrun.plan import Plan
from ckptrun.words import Course, Outcome


class LocalChain:
    """The links of one chain, run here."""

    def __init__(self, plan: Plan, folder: ChainFolder, handlers: Handlers, started_at: float) -> None:
        self._plan, self._folder, self._handlers, self._started_at = plan, folder, handlers, started_at
        self._last_turn = max((turn.number for turn in Turns(folder.turns).read()), default=0)

    def join(self, link: int, after: int) -> None:
        """Take the turn `resume` after turn `after`: a person goes on with this chain. Raises TurnTaken when another was first."""
        self._last_turn = after
        start = self._link(link)
        try:
            self._last_turn = start.turns.take("resume", {"link": link}, after=self._last_turn).number
        except OSError as error:
            raise Stranded(f"{self._folder.turns}: {error.strerror}. Link {link} cannot take its turn and does not train") from None
        start.record("joined")

    def run(self, first_link: int) -> int:
        """Run links until the chain ends; return our exit code."""
        number = first_link
        try:
            while True:
                decision = self._one_link(self._link(number), first=number == first_link)
                if not decision.next:
                    return decision.exit_code
                number += 1
                if decision.delay_s and (code := self._delay(number, decision.delay_s)) is not None:
                    return code
                self._started_at = time.monotonic()
        except TurnTaken:
            messages.say(f"another start has taken over chain {self._folder.id}: nothing is done here")
            return TurnTaken.exit_code

    def _link(self, number: int) -> OneLink:
        link = OneLink(self._plan, self._folder, self._handlers, number, Where(os.uname().nodename), self._last_turn)
        link.started_at = self._started_at
        return link

    def _one_link(self, link: OneLink, *, first: bool) -> Decision:
        try:
            already = link.already_over()
            link.take_start(first=first)
            if already is not None:
                return link.close(already, None)
            resumption = link.find_resumption()
            known = link.so_far
            link_times = link.times(None if self._plan.limit_s is None else link.started_at + self._plan.limit_s)
            link.say_start(resumption, link_times)
            policy = core.Policy(link_times, known.saves, bool(self._plan.checkpoints), link.started_at)
            ran = link.supervise(resumption, policy)
            decision = link.decide(ran.end)
            if decision.next and stop_mark(self._folder) is not None:
                decision = Decision(Outcome.STOPPED, False, 75, "`ckptrun chain stop` said so")
            if decision.outcome is not Outcome.COMPLETE:
                link.stop_leftovers()
            if decision.outcome is Outcome.REPLACED:
                messages.say(decision.why)
                return decision
            return link.close(decision, ran)
        finally:
            self._last_turn = link.last_turn

    def _delay(self, number: int, seconds: float) -> int | None:
        """Wait before the next link; return an exit code when a signal ends the chain meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            select.select([self._handlers.reader], [], [], left)
            child.reap()
            for signal in self._handlers.arrived():
                if signal not in (HUP, INT, TERM):
                    continue
                reason = core.meaning(signal)
                outcome = Outcome.STOPPED if reason.course is Course.STOP else Outcome.CANCELLED
                code = 75 if outcome is Outcome.STOPPED else 128 + signal
                self._link(number).close(Decision(outcome, False, code, reason.sentence), None)
                return code
        return None
