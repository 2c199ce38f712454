"""PURE. The state machine of one link: `step(policy, state, event) -> (state, actions)`.

Theory of operation. A link starts its child, waits, asks the training to save and stop, waits again, sends TERM and then KILL
to what is left, and has ended when the child and everyone who was asked are gone. The machine has no clock: every event carries
the monotonic instant `at` at which it happened, and `due(state)` says which timer is next. Whoever drives it feeds events in
order and carries out the actions.

Rules that it keeps, whatever the history of events:
- TERM and KILL are never sent before their time, nor before the training was given the chance that was promised.
- No signal is sent while a checkpoint is being written, except KILL at the very end, and no second ask within one save.
- No save is asked for that cannot be whole in what is left.
- A link ends once, and not while somebody whom the training left behind writes a checkpoint.

A training that hears, by a signal that it catches or by the file that it says it looks for, is asked at the checkpoint time. One
that only catches INT (every Python program does) is sent INT right after the last save that fits, so that it loses nothing whether
it saves on INT or dies of it. One that cannot be told is stopped right after the last save that fits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ckptrun.link.events import (
    Action,
    AskDue,
    ChildExited,
    ChildStarted,
    Delivered,
    Event,
    HandOver,
    Inquire,
    Kill,
    KillDue,
    Listen,
    Listened,
    Looked,
    NextCandidateDue,
    NoteTerm,
    Phase,
    ReasonLearned,
    Replaced,
    Say,
    SignalReceived,
    SignalTraining,
    TakeBack,
    TermDue,
    Terminate,
    TimesChanged,
    TreeEnded,
)
from ckptrun.link.times import (
    AT_MOST_EVERY_S,
    CLOSE_S,
    MOST_RARELY_S,
    Times,
    decisive_from,
    least_needed,
    longest_interval,
    look_every,
    look_for_last_save,
    measurable,
    next_save_fits,
    slowest,
)
from ckptrun.words import Course, Hearing, Reason, Save, Sight, Status

HUP, INT, QUIT, USR1, USR2, TERM = 1, 2, 3, 10, 12, 15
# How long a training without an end time has for its save after the ask, when no save was measured: the margin's largest guess.
GRACE_S = 600.0
KILL_AFTER_TERM_S = 10.0
# Slurm's SIGKILL comes KillWait after its SIGTERM: all must be over this much earlier.
BEFORE_SLURMS_KILL_S = 2.0
# A save that no other can follow may be the training's last act. It has so long to end by itself: a Python that is on its way out
# has put its handlers back, and looks like one that cannot be told.
STANDS_S = 1.0
# By then it is decided whether a save was the last.
SETTLED_S = 2.0
REPLACED_KILL_AFTER_S = 2.0
# A training that is over so soon after a signal to save reached us, and before it was passed on, has heard it from who sent it.
HEARD_ITSELF_S = 2.0
# How long a save that was asked for is watched closely, and how often after that: a training may take its time to begin with it.
CLOSELY_FOR_S = 30.0
WHILE_IT_TAKES_ITS_TIME_S = 1.0


class Policy(NamedTuple):
    """What does not change during a link. `relays`: we only pass on what a leader, who decides, asks."""

    times: Times | None
    earlier_saves: tuple[Save, ...] = ()
    sees_checkpoints: bool = False
    start_at: float = 0.0
    in_slurm: bool = False
    kill_wait_s: float = 30.0
    relays: bool = False


class State(NamedTuple):
    """What a link knows of itself."""

    phase: Phase = Phase.START
    ask_at: float | None = None
    term_at: float | None = None
    kill_at: float | None = None
    next_candidate_at: float | None = None
    reason: Reason | None = None
    by_time: bool = False
    asked_at: float | None = None
    candidate: int = 0
    reached: bool = False
    saves_at_ask: int = 0
    saved_at: float | None = None
    hearing: Hearing | None = None
    sight: Sight = Sight()
    saves: tuple[Save, ...] = ()
    ints: int = 0
    said_no_room: bool = False
    overdue: bool = False
    listened_for: tuple[int, bool, bool, bool, bool] | None = None
    our_end: str | None = None
    replaced: bool = False
    handed_over: bool = False
    status: Status | None = None
    signalled_at: float | None = None
    heard_itself: bool = False

    @property
    def told(self) -> bool:
        """Return whether the training was asked: a signal, or the file, was delivered."""
        return self.reached or self.our_end is not None


Next = tuple[State, tuple[Action, ...]]


def begin(policy: Policy) -> State:
    """Return the state before the child exists."""
    if policy.times is None:
        return State()
    return State(ask_at=policy.times.ask_at, term_at=policy.times.term_at, kill_at=policy.times.kill_at)


def due(state: State) -> Event | None:
    """Return the next timer as the event it will be, with its time in `at`; None when nothing is to be waited for."""
    if state.phase in (Phase.START, Phase.ENDED):
        return None
    timers: list[Event] = []
    if state.phase is Phase.RUNNING and state.ask_at is not None:
        timers.append(AskDue(state.ask_at))
    if state.phase is Phase.ASKED and state.next_candidate_at is not None:
        timers.append(NextCandidateDue(state.next_candidate_at))
    if state.phase in (Phase.RUNNING, Phase.ASKED) and state.term_at is not None and not state.overdue:
        timers.append(TermDue(state.term_at))
    if state.kill_at is not None:
        timers.append(KillDue(state.kill_at))
    return min(timers, key=lambda timer: timer.at, default=None)


class Looks(NamedTuple):
    """In how many seconds to look next, and until when a look that shows nothing new is without consequence. Then one is due."""

    in_s: float
    idle_until: float = 0.0


def looks(policy: Policy, state: State, at: float) -> Looks:
    """Return how often to look at the checkpoints, and at what the training says of itself."""
    if state.phase is Phase.ASKED and state.asked_at is not None:
        close = state.status is not None or state.saved_at is not None or state.sight.writing
        return Looks(AT_MOST_EVERY_S if close or at - state.asked_at < CLOSELY_FOR_S else WHILE_IT_TAKES_ITS_TIME_S)
    if state.phase is not Phase.RUNNING or state.status is not None or (state.reason is not None and not state.by_time):
        return Looks(AT_MOST_EVERY_S)
    if state.reason is not None:
        most_s = AT_MOST_EVERY_S if state.sight.writing else WHILE_IT_TAKES_ITS_TIME_S
        return Looks(min(most_s, _looks_while_running(policy, state, at).in_s))
    return _looks_while_running(policy, state, at) if policy.sees_checkpoints else Looks(MOST_RARELY_S)


def _looks_while_running(policy: Policy, state: State, at: float) -> Looks:
    every_s = look_every(policy.times.limit_s if policy.times else None)
    written_at = state.sight.written_at
    decisive_at = float("inf")
    if state.term_at is not None:
        decisive_at = decisive_from(written_at, policy.start_at, slowest(policy.earlier_saves + state.saves), state.term_at)
    if at >= decisive_at:
        last = _last_save_stands(policy, state)
        if state.sight.writing or (last and at - written_at[-1] < SETTLED_S):
            return Looks(AT_MOST_EVERY_S)
        return Looks(min(every_s, look_for_last_save(written_at, policy.start_at, at)), 0.0 if last else float("inf"))
    expected = None if state.saves else measurable(written_at)
    if expected is None or at >= expected[1]:
        return Looks(every_s, decisive_at)
    if at >= expected[0]:
        return Looks(min(every_s, CLOSE_S))
    return Looks(every_s, min(decisive_at, expected[0]))


def step(policy: Policy, state: State, event: Event) -> Next:
    """Return the state after the event and what is to be done."""
    state, actions = TABLE[state.phase, type(event)].act(policy, state, event)
    if not _to_be_handed_over(policy, state):
        return state, actions
    # The training comes first: it saves while the successor is submitted.
    return state._replace(handed_over=True), (*actions, HandOver())


def _to_be_handed_over(policy: Policy, state: State) -> bool:
    leaving = state.phase in (Phase.ASKED, Phase.STOPPING) and not state.replaced and not state.handed_over
    return policy.in_slurm and leaving and state.reason is not None and state.reason.course is Course.GO_ON


# --- the answers ---------------------------------------------------------------------------------------------------------


def _nothing(policy: Policy, state: State, event: Event) -> Next:
    return state, ()


def _run(policy: Policy, state: State, event: Event) -> Next:
    return state._replace(phase=Phase.RUNNING), (Listen(),) if state.reason else ()


def _never_started(policy: Policy, state: State, event: Event) -> Next:
    assert isinstance(event, SignalReceived)
    if event.signal == QUIT:
        return state, ()
    reason = event.reason or meaning(event.signal, policy.in_slurm)
    if reason.course is Course.GO_ON:
        return _hurry(policy, state._replace(reason=reason), event.at), ()
    status = Status(None, event.signal)
    return state._replace(phase=Phase.ENDED, reason=reason, status=status, reached=True), ()


def _ended(policy: Policy, state: State, event: Event) -> Next:
    assert isinstance(event, ChildExited)
    # Who sent a signal to us may have sent it to the training, too: `scancel --full`, or `kill` of a process group.
    just_now = state.signalled_at is not None and event.at - state.signalled_at < HEARD_ITSELF_S
    state = state._replace(status=event.status, heard_itself=just_now and not state.told)
    if not event.left:
        return _close(policy, state, event.sight, event.at)
    return (state if event.sight is None else _take_sight(state, event.sight)), ()


def _ended_unasked(policy: Policy, state: State, event: Event) -> Next:
    """One that it left behind may save until TERM's time; where there is none, as long as a save that is asked for."""
    state, actions = _ended(policy, state, event)
    if state.phase is Phase.ENDED:
        return state, actions
    return (state._replace(ask_at=None) if policy.times is not None else _hurry(policy, state, event.at)), actions


