"""The state machine of a link: an answer for everything, histories, and what never happens."""

from __future__ import annotations

import itertools
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptrun.link import events
from ckptrun.link import supervision as core
from ckptrun.link.events import Phase
from ckptrun.link.target import Hearing
from ckptrun.link.times import times
from ckptrun.words import Checkpoint, Course, Reason, Save, Sight, Status, Verdict

EVENTS = typing.get_args(events.Event)
NEWEST = Checkpoint("/ck/1.pt", ("/ck/1.pt",), 1, 1.0, 10, Verdict.WHOLE)
OK = Status(0, None)
TERM, USR1, INT, HUP = core.TERM, core.USR1, core.INT, core.HUP


def policy(limit_s: float | None = 100.0, saves: tuple[Save, ...] = (), *, sees: bool = True) -> core.Policy:
    """Return the policy of a link that starts at 0."""
    return core.Policy(times(0.0, limit_s, saves) if limit_s else None, saves, sees, 0.0)


def history(rules: core.Policy, *events: events.Event) -> tuple[core.State, list[events.Action]]:
    """Feed a history and return the last state and all actions."""
    state, actions = core.begin(rules), []
    for event in events:
        state, more = core.step(rules, state, event)
        actions += more
    return state, actions


def saw(at: float, *written_at: float, writing: bool = False) -> events.Looked:
    """Return a look that sees these saves."""
    return events.Looked(at, Sight(NEWEST if written_at else None, bool(written_at), writing, written_at))


def kinds(actions: list[events.Action]) -> list[str]:
    """Return the actions' names."""
    return [type(action).__name__ for action in actions]


def test_every_phase_answers_every_event() -> None:
    """There is a row for each (phase, event), and none besides."""
    assert set(core.TABLE) == {(phase, event) for phase in Phase for event in EVENTS}


START = events.ChildStarted(0.0)
ASK = events.AskDue(90.0)
HEARD, INT_ONLY, DEAF = (events.Listened(90.0, hearing) for hearing in Hearing)


def test_a_training_that_hears_is_asked_and_ends() -> None:
    """Asked at the checkpoint time, saved, exited: one signal, nothing else, one end."""
    asked = events.Delivered(90.0, True)
    state, actions = history(policy(), START, ASK, HEARD, asked, saw(92.0, 91.5), events.ChildExited(92.1, OK))
    assert kinds(actions) == ["Listen", "SignalTraining"]
    assert (state.phase, state.status, state.told, state.by_time) == (Phase.ENDED, OK, True, True)
    assert state.saves == (Save(1.5, asked=True),)


def test_nobody_is_asked_while_a_save_is_being_written() -> None:
    """The ask waits for the save that is being written, and comes when it is whole."""
    _, waiting = history(policy(), START, saw(89.9, 50.0, writing=True), ASK, HEARD)
    assert kinds(waiting) == ["Listen"]
    _, asked = history(policy(), START, saw(89.9, 50.0, writing=True), ASK, HEARD, saw(90.4, 50.0, 90.3), HEARD)
    assert kinds(asked) == ["Listen", "Listen", "SignalTraining"]


def test_no_save_is_asked_for_that_cannot_fit() -> None:
    """A save of 60 s is not asked for with 45 s left; it is said once."""
    rules = policy(saves=(Save(60.0, asked=True),))
    _, actions = history(rules, START, events.AskDue(50.0), events.Listened(50.0, Hearing.HEARS), saw(51.0), HEARD)
    assert [kind for kind in kinds(actions) if kind != "Listen"] == ["Say"]


def test_one_that_catches_only_int_gets_it_after_the_last_save_that_fits() -> None:
    """Saves at 20, 40, 60, 80: the next one at 104 does not fit under 95, so INT follows the save at 80."""
    early, actions = history(policy(), START, saw(20.1, 20.0), saw(40.1, 20.0, 40.0), saw(60.1, 20.0, 40.0, 60.0))
    assert early.phase is Phase.RUNNING
    assert actions == []
    look = saw(80.1, 20.0, 40.0, 60.0, 80.0)
    state, actions = history(policy(), START, saw(60.1, 20.0, 40.0, 60.0), look, events.Listened(81.1, Hearing.ONLY_INT))
    assert kinds(actions) == ["Listen", "SignalTraining"]
    assert state.phase is Phase.ASKED
    assert state.reason is not None and state.reason.course is Course.GO_ON


