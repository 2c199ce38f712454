"""One start of one link, wherever it runs: take the turn, find what to resume from, supervise, decide, record, end.

Rules of this file. A link trains only after it has taken its turn (`turns/`). Whatever is said to be over is over before the next
link starts: what is left of a process tree is stopped first. A ledger that fails while the training runs stops nothing.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ckptrun import durations
from ckptrun.chain.history import History
from ckptrun.chain.home import ChainFolder
from ckptrun.chain.liveness import me, process_started
from ckptrun.chain.model import ChainSoFar, so_far
from ckptrun.chain.turns import PreparedTurn, Turns
from ckptrun.early import CHLD, TERM, USR1, USR2, Handlers
from ckptrun.errors import CkptrunError, Stranded, TurnTaken
from ckptrun.link import child, messages, process_tree
from ckptrun.link import supervision as core
from ckptrun.link.desk import Desk
from ckptrun.link.outcome import Decision, End, decide
from ckptrun.link.post import Post
from ckptrun.link.resuming import Resumption, find_resumption, keep_copies, warn_of_room
from ckptrun.link.supervisor import Ended, Eyes, Supervisor
from ckptrun.link.times import Times, times
from ckptrun.plan import Plan, resume_words
from ckptrun.words import Checkpoint, Outcome, Reason, Status

if TYPE_CHECKING:
    from ckptrun.link.crew import Crew

# A command that sends its training into the background is over at once; helpers of a training that ends may live on for a moment.
_AT_ONCE_S = 10.0
LEFTOVER_TERM_S = 5.0


class Where(NamedTuple):
    """Where a link runs: outside Slurm `job` is None; `node` is Slurm's name for it inside. `attempt` counts its starts."""

    node: str
    job: str | None = None
    restart: int = 0
    batch_shell: bool = False
    attempt: int = 1


class Ran(NamedTuple):
    """A training that has ended: what the loop saw, from what it resumed, how long it ran, and the facts that decide.

    `told_step` is how far the training itself said that it is.
    """

    ended: Ended
    resumption: Resumption
    seconds: float
    end: End
    told_step: int | None = None