def _tree_ended(policy: Policy, state: State, event: Event) -> Next:
    assert isinstance(event, TreeEnded)
    return _close(policy, state, event.sight, event.at) if state.status is not None else (state, ())


def _close(policy: Policy, state: State, sight: Sight | None, at: float) -> Next:
    if sight is not None:
        state = _measure_asked(_take_sight(state, sight), at)
    return _measure_cut(policy, state, at)._replace(phase=Phase.ENDED), ()


def _signal_while_running(policy: Policy, state: State, event: Event) -> Next:
    assert isinstance(event, SignalReceived)
    if event.signal == QUIT:
        return state, ()
    reason = event.reason or meaning(event.signal, policy.in_slurm)
    if event.signal == INT:
        state = state._replace(ints=state.ints + 1)
        if state.ints > 1:
            return _kill(policy, state, event.at, "a second Ctrl-C")
        if state.status is not None:  # the training is over: nobody is left who should be told
            return state._replace(reason=reason), ()
        asked, _ = _asked(policy, state, event.at, reason, candidate=0)
        if event.shared:
            # From a terminal INT is itself the ask, and the training may take the time that it takes without us.
            return asked._replace(term_at=_end_of(policy), next_candidate_at=None), (SignalTraining(reason, noted=True),)
        return asked._replace(next_candidate_at=None), (SignalTraining(reason, pass_on=INT),)
    if reason.course is Course.UNKNOWN:
        return _last_seconds(policy, state._replace(reason=reason, by_time=False), event.at), (NoteTerm(), Listen(), Inquire())
    state = state._replace(reason=reason, by_time=False, signalled_at=event.at if reason.course is Course.GO_ON else None)
    return _hurry(policy, state, event.at), (Listen(),)