def test_one_that_cannot_be_told_is_stopped_after_the_last_save_that_fits() -> None:
    """The same with TERM for one that catches nothing."""
    look = saw(80.1, 40.0, 60.0, 80.0)
    state, actions = history(policy(), START, look, events.Listened(81.1, Hearing.DEAF))
    assert kinds(actions) == ["Listen", "Terminate"]
    _, early = history(policy(), START, look, events.Listened(80.5, Hearing.DEAF))
    assert kinds(early) == ["Listen"], "it may be on its way out by itself"
    assert state.phase is Phase.STOPPING


def test_who_is_told_is_decided_on_what_is_seen_in_that_moment() -> None:
    """A signal comes long after the last look, and a save has begun since: nobody is asked, nor stopped, until that is whole."""
    stale, writing = saw(1.0), Sight(writing=True)
    for hearing in Hearing:
        early = (START, stale, events.SignalReceived(9.0, USR1), events.Listened(9.0, hearing, writing))
        _, actions = history(policy(), *early)
        assert kinds(actions) == ["Listen"], hearing
        done = Sight(NEWEST, True, written_at=(12.0,))
        _, actions = history(policy(), *early, events.Looked(13.5, done), events.Listened(13.5, hearing, done))
        assert kinds(actions)[:2] == ["Listen", "Listen"] and kinds(actions)[2:] in (["SignalTraining"], ["Terminate"]), hearing


def test_what_a_training_leaves_behind_may_end_its_save() -> None:
    """It ends with 0 by itself while a process that it began writes: the link ends after that, as unasked, at the end time too."""
    exited = events.ChildExited(50.0, OK, left=True, sight=Sight(writing=True))
    waits, actions = history(policy(), START, exited, events.Looked(60.0, Sight(writing=True)))
    assert (waits.phase, waits.status, actions) == (Phase.RUNNING, OK, [])
    whole = Sight(NEWEST, True, written_at=(61.0,))
    ended, actions = history(policy(), START, exited, events.TreeEnded(61.2, whole))
    assert (ended.phase, ended.status, ended.told, ended.sight, actions) == (Phase.ENDED, OK, False, whole, [])
    late = (events.TermDue(60.0), events.KillDue(97.5), events.TreeEnded(97.6))
    ended, actions = history(policy(), START, exited, *late)
    assert (kinds(actions), ended.phase, ended.told, ended.reason) == (["Kill"], Phase.ENDED, False, None)
    _, actions = history(policy(None), START, exited, events.TermDue(650.0))
    assert kinds(actions) == ["Terminate"], "without an end time it has as long as a save that is asked for"
    stopped = (exited, events.SignalReceived(51.0, INT), events.SignalReceived(52.0, INT))
    _, actions = history(policy(), START, *stopped)
    assert kinds(actions) == ["Kill"], "nobody is left who should be told, and a second Ctrl-C ends it"


def test_without_saves_int_comes_at_the_checkpoint_time_and_term_at_its_own() -> None:
    """No save seen: INT at the checkpoint time where it is caught; one that cannot be told runs until TERM."""
    _, only_int = history(policy(), START, ASK, INT_ONLY)
    assert kinds(only_int) == ["Listen", "SignalTraining"]
    state, deaf = history(policy(), START, ASK, DEAF, saw(91.0), DEAF, events.TermDue(95.0), events.KillDue(97.5))
    assert [kind for kind in kinds(deaf) if kind != "Listen"] == ["Terminate", "Kill"]
    assert state.our_end == "KILL"


def test_term_waits_for_a_save_as_long_as_the_end_time_allows() -> None:
    """TERM is due during a save: it is sent when the save is whole, KILL when the end time is near."""
    asked = (START, ASK, HEARD, events.Delivered(90.0, True))
    _, waits = history(policy(), *asked, saw(94.9, writing=True), events.TermDue(95.0), saw(96.0, writing=True))
    assert "Terminate" not in kinds(waits)
    _, sent = history(policy(), *asked, saw(94.9, writing=True), events.TermDue(95.0), saw(96.0, 95.9))
    assert kinds(sent)[-1] == "Terminate"
    half = events.NextCandidateDue(92.5)
    state, _ = history(policy(), *asked, half, saw(94.9, writing=True), events.TermDue(95.0))
    assert core.due(state) == events.KillDue(97.5)