class OneLink:
    """One start of link `number`. `last_turn` is the number of our own last turn, or of the one that we build on."""

    def __init__(self, plan: Plan, folder: ChainFolder, handlers: Handlers, number: int, where: Where, last_turn: int) -> None:
        self.plan, self.folder, self.handlers, self.number, self.where = plan, folder, handlers, number, where
        self.attempt = where.attempt
        self.turns = Turns(folder.turns)
        self.history = History(folder.events, messages.say)
        self.post = Post(folder.mailbox, number, self.attempt)
        self.started_at = time.monotonic()
        self.last_turn = last_turn
        self.outcome: Outcome | None = None
        self._prepared: PreparedTurn | None = None

    def record(self, event: str, **facts: object) -> None:
        """Write one event of this link into the history."""
        self.history.record(event, self.number, self.attempt, **facts)

    @property
    def so_far(self) -> ChainSoFar:
        """Return what the chain's events add up to now."""
        return so_far(self.history.events)

    def is_replaced(self) -> bool:
        """Return whether a turn after our own last exists."""
        return self.turns.passed(self.last_turn)

    @property
    def sees_progress(self) -> bool:
        """Return whether it can be seen how far the chain is: by its checkpoints, or because the training says so."""
        return bool(self.plan.checkpoints) or self.so_far.best_step is not None or self.post.step() is not None

    # --- before the training

    def already_over(self) -> Decision | None:
        """Return the decision to start nothing, where the done-file or the stop file stands."""
        plan = self.plan
        if plan.done_file is not None and os.path.exists(plan.done_file):
            return Decision(Outcome.COMPLETE, False, 0, f"{plan.done_file} exists, nothing is left to do")
        if plan.stop_file is not None and os.path.exists(plan.stop_file):
            return Decision(Outcome.STOPPED, False, 75, f"the stop file {plan.stop_file} exists, nothing is started")
        return None

    def take_start(self, *, first: bool) -> None:
        """Take the turn `start`. Raises TurnTaken; CkptrunError, for a later link Stranded, where nothing can be written."""
        _, boot_id, pid, pid_started = me()
        where = self.where
        facts: dict[str, Any] = {"link": self.number, "attempt": self.attempt, "job": where.job, "restart": where.restart}
        facts |= {"node": where.node, "boot_id": boot_id, "pid": pid, "pid_started": pid_started}
        if where.job is not None:
            facts["batch_shell"] = where.batch_shell
        try:
            self.last_turn = self.turns.take("start", facts, after=self.last_turn).number
        except OSError as error:
            text = f"link {self.number} of {self.folder.id} cannot take its turn in {self.folder.turns} ({error.strerror})"
            raise (CkptrunError if first else Stranded)(f"{text}: it does not train") from None
        self._prepare_end()

    def take(self, kind: str, **facts: object) -> bool:
        """Take a turn in the middle of the link; return False where the file system does not let us. Raises TurnTaken."""
        try:
            self.last_turn = self.turns.take(kind, {"link": self.number, "attempt": self.attempt, **facts}, self.last_turn).number
        except OSError as error:
            messages.say(f"the turn {kind} of link {self.number} could not be written to {self.folder.turns} ({error.strerror})")
            return False
        return True

    def _prepare_end(self) -> None:
        try:
            self._prepared = self.turns.prepare_end(self.number, self.attempt)
        except OSError as error:
            messages.say(f"no room for the end of this link in {self.folder.turns} ({error.strerror}); the training goes on")

    def find_resumption(self) -> Resumption:
        """Return what this start resumes from. Raises CkptrunError, and the link has ended as stopped."""
        try:
            return find_resumption(self.plan, self.folder.id, self.number, self.so_far, self.record)
        except CkptrunError as error:
            self.close(Decision(Outcome.STOPPED, False, error.exit_code, str(error)), None, silent=True)
            raise

    def times(self, end_at: float | None) -> Times | None:
        """Return when to ask, to send TERM and to KILL in a link that must be over at `end_at` (monotonic; None for never)."""
        if end_at is None:
            return None
        found = times(self.started_at, end_at, self.so_far.saves, self.plan.margin_s)
        said = any(event.get("event") == "warned" and event.get("about") == "limit" for event in self.history.events)
        if found.needed_limit_s is not None and not said:
            text = messages.limit_too_short(found)
            messages.say(text)
            self.record("warned", about="limit", text=text)
        return found

    def say_start(self, resumption: Resumption, link_times: Times | None, **facts: object) -> None:
        """Print and record the line at the start."""
        now = time.monotonic()
        messages.say(self._start_line(resumption, link_times, now))
        offset = time.time() - now
        self.record(
            "started",
            resumed=resumption.resumes,
            checkpoint=resumption.checkpoint.path if resumption.checkpoint else None,
            checkpoint_at=round(resumption.checkpoint.at, 3) if resumption.checkpoint else None,
            from_step=resumption.checkpoint.step if resumption.checkpoint else None,
            node=self.where.node,
            limit_s=round(link_times.limit_s, 3) if link_times else None,
            end_at=round(link_times.end_at + offset, 3) if link_times else None,
            ask_at=round(link_times.ask_at + offset, 3) if link_times else None,
            margin_s=round(link_times.margin_s, 3) if link_times else None,
            why=link_times.why if link_times else "no time limit",
            **facts,
        )

    def _start_line(self, resumption: Resumption, link_times: Times | None, now: float) -> str:
        sees = bool(self.plan.checkpoints)
        bound = None if self.sees_progress else self.plan.bound(sees_progress=False)
        who, how = "it", ""
        if link_times is not None:
            from ckptrun.link.target import by, subject

            who, how = subject(self.plan.command), by(self.plan.signal)
        return messages.starting(
            self.folder.id, self.number, resumption, link_times, sees=sees, bound=bound, now=now, who=who, by=how
        )

    # --- the training

    def supervise(
        self,
        resumption: Resumption,
        policy: core.Policy,
        desk: Desk | None = None,
        variables: dict[str, str] | None = None,
        crew: Crew | None = None,
    ) -> Ran:
        """Run the training, and with a crew the trainings of the relays beside us, to its end.

        Raises CkptrunError where it cannot be started; then the link has failed.
        """
        known = self.so_far
        self.post.clear_others()
        supervisor = Supervisor(
            policy,
            self.handlers,
            self._eyes(),
            self.plan.checkpoints,
            self._wanted(),
            self.record,
            self.is_replaced,
            self._keep_copies,
            lambda saved: warn_of_room(saved, self.record),
            desk,
            self.post,
            crew.size if crew is not None else 0,
        )
        try:
            ended = supervisor.run(lambda: self._start_child(resumption, policy.times, variables or {}, crew))
        except CkptrunError as error:
            self.close(Decision(Outcome.FAILED, False, error.exit_code, str(error)), None, silent=True)
            raise
        seconds = time.monotonic() - self.started_at
        if ended.state.reason is None and seconds < _AT_ONCE_S and child.has_children():
            self._tell_left_running(desk)
        return Ran(ended, resumption, seconds, self._end(ended, known, seconds, policy.times), self.post.step())

    def _tell_left_running(self, desk: Desk | None) -> None:
        """Say that a command which is over at once has left a process behind: it may be the training, sent into the background."""
        left = process_tree.read(desk.pids() if desk is not None else frozenset())
        if left:
            one = f"{' '.join(left[0].argv[:3])} (process {left[0].pid})"
            after = "Slurm ends it with the job" if self.where.job is not None else "it is not asked to save, and not started again"
            messages.say(
                f"the command is over, and {one}, which it started, still runs. Is that the training? Nobody waits for it: "
                f"{after}. Start it without `&`, `setsid` or `nohup`, or `wait` for it"
            )

    def _eyes(self) -> Eyes:
        if not self.plan.checkpoints:
            return self.post
        from ckptrun.checkpoints.watch import Watch

        return Watch(self.plan.checkpoints, time.time())

    def _keep_copies(self) -> None:
        keep_copies(self.plan, self.folder.id, self.record)

    def _start_child(self, resumption: Resumption, link_times: Times | None, variables: dict[str, str], crew: Crew | None) -> int:
        appended: tuple[str, ...] = ()
        if resumption.resumes and self.plan.resume_flag is not None:
            path = resumption.checkpoint.path if resumption.checkpoint else ""
            appended = resume_words(self.plan.resume_flag, checkpoint=path, link=self.number, chain=self.folder.id)
        command = self.plan.command + appended
        own = self._variables(resumption, link_times)
        if crew is not None:
            end_at = link_times.end_at - time.monotonic() + time.time() if link_times else None
            lead = (self.folder.id, self.number, self.attempt, self.folder.mailbox, end_at, self._wanted())
            crew.begin(lead, own | variables, appended)
        environment = dict(os.environ) | own | variables
        environment.pop("SLURM_CKPTRUN_BASE", None)
        child.become_subreaper()
        pid = child.start(command, environment, self.handlers.mask)
        _, boot_id, _, _ = me()
        facts = {"pid": pid, "pid_started": process_started(pid), "boot_id": boot_id, "node": self.where.node}
        self.record("child_started", **facts, argv=list(command))
        return pid

    def _variables(self, resumption: Resumption, link_times: Times | None) -> dict[str, str]:
        return {
            "CKPTRUN": "1",
            "CKPTRUN_CHAIN": self.folder.id,
            "CKPTRUN_LINK": str(self.number),
            "CKPTRUN_RESUME": "1" if resumption.resumes else "0",
            "CKPTRUN_CHECKPOINT": resumption.checkpoint.path if resumption.checkpoint else "",
            "CKPTRUN_END_TIME": str(int(link_times.end_at - time.monotonic() + time.time())) if link_times else "",
            "CKPTRUN_ATTEMPT": str(self.attempt),
            "CKPTRUN_MAILBOX": self.folder.mailbox,
        }

    def _wanted(self) -> int | None:
        return None if self.plan.signal == "auto" else _signal_number(self.plan.signal)

    def _end(self, ended: Ended, known: ChainSoFar, seconds: float, link_times: Times | None) -> End:
        state = ended.state
        status = state.status or Status(None, TERM)
        self.record("child_exited", code=status.code, signal=status.signal, peak_bytes=ended.peak_bytes)
        number = status.signal if status.signal is not None else (status.code or 0) - 128
        plan = self.plan
        end = End(
            status=status,
            done=self.post.is_done() or (plan.done_file is not None and os.path.exists(plan.done_file)),
            new_checkpoint=state.sight.new,
            progress=_progress(plan, ended, known, self.post.step()),
            reached_ask=state.by_time and state.told,
            out_of_memory=ended.out_of_memory,
            peak_bytes=ended.peak_bytes,
            seconds=seconds,
            limit_s=link_times.limit_s if link_times else None,
            stop_file=plan.stop_file is not None and os.path.exists(plan.stop_file),
            replaced=state.replaced or self.is_replaced(),
        )
        ours = state.our_end is not None or number in ended.signals or (state.heard_itself and number in (USR1, USR2))
        return asked_for(end, state.reason, ours=ours) if state.reason and (state.told or state.heard_itself) else end

    def decide(self, end: End) -> Decision:
        """Return what the end of the training means for the chain."""
        return decide(end, self.plan, self.so_far)

    # --- the end

    def close(
        self, decision: Decision, ran: Ran | None, *, silent: bool = False, turn: bool = True, waited: bool = False
    ) -> Decision:
        """Record the end of the link and take its turn (a link that is replaced, or cannot know how it ends, takes none).

        `waited`: it did not train, but all that it had to wait for is over.
        """
        if turn and self.is_replaced():
            raise TurnTaken(f"link {self.number} of {self.folder.id} was replaced: it writes nothing")
        self.outcome = decision.outcome
        self._record_end(decision, ran)
        if turn:
            self._end_turn(decision.outcome, trained=ran is not None or waited)
        if not silent:
            messages.say(self._last_line(decision, ran.seconds if ran else 0.0))
        if turn and self.plan.on_end is not None:
            self._run_on_end(decision)
        return decision

    def _run_on_end(self, decision: Decision) -> None:
        from ckptrun.link import on_end

        if decision.outcome in on_end.ENDS:
            facts = on_end.facts(self.history.events, decision.outcome.value, decision.why, decision.exit_code, self.where.job)
            on_end.run(self.plan, self.folder, self.last_turn, facts, self.handlers, self.record)

    def _end_turn(self, outcome: Outcome, *, trained: bool) -> None:
        facts = {"link": self.number, "attempt": self.attempt, "outcome": outcome.value, "trained": trained}
        try:
            if self._prepared is not None:
                turn = self.turns.take_prepared(self._prepared, "end", facts, after=self.last_turn)
            else:
                turn = self.turns.take("end", facts, after=self.last_turn)
        except OSError as error:
            messages.say(f"the end of link {self.number} could not be written to {self.folder.turns} ({error.strerror})")
            return
        self.last_turn = turn.number

    def _record_end(self, decision: Decision, ran: Ran | None) -> None:
        ended, end = (ran.ended, ran.end) if ran else (None, None)
        newest = ended.state.sight.newest if ended else None
        if newest is None and ran is not None:
            newest = ran.resumption.checkpoint
        self.record(
            "ended",
            outcome=decision.outcome.value,
            reason=decision.why,
            exit_code=end.status.exit_code if end else decision.exit_code,
            exits=decision.exit_code,
            seconds=round(ran.seconds if ran else 0.0, 3),
            asked=end.asked.value if end and end.asked else None,
            reached_ask=bool(end and end.reached_ask),
            progress=end.progress if end else None,
            short=decision.short,
            unsaved=decision.unsaved,
            retried=decision.retried,
            taken_away=bool(end and end.taken_away),
            checkpoint=newest.path if newest else None,
            step=_step(newest, ran),
            size=newest.size if newest else None,
            checkpoint_at=round(newest.at, 3) if newest else None,
            ended_at=round(time.time(), 3),
        )

    def _last_line(self, decision: Decision, seconds: float) -> str:
        text = f"link {self.number} ended after {durations.show(seconds)}: {decision.outcome.value}: {decision.why}"
        if decision.next:
            return f"{text}; {messages.what_follows(self.number + 1, decision, self.where.job is not None)}"
        if decision.outcome is Outcome.COMPLETE:
            return f"{text}. Chain {self.folder.id} is complete"
        return f"{text}. {messages.how_to_go_on(self.folder.id, decision, self.where.job is not None)}"

    def stop_leftovers(self, desk: Desk | None = None, heard: Callable[[int], None] = lambda _number: None) -> None:
        """Stop what is left of the process tree, orphans included: nothing of this link may run beside the next.

        Signals that arrive meanwhile go to `heard`; commands of the desk's own are left alone.
        """
        apart = desk.pids() if desk is not None else frozenset()
        for number, wait_s in ((TERM, LEFTOVER_TERM_S), (9, 60.0)):
            pids = process_tree.pids(apart)
            if not pids:
                return
            messages.detail(f"stopping {len(pids)} processes that outlived the training")
            for pid in pids:
                child.send(pid, number)
            self.record("terminated" if number == TERM else "killed", pids=list(pids))
            until = time.monotonic() + wait_s
            while process_tree.pids(apart) and (left := until - time.monotonic()) > 0:
                select.select([self.handlers.reader], [], [], left)
                for signal in self.handlers.arrived():
                    if signal != CHLD:
                        heard(signal)
                _reap(desk)
            _reap(desk)