def _signal_after_ask(policy: Policy, state: State, event: Event) -> Next:
    assert isinstance(event, SignalReceived)
    if event.signal in (USR1, USR2, QUIT) or (policy.relays and event.signal == TERM):
        return state, ()
    reason = event.reason or meaning(event.signal, policy.in_slurm)
    if reason.course is Course.UNKNOWN:
        return _last_seconds(policy, state._replace(reason=reason), event.at), (NoteTerm(), Inquire())
    if event.signal == INT:
        state = state._replace(ints=state.ints + 1)
        if state.ints > 1:
            return _kill(policy, state, event.at, "a second Ctrl-C")
        state = state._replace(reason=reason, by_time=False)
        # It was asked already; a second signal within that save could break it. The terminal's INT cannot be held back.
        return state, ()
    if state.reason and state.reason.course in (Course.STOP, Course.CANCEL):
        return _terminate(policy, state, event.at, f"a second {NAMES[event.signal]}")
    return _hurry(policy, state._replace(reason=reason, by_time=False), event.at), ()


def _signal_while_stopping(policy: Policy, state: State, event: Event) -> Next:
    assert isinstance(event, SignalReceived)
    if event.signal == TERM and policy.in_slurm and not state.replaced:
        reason = meaning(event.signal, in_slurm=True)
        return _last_seconds(policy, state._replace(reason=reason), event.at), (NoteTerm(), Inquire())
    if event.signal != INT:
        return state, ()
    state = state._replace(ints=state.ints + 1)
    return _kill(policy, state, event.at, "a second Ctrl-C") if state.ints > 1 else (state, ())


