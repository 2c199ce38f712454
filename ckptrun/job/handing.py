"""The successor of one link in a job, from the submission to the look before the exit, beside the training.

`handover` knows how each step is taken; here is how far it has come, and what is said and recorded of it. Nothing here waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from ckptrun.chain.links import LinkFiles
from ckptrun.job import handover, protocol
from ckptrun.job.handover import Moved, Office
from ckptrun.job.protocol import Handed, Result
from ckptrun.job.same_job import SameJob
from ckptrun.link import messages
from ckptrun.link.errands import Errands, Procedure
from ckptrun.link.one_link import OneLink
from ckptrun.slurm import dependents
from ckptrun.slurm.dependents import Move
from ckptrun.slurm.job import Here
from ckptrun.slurm.parse import JobRecord, Settings


class Handing:
    """What became of the successor. The link says what it knows of itself: its turn, and whether it is replaced, or over.

    `result` is None while a submission is under way; `seen`: a look at the queue has shown the successor; `left` are those who
    still wait for this job; `ending`: the last look is the link's own affair.
    """

    def __init__(
        self, here: Here, record: JobRecord, link: OneLink, files: LinkFiles, same: SameJob, settings: Settings, errands: Errands
    ) -> None:
        self._here, self._record, self._link, self._same = here, record, link, same
        self._settings, self._errands = settings, errands
        self.files = files
        self.script_node = protocol.script_node(record, here.node, in_step=here.step is not None)
        self.turn = 0
        self.begun = False
        self.result: Result | None = None
        self.seen = False
        self.unwanted = False
        self.moving = False
        self.left: tuple[Move, ...] = ()
        self.replaced = False
        self.ending = False
        self.over = False

    def begin(self, delay_s: float, job_ends_at: float | None) -> None:
        """Submit the successor, to start after `delay_s`; `job_ends_at` is monotonic, None where it is not known."""
        self.begun, self.result = True, None

        def again() -> None:
            self.begin(0.0, job_ends_at)

        self._errands.begin(self._submission(delay_s, job_ends_at), lambda result: self._told(result, again))

    def forget(self) -> None:
        """Let the next try begin anew."""
        self.begun, self.result = False, None

    def under_way(self) -> bool:
        """Return whether a submission has not been answered yet."""
        return self.begun and self.result is None

    def office(self, delay_s: float = 0.0) -> Office:
        """Return who hands over, and what, as it is known now."""
        return Office(
            self._here.job,
            self._record.restarts,
            self.script_node,
            self.files,
            self._same.same,
            self._same.environment,
            self.turn,
            lambda: self.replaced or self._link.is_replaced(),
            messages.say,
            self._settings.min_job_age_s,
            delay_s,
            int(self._record.fields.get("JobId", "0")),
            lambda: self.over,
            lambda: not self.unwanted,
        )

    def _submission(self, delay_s: float, job_ends_at: float | None) -> Procedure[Result]:
        yield from self._same.ask()
        left_s = job_ends_at - time.monotonic() if job_ends_at is not None else 0.0
        yield from self._same.leave_reservation(time.time() + max(left_s, 0.0), messages.say)
        return (yield from handover.hand_over(self.office(delay_s)))

    def _told(self, result: Result, again: Callable[[], None]) -> None:
        self.result = result
        if result.handed is Handed.REFUSED and not self.over:
            self.begun = False
            messages.say(f"no next job is queued: {result.said}. It is tried again at the ask, and when the training has ended")
        if result.handed is not Handed.QUEUED or result.job is None:
            return
        self._link.record("submitted", job=str(result.job), successor=self._link.number + 1)
        messages.say(f"link {self._link.number + 1} is queued as job {result.job}; it starts when this job is over")
        if self.unwanted:
            self.take_back()
            return

        def looked(found: Result) -> None:
            self.seen = found.handed is Handed.QUEUED
            if found.handed is Handed.LOST:
                messages.say(f"job {result.job} was accepted and is gone: submitting it again")
                again()
            if self.seen and not self.ending:
                self.move(found)

        self._errands.begin(handover.first_look(self.office(), result.job), looked)

    def move(self, found: Result) -> None:
        """Let those who wait for this job wait for the successor that a look has just shown."""
        if found.job is not None:
            self.moving = True
            self._errands.begin(handover.move_dependents(self.office(), found.job, found.lines), self._moved)

    def _moved(self, result: Moved) -> None:
        self.moving = False
        for move in result.moved:
            self._link.record("dependent_moved", job=move.job, expression=move.expression)
            messages.say(f"job {move.job} waits for the next link now: {move.expression}")
        known = {move.job for move in self.left}
        for move in result.left:
            if move.job not in known:
                messages.say(dependents.left_behind(move, self._here.job, self.result.job if self.result else None))
        self.left = result.left

    def take_back(self) -> None:
        """Cancel the successor that waits; one that is just being submitted is cancelled as soon as it is known."""
        self.unwanted = True
        if not self.under_way() and self.files.intended_at is not None:
            self._errands.begin(handover.take_back(self.office()), self.say_taken_back)

    def say_taken_back(self, jobs: tuple[str, ...]) -> None:
        """Say and record that these jobs, the next link, were cancelled."""
        for job in jobs:
            messages.say(f"job {job}, the next link, is cancelled")
            self._link.record("taken_back", job=job)
