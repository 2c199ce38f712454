"""A chain on Slurm: this job is one link of it, and hands over to the next.

Rules of this file. The training is asked before the controller is; no answer of Slurm's is waited for while the training could be
told something. A link has ended as continued only when its successor was seen in the queue. The last thing that is done is the turn
`end`, and after it the exit, at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from ckptrun.chain import ready
from ckptrun.chain.home import ChainFolder
from ckptrun.chain.links import LinkFiles
from ckptrun.chain.state import stop_mark
from ckptrun.early import TERM, USR1, USR2, Handlers
from ckptrun.errors import CkptrunError, Stranded, TurnTaken
from ckptrun.job import fencing, foresight, going_back, handover, protocol, reason
from ckptrun.job.foresight import Ahead, Ways
from ckptrun.job.handing import Handing
from ckptrun.job.interlude import Interlude
from ckptrun.job.job_desk import JobDesk
from ckptrun.job.protocol import Verdict
from ckptrun.job.same_job import SameJob
from ckptrun.job.settling import STOPPED, Settling, stopped_by_a_person
from ckptrun.job.succession import wait_behind
from ckptrun.link import messages
from ckptrun.link import supervision as core
from ckptrun.link.crew import Crew
from ckptrun.link.errands import Errands, Procedure
from ckptrun.link.one_link import OneLink, Ran, Where, asked_for
from ckptrun.link.outcome import Decision, End
from ckptrun.link.times import Times
from ckptrun.plan import Plan
from ckptrun.slurm import commands, parse
from ckptrun.slurm.job import Here
from ckptrun.slurm.parse import JobRecord, Settings, Window
from ckptrun.words import Course, Outcome, Reason, Status

# How long a signal of Slurm's may be behind the end of a training that heard its own (steps hear before the batch shell).
SIGNAL_BEHIND_S, SIGNAL_BEHIND_SUCCESS_S = 2.0, 1.0
SILENT_S = 20.0
TOO_LATE = Reason(Course.GO_ON, "it waited for the end of the last start until its checkpoint time", taken_away=True)
_WITHOUT_EXEC = (
    "the script starts ckptrun without `exec`: a cancel, a requeue, the limit and `scancel -b -s SIG` end the script, and ckptrun "
    "hears none of them. Its own timer works; write `exec ckptrun ...` as the last line to make the rest right"
)
_LOG_IS_EMPTIED = ". Until then `#SBATCH --open-mode=append` keeps a requeue from emptying the log"


def _untrained(found: Reason) -> End:
    """Return the end of a start that never came to its training, for this reason."""
    return asked_for(End(Status(None, TERM), new_checkpoint=True), found, ours=True)


class BatchLink(JobDesk):
    """One start of one link in a job. It is the desk of its supervisor."""

    def __init__(
        self,
        plan: Plan,
        folder: ChainFolder,
        handlers: Handlers,
        here: Here,
        record: JobRecord,
        number: int,
        verdict: Verdict,
        same: SameJob,
        script: str,
        settings: Settings,
        errands: Errands,
        started_at: float,
        crew: Crew | None = None,
    ) -> None:
        super().__init__(here, errands, settings.proctrack)
        where = Where(here.node, str(here.job), record.restarts, here.batch_shell, max(verdict.attempt, record.restarts + 1))
        self._plan, self._folder, self._record = plan, folder, record
        self._same, self._script, self._settings, self._verdict = same, script, settings, verdict
        self._crew = crew
        self._link = OneLink(plan, folder, handlers, number, where, verdict.after)
        self._link.started_at = started_at
        self._handlers = handlers
        files = LinkFiles(folder, number + 1)
        self._window: Window | None = None
        self._changed: Times | None = None
        self._handing = Handing(here, record, self._link, files, same, settings, errands)
        self._interlude = Interlude(self._link, errands, handlers, settings.kill_wait_s, self.note_term)
        self._interlude.job_ends_at = self._monotonic(record.end_at)
        self._settling = Settling(plan, folder, here, record, self._link, self._handing, self._interlude)
        self._asked = False
        self._taken_away = False
        self._termed = False

    @property
    def outcome(self) -> Outcome | None:
        """Return how the link ended, None where that is not on record."""
        return self._link.outcome

    # --- one link from its turn to its exit

    def run(self) -> int | None:
        """Run the link; return our exit code, None where another has taken our turn: then it is to be judged again."""
        link = self._link
        already = link.already_over() or stopped_by_a_person(self._folder)
        try:
            link.take_start(first=link.number == 1 and self._record.restarts == 0)
        except TurnTaken:
            return None
        except Stranded:
            self._settling.say_ready()
            raise
        try:
            return self._run(already)
        except TurnTaken:
            messages.say(messages.taken_over(self._folder.id))
            return TurnTaken.exit_code

    def _run(self, already: Decision | None) -> int:
        link = self._link
        self._handing.turn = link.last_turn
        if already is not None:
            return link.close(already, None).exit_code
        self._prepare()
        over: list[None] = []
        self._errands.begin(self._wait_for_the_last(), over.append)
        self._interlude.wait_whatever_comes(lambda: bool(over) or self._interlude.termed)
        if self._interlude.termed:
            return self._ended_before_the_training()
        if link.is_replaced():  # while it waited: who came after it waits for a training that has looked, not for one that begins
            raise TurnTaken(f"link {link.number} of {self._folder.id} was replaced while it waited")
        if self._verdict.fence is not None:
            link.started_at = time.monotonic()  # `--time-limit` is a training's; the job's own end does not wait
        link_times = self._times()
        if self._verdict.fence is not None and link_times is not None and time.monotonic() >= link_times.ask_at:
            return self._too_late_to_train()
        resumption = link.find_resumption()
        fields = self._record.fields
        logs = {"log": fields.get("StdOut"), "error_log": fields.get("StdErr")}
        link.say_start(resumption, link_times, job=str(self._here.job), kill_wait_s=self._settings.kill_wait_s, **logs)
        self._say_what_is_missing()
        self._look_ahead()
        self._errands.begin(foresight.window_ahead(self._record, time.time()), self._window_found)
        # A job that does not come back by itself after a preemption or a lost node has nothing else to go on with.
        if (self._plan.successor or ("checkpoint" if self._record.requeue else "start")) == "start":
            self._hand_over()
        policy = core.Policy(
            link_times,
            link.so_far.saves,
            bool(self._plan.checkpoints),
            link.started_at,
            in_slurm=True,
            kill_wait_s=self._settings.kill_wait_s,
        )
        try:
            variables = {"SLURM_DISABLE_STATUS": "1", **self._same.array, **self._same.lists}
            ran = link.supervise(resumption, policy, self, variables, self._crew)
        except CkptrunError:
            self._settling.take_back_now()
            raise
        return self._finish(ran)

    def _wait_for_the_last(self) -> Procedure[None]:
        """Wait until nothing of the last start can be at work any more, here or elsewhere."""
        if self._verdict.fence is not None:
            messages.say("the last start ended without a word: waiting until nothing of it can be at work any more")
            yield from wait_behind(self._verdict.fence)
        yield from fencing.wait_for_those_here(self._folder, self._handing.turn, self._here.node)

    def _ended_before_the_training(self) -> int:
        """A SIGTERM came while another start was waited for: what it means is asked, and nothing was lost."""
        self._errands.abandon()
        self._interlude.late.clear()
        found = self._meaning(self._ask_now())
        self._note_reason(found)
        decision = self._settling.settle(self._link.decide(_untrained(found)))
        self._handing.files.clear_away()
        return self._link.close(decision, None, turn=protocol.takes_end_turn(decision.outcome)).exit_code

    def _too_late_to_train(self) -> int:
        """Hand over at once, having waited until the job's own checkpoint time for the end of the last start."""
        messages.say("the wait has taken the time until the checkpoint time: nothing is started, the next job goes on")
        decision = self._settling.settle(self._link.decide(_untrained(TOO_LATE)))
        if self._interlude.termed:
            return self._ended_before_the_training()
        self._handing.files.clear_away()
        # As one that trained: nothing that it has waited for is at work any more.
        return self._link.close(decision, None, turn=protocol.takes_end_turn(decision.outcome), waited=True).exit_code

    def _end_at(self) -> float | None:
        limits = [self._interlude.job_ends_at] if self._interlude.job_ends_at is not None else []
        if self._plan.limit_s is not None:
            limits.append(self._link.started_at + self._plan.limit_s)
        if self._window is not None and (begins_at := self._monotonic(self._window.begins_at)) is not None:
            limits.append(begins_at)
        return min(limits, default=None)

    def _times(self) -> Times | None:
        found = self._link.times(self._end_at())
        if found is None or self._window is None:
            return found
        return found._replace(near=messages.window_begins(self._window.begins_at))

    def _window_found(self, window: Window | None) -> None:
        """Take in a service window: whatever Slurm lets run into it, the link is over when it begins."""
        if window is None or window == self._window:
            return
        before = self._end_at()
        self._window = window
        self._changed = found = self._times()
        offset = time.time() - time.monotonic()
        times = {"end_at": round(found.end_at + offset, 3), "ask_at": round(found.ask_at + offset, 3)} if found is not None else {}
        self._link.record("window_ahead", name=window.name, begins_at=window.begins_at, ends_at=window.ends_at, **times)
        earlier = self._cut_short(before)
        said = f": {messages.will_ask(self._changed)}" if earlier and self._changed is not None else ", right behind this job's end"
        messages.say(f"{messages.window_begins(window.begins_at)} ({window.name}){said}")

    def _cut_short(self, end_at: float | None) -> bool:
        """Return whether a service window begins before what else ends the link."""
        begins_at = self._monotonic(self._window.begins_at) if self._window is not None else None
        return begins_at is not None and (end_at is None or begins_at < end_at - 1.0)

    def changed_times(self) -> Times | None:
        """Return the times that a service window has changed, once."""
        found, self._changed = self._changed, None
        return found

    def _say_what_is_missing(self) -> None:
        self._errands.begin(self._same.begin(self._folder, messages.say), lambda _none: None)
        if not self._here.batch_shell and self._here.step is None:
            messages.say(_WITHOUT_EXEC + (_LOG_IS_EMPTIED if self._record.requeue and not going_back.log_is_appended() else ""))

    def _look_ahead(self) -> None:
        """Find out whether the next job could be submitted from here, and say so while there is time to do something about it."""
        plan, record = self._plan, self._record
        if plan.max_links == 1:
            return
        ways = Ways(
            plan.continue_with != "requeue", going_back.why_not(record, plan.continue_with), ready.ready_command(self._folder)
        )

        def found(ahead: Ahead) -> None:
            for text in foresight.sentences(ahead, ways, record.fields.get("TimeLimit", "")):
                self._link.record("warned", about="next job", text=text)
                messages.say(text)

        if not ways.resubmit:
            found(Ahead())
            return
        first = self._link.number == self._link.attempt == 1
        self._errands.begin(foresight.look_ahead(record, handover.submission(self._handing.office()), first=first), found)

    def _prepare(self) -> None:
        try:
            self._handing.files.prepare(self._script)
        except OSError as error:
            messages.say(f"no room for the next link in {self._handing.files.path} ({error.strerror}); the training goes on")

    @staticmethod
    def _monotonic(unix: float | None) -> float | None:
        return None if unix is None else time.monotonic() + unix - time.time()

    # --- the desk: what the supervisor asks for while the training runs

    def note_term(self) -> None:
        """Publish that a SIGTERM arrived: a successor that finds no end must know that there may have been a cancel."""
        if self._termed:
            return
        self._termed = True
        self._take("term")

    def inquire(self, learned: Callable[[Reason, bool], None]) -> None:
        """Ask the controller what the SIGTERM means."""

        def told(record: JobRecord | None) -> None:
            found = self._meaning(record)
            self._note_reason(found)
            if found.course is Course.REQUEUE and self._asked:
                self._link.record("warned", about="requeue", text=messages.REQUEUES_ITSELF)
                messages.say(messages.REQUEUES_ITSELF)
            learned(found, record is not None and record.state in ("RUNNING", "SIGNALING"))

        self._errands.begin(self._ask_for_job(), told)

    def _meaning(self, record: JobRecord | None) -> Reason:
        """Return what a SIGTERM means: one that was sent to a job that runs on may be `chain stop`, which left its mark first."""
        found = reason.of_term(record, self._record.restarts)
        self._taken_away = found.taken_away
        return self.told_to_stop() or found if found.course is Course.GO_ON else found

    def _note_reason(self, found: Reason) -> None:
        if found.course is not Course.UNKNOWN:
            self._termed = False  # the next one may mean something else
            self._take("term", reason=found.sentence, course=found.course.value)

    def _take(self, kind: str, **facts: object) -> None:
        try:
            self._link.take(kind, **facts)
        except TurnTaken:
            self._handing.replaced = True

    def _ask_for_job(self) -> Procedure[JobRecord | None]:
        said = yield commands.show_job(self._here.job)
        assert said is not None
        return parse.job_record(said.out) if said.code == 0 else None

    def read_end_time(self, changed: Callable[[Times], None], lost: Callable[[], None]) -> None:
        """Read the job's end time again: an administrator may have raised it, its owner lowered it, preemption has its own.

        A service window may have been announced meanwhile: what runs already runs into it.
        """

        def told(record: JobRecord | None) -> None:
            if record is None:
                return
            if not protocol.is_ours(record, self._record.restarts, self._handing.script_node):
                lost()
                return
            self._errands.begin(foresight.window_ahead(record, time.time()), self._window_found)
            before = self._end_at()
            self._interlude.job_ends_at = self._monotonic(record.end_at)
            now = self._end_at()
            if before is not None and now is not None and abs(now - before) > 1.0:
                found = self._times()
                if found is not None:
                    messages.say(f"the job's end time has changed: {messages.will_ask(found)}")
                    changed(found)

        self._errands.begin(self._ask_for_job(), told)

    def hand_over(self) -> None:
        """Submit the successor: the training was asked."""
        self._asked = True
        self._hand_over()

    def _hand_over(self) -> None:
        """Submit the successor, unless a bound or a person says that none may follow, or the job is to be requeued."""
        seconds = time.monotonic() - self._link.started_at
        progress = True if self._link.sees_progress else None
        hopeful = End(Status(0, None), asked=Course.GO_ON, ours=True, new_checkpoint=True, progress=progress, seconds=seconds)
        stop_file = self._plan.stop_file
        stops = stop_file is not None and os.path.exists(stop_file)
        hopeful = hopeful._replace(stop_file=stops, limit_s=seconds, taken_away=self._taken_away)
        if self._handing.begun or self._plan.continue_with == "requeue" or stop_mark(self._folder) is not None:
            return
        if self._link.decide(hopeful).next:
            self._handing.begin(0.0, self._interlude.job_ends_at)

    def take_back(self) -> None:
        """Cancel the successor that waits; one that is just being submitted is cancelled as soon as it is known."""
        self._handing.take_back()

    def told_to_stop(self) -> Reason | None:
        """Return that `ckptrun chain stop` was said, if it was, and not for the end of this link."""
        mark = stop_mark(self._folder)
        return STOPPED if mark is not None and not mark.after_link else None

    # --- the end

    def _finish(self, ran: Ran) -> int:
        link = self._link
        self._handing.over = True
        ran = self._find_out(ran)
        if ran.ended.state.by_time and self._cut_short(self._interlude.job_ends_at):
            ran = ran._replace(end=ran.end._replace(taken_away=True))
        while True:
            decision = link.decide(ran.end._replace(replaced=ran.end.replaced or self._handing.replaced))
            if decision.outcome is not Outcome.COMPLETE:
                link.stop_leftovers(self, self._interlude.note)
            decision = self._settling.settle(decision)
            if not self._interlude.termed:
                break
            ran = self._find_out(ran)
        if decision.outcome is Outcome.REPLACED:
            messages.say(decision.why)
            return decision.exit_code
        self._errands.abandon()
        self._handing.files.clear_away()
        return link.close(decision, ran, turn=protocol.takes_end_turn(decision.outcome)).exit_code

    def _find_out(self, ran: Ran) -> Ran:
        """Return the end with the reason for which the training was told to end, by us or by Slurm before us."""
        state = ran.ended.state
        end = ran.end
        unknown = state.reason is not None and state.reason.course is Course.UNKNOWN
        told = state.told or state.heard_itself
        if not told and not unknown and not self._interlude.termed:
            self._wait_for_a_signal_behind(end)
        if self._interlude.termed or (unknown and end.asked in (None, Course.UNKNOWN)):
            self._interlude.late = [number for number in self._interlude.late if number != TERM]
            self.note_term()
            record = self._ask_now()
            found = self._meaning(record)
            self._note_reason(found)
            return ran._replace(end=asked_for(end, found, ours=end.ours or end.status.signal is not None))
        if told or unknown:
            return ran
        by = reason.of_unasked_end(self._ask_now(), self._record.restarts)
        if by is None and (USR1 in self._interlude.late or USR2 in self._interlude.late):
            by = Reason(Course.GO_ON, "a signal arrived: save and go on")
        if by is None:
            return ran
        number = end.status.signal if end.status.signal is not None else (end.status.code or 0) - 128
        return ran._replace(end=asked_for(end, by, ours=number in (TERM, USR1, USR2, 9)))

    def _wait_for_a_signal_behind(self, end: End) -> None:
        seconds = SIGNAL_BEHIND_SUCCESS_S if end.status.code == 0 else SIGNAL_BEHIND_S
        until = time.monotonic() + seconds
        self._interlude.wait_whatever_comes(lambda: bool(self._interlude.late), until)

    def _ask_now(self) -> JobRecord | None:
        answers: list[JobRecord | None] = []
        self._errands.begin(self._ask_for_job(), answers.append)
        until = time.monotonic() + SILENT_S
        self._interlude.wait_whatever_comes(lambda: bool(answers), until)
        return answers[0] if answers else None