def _ask_due(policy: Policy, state: State, event: Event) -> Next:
    if state.status is not None:
        return state._replace(ask_at=None), ()
    reason = state.reason or Reason(Course.GO_ON, _near(policy))
    return state._replace(ask_at=None, reason=reason, by_time=True), (Listen(),)


def _saw_while_running(policy: Policy, state: State, event: Event) -> Next:
    assert isinstance(event, Looked)
    state = _take_sight(state, event.sight)
    if state.overdue and not state.sight.writing:
        return _terminate(policy, state, event.at, "its time is over")
    if state.status is not None:
        return state, ()
    # Before the checkpoint time only one thing matters: a save after which no further one fits.
    if state.reason is None and not _last_save_stands(policy, state):
        return state, ()
    # Reading the process tree costs milliseconds: only when what it would decide on has changed.
    stood = bool(state.sight.written_at) and event.at - state.sight.written_at[-1] >= STANDS_S
    key = (len(state.sight.written_at), state.sight.writing, _past_half(policy, state, event.at), stood, event.ready)
    return (state, ()) if key == state.listened_for else (state._replace(listened_for=key), (Listen(),))


def _heard_while_running(policy: Policy, state: State, event: Event) -> Next:
    """Decide whether now is the moment to ask. The one place where a training that hears, or not, makes a difference."""
    assert isinstance(event, Listened)
    if event.sight is not None:  # what was seen last may be ten seconds old
        state = _take_sight(state, event.sight)
        if state.sight.writing:  # it is to be heard again, also where the next look sees no change
            state = state._replace(listened_for=None)
    if state.status is not None:
        return state, ()
    state = state._replace(hearing=event.hearing)
    if event.hearing is Hearing.HEARS:
        return _consider_asking(policy, state, event.at)
    if state.sight.writing or (state.reason is not None and state.reason.course is Course.UNKNOWN):
        return state, ()
    if state.reason is None:
        stands = _last_save_stands(policy, state) and event.at - state.sight.written_at[-1] >= STANDS_S
        return _stop_after_last_save(policy, state, event.at) if stands else (state, ())
    if state.reason.course in (Course.STOP, Course.CANCEL) or not policy.sees_checkpoints:
        return _stop_untold(policy, state, event.at)
    if policy.times is None or not state.by_time:  # a person wants it now: nothing is gained by waiting for a save that may come
        return _stop_untold(policy, state, event.at) if not _next_fits(policy, state) else (state, ())
    if event.hearing is Hearing.DEAF and not state.sight.written_at:
        return state, ()  # a save may still come; TERM waits for its time
    return (state, ()) if _next_fits(policy, state) else _stop_untold(policy, state, event.at)


def _consider_asking(policy: Policy, state: State, at: float) -> Next:
    if state.reason is None:
        return state, ()
    if state.sight.writing and not _past_half(policy, state, at):
        return state, ()
    left_s = None if state.term_at is None else state.term_at - at
    needed_s = least_needed(policy.earlier_saves + state.saves)
    if left_s is not None and needed_s > left_s:
        if state.said_no_room:
            return state, ()
        text = f"not asking: a save takes at least {needed_s:.0f} s and {max(left_s, 0):.0f} s are left"
        return state._replace(said_no_room=True), (Say(text),)
    return _asked(policy, state, at, state.reason, candidate=0)


def _stop_after_last_save(policy: Policy, state: State, at: float) -> Next:
    reason = Reason(Course.GO_ON, "no further save fits before the time limit")
    return _stop_untold(policy, state._replace(reason=reason, by_time=True), at)