def test_a_training_that_saves_and_goes_on_is_stopped_once_its_checkpoint_has_stood() -> None:
    """A whole checkpoint that has stood for ten seconds after the ask: TERM before its time."""
    rules = policy(1000.0)
    asked = (START, events.AskDue(900.0), events.Listened(900.0, Hearing.HEARS), events.Delivered(900.0, True))
    _, early = history(rules, *asked, saw(902.0, 901.0), saw(911.0, 901.0))
    assert kinds(early)[-1] == "SignalTraining"
    _, stood = history(rules, *asked, saw(902.0, 901.0), saw(912.1, 901.0))
    assert kinds(stood)[-1] == "Terminate"


def test_the_next_candidate_is_tried_once_when_nothing_came() -> None:
    """Half of the time left is over without a save: the next signal, once."""
    asked = (START, ASK, HEARD, events.Delivered(90.0, True))
    state, actions = history(policy(), *asked, events.NextCandidateDue(92.5), events.Delivered(92.5, True))
    assert [action.candidate for action in actions if isinstance(action, events.SignalTraining)] == [0, 1]
    assert state.next_candidate_at is None
    _, saving = history(policy(), *asked, saw(92.0, writing=True), events.NextCandidateDue(92.5))
    assert [action.candidate for action in saving if isinstance(action, events.SignalTraining)] == [0]


def test_one_that_has_heard_by_file_gets_no_second_signal() -> None:
    """Its word that it has seen the ask counts as an answer: it saves when its step is over."""
    heard = events.Looked(91.0, Sight(), heard=True)
    state, _ = history(policy(), START, ASK, HEARD, events.Delivered(90.0, False), heard)
    assert (state.told, state.next_candidate_at) == (True, None)


def test_one_that_can_be_told_by_file_only_later_is_asked_then() -> None:
    """Deaf at the checkpoint time, still starting perhaps: when its word comes that it looks for asks, it is asked."""
    ready = events.Looked(91.0, Sight(), ready=True)
    _, before = history(policy(), START, ASK, DEAF, saw(90.3), DEAF, saw(90.6))
    assert kinds(before) == ["Listen", "Listen"], "nothing has changed, so nobody is listened to again"
    _, after = history(policy(), START, ASK, DEAF, saw(90.3), DEAF, ready, events.Listened(91.0, Hearing.HEARS))
    assert kinds(after) == ["Listen", "Listen", "Listen", "SignalTraining"]


def test_a_save_that_was_cut_is_measured() -> None:
    """Asked, heard, killed before anything was whole: the time that it had, to the end time, counts as cut."""
    asked = (START, ASK, HEARD, events.Delivered(90.0, True))
    ends = (events.TermDue(95.0), events.KillDue(97.5), events.ChildExited(97.6, Status(None, 9)))
    state, _ = history(policy(), *asked, *ends)
    assert state.saves == (Save(pytest.approx(10.0), asked=True, cut=True),)


@pytest.mark.parametrize(
    ("number", "course"), [(USR1, Course.GO_ON), (core.USR2, Course.GO_ON), (TERM, Course.STOP), (HUP, Course.CANCEL)]
)
def test_what_a_signal_means(number: int, course: Course) -> None:
    """USR1 and USR2 save and go on, TERM stops, HUP cancels; all ask the training at once."""
    state, actions = history(policy(), START, events.SignalReceived(10.0, number), events.Listened(10.0, Hearing.HEARS))
    assert kinds(actions) == ["Listen", "SignalTraining"]
    assert state.reason is not None and state.reason.course is course


@pytest.mark.parametrize(("ended_at", "itself"), [(10.05, True), (13.0, False)])
def test_a_training_that_heard_the_signal_itself(ended_at: float, itself: bool) -> None:
    """Over before we could pass it on: asked by who signalled us both. One that runs on has ended by itself."""
    exited = events.ChildExited(ended_at, Status(0, None), False, None)
    state, actions = history(policy(), START, events.SignalReceived(10.0, USR1), exited)
    assert state.heard_itself is itself and not state.told
    assert "SignalTraining" not in kinds(actions)


