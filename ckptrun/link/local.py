"""A chain without Slurm: its links run one after the other on this machine, in this process.

Rules of this file. A link trains only after it has taken its turn (`turns/`). Whatever is said to be over is over before the next
link starts: what is left of a process tree is stopped first. A ledger that fails while the training runs stops nothing.
"""

from __future__ import annotations

import os
import select
import time

from ckptrun import durations
from ckptrun.chain.history import History
from ckptrun.chain.home import ChainFolder
from ckptrun.chain.liveness import me
from ckptrun.chain.model import ChainSoFar, so_far
from ckptrun.chain.turns import PreparedTurn, Turns
from ckptrun.early import HUP, INT, TERM, Handlers
from ckptrun.errors import CkptrunError, Stranded, TurnTaken
from ckptrun.link import child, messages, process_tree
from ckptrun.link import supervision as core
from ckptrun.link.outcome import Decision, End, decide
from ckptrun.link.resuming import Resumption, find_resumption, keep_copies
from ckptrun.link.supervisor import Ended, Eyes, Supervisor
from ckptrun.link.times import Times, times
from ckptrun.plan import Plan, resume_words
from ckptrun.words import Course, Outcome, Status

LEFTOVER_TERM_S = 5.0


class LocalChain:
    """The links of one chain, run here. `last_turn` is the number of our own last turn, or of the one that we build on."""

    def __init__(self, plan: Plan, folder: ChainFolder, handlers: Handlers, started_at: float) -> None:
        self._plan, self._folder, self._handlers = plan, folder, handlers
        self._turns = Turns(folder.turns)
        self._history = History(folder.events, messages.say)
        self._started_at = started_at
        self._last_turn = max((turn.number for turn in self._turns.read()), default=0)
        self._link = 0

    def record(self, event: str, **facts: object) -> None:
        """Write one event of the current link into the history."""
        self._history.record(event, self._link, 1, **facts)

    def join(self, link: int) -> None:
        """Take the turn `resume`: a person goes on with this chain. Raises TurnTaken when another was first."""
        self._link = link
        try:
            self._last_turn = self._turns.take("resume", {"link": link}, after=self._last_turn).number
        except OSError as error:
            raise Stranded(f"{self._folder.turns}: {error.strerror}. Link {link} cannot take its turn and does not train") from None
        self.record("joined")

    def run(self, first_link: int) -> int:
        """Run links until the chain ends; return our exit code."""
        self._link = first_link
        try:
            while True:
                decision = self._one_link(first=self._link == first_link)
                if not decision.next:
                    return decision.exit_code
                if decision.delay_s and (code := self._delay(decision.delay_s)) is not None:
                    return code
                self._link += 1
                self._started_at = time.monotonic()
        except TurnTaken:
            messages.say(f"another start has taken over chain {self._folder.id}: nothing is done here")
            return TurnTaken.exit_code

    # --- one link

    def _one_link(self, *, first: bool) -> Decision:
        already = self._already_over()
        self._take_start(first=first)
        prepared = self._prepare_end()
        if already is not None:
            return self._close(already, prepared, ended=None, resumption=None, seconds=0.0)
        so_far_ = so_far(self._history.events)
        try:
            resumption = find_resumption(self._plan, self._folder.id, self._link, so_far_, self.record)
        except CkptrunError as error:
            self._close(Decision(Outcome.STOPPED, False, error.exit_code, str(error)), prepared, None, None, 0.0, silent=True)
            raise
        link_times = self._times(so_far_)
        self._say_start(resumption, link_times)
        ended = self._supervise(resumption, link_times, so_far_)
        seconds = time.monotonic() - self._started_at
        end = self._end(ended, resumption, so_far_, seconds, link_times)
        decision = decide(end, self._plan, so_far(self._history.events))
        if decision.outcome is Outcome.REPLACED:
            self._stop_leftovers()
            messages.say(decision.why)
            return decision
        if decision.outcome is not Outcome.COMPLETE:
            self._stop_leftovers()
        return self._close(decision, prepared, ended, resumption, seconds, end)

    def _already_over(self) -> Decision | None:
        plan = self._plan
        if plan.done_file is not None and os.path.exists(plan.done_file):
            return Decision(Outcome.COMPLETE, False, 0, f"{plan.done_file} exists, nothing is left to do")
        if plan.stop_file is not None and os.path.exists(plan.stop_file):
            return Decision(Outcome.STOPPED, False, 75, f"the stop file {plan.stop_file} exists, nothing is started")
        return None

    def _take_start(self, *, first: bool) -> None:
        node, boot_id, pid, pid_started = me()
        facts = {"link": self._link, "attempt": 1, "job": None, "restart": 0, "node": node, "boot_id": boot_id}
        facts |= {"pid": pid, "pid_started": pid_started}
        try:
            self._last_turn = self._turns.take("start", facts, after=self._last_turn).number
        except OSError as error:
            text = f"link {self._link} of {self._folder.id} cannot take its turn in {self._folder.turns} ({error.strerror})"
            raise (CkptrunError if first else Stranded)(f"{text}: it does not train") from None

    def _prepare_end(self) -> PreparedTurn | None:
        try:
            return self._turns.prepare_end(self._link, 1)
        except OSError as error:
            messages.say(f"no room for the end of this link in {self._folder.turns} ({error.strerror}); the training goes on")
            return None

    def _times(self, known: ChainSoFar) -> Times | None:
        if self._plan.limit_s is None:
            return None
        found = times(self._started_at, self._started_at + self._plan.limit_s, known.saves, self._plan.margin_s)
        said = any(event.get("event") == "warned" and event.get("about") == "limit" for event in self._history.events)
        if found.needed_limit_s is not None and not said:
            text = messages.limit_too_short(found)
            messages.say(text)
            self.record("warned", about="limit", text=text)
        return found

    def _say_start(self, resumption: Resumption, link_times: Times | None) -> None:
        now = time.monotonic()
        sees = bool(self._plan.checkpoints)
        line = messages.starting(
            self._folder.id, self._link, resumption, link_times, sees=sees, bound=self._plan.links_bound, now=now
        )
        messages.say(line)
        offset = time.time() - now
        self.record(
            "started",
            resumed=resumption.resumes,
            checkpoint=resumption.checkpoint.path if resumption.checkpoint else None,
            limit_s=self._plan.limit_s,
            end_at=round(link_times.end_at + offset, 3) if link_times else None,
            ask_at=round(link_times.ask_at + offset, 3) if link_times else None,
            margin_s=round(link_times.margin_s, 3) if link_times else None,
            why=link_times.why if link_times else "no time limit",
        )

    def _supervise(self, resumption: Resumption, link_times: Times | None, known: ChainSoFar) -> Ended:
        policy = core.Policy(link_times, known.saves, bool(self._plan.checkpoints), self._started_at)
        wanted = None if self._plan.signal == "auto" else _signal_number(self._plan.signal)
        supervisor = Supervisor(
            policy,
            self._handlers,
            self._eyes(),
            self._plan.checkpoints,
            wanted,
            self.record,
            self._is_replaced,
            lambda: keep_copies(self._plan, self._folder.id, self.record),
        )
        try:
            return supervisor.run(lambda: self._start_child(resumption, link_times))
        except CkptrunError as error:
            self._end_turn(Outcome.FAILED, None)
            self._record_end(Decision(Outcome.FAILED, False, error.exit_code, str(error)), None, None, 0.0, None)
            raise

    def _eyes(self) -> Eyes | None:
        if not self._plan.checkpoints:
            return None
        from ckptrun.checkpoints.watch import Watch

        return Watch(self._plan.checkpoints, time.time())

    def _is_replaced(self) -> bool:
        return self._turns.passed(self._last_turn)

    def _start_child(self, resumption: Resumption, link_times: Times | None) -> int:
        command = self._plan.command
        if resumption.resumes and self._plan.resume_flag is not None:
            path = resumption.checkpoint.path if resumption.checkpoint else ""
            command += resume_words(self._plan.resume_flag, checkpoint=path, link=self._link, chain=self._folder.id)
        environment = dict(os.environ) | {
            "CKPTRUN": "1",
            "CKPTRUN_CHAIN": self._folder.id,
            "CKPTRUN_LINK": str(self._link),
            "CKPTRUN_RESUME": "1" if resumption.resumes else "0",
            "CKPTRUN_CHECKPOINT": resumption.checkpoint.path if resumption.checkpoint else "",
            "CKPTRUN_END_TIME": str(int(link_times.end_at - time.monotonic() + time.time())) if link_times else "",
            "CKPTRUN_ATTEMPT": "1",
            "CKPTRUN_MAILBOX": self._folder.mailbox,
        }
        child.become_subreaper()
        pid = child.start(command, environment, self._handlers.mask)
        from ckptrun.chain.liveness import process_started

        node, boot_id, _, _ = me()
        self.record("child_started", pid=pid, pid_started=process_started(pid), boot_id=boot_id, node=node, argv=list(command))
        return pid

    # --- its end

    def _end(self, ended: Ended, resumption: Resumption, known: ChainSoFar, seconds: float, link_times: Times | None) -> End:
        state = ended.state
        status = state.status or Status(None, TERM)
        self.record("child_exited", code=status.code, signal=status.signal, peak_bytes=ended.peak_bytes)
        asked = state.reason.course if state.reason and state.told else None
        number = status.signal if status.signal is not None else (status.code or 0) - 128
        plan = self._plan
        return End(
            status=status,
            asked=asked,
            asked_for=state.reason.sentence if state.reason else "",
            ours=asked is not None and (state.our_end is not None or number in ended.signals),
            done=plan.done_file is not None and os.path.exists(plan.done_file),
            new_checkpoint=state.sight.new,
            progress=_progress(plan, ended, known),
            reached_ask=state.by_time and state.told,
            out_of_memory=ended.out_of_memory,
            peak_bytes=ended.peak_bytes,
            seconds=seconds,
            limit_s=link_times.limit_s if link_times else None,
            stop_file=plan.stop_file is not None and os.path.exists(plan.stop_file),
            replaced=state.replaced or self._is_replaced(),
        )

    def _close(
        self,
        decision: Decision,
        prepared: PreparedTurn | None,
        ended: Ended | None,
        resumption: Resumption | None,
        seconds: float,
        end: End | None = None,
        *,
        silent: bool = False,
    ) -> Decision:
        self._record_end(decision, ended, end, seconds, resumption)
        self._end_turn(decision.outcome, prepared)
        if not silent:
            messages.say(self._last_line(decision, seconds))
        return decision

    def _end_turn(self, outcome: Outcome, prepared: PreparedTurn | None) -> None:
        facts = {"link": self._link, "attempt": 1, "outcome": outcome.value}
        try:
            if prepared is not None:
                turn = self._turns.take_prepared(prepared, "end", facts, after=self._last_turn)
            else:
                turn = self._turns.take("end", facts, after=self._last_turn)
        except OSError as error:
            messages.say(f"the end of link {self._link} could not be written to {self._folder.turns} ({error.strerror})")
            return
        self._last_turn = turn.number

    def _record_end(
        self, decision: Decision, ended: Ended | None, end: End | None, seconds: float, resumption: Resumption | None
    ) -> None:
        newest = ended.state.sight.newest if ended else None
        if newest is None and resumption is not None:
            newest = resumption.checkpoint
        self.record(
            "ended",
            outcome=decision.outcome.value,
            reason=decision.why,
            exit_code=end.status.exit_code if end else decision.exit_code,
            seconds=round(seconds, 3),
            asked=end.asked.value if end and end.asked else None,
            reached_ask=bool(end and end.reached_ask),
            progress=end.progress if end else None,
            short=decision.short,
            unsaved=decision.unsaved,
            retried=decision.retried,
            checkpoint=newest.path if newest else None,
            step=newest.step if newest and not (ended and ended.slots) else None,
            size=newest.size if newest else None,
        )

    def _last_line(self, decision: Decision, seconds: float) -> str:
        text = f"link {self._link} ended after {durations.show(seconds)}: {decision.outcome.value}: {decision.why}"
        if decision.next:
            when = f"in {durations.show(decision.delay_s)}" if decision.delay_s else "now"
            return f"{text}; link {self._link + 1} starts {when}"
        if decision.outcome is Outcome.COMPLETE:
            return f"{text}. Chain {self._folder.id} is complete"
        return f"{text}. The same command again goes on; `ckptrun chain show {self._folder.id}` tells the story"

    def _delay(self, seconds: float) -> int | None:
        """Wait before the next link; return an exit code when a signal ends the chain meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            select.select([self._handlers.reader], [], [], left)
            child.reap()
            for number in self._handlers.arrived():
                if number not in (HUP, INT, TERM):
                    continue
                reason = core.meaning(number)
                outcome = Outcome.STOPPED if reason.course is Course.STOP else Outcome.CANCELLED
                self._link += 1
                code = 75 if outcome is Outcome.STOPPED else 128 + number
                self._close(Decision(outcome, False, code, reason.sentence), None, None, None, 0.0)
                return code
        return None

    def _stop_leftovers(self) -> None:
        """Stop what is left of the process tree, orphans included: nothing of this link may run beside the next."""
        for number, wait_s in ((TERM, LEFTOVER_TERM_S), (9, 60.0)):
            pids = process_tree.pids()
            if not pids:
                return
            messages.detail(f"stopping {len(pids)} processes that outlived the training")
            for pid in pids:
                child.send(pid, number)
            self.record("terminated" if number == TERM else "killed", pids=list(pids))
            until = time.monotonic() + wait_s
            while process_tree.pids() and (left := until - time.monotonic()) > 0:
                select.select([self._handlers.reader], [], [], left)
                self._handlers.arrived()
                child.reap()


def _progress(plan: Plan, ended: Ended, known: ChainSoFar) -> bool | None:
    """Return whether the link brought the chain further: a higher step than any before or, without steps, a new checkpoint."""
    if not plan.checkpoints:
        return None
    sight = ended.state.sight
    if not sight.new or sight.newest is None:
        return False
    if sight.newest.step is None or ended.slots or known.best_step is None:
        return True
    return sight.newest.step > known.best_step


def _signal_number(name: str) -> int:
    import signal

    return int(signal.Signals[f"SIG{name}"])