def _stop_untold(policy: Policy, state: State, at: float) -> Next:
    """INT for one that catches nothing else, TERM for one that cannot be told at all."""
    assert state.reason is not None
    if state.hearing is Hearing.ONLY_INT:
        return _asked(policy, state, at, state.reason, candidate=0)
    if policy.relays:  # the leader's second letter says when, or the end time
        return state, ()
    if state.by_time and not state.sight.written_at and state.term_at is not None and at < state.term_at:
        return state, ()
    return _terminate(policy, state, at, state.reason.sentence)


def _asked(policy: Policy, state: State, at: float, reason: Reason, candidate: int) -> Next:
    state = _hurry(policy, state, at) if state.term_at is None else state
    half = None
    if state.term_at is not None and not policy.relays:
        half = at + max(state.term_at - at, 0.0) / 2
    state = state._replace(
        phase=Phase.ASKED,
        ask_at=None,
        reason=reason,
        asked_at=state.asked_at if state.asked_at is not None else at,
        candidate=candidate,
        next_candidate_at=half if candidate == 0 else None,
        saves_at_ask=len(state.sight.written_at) if candidate == 0 else state.saves_at_ask,
    )
    return state, (SignalTraining(reason, candidate),)


def _delivered(policy: Policy, state: State, event: Event) -> Next:
    assert isinstance(event, Delivered)
    return state._replace(reached=state.reached or event.reached), ()


def _next_candidate(policy: Policy, state: State, event: Event) -> Next:
    """Send the next signal where nothing came of the first: no checkpoint or, where none can be seen, no sign of a save at all."""
    assert isinstance(event, NextCandidateDue)
    state = state._replace(next_candidate_at=None)
    if not policy.sees_checkpoints and not event.silent:
        return state, ()
    if state.sight.writing or state.saved_at is not None or state.reason is None:
        return state, ()
    return _asked(policy, state, event.at, state.reason, candidate=1)


def _saw_after_ask(policy: Policy, state: State, event: Event) -> Next:
    assert isinstance(event, Looked) and state.asked_at is not None
    state = _measure_asked(_take_sight(state, event.sight), event.at)
    if event.heard:  # it saves when it comes to the end of its step: a second signal would only disturb that
        state = state._replace(reached=True, next_candidate_at=None)
    if state.sight.writing:
        return state, ()
    if state.overdue:
        return _terminate(policy, state, event.at, "its time is over")
    if state.saved_at is not None and state.ints == 0 and event.at - state.saved_at >= _standing_s(policy, state):
        return _terminate(policy, state, event.at, "its checkpoint is whole and it goes on")
    return state, ()


def _term_due(policy: Policy, state: State, event: Event) -> Next:
    endless = policy.times is None and state.status is not None
    if state.sight.writing and not endless:  # TERM waits for the save, as long as the end time allows; each look asks again
        return state._replace(overdue=True), ()
    left_behind = "the training is over, and what it left behind goes on"
    why = _near(policy) if state.status is None else left_behind
    return _terminate(policy, state, event.at, state.reason.sentence if state.reason else why)


def _terminate(policy: Policy, state: State, at: float, why: str) -> Next:
    kill_at = at + KILL_AFTER_TERM_S
    if state.kill_at is not None:
        kill_at = max(min(kill_at, state.kill_at), at)
    return _stopped_by_us(policy, state, "TERM")._replace(kill_at=kill_at), (Terminate(why),)


def _near(policy: Policy) -> str:
    return policy.times.near if policy.times is not None else "the time limit is near"


def _stopped_by_us(policy: Policy, state: State, how: str) -> State:
    """Return the state in which we have begun to end it. A training that was over before has ended as it has."""
    if state.phase is Phase.RUNNING and state.status is not None:
        return state._replace(phase=Phase.STOPPING)
    reason = state.reason or Reason(Course.GO_ON, _near(policy))
    by_time = state.by_time or state.reason is None
    return state._replace(phase=Phase.STOPPING, reason=reason, by_time=by_time, our_end=how)


def _kill_due(policy: Policy, state: State, event: Event) -> Next:
    return _kill(policy, state, event.at, "its time is over")


