"""The loop of one link: wait, step, act. All decisions are `supervision`'s; this module only senses and does."""

from __future__ import annotations

import itertools
import os
import select
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from ckptrun import durations
from ckptrun.early import CHLD, INT, TERM, Handlers
from ckptrun.link import child, events, messages, process_tree
from ckptrun.link import supervision as core
from ckptrun.link.target import Audience, Target, audience
from ckptrun.link.times import Times, longest_interval, look_every
from ckptrun.words import Course, Reason, Sight, Status

REPLACED_EVERY_S = 10.0
# The end time of a job is read again twice an hour, and shortly before the ask.
END_TIME_EVERY_S = 1800.0
BEFORE_ASKING_S = 5.0
COPY_EVERY_S = 600.0
# Reading who has what open costs milliseconds a process; growth is seen without it.
OPEN_FILES_EVERY_S = 1.0


class Eyes(Protocol):
    """What looks at the checkpoints: `checkpoints.watch.Watch`, or a stand-in without checkpoints."""

    def look(self, monotonic: float, unix: float, open_for_writing: frozenset[str] = ...) -> Sight:
        """Return what stands there now."""


class Desk(Protocol):
    """What a link inside a Slurm job has besides: who asks the controller, and hands the chain over."""

    def pids(self) -> frozenset[int]:
        """Return the pids of Slurm's commands under way: they are no part of the training."""

    def descriptors(self) -> list[int]:
        """Return what to wait on."""

    def due_at(self) -> float | None:
        """Return the monotonic time at which `attend` has something to do."""

    def attend(self) -> None:
        """Go on with what was answered."""

    def reaped(self, reaped: child.Reaped) -> bool:
        """Take the end of a process; return whether it was a command of ours."""

    def note_term(self) -> None:
        """Publish that a SIGTERM arrived."""

    def inquire(self, learned: Callable[[Reason, bool], None]) -> None:
        """Find out what the SIGTERM means, and whether the job runs on."""

    def read_end_time(self, changed: Callable[[Times], None], lost: Callable[[], None]) -> None:
        """Read the job's end time again; say when it has changed, or when the job is not ours any more."""

    def hand_over(self) -> None:
        """Submit the successor, unless none may follow."""

    def take_back(self) -> None:
        """Cancel the successor."""

    def told_to_stop(self) -> Reason | None:
        """Return why a person has stopped the chain, None where nobody has. One stat."""


class Ended(NamedTuple):
    """What the loop hands back: the last state, and facts about the child that the machine does not need.

    `steps` are the numbers in the names of the checkpoints that were seen to be new, in order, without repeats.
    """

    state: core.State
    peak_bytes: int
    signals: frozenset[int]
    out_of_memory: bool
    slots: bool
    steps: tuple[int, ...] = ()


