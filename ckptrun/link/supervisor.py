"""The loop of one link: wait, step, act. All decisions are `supervision`'s; this module only senses and does."""

from __future__ import annotations

import itertools
import os
import select
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ckptrun import durations
from ckptrun.early import CHLD, INT, TERM, Handlers
from ckptrun.link import child, events, messages
from ckptrun.link import supervision as core
from ckptrun.link.branches import Branches, warm_up
from ckptrun.link.desk import Desk
from ckptrun.link.post import Post
from ckptrun.link.times import Times, look_every
from ckptrun.words import Checkpoint, Course, Hearing, Reason, Sight, Status

if TYPE_CHECKING:
    from ckptrun.link.silence import Written
    from ckptrun.link.target import Audience, Target

REPLACED_EVERY_S = 10.0
# The end time of a job and the service windows ahead are read again once an hour, two questions, and shortly before the ask.
END_TIME_EVERY_S = 3600.0
BEFORE_ASKING_S = 5.0
COPY_EVERY_S = 600.0
# Others fill the disk, too.
ROOM_EVERY_S = 60.0
# Reading who has what open costs milliseconds a process; growth is seen without it.
OPEN_FILES_EVERY_S = 1.0
# How often the words of the relays beside us are read once our own branch is over, and how long they may take to end after a KILL.
CREW_EVERY_S = 0.5
CREW_KILLED_S = 3.0
# How long a process that a training left behind when it was asked to save may take to begin with that.
BEGINS_TO_SAVE_S = 2.0