def _kill(policy: Policy, state: State, at: float, why: str) -> Next:
    return _stopped_by_us(policy, state, "KILL")._replace(kill_at=None), (Kill(why),)


def _learned(policy: Policy, state: State, event: Event) -> Next:
    """The reason of a SIGTERM is known: the course is the chain's, and a job that runs on has its time back."""
    assert isinstance(event, ReasonLearned)
    if state.replaced:
        return state, ()
    state = state._replace(reason=event.reason)
    if event.runs_on and state.phase is not Phase.STOPPING:
        times = policy.times
        state = state._replace(term_at=times.term_at if times else None, kill_at=times.kill_at if times else None)
        state = _hurry(policy, state, event.at)
    listen: tuple[Action, ...] = (Listen(),) if state.phase is Phase.RUNNING else ()
    return state, (TakeBack(), *listen) if event.reason.course is Course.CANCEL else listen


def _times_changed(policy: Policy, state: State, event: Event) -> Next:
    if state.reason is not None or policy.times is None:
        return state, ()
    return state._replace(ask_at=policy.times.ask_at, term_at=policy.times.term_at, kill_at=policy.times.kill_at), ()


def _replaced(policy: Policy, state: State, event: Event) -> Next:
    reason = Reason(Course.STOP, "another start has taken over this chain")
    state = state._replace(
        phase=Phase.STOPPING, replaced=True, reason=reason, our_end="TERM", kill_at=event.at + REPLACED_KILL_AFTER_S
    )
    return state, (Terminate(reason.sentence),)


def _replaced_at_start(policy: Policy, state: State, event: Event) -> Next:
    reason = Reason(Course.STOP, "another start has taken over this chain")
    return state._replace(phase=Phase.ENDED, replaced=True, reason=reason), ()


def _replaced_while_stopping(policy: Policy, state: State, event: Event) -> Next:
    kill_at = event.at + REPLACED_KILL_AFTER_S
    return state._replace(replaced=True, kill_at=kill_at if state.kill_at is None else min(state.kill_at, kill_at)), ()


# --- what the answers share ----------------------------------------------------------------------------------------------

NAMES = {HUP: "SIGHUP", INT: "SIGINT", QUIT: "SIGQUIT", USR1: "SIGUSR1", USR2: "SIGUSR2", TERM: "SIGTERM"}


def meaning(signal: int, in_slurm: bool = False) -> Reason:
    """Return what a signal that arrives at ckptrun means for the chain. Of a SIGTERM inside a job only the controller knows."""
    if signal in (USR1, USR2):
        return Reason(Course.GO_ON, f"{NAMES[signal]} arrived: save and go on")
    if signal == INT:
        return Reason(Course.CANCEL, "interrupted")
    if signal == HUP:
        return Reason(Course.CANCEL, "the terminal was closed")
    course = Course.UNKNOWN if in_slurm and signal == TERM else Course.STOP
    return Reason(course, f"{NAMES.get(signal, f'signal {signal}')} arrived")


def _last_seconds(policy: Policy, state: State, at: float) -> State:
    """After a SIGTERM inside a job: Slurm sends SIGKILL after KillWait, unless the controller says that the job runs on."""
    left_s = max(policy.kill_wait_s - BEFORE_SLURMS_KILL_S, policy.kill_wait_s / 2)
    kill_at, term_at = at + left_s, at + left_s - min(5.0, left_s / 4)
    return state._replace(
        ask_at=None,
        kill_at=kill_at if state.kill_at is None else min(kill_at, state.kill_at),
        term_at=term_at if state.term_at is None else min(term_at, state.term_at),
    )


def _take_sight(state: State, sight: Sight) -> State:
    return state._replace(sight=sight, saves=state.saves + sight.saves)


def _hurry(policy: Policy, state: State, at: float) -> State:
    """A signal asks before the checkpoint time: TERM comes one margin later, never later than its own time."""
    grace_s = policy.times.margin_s if policy.times else _measured_grace(policy, state)
    term_at = at + grace_s
    return state._replace(ask_at=None, term_at=term_at if state.term_at is None else min(term_at, state.term_at))


def _measured_grace(policy: Policy, state: State) -> float:
    saves = policy.earlier_saves + state.saves
    return 2 * slowest(saves) + 30.0 if any(save.asked for save in saves) else GRACE_S