def _reap(desk: Desk | None) -> None:
    for reaped in child.reap():
        if desk is not None:
            desk.reaped(reaped)


def asked_for(end: End, reason: Reason, *, ours: bool) -> End:
    """Return the end as one that was asked for, for this reason."""
    return end._replace(asked=reason.course, asked_for=reason.sentence, ours=ours, taken_away=reason.taken_away)


def _progress(plan: Plan, ended: Ended, known: ChainSoFar, told_step: int | None) -> bool | None:
    """Return whether the link brought the chain further: a higher step than any before or, without steps, a new checkpoint.

    The step is that of the checkpoint's name; where names have none, and without `--checkpoint`, the one that the training told.
    """
    if not plan.checkpoints:
        if told_step is None:
            return None if known.best_step is None else False
        return known.best_step is None or told_step > known.best_step
    sight = ended.state.sight
    if not sight.new or sight.newest is None:
        return False
    step = sight.newest.step if sight.newest.step is not None else told_step
    return step is None or ended.slots or known.best_step is None or step > known.best_step


def _step(newest: Checkpoint | None, ran: Ran | None) -> int | None:
    """Return the step that a link ended at: by the checkpoint's name, unless that is the number of a slot, else as it was told."""
    if ran is not None and ran.ended.slots:
        return None
    if newest is not None and newest.step is not None:
        return newest.step
    return ran.told_step if ran is not None else None


def _signal_number(name: str) -> int:
    import signal

    return int(signal.Signals[f"SIG{name}"])