class Eyes(Protocol):
    """What looks at the checkpoints: `checkpoints.watch.Watch`, or without `--checkpoint` what the training says of its saves."""

    def look(self, monotonic: float, unix: float, open_for_writing: frozenset[str] = ...) -> Sight:
        """Return what stands there now."""


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
        warn_of_room: Callable[[Checkpoint], bool],
        desk: Desk | None = None,
        post: Post | None = None,
        crew: int = 0,
    ) -> None:
        self._policy, self._handlers, self._eyes, self._folders = policy, handlers, eyes, folders
        self._record, self._replaced = record, replaced
        self._keep_copies, self._warn_of_room = keep_copies, warn_of_room
        self._desk, self._post = desk, post
        self._branches = Branches(wanted, desk, post, crew)
        self._held: child.Reaped | None = None
        self._crew_at = self._alone_at = float("inf")
        self._end_time_at = float("inf")
        self._state = core.begin(policy)
        self._timer: events.Event | None = None
        self._root = 0
        self._audience: Audience | None = None
        self._written: dict[int, Written] | None = None
        self._sent: dict[int, set[int]] = {}
        self._terminated = False
        self._peak_bytes = 0
        self._oom_before = 0
        self._wait_s = self._idle_until = 0.0
        self._planned_for: core.State | None = None
        self._look_at = self._replaced_at = self._open_at = self._copy_at = self._room_at = 0.0
        self._warm_at = 0.0
        self._open: frozenset[str] = frozenset()
        self._steps: list[int] = []
        self._seen: Sight | None = None
        self._sight = Sight()
        self._last_written: Checkpoint | None = None
        self._begin_by = 0.0
        self._room_for: Checkpoint | None = None
        self._room_said = False
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
        self._warm_at = now + min(1.0, look_every(self._policy.times.limit_s if self._policy.times else None))
        self._look_at = self._replaced_at = now + REPLACED_EVERY_S
        self._plan_reading(now)
        self._feed(events.ChildStarted(now))
        while not self._over():
            if self._wait():
                self._signals()
            self._timers()
        return self._end()

    def _plan_reading(self, now: float) -> None:
        """Set when the end time is read next: in an hour, and once shortly before the ask."""
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

    def _wait(self) -> bool:
        """Wait until something is due or arrives; return whether a signal did."""
        timer_at = self._timer.at if self._timer else self._look_at
        until = min(self._warm_at, self._look_at, self._replaced_at, self._end_time_at, self._crew_at, timer_at)
        descriptors = [self._handlers.reader]
        if self._desk is not None:
            descriptors += self._desk.descriptors()
            due_at = self._desk.due_at()
            until = until if due_at is None else min(until, due_at)
        arrived, _, _ = select.select(descriptors, [], [], max(until - time.monotonic(), 0.0))
        return self._handlers.reader in arrived

    def _signals(self) -> None:
        numbers = self._handlers.arrived()
        if not numbers:
            return
        # Signals coalesce: each is a fact, not a count, but that a second Ctrl-C came counts. Those that tell us something come
        # before the news of a dead child, because the same key press that ended the child may have sent them.
        again = (INT,) if numbers.count(INT) > 1 else ()
        for number in (*dict.fromkeys(numbers), *again):
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
                self._held = reaped
                self._await_crew()
        self._see_who_is_left()

    def _see_who_is_left(self) -> None:
        """Once the training itself is over: end the link when nobody is left for whom it waits."""
        if self._state.status is None or self._over():
            return
        left, sight = self._left()
        if not left:
            self._feed(events.TreeEnded(time.monotonic(), sight))

    def _await_crew(self) -> None:
        """Our branch is over; the training is when those of the relays beside us are, or when they have had all their time."""
        assert self._held is not None
        now = time.monotonic()
        if self._branches.crew_left() and now < self._alone_at:
            self._crew_at = now + CREW_EVERY_S
            return
        reaped, self._held, self._crew_at = self._held, None, float("inf")
        self._peak_bytes = reaped.peak_bytes
        self._begin_by = now + BEGINS_TO_SAVE_S
        left, sight = self._left()
        self._feed(events.ChildExited(now, self._branches.worst(reaped.status), left, sight))
        if sight is not None and left and sight.writing:
            messages.say("the training is over; a process that it left behind writes a checkpoint: waiting for that")

    def _left(self) -> tuple[bool, Sight | None]:
        """Return whether somebody is left for whom the link waits, and a look at the checkpoints.

        These are all after TERM, else those who were asked, and whoever writes a checkpoint: a save of its own process outlives the
        training that began it.
        """
        alive = set(self._branches.pids()) - {self._root} if self._branches.may_live() else set()
        awaited = alive if self._terminated else alive & set(self._sent)
        if awaited:
            return True, None
        if not alive or not self._folders or self._state.replaced:
            return False, self._last_sight()
        sight = self._look(time.monotonic(), fresh=True)
        if sight.writing or self._may_begin_to_save(sight):
            return True, sight
        last = self._last_sight()
        return False, last._replace(saves=sight.saves + last.saves) if last is not None else None

    def _may_begin_to_save(self, sight: Sight) -> bool:
        """Return whether the training was asked and is over, and who is left may be about to do what it was asked for."""
        asked = self._state.phase is events.Phase.ASKED and len(sight.written_at) <= self._state.saves_at_ask
        return asked and time.monotonic() < self._begin_by

    def _timers(self) -> None:
        now = time.monotonic()
        if now >= self._warm_at:
            self._warm_at = float("inf")
            warm_up()
        decides = isinstance(self._timer, (events.TermDue, events.NextCandidateDue))
        if decides and self._timer is not None and self._timer.at <= now and self._folders:
            self._feed(events.Looked(now, self._look(now, fresh=True), self._ready(), self._heard()))
        while self._timer is not None and self._timer.at <= now:
            timer = self._timer._replace(at=now)
            self._feed(timer._replace(silent=self._nothing_came()) if isinstance(timer, events.NextCandidateDue) else timer)
        if now >= self._replaced_at:
            self._replaced_at = now + REPLACED_EVERY_S
            if not self._state.replaced and self._replaced():
                self._feed(events.Replaced(now))
            self._stopped_by_a_person(now)
        if now >= self._crew_at:
            self._await_crew()
        if self._desk is not None:
            for event in self._desk.attend():
                self._feed(event)
            if (found := self._desk.changed_times()) is not None:
                self._new_times(found)
            if now >= self._end_time_at:
                self._plan_reading(now)
                self._desk.read_end_time(self._new_times, lambda: self._feed(events.Replaced(time.monotonic())))
        if now >= self._look_at:
            if self._eyes is not None:
                self._see(now)
            self._plan_look(now)

    def _new_times(self, found: Times) -> None:
        self._policy = self._policy._replace(times=found)
        self._feed(events.TimesChanged(time.monotonic()))
        self._plan_reading(time.monotonic())

    def _stopped_by_a_person(self, now: float) -> None:
        if self._desk is None or self._state.reason is not None:
            return
        if (reason := self._desk.told_to_stop()) is not None:
            self._feed(events.SignalReceived(now, TERM, reason=reason))

    def _plan_look(self, now: float) -> None:
        """Set when to look next; where that is a while, at the moment in which we wake anyway."""
        if now >= self._idle_until or self._state is not self._planned_for:
            self._planned_for = self._state
            self._wait_s, self._idle_until = self._looks(now)
        together = self._wait_s >= REPLACED_EVERY_S and self._replaced_at > now
        self._look_at = self._replaced_at if together else now + self._wait_s
        if self._idle_until > now:
            self._look_at = min(self._look_at, self._idle_until)

    def _looks(self, now: float) -> core.Looks:
        return core.Looks(REPLACED_EVERY_S) if self._eyes is None else core.looks(self._policy, self._state, now)

    # --- seeing

    def _look(self, now: float, later_s: float = 0.0, *, fresh: bool = False, just_heard: bool = False) -> Sight:
        """Return what stands there now; `fresh`: who has what open is read now, because something is decided on it."""
        assert self._eyes is not None
        due = self._state.reason is not None and now >= self._open_at
        if self._folders and (fresh or due):
            self._open_at = now + OPEN_FILES_EVERY_S
            self._open = self._branches.open_for_writing(self._folders, just_heard=just_heard)
        elif self._state.reason is None and self._state.status is None and now >= self._open_at:
            self._open = frozenset()  # who had something open at an earlier decision may have closed it since
        unix = time.time()
        try:
            seen = self._eyes.look(now + later_s, unix + later_s, self._open)
        except OSError as error:
            if not self._blind:
                self._blind = True
                messages.say(f"the checkpoints cannot be looked at ({error.strerror}); the training goes on")
            return self._state.sight
        if seen is self._seen:  # nothing has changed, and so it is most of the time
            return self._sight
        for one in seen.became:
            if self._last_written is None:
                self._record("appeared", path=one.path, size=one.size, step=one.step)
            self._last_written = one
            if one.step is not None and one.step not in self._steps[-1:]:
                self._steps.append(one.step)
        # From here on times are monotonic: files know Unix time only.
        self._seen, self._sight = seen, seen._replace(written_at=tuple(at - unix + now for at in seen.written_at))
        return self._sight

    def _see(self, now: float) -> None:
        """Look, and do what a look may be the occasion for. Most looks show nothing new, and end here."""
        sight = self._look(now)
        if sight is not self._state.sight or now >= self._idle_until:
            self._feed(events.Looked(now, sight, self._ready(), self._heard()))
            self._see_who_is_left()
        if now >= self._copy_at:
            self._copy(now)
        self._see_room(now)

    def _ready(self) -> bool:
        """Return whether the training has to be told something and says that it can be, by file."""
        waits = self._state.phase is events.Phase.RUNNING and self._state.reason is not None
        return waits and self._can_be_told_by_file()

    def _heard(self) -> bool:
        return self._post is not None and self._state.phase is events.Phase.ASKED and self._post.has_heard()

    def _saves_unasked(self) -> bool:
        return bool(self._state.sight.written_at)

    def _can_be_told_by_file(self) -> bool:
        return self._post is not None and self._post.can_be_told(saves_unasked=self._saves_unasked())

    def _listen(self, *, again: bool = False) -> Audience:
        """Read who can be told what; `again`: only those who were told before, with what they have not had."""
        return self._branches.listen(self._root, self._sent if again else {}, saves_unasked=self._saves_unasked())

    def _nothing_came(self) -> bool:
        """Return whether nothing has come of the ask, as far as can be told where no checkpoint can be seen."""
        if self._folders or self._written is None:
            return False
        from ckptrun.link.silence import nothing_came

        return nothing_came(self._written, self._branches.written())

    def _copy(self, now: float) -> None:
        """Keep a copy of what is overwritten in place, while nothing else is going on."""
        state = self._state
        quiet = state.phase is events.Phase.RUNNING and state.reason is None and not state.sight.writing
        if quiet and state.sight.new and now >= self._copy_at:
            self._copy_at = now + COPY_EVERY_S
            self._keep_copies()

    def _see_room(self, now: float) -> None:
        """Warn once a link where the next save may not fit: after each save, and now and then."""
        newest = self._last_written or self._state.sight.newest
        if self._room_said or newest is None or (newest is self._room_for and now < self._room_at):
            return
        self._room_for, self._room_at = newest, now + ROOM_EVERY_S
        self._room_said = self._warn_of_room(newest)

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
        if (before.phase, before.reason, before.status) != (self._state.phase, self._state.reason, self._state.status):
            self._look_at = min(self._look_at, event.at + self._looks(event.at).in_s)
        self._tell_saves(before)
        for action in actions:
            self._act(action)

    def _tell_saves(self, before: core.State) -> None:
        for save in self._state.saves[len(before.saves) :]:
            newest = (self._last_written or self._state.sight.newest) if not save.cut else None
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
            self._audience = self._listen()
            self._written = None if self._folders else self._branches.written(just_heard=True)
            now = time.monotonic()
            sight = self._look(now, fresh=True, just_heard=True) if self._folders else None
            self._feed(events.Listened(now, self._audience.hearing, sight))
        elif isinstance(action, events.SignalTraining):
            self._ask(action)
        elif isinstance(action, events.Terminate):
            if not self._sent:
                self._tell_passed_over()
            self._terminated = True
            self._ask_by_file(action.why)
            self._say_to_those_left(f"stopping it with TERM: {action.why}")
            self._record("terminated", pids=list(self._branches.terminate(action.why)))
        elif isinstance(action, events.Kill):
            self._terminated = True
            self._alone_at = time.monotonic() + CREW_KILLED_S
            self._say_to_those_left(f"ending it with KILL: {action.why}")
            self._record("killed", pids=list(self._branches.kill()))
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

    def _ask(self, action: events.SignalTraining) -> None:
        if action.noted or action.pass_on is not None or action.candidate or self._audience is None:
            self._audience = self._listen(again=bool(action.candidate))
        if action.noted or action.pass_on is not None:
            from ckptrun.link.target import Target

            number = action.pass_on or INT
            targets = tuple(Target(pid, number, "it arrived") for pid in self._audience.trainings or (self._root,))
            reached = [target for target in targets if action.noted or child.send(target.pid, number)]
        else:
            reached = [target for target in self._audience.targets if self._branches.deliver(target)]
        for target in reached:
            self._sent.setdefault(target.pid, set()).add(target.signal)
        # The signal first, it is the faster of the two. Who does not look for the file has not been told by it.
        by_file = self._ask_by_file(action.reason.sentence) and (self._can_be_told_by_file() or self._relays_listen())
        if reached or not action.candidate:
            self._announce(action, reached, by_file)
        self._feed(events.Delivered(time.monotonic(), bool(reached) or by_file))

    def _relays_listen(self) -> bool:
        return self._post is not None and self._post.relays_hear() not in (None, Hearing.DEAF)

    def _say_to_those_left(self, text: str) -> None:
        if self._branches.pids():
            messages.say(text)

    def _ask_by_file(self, reason: str) -> bool:
        return self._post is not None and self._post.ask_to_stop(reason)

    def _announce(self, action: events.SignalTraining, reached: list[Target], by_file: bool) -> None:
        if action.noted:
            messages.say(f"{action.reason.sentence}: waiting for the training to end (once more to end it at once)")
        elif reached or by_file:
            file = ["by file (it looks for it)"] if by_file else []
            told = ", ".join(([messages.told(reached)] if reached else []) + file)
            messages.say(f"{action.reason.sentence}: asking the training to save: {told}")
            self._tell_passed_over()
        delivered = [[one.pid, one.signal, one.why] for one in reached]
        facts = {"course": action.reason.course.value, "reason": action.reason.sentence}
        self._record("asked", **facts, delivered=delivered, by_file=by_file)

    def _tell_passed_over(self) -> None:
        if self._audience is not None and self._audience.passed_over:
            messages.detail(f"not asked: {'; '.join(self._audience.passed_over)}")


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