def _end_of(policy: Policy) -> float | None:
    return policy.times.term_at if policy.times else None


def _next_fits(policy: Policy, state: State) -> bool:
    if state.term_at is None:
        return True
    saves = policy.earlier_saves + state.saves
    return next_save_fits(state.sight.written_at, policy.start_at, slowest(saves), state.term_at)


def _last_save_stands(policy: Policy, state: State) -> bool:
    """Return whether the newest save of this link is the last one that fits."""
    if policy.times is None or not state.sight.written_at or state.sight.writing:
        return False
    return not _next_fits(policy, state)


def _past_half(policy: Policy, state: State, at: float) -> bool:
    """Return whether what looks like a save has gone on for half of the margin: it may be a log that grows."""
    if policy.times is None or state.term_at is None:
        return False
    return at >= policy.times.ask_at + (policy.times.term_at - policy.times.ask_at) / 2


def _standing_s(policy: Policy, state: State) -> float:
    """Return how long a new whole checkpoint stands before a training that goes on is stopped."""
    standing_s = max(10.0, 2 * slowest(policy.earlier_saves + state.saves))
    cadence_s = longest_interval(state.sight.written_at[: state.saves_at_ask], policy.start_at)
    return max(standing_s, cadence_s) if cadence_s is not None and cadence_s < 60 else standing_s


def _measure_asked(state: State, at: float) -> State:
    if state.asked_at is None or state.saved_at is not None or len(state.sight.written_at) <= state.saves_at_ask:
        return state
    seconds = max(state.sight.written_at[-1] - state.asked_at, 0.0)
    return state._replace(saved_at=at, next_candidate_at=None, saves=state.saves + (Save(seconds, asked=True),))


def _measure_cut(policy: Policy, state: State, at: float) -> State:
    """A training that heard, had not saved and had to be stopped: its save takes longer than the time it had.

    That time is counted to the end time, the reserve of TERM and KILL included: counted to the KILL, a save of a third of the limit
    would be cut a second time (2 x 2 x 7.5% + 5% of the limit = 35%, of which 32.5% are left to the save).
    """
    if state.asked_at is None or state.saved_at is not None or state.our_end is None or not state.reached:
        return state
    if state.hearing is not Hearing.HEARS and not state.sight.writing:
        return state
    until = max(at, policy.times.end_at) if policy.times and state.by_time else at
    return state._replace(saves=state.saves + (Save(until - state.asked_at, asked=True, cut=True),))


# --- the table -----------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """What answers an event in a phase, and the phases that it may lead to."""

    act: Callable[[Policy, State, Event], Next]
    to: tuple[Phase, ...]


_START, _RUNNING, _ASKED, _STOPPING, _ENDED = Phase
_STAY_START = Row(_nothing, (_START,))
_STAY_RUNNING = Row(_nothing, (_RUNNING,))
_STAY_ASKED = Row(_nothing, (_ASKED,))
_STAY_STOPPING = Row(_nothing, (_STOPPING,))
_STAY_ENDED = Row(_nothing, (_ENDED,))