def test_ctrl_c_is_itself_the_ask_and_a_second_one_ends_at_once() -> None:
    """From a terminal nothing is sent (the training has it); without one INT is passed on once; a second ends all."""
    _, shared = history(policy(None), START, events.SignalReceived(5.0, INT, shared=True))
    assert [action.noted for action in shared if isinstance(action, events.SignalTraining)] == [True]
    _, passed = history(policy(None), START, events.SignalReceived(5.0, INT))
    assert [action.pass_on for action in passed if isinstance(action, events.SignalTraining)] == [INT]
    _, twice = history(policy(None), START, events.SignalReceived(5.0, INT, True), events.SignalReceived(6.0, INT, True))
    assert kinds(twice)[-1] == "Kill"


def test_without_a_limit_ctrl_c_leaves_the_training_all_its_time() -> None:
    """One supervised link without a limit: after Ctrl-C no timer is running."""
    state, _ = history(policy(None, sees=False), START, events.SignalReceived(5.0, INT, shared=True))
    assert core.due(state) is None


def test_signals_before_the_child_exists() -> None:
    """TERM, HUP and INT end the link before it starts; USR1 is remembered."""
    state, _ = history(policy(), events.SignalReceived(0.0, INT))
    assert (state.phase, state.status, state.told) == (Phase.ENDED, Status(None, INT), True)
    _, actions = history(policy(), events.SignalReceived(0.0, USR1), START)
    assert kinds(actions) == ["Listen"]


def test_one_that_was_replaced_stops_its_tree() -> None:
    """A turn after our own: TERM at once, KILL two seconds later."""
    state, actions = history(policy(), START, events.Replaced(50.0))
    assert kinds(actions) == ["Terminate"]
    assert state.replaced
    assert core.due(state) == events.KillDue(52.0)


def test_one_that_is_replaced_while_it_stops_has_no_more_time_than_that() -> None:
    """Replaced after TERM, whose KILL is not due for long: KILL two seconds later, because the replacement waits for no longer."""
    state, _ = history(policy(), START, events.KillDue(40.0), events.Replaced(50.0))
    assert (state.phase, state.replaced) == (Phase.STOPPING, True)
    assert core.due(state) == events.KillDue(52.0)


def test_the_link_waits_for_those_who_were_asked() -> None:
    """A launcher that dies of Ctrl-C does not end the link while its training is still saving."""
    asked = (START, ASK, HEARD, events.Delivered(90.0, True))
    state, _ = history(policy(), *asked, events.ChildExited(90.1, Status(None, 2), left=True))
    assert state.phase is Phase.ASKED
    state, _ = history(policy(), *asked, events.ChildExited(90.1, Status(None, 2), left=True), events.TreeEnded(92.0))
    assert (state.phase, state.status) == (Phase.ENDED, Status(None, 2))


# --- whatever happens ----------------------------------------------------------------------------------------------------


# --- inside a Slurm job


def in_job(limit_s: float = 1000.0) -> core.Policy:
    """Return the policy of a link in a job whose KillWait is 30 s."""
    return policy(limit_s)._replace(in_slurm=True, kill_wait_s=30.0)


LISTENED = events.Listened(10.0, Hearing.HEARS)
ASKED = events.Delivered(10.0, True)


def test_in_a_job_the_successor_is_submitted_with_the_ask() -> None:
    """First the training is asked, then the chain is handed over, once."""
    _, actions = history(in_job(), START, events.AskDue(900.0), events.Listened(900.0, Hearing.HEARS), saw(901.0, 900.5))
    assert kinds(actions) == ["Listen", "SignalTraining", "HandOver"]


def test_a_sigterm_in_a_job_asks_the_training_before_the_controller() -> None:
    """The turn first, then the training, then the question; nothing is submitted while the reason is unknown."""
    state, actions = history(in_job(), START, events.SignalReceived(10.0, TERM), LISTENED, ASKED)
    assert kinds(actions) == ["NoteTerm", "Listen", "Inquire", "SignalTraining"]
    assert state.reason is not None and state.reason.course is Course.UNKNOWN
    assert state.kill_at == 38.0  # two seconds before Slurm's own


def learned(course: Course, *, runs_on: bool = False) -> events.ReasonLearned:
    """Return the controller's answer."""
    return events.ReasonLearned(10.1, Reason(course, "it said so"), runs_on)


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        (learned(Course.GO_ON), "HandOver"),
        (learned(Course.CANCEL), "TakeBack"),
        (learned(Course.REQUEUE), ""),
        (learned(Course.UNKNOWN), ""),
    ],
)
def test_what_follows_from_the_answer(answer: events.ReasonLearned, action: str) -> None:
    """Go on: submit. Cancel: take back what waits. Requeue, or no answer: neither."""
    _, actions = history(in_job(), START, events.SignalReceived(10.0, TERM), LISTENED, ASKED, answer)
    assert kinds(actions)[4:] == ([action] if action else [])


