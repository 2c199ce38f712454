"""Settling the end of a link: what was decided is made true. The successor stands in the queue, or none does."""

from __future__ import annotations

import os

from ckptrun.chain import ready
from ckptrun.chain.home import ChainFolder
from ckptrun.chain.state import stop_mark
from ckptrun.job import foresight, going_back, handover, protocol
from ckptrun.job.handing import Handing
from ckptrun.job.interlude import Interlude
from ckptrun.job.protocol import Conclusion, Duty, Handed, Result
from ckptrun.link import messages
from ckptrun.link.one_link import OneLink
from ckptrun.link.outcome import UNFINISHED_EXIT, Decision
from ckptrun.plan import Plan
from ckptrun.slurm.job import Here
from ckptrun.slurm.parse import JobId, JobRecord
from ckptrun.words import Course, Outcome, Reason

STOPPED = Reason(Course.STOP, "`ckptrun chain stop` said so")
_SUBMISSIONS = 3


def stopped_by_a_person(folder: ChainFolder) -> Decision | None:
    """Return the end of a chain that `ckptrun chain stop` has stopped, None for all others."""
    return Decision(Outcome.STOPPED, False, UNFINISHED_EXIT, STOPPED.sentence) if stop_mark(folder) is not None else None


class Settling:
    """One link's end, from the decision to what the end turn may say."""

    def __init__(
        self, plan: Plan, folder: ChainFolder, here: Here, record: JobRecord, link: OneLink, handing: Handing, interlude: Interlude
    ) -> None:
        self._plan, self._folder, self._here, self._record = plan, folder, here, record
        self._link, self._handing, self._interlude = link, handing, interlude

    def settle(self, decision: Decision) -> Decision:
        """Make what was decided true: the successor stands in the queue, or none does."""
        if decision.next and (stopped := stopped_by_a_person(self._folder)) is not None:
            decision = stopped
        if decision.next:
            return self._requeue(decision) if self._plan.continue_with == "requeue" else self._secure(decision)
        duty = protocol.duty(decision.outcome)
        if decision.outcome is Outcome.REQUEUED:
            self._await_answer()
            if logs := str(self._move_logs_away()):
                messages.say(f"the job's next start begins its log anew{logs}")
        elif duty is Duty.LET_GO:
            self._let_go_now()
        elif duty is Duty.TAKEN_BACK:
            self.take_back_now()
        return decision

    def _secure(self, decision: Decision) -> Decision:
        for _ in range(_SUBMISSIONS):
            result = self._result_of_handing(decision)
            if self._interlude.termed:
                return decision
            if result is None:
                return self._stranded("the controller did not take the next job in time")
            if result.handed is Handed.QUEUED and result.job is not None:
                result = self._last_look(result.job) or result
            found = protocol.conclusion(result.handed)
            if found is Conclusion.CONTINUED:
                return self._released(decision)
            if found is Conclusion.STOPPED:
                return Decision(Outcome.STOPPED, False, 75, "its successor was cancelled")
            if found is Conclusion.REPLACED:
                return self._not_ours()
            if found is Conclusion.NEVER:
                self.take_back_now()
                return self._stranded(f"the next job would never start: {result.said}")
            if found is Conclusion.REQUEUE:
                return self._requeue(decision, f"sbatch: {result.said}")
            self._handing.forget()
        return self._stranded("the next job was accepted and lost again and again")

    def _last_look(self, successor: JobId) -> Result | None:
        """Look at the successor, and move who has come to wait for this job since the last look."""
        self._handing.ending = True
        self._interlude.wait_until(lambda: not self._handing.moving)
        found: Result | None = self._interlude.wait_for(
            handover.confirm(self._handing.office(), successor, seen=self._handing.seen)
        )
        if found is not None and found.handed is Handed.QUEUED:
            self._handing.move(found)
            self._interlude.wait_until(lambda: not self._handing.moving)
        return found

    def _released(self, decision: Decision) -> Decision:
        """Return the decision to go on; where a job still waits for this one, with an exit code that releases no `afterok`."""
        if not self._handing.left and not self._handing.moving:
            return decision
        who = ", ".join(f"job {move.job}" for move in self._handing.left) or "a job"
        why = f"{decision.why}; {who} still waits for this job and not for the chain, hence exit code {UNFINISHED_EXIT}"
        return decision._replace(exit_code=UNFINISHED_EXIT, why=why)

    def _result_of_handing(self, decision: Decision) -> Result | None:
        if not self._handing.begun:
            self._handing.begin(decision.delay_s, self._interlude.job_ends_at)
        self._interlude.wait_until(lambda: not self._handing.under_way())
        return self._handing.result

    def _requeue(self, decision: Decision, because: str = "") -> Decision:
        if (never := going_back.why_not(self._record, self._plan.continue_with)) is not None:
            return self._stranded(f"{because}; {never}" if because else never)
        if self._interlude.wait_for(handover.may_come_back(self._handing.office()), in_spite_of_term=True) is False:
            return self._not_ours()
        if because:
            messages.say(f"{because}; this job is requeued instead")
        logs = self._move_logs_away()
        asked = going_back.requeue(self._here.job, given_up=self._handing.files.job is not None)
        result = self._interlude.wait_for(asked, in_spite_of_term=True)
        if result is not None and result.handed is Handed.QUEUED:
            messages.say(
                f"this job is requeued: {foresight.REQUEUE_COSTS}; {ready.ready_command(self._folder)} lets it start at once{logs}"
            )
            self._interlude.late.clear()
            return Decision(Outcome.REQUEUED, False, 0, decision.why)
        logs.back()
        return self._stranded(f"{because}; scontrol requeue: {result.said if result else 'no answer'}".lstrip("; "))

    def _not_ours(self) -> Decision:
        return Decision(Outcome.REPLACED, False, UNFINISHED_EXIT, "this job is not this chain's any more")

    def _move_logs_away(self) -> going_back.Logs:
        appended = os.environ.get("SLURM_OPEN_MODE") == "a"
        return going_back.move_logs_away(self._record.fields, self._link.attempt, appended=appended)

    def _stranded(self, why: str) -> Decision:
        self.say_ready()
        return Decision(Outcome.STRANDED, False, UNFINISHED_EXIT, why)

    def say_ready(self) -> None:
        """Say, and keep, the line that goes on where sbatch works."""
        line = ready.ready_command(self._folder)
        ready.keep(self._folder, line)
        messages.say(f"this chain is stranded. Where sbatch works, this goes on: {line}")

    def _let_go_now(self) -> None:
        """Cancel the successor of a link that completed the chain, unless somebody waits for it."""
        self._handing.ending = True
        if not self._know_successor():
            return
        self._interlude.wait_until(lambda: not self._handing.moving)
        jobs, left = self._interlude.wait_for(handover.let_go(self._handing.office())) or ((), ())
        self._handing.say_taken_back(jobs)
        for job in left:
            messages.say(f"job {job}, the next link, stays in the queue, because others wait for it: it will end at once with 0")
            self._link.record("left_to_release", job=job)

    def _await_answer(self) -> None:
        """Wait for what becomes of a submission under way: our next attempt must not find one of which nobody knows."""
        self._interlude.wait_whatever_comes(lambda: not self._handing.under_way(), self._interlude.a_moment())

    def _know_successor(self) -> bool:
        """Wait until a submission under way was answered; return whether there may be a successor."""
        if self._handing.files.intended_at is None and not self._handing.begun:
            return False
        if self._handing.under_way():
            self._handing.unwanted = True
            self._interlude.wait_until(lambda: not self._handing.under_way())
        return True

    def take_back_now(self) -> None:
        """Cancel the successor, whether it waits or is just being submitted."""
        if not self._know_successor():
            return
        jobs = self._interlude.wait_for(handover.take_back(self._handing.office()))
        self._handing.say_taken_back(jobs or ())