TABLE: dict[tuple[Phase, type], Row] = {
    (_START, ChildStarted): Row(_run, (_RUNNING,)),
    (_START, ChildExited): _STAY_START,
    (_START, TreeEnded): _STAY_START,
    (_START, SignalReceived): Row(_never_started, (_START, _ENDED)),
    (_START, Looked): _STAY_START,
    (_START, Listened): _STAY_START,
    (_START, Delivered): _STAY_START,
    (_START, AskDue): _STAY_START,
    (_START, NextCandidateDue): _STAY_START,
    (_START, TermDue): _STAY_START,
    (_START, KillDue): _STAY_START,
    (_START, Replaced): Row(_replaced_at_start, (_ENDED,)),
    (_START, ReasonLearned): _STAY_START,
    (_START, TimesChanged): _STAY_START,
    (_RUNNING, ChildStarted): _STAY_RUNNING,
    (_RUNNING, ChildExited): Row(_ended_unasked, (_RUNNING, _ENDED)),
    (_RUNNING, TreeEnded): Row(_tree_ended, (_RUNNING, _ENDED)),
    (_RUNNING, SignalReceived): Row(_signal_while_running, (_RUNNING, _ASKED, _STOPPING)),
    (_RUNNING, Looked): Row(_saw_while_running, (_RUNNING, _STOPPING)),
    (_RUNNING, Listened): Row(_heard_while_running, (_RUNNING, _ASKED, _STOPPING)),
    (_RUNNING, Delivered): _STAY_RUNNING,
    (_RUNNING, AskDue): Row(_ask_due, (_RUNNING,)),
    (_RUNNING, NextCandidateDue): _STAY_RUNNING,
    (_RUNNING, TermDue): Row(_term_due, (_RUNNING, _STOPPING)),
    (_RUNNING, KillDue): Row(_kill_due, (_STOPPING,)),
    (_RUNNING, Replaced): Row(_replaced, (_STOPPING,)),
    (_RUNNING, ReasonLearned): Row(_learned, (_RUNNING,)),
    (_RUNNING, TimesChanged): Row(_times_changed, (_RUNNING,)),
    (_ASKED, ChildStarted): _STAY_ASKED,
    (_ASKED, ChildExited): Row(_ended, (_ASKED, _ENDED)),
    (_ASKED, TreeEnded): Row(_tree_ended, (_ASKED, _ENDED)),
    (_ASKED, SignalReceived): Row(_signal_after_ask, (_ASKED, _STOPPING)),
    (_ASKED, Looked): Row(_saw_after_ask, (_ASKED, _STOPPING)),
    (_ASKED, Listened): _STAY_ASKED,
    (_ASKED, Delivered): Row(_delivered, (_ASKED,)),
    (_ASKED, AskDue): _STAY_ASKED,
    (_ASKED, NextCandidateDue): Row(_next_candidate, (_ASKED,)),
    (_ASKED, TermDue): Row(_term_due, (_ASKED, _STOPPING)),
    (_ASKED, KillDue): Row(_kill_due, (_STOPPING,)),
    (_ASKED, Replaced): Row(_replaced, (_STOPPING,)),
    (_ASKED, ReasonLearned): Row(_learned, (_ASKED,)),
    (_ASKED, TimesChanged): _STAY_ASKED,
    (_STOPPING, ChildStarted): _STAY_STOPPING,
    (_STOPPING, ChildExited): Row(_ended, (_STOPPING, _ENDED)),
    (_STOPPING, TreeEnded): Row(_tree_ended, (_STOPPING, _ENDED)),
    (_STOPPING, SignalReceived): Row(_signal_while_stopping, (_STOPPING,)),
    (_STOPPING, Looked): _STAY_STOPPING,
    (_STOPPING, Listened): _STAY_STOPPING,
    (_STOPPING, Delivered): Row(_delivered, (_STOPPING,)),
    (_STOPPING, AskDue): _STAY_STOPPING,
    (_STOPPING, NextCandidateDue): _STAY_STOPPING,
    (_STOPPING, TermDue): _STAY_STOPPING,
    (_STOPPING, KillDue): Row(_kill_due, (_STOPPING,)),
    (_STOPPING, Replaced): Row(_replaced_while_stopping, (_STOPPING,)),
    (_STOPPING, ReasonLearned): Row(_learned, (_STOPPING,)),
    (_STOPPING, TimesChanged): _STAY_STOPPING,
    (_ENDED, ChildStarted): _STAY_ENDED,
    (_ENDED, ChildExited): _STAY_ENDED,
    (_ENDED, TreeEnded): _STAY_ENDED,
    (_ENDED, SignalReceived): _STAY_ENDED,
    (_ENDED, Looked): _STAY_ENDED,
    (_ENDED, Listened): _STAY_ENDED,
    (_ENDED, Delivered): _STAY_ENDED,
    (_ENDED, AskDue): _STAY_ENDED,
    (_ENDED, NextCandidateDue): _STAY_ENDED,
    (_ENDED, TermDue): _STAY_ENDED,
    (_ENDED, KillDue): _STAY_ENDED,
    (_ENDED, Replaced): _STAY_ENDED,
    (_ENDED, ReasonLearned): _STAY_ENDED,
    (_ENDED, TimesChanged): _STAY_ENDED,
}