def test_a_signal_to_a_job_that_runs_on_gives_the_time_back() -> None:
    """`scancel -b -s TERM`: no SIGKILL follows, so the training has a whole margin for its save."""
    events_ = (START, events.SignalReceived(10.0, TERM), LISTENED, ASKED, learned(Course.GO_ON, runs_on=True))
    state, _ = history(in_job(), *events_)
    assert state.kill_at == in_job().times.kill_at  # type: ignore[union-attr]
    assert state.term_at == pytest.approx(10.1 + in_job().times.margin_s)  # type: ignore[union-attr]


def test_a_cancel_after_the_ask_is_a_cancel() -> None:
    """Asked by the clock, submitted, then cancelled: what waits is taken back."""
    ask = (START, events.AskDue(900.0), events.Listened(900.0, Hearing.HEARS), events.Delivered(900.0, True))
    state, actions = history(in_job(), *ask, events.SignalReceived(901.0, TERM), learned(Course.CANCEL)._replace(at=901.1))
    assert kinds(actions)[2:] == ["HandOver", "NoteTerm", "Inquire", "TakeBack"]
    assert state.reason is not None and state.reason.course is Course.CANCEL


def test_a_deaf_training_is_not_stopped_before_the_reason_is_known() -> None:
    """Until then it goes on; after a cancel it has the seconds before Slurm's own end for a save that may still come."""
    deaf = events.Listened(10.0, Hearing.DEAF)
    told = (START, saw(5.0, 2.0, 4.0), events.SignalReceived(10.0, TERM), deaf)
    state, actions = history(in_job(), *told)
    assert (state.phase, kinds(actions)) == (Phase.RUNNING, ["NoteTerm", "Listen", "Inquire"])
    state, actions = history(in_job(), *told, learned(Course.CANCEL), deaf, events.TermDue(33.0))
    assert (state.phase, kinds(actions)[3:]) == (Phase.STOPPING, ["TakeBack", "Listen", "Terminate"])


def test_a_new_end_time_moves_the_ask_unless_it_has_come() -> None:
    """An administrator raises the limit: the ask moves; after the ask it does not."""
    longer = in_job(2000.0)
    state, _ = core.step(longer, history(in_job(), START)[0], events.TimesChanged(500.0))
    assert state.ask_at == longer.times.ask_at  # type: ignore[union-attr]
    asked = history(in_job(), START, events.AskDue(900.0), events.Listened(900.0, Hearing.HEARS))[0]
    assert core.step(longer, asked, events.TimesChanged(901.0))[0] == asked


@st.composite
def worlds(draw: st.DrawFn) -> tuple[core.Policy, list[tuple[str, object]]]:
    """Return a policy and a list of stimuli; the machine's own timers are fed in between by the test, in order."""
    saves = draw(st.lists(st.builds(Save, st.floats(0.1, 60), st.booleans(), st.booleans()), max_size=3))
    rules = policy(draw(st.sampled_from([None, 6.0, 60.0, 100.0, 43200.0])), tuple(saves), sees=draw(st.booleans()))
    rules = rules._replace(in_slurm=draw(st.booleans()), kill_wait_s=draw(st.sampled_from([1.0, 5.0, 30.0])))
    stimulus = st.one_of(
        st.tuples(st.just("signal"), st.sampled_from([USR1, core.USR2, TERM, HUP, INT, core.QUIT])),
        st.tuples(st.just("save"), st.booleans()),
        st.tuples(st.just("hearing"), st.sampled_from(list(Hearing))),
        st.tuples(st.just("wait"), st.floats(0.01, 0.4)),
        st.tuples(st.just("exit"), st.booleans()),
        st.tuples(st.just("replaced"), st.none()),
        st.tuples(st.just("learned"), st.tuples(st.sampled_from(list(Course)), st.booleans())),
        st.tuples(st.just("times"), st.none()),
        st.tuples(st.just("word"), st.booleans()),
    )
    weights = draw(st.lists(stimulus, max_size=25))
    return rules, [(kind, value) for kind, value in weights if kind != "replaced" or draw(st.integers(0, 5)) == 0]