class Supervisor:
    """One link's loop. `record` writes history, `replaced` tells whether a turn after our own exists."""

    def __init__(
        self,
        policy: core.Policy,
        handlers: Handlers,
        eyes: Eyes | None,
        folders: tuple[str, ...],
        wanted: int | None,
        record: Callable[..., None],
        replaced: Callable[[], bool],
        keep_copies: Callable[[], None],
        desk: Desk | None = None,
    ) -> None:
        self._policy, self._handlers, self._eyes, self._folders = policy, handlers, eyes, folders
        self._wanted, self._record, self._replaced = wanted, record, replaced
        self._keep_copies = keep_copies
        self._desk = desk
        self._end_time_at = float("inf")
        self._state = core.begin(policy)
        self._timer: events.Event | None = None
        self._root = 0
        self._audience: Audience | None = None
        self._sent: dict[int, set[int]] = {}
        self._terminated = False
        self._peak_bytes = 0
        self._oom_before = 0
        self._look_at = self._replaced_at = self._open_at = self._copy_at = 0.0
        self._warm_at = 0.0
        self._open: frozenset[str] = frozenset()
        self._steps: list[int] = []
        self._blind = False

    # --- the loop

    def run(self, start: Callable[[], int]) -> Ended:
        """Start the child with `start`, see it through to its end, and return what is known then.

        Raises what `start` raises; then no child exists.
        """
        self._signals()
        if self._over():
            return self._end()
        self._oom_before = child.out_of_memory_kills()
        self._root = start()
        now = time.monotonic()
        self._warm_at = now + min(1.0, self._interval(now))
        self._look_at, self._replaced_at = now + self._interval(now), now + REPLACED_EVERY_S
        self._plan_reading(now)
        self._feed(events.ChildStarted(now))
        while not self._over():
            self._wait()
            self._signals()
            self._timers()
        return self._end()

    def _plan_reading(self, now: float) -> None:
        """Set when the end time is read next: in half an hour, and once shortly before the ask."""
        self._end_time_at = float("inf")
        if self._desk is None or self._policy.times is None:
            return
        soon = self._policy.times.ask_at - BEFORE_ASKING_S
        self._end_time_at = min(now + END_TIME_EVERY_S, soon) if soon > now + 1.0 else float("inf")

    def _over(self) -> bool:
        return self._state.phase is events.Phase.ENDED

    def _end(self) -> Ended:
        status = self._state.status or Status(0, None)
        killed = status.signal == 9 or status.code == 128 + 9
        ran_out = killed and self._state.our_end is None and child.out_of_memory_kills() > self._oom_before
        sent = frozenset(number for numbers in self._sent.values() for number in numbers)
        # A number that falls within one link is the number of a slot, not a step.
        slots = any(later < earlier for earlier, later in itertools.pairwise(self._steps))
        return Ended(self._state, self._peak_bytes, sent, ran_out, slots, tuple(self._steps))

    def _wait(self) -> None:
        timer_at = self._timer.at if self._timer else self._look_at
        until = min(self._warm_at, self._look_at, self._replaced_at, self._end_time_at, timer_at)
        descriptors = [self._handlers.reader]
        if self._desk is not None:
            descriptors += self._desk.descriptors()
            due_at = self._desk.due_at()
            until = until if due_at is None else min(until, due_at)
        select.select(descriptors, [], [], max(until - time.monotonic(), 0.0))

    def _signals(self) -> None:
        numbers = self._handlers.arrived()
        if not numbers:
            return
        # Signals coalesce: each is a fact, not a count. Those that tell us something come before the news of a dead child,
        # because the same key press that ended the child may have sent them.
        for number in dict.fromkeys(numbers):
            if number != CHLD:
                self._record("signal_received", signal=number)
                shared = number == INT and _terminal_sent_it()
                self._feed(events.SignalReceived(time.monotonic(), number, shared))
        if CHLD in numbers and self._root:
            self._reap()

    def _reap(self) -> None:
        for reaped in child.reap():
            if self._desk is not None and self._desk.reaped(reaped):
                continue
            if reaped.pid == self._root:
                self._root_ended(reaped)
        if self._state.status is not None and self._state.phase is not events.Phase.ENDED and not self._left():
            self._feed(events.TreeEnded(time.monotonic(), self._last_sight()))

    def _root_ended(self, reaped: child.Reaped) -> None:
        self._peak_bytes = reaped.peak_bytes
        left = self._state.phase is not events.Phase.RUNNING and self._left()
        sight = None if left else self._last_sight()
        self._feed(events.ChildExited(time.monotonic(), reaped.status, left, sight))

    def _left(self) -> bool:
        """Return whether somebody is left for whom the link waits: all after TERM, else those who were asked."""
        alive = set(self._pids()) - {self._root}
        return bool(alive if self._terminated else alive & set(self._sent))

    def _timers(self) -> None:
        now = time.monotonic()
        if now >= self._warm_at:
            self._warm_at = float("inf")
            process_tree.warm_up()
        while self._timer is not None and self._timer.at <= now:
            self._feed(self._timer._replace(at=now))
        if now >= self._replaced_at:
            self._replaced_at = now + REPLACED_EVERY_S
            if not self._state.replaced and self._replaced():
                self._feed(events.Replaced(now))
            self._stopped_by_a_person(now)
        if self._desk is not None:
            self._desk.attend()
            if now >= self._end_time_at:
                self._plan_reading(now)
                self._desk.read_end_time(self._new_times, lambda: self._feed(events.Replaced(time.monotonic())))
        if now >= self._look_at:
            self._look_at = now + self._interval(now)
            if self._eyes is not None:
                self._feed(events.Looked(now, self._look(now)))
                self._copy(now)

    def _new_times(self, found: Times) -> None:
        self._policy = self._policy._replace(times=found)
        self._feed(events.TimesChanged(time.monotonic()))
        self._plan_reading(time.monotonic())

    def _stopped_by_a_person(self, now: float) -> None:
        if self._desk is None or self._state.reason is not None:
            return
        if (reason := self._desk.told_to_stop()) is not None:
            self._feed(events.SignalReceived(now, TERM, reason=reason))

    def _interval(self, now: float) -> float:
        times = self._policy.times
        if self._eyes is None:
            return REPLACED_EVERY_S
        if self._state.phase is not events.Phase.RUNNING or self._state.reason is not None:
            return 0.25
        cadence_s = longest_interval(self._state.sight.written_at, self._policy.start_at)
        return look_every(times.limit_s if times else None, times.end_at - now if times else None, cadence_s)

    # --- seeing

    def _look(self, now: float, later_s: float = 0.0) -> Sight:
        assert self._eyes is not None
        if self._state.reason is not None and now >= self._open_at:
            self._open_at = now + OPEN_FILES_EVERY_S
            self._open = process_tree.open_for_writing(self._folders, self._apart())
        unix = time.time()
        try:
            sight = self._eyes.look(now + later_s, unix + later_s, self._open)
        except OSError as error:
            if not self._blind:
                self._blind = True
                messages.say(f"the checkpoints cannot be looked at ({error.strerror}); the training goes on")
            return self._state.sight
        if sight.new and sight.newest is not None and sight.newest.step is not None and sight.newest.step not in self._steps[-1:]:
            self._steps.append(sight.newest.step)
        # From here on times are monotonic: files know Unix time only.
        return sight._replace(written_at=tuple(at - unix + now for at in sight.written_at))

    def _copy(self, now: float) -> None:
        """Keep a copy of what is overwritten in place, while nothing else is going on."""
        state = self._state
        quiet = state.phase is events.Phase.RUNNING and state.reason is None and not state.sight.writing
        if quiet and state.sight.new and now >= self._copy_at:
            self._copy_at = now + COPY_EVERY_S
            self._keep_copies()

    def _last_sight(self) -> Sight | None:
        """Look after the end, when nobody writes any more: what has just appeared is settled at the second look."""
        if self._eyes is None:
            return None
        self._open = frozenset()
        self._open_at = float("inf")
        now = time.monotonic()
        first = self._look(now)
        if not first.writing:
            return first
        # Nothing lives that could write: the same look, dated one minute later, is the settled one.
        settled = self._look(now, later_s=60.0)
        return settled._replace(saves=first.saves + settled.saves)

    # --- acting

    def _feed(self, event: events.Event) -> None:
        before = self._state
        self._state, actions = core.step(self._policy, self._state, event)
        self._timer = core.due(self._state)
        self._tell_saves(before)
        for action in actions:
            self._act(action)

    def _tell_saves(self, before: core.State) -> None:
        for save in self._state.saves[len(before.saves) :]:
            newest = self._state.sight.newest if not save.cut else None
            if save.asked and newest is not None:
                messages.say(f"{messages.checkpoint(newest)} stands, {durations.show(save.seconds)} after the ask")
            self._record(
                "saved",
                path=newest.path if newest else None,
                size=newest.size if newest else None,
                step=newest.step if newest else None,
                seconds=round(save.seconds, 3),
                asked=save.asked,
                cut=save.cut,
                verdict=newest.verdict.value if newest and newest.verdict else None,
            )

    def _act(self, action: events.Action) -> None:
        if isinstance(action, events.Listen):
            self._audience = audience(process_tree.read(self._apart()), self._root, self._wanted)
            self._feed(events.Listened(time.monotonic(), self._audience.hearing))
        elif isinstance(action, events.SignalTraining):
            self._ask(action)
        elif isinstance(action, events.Terminate):
            self._terminated = True
            self._send_all(15, f"stopping it with TERM: {action.why}", "terminated")
        elif isinstance(action, events.Kill):
            self._terminated = True
            self._send_all(9, f"ending it with KILL: {action.why}", "killed")
        elif isinstance(action, events.Say):
            messages.say(action.text)
        elif self._desk is not None:
            self._act_at_desk(self._desk, action)

    def _act_at_desk(self, desk: Desk, action: events.Action) -> None:
        if isinstance(action, events.NoteTerm):
            desk.note_term()
        elif isinstance(action, events.Inquire):
            desk.inquire(self._learned)
        elif isinstance(action, events.HandOver):
            desk.hand_over()
        elif isinstance(action, events.TakeBack):
            desk.take_back()

    def _learned(self, reason: Reason, runs_on: bool) -> None:
        if reason.course is not Course.UNKNOWN:
            messages.say(f"SIGTERM: {reason.sentence}")
        self._record("reason_learned", course=reason.course.value, reason=reason.sentence)
        self._feed(events.ReasonLearned(time.monotonic(), reason, runs_on))

    def _apart(self) -> frozenset[int]:
        return self._desk.pids() if self._desk is not None else frozenset()

    def _pids(self) -> tuple[int, ...]:
        return process_tree.pids(self._apart())

    def _ask(self, action: events.SignalTraining) -> None:
        if action.noted or action.pass_on is not None or action.candidate or self._audience is None:
            self._audience = audience(process_tree.read(self._apart()), self._root, self._wanted, action.candidate)
        targets = self._audience.targets
        if action.noted or action.pass_on is not None:
            number = action.pass_on or INT
            targets = tuple(Target(pid, number, "it arrived") for pid in self._audience.trainings or (self._root,))
        reached = [target for target in targets if action.noted or child.send(target.pid, target.signal)]
        for target in reached:
            self._sent.setdefault(target.pid, set()).add(target.signal)
        if reached or not action.candidate:
            self._announce(action, reached)
        self._feed(events.Delivered(time.monotonic(), bool(reached)))

    def _announce(self, action: events.SignalTraining, reached: list[Target]) -> None:
        if action.noted:
            messages.say(f"{action.reason.sentence}: waiting for the training to end (once more to end it at once)")
        elif reached:
            told = ", ".join(f"{core.NAMES.get(one.signal, one.signal)} to {one.pid} ({one.why})" for one in reached)
            messages.say(f"{action.reason.sentence}: asking the training to save: {told}")
        delivered = [[one.pid, one.signal, one.why] for one in reached]
        self._record("asked", course=action.reason.course.value, reason=action.reason.sentence, delivered=delivered)

    def _send_all(self, number: int, text: str, event: str) -> None:
        pids = self._pids()
        if pids:
            messages.say(text)
        for pid in pids:
            child.send(pid, number)
        self._record(event, pids=list(pids))


def _terminal_sent_it() -> bool:
    """Return whether we stand in the foreground of a terminal: its Ctrl-C goes to the training as well as to us."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