class World:
    """Drives the machine as the loop does: timers in order, every Listen and SignalTraining answered."""

    def __init__(self, rules: core.Policy) -> None:
        self.rules, self.state, self.at = rules, core.begin(rules), 0.0
        self.hearing, self.written, self.writing = Hearing.HEARS, (), False
        self.log: list[tuple[float, events.Action, core.State]] = []
        self.ends = 0

    def sight(self) -> Sight:
        """Return what a look shows now."""
        return Sight(NEWEST if self.written else None, bool(self.written), self.writing, self.written)

    def feed(self, event: events.Event) -> None:
        """Feed one event and answer the actions; check what must hold at each step."""
        before = self.state
        self.state, actions = core.step(self.rules, self.state, event)
        assert self.state.phase in core.TABLE[before.phase, type(event)].to
        self.ends += before.phase is not Phase.ENDED and self.state.phase is Phase.ENDED
        for action in actions:
            self.log.append((self.at, action, before))
            if isinstance(action, events.Listen):
                self.feed(events.Listened(self.at, self.hearing, self.sight()))
            elif isinstance(action, events.SignalTraining):
                self.feed(events.Delivered(self.at, action.noted or self.hearing is not Hearing.DEAF))

    def wait(self, seconds: float) -> None:
        """Let time pass: the machine's timers come in their order."""
        until = self.at + seconds
        while (timer := core.due(self.state)) is not None and timer.at <= until:
            self.at = max(self.at, timer.at)
            self.feed(timer._replace(at=self.at))
        self.at = until


@settings(max_examples=400, deadline=None)
@given(worlds())
def test_whatever_happens(world_: tuple[core.Policy, list[tuple[str, object]]]) -> None:
    """No TERM before its time, no ask within a save, no third ask, one end; with a limit all is over before the end time."""
    rules, stimuli = world_
    world = World(rules)
    world.feed(events.ChildStarted(0.0))
    limit_s = rules.times.limit_s if rules.times else 100.0
    for kind, value in stimuli:
        if kind == "signal":
            world.feed(events.SignalReceived(world.at, typing.cast(int, value)))
        elif kind == "save":
            world.writing = bool(value)
            world.written = world.written if value else (*world.written, world.at)
            world.feed(events.Looked(world.at, world.sight()))
        elif kind == "hearing":
            world.hearing = typing.cast(Hearing, value)
        elif kind == "wait":
            world.wait(typing.cast(float, value) * limit_s)
        elif kind == "replaced":
            world.feed(events.Replaced(world.at))
        elif kind == "word":
            world.feed(events.Looked(world.at, world.sight(), ready=not value, heard=bool(value)))
        elif kind == "times":
            world.feed(events.TimesChanged(world.at))
        elif kind == "learned":
            course, runs_on = typing.cast(tuple[Course, bool], value)
            # The loop answers an inquiry; nothing is learned that was not asked for.
            if any(isinstance(action, events.Inquire) for _, action, _ in world.log):
                world.feed(events.ReasonLearned(world.at, Reason(course, "the controller said so"), runs_on))
        elif world.state.status is None:
            world.feed(events.ChildExited(world.at, OK, left=bool(value), sight=world.sight()))
        else:
            world.feed(events.TreeEnded(world.at, world.sight()))
    _check_log(rules, world)
    if rules.times is not None and world.state.phase is not Phase.ENDED:
        world.wait(2 * limit_s)
        assert any(isinstance(action, events.Kill) and at <= rules.times.end_at + limit_s for at, action, _ in world.log)
    if world.state.status is None:
        world.feed(events.ChildExited(world.at, Status(None, 9)))
    else:
        world.feed(events.TreeEnded(world.at, world.sight()))
    assert world.ends == 1
    assert world.state.phase is Phase.ENDED


def _check_log(rules: core.Policy, world: World) -> None:
    handed = [action for _, action, _ in world.log if isinstance(action, events.HandOver)]
    assert len(handed) <= rules.in_slurm, "handed over twice, or outside Slurm"
    asks = [(at, action, before) for at, action, before in world.log if isinstance(action, events.SignalTraining)]
    assert len([1 for _, action, _ in asks if not action.noted and action.pass_on is None]) <= 2
    for at, action, before in asks:
        assert before.status is None or before.phase is Phase.ASKED, "asked after the training was over"
        if action.noted or action.pass_on is not None:
            continue
        patience = rules.times is not None and at >= rules.times.ask_at
        assert not before.sight.writing or patience, "asked within a save"
    for at, action, before in world.log:
        if isinstance(action, events.Kill):
            assert before.ints or (before.kill_at is not None and at >= before.kill_at), "killed before its time"
        if isinstance(action, events.Terminate) and before.reason is None and rules.times is not None:
            over = before.status is not None  # what is left of it has as long as a save that is asked for
            assert at >= rules.times.term_at or before.sight.written_at or before.replaced or "taken over" in action.why or over


def looks_of(rules: core.Policy, saves_every_s: float | None, until: float) -> list[float]:
    """Return when a link that is not asked looks, where a save stands every so often; each look shows what was saved until then."""
    state, _ = history(rules, START)
    at, found = 0.0, []
    while at < until:
        in_s, idle_until = core.looks(rules, state, at)
        at = min(at + in_s, idle_until if idle_until > at else float("inf"))
        found.append(at)
        count = int(at // saves_every_s) if saves_every_s is not None else 0
        written_at = tuple((number + 1) * saves_every_s for number in range(count)) if saves_every_s else ()
        if written_at != state.sight.written_at:
            state, _ = core.step(rules, state, saw(at, *written_at))
    return found


@pytest.mark.parametrize("saves_every_s", [None, 20.0, 600.0, 3600.0])
def test_twelve_hours_of_waiting_are_few_looks(saves_every_s: float | None) -> None:
    """One in ten seconds, and no more than a few hundred besides, however the training saves and whether or not it can be told."""
    ask_at = 12 * 3600.0 - 600
    found = looks_of(policy(12 * 3600.0), saves_every_s, ask_at)
    assert ask_at / 10 - 2 <= len(found) <= ask_at / 10 + 400
    assert max(later - earlier for earlier, later in itertools.pairwise(found)) <= 10.0 + 1e-6


@pytest.mark.parametrize("interval_s", [4.0, 60.0, 600.0, 3000.0])
def test_the_save_after_which_none_fits_is_seen_at_once(interval_s: float) -> None:
    """The look that shows it comes within a quarter of a second, or a hundredth of the interval; the next ones follow closely."""
    rules = policy(6 * 3600.0)
    assert rules.times is not None
    last = next(n * interval_s for n in range(1, 10000) if (n + 1.2) * interval_s >= rules.times.term_at)
    found = [at for at in looks_of(rules, interval_s, last + 60) if at >= last]
    assert found[0] - last <= min(max(0.25, interval_s / 100), 10.0) + 1e-6
    close = [at for at in found if at - last < core.SETTLED_S]
    assert all(later - earlier <= 0.25 + 1e-6 for earlier, later in itertools.pairwise(close))


def test_looks_after_the_ask() -> None:
    """Four a second while it saves, and as long as it usually takes; then one, until something is seen."""
    asked = (START, ASK, HEARD, events.Delivered(90.0, True))
    state, _ = history(policy(), *asked)
    assert core.looks(policy(), state, 91.0).in_s == 0.25
    long = policy(12 * 3600.0)
    late, _ = history(long, START, events.AskDue(42600.0), events.Listened(42600.0, Hearing.HEARS))
    assert [core.looks(long, late, at).in_s for at in (42601.0, 42700.0)] == [0.25, 1.0]
    saving, _ = history(long, START, events.AskDue(42600.0), events.Listened(42600.0, Hearing.HEARS), saw(42700.0, writing=True))
    assert core.looks(long, saving, 42700.0).in_s == 0.25
    untold, _ = history(long, START, events.AskDue(42600.0), events.Listened(42600.0, Hearing.DEAF))
    assert core.looks(long, untold, 42601.0).in_s == 1.0


def test_without_checkpoints_the_second_signal_needs_silence() -> None:
    """No save can be seen: the next candidate comes where nobody wrote anything that may be one. A relay sends none."""
    rules = policy(sees=False)
    asked = (START, ASK, HEARD, events.Delivered(90.0, True))
    _, silent = history(rules, *asked, events.NextCandidateDue(92.5, silent=True))
    assert kinds(silent) == ["Listen", "SignalTraining", "SignalTraining"]
    _, writes = history(rules, *asked, events.NextCandidateDue(92.5))
    assert kinds(writes) == ["Listen", "SignalTraining"]
    relay, _ = history(rules._replace(relays=True), *asked)
    assert relay.next_candidate_at is None
