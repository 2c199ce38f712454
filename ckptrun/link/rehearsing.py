"""A rehearsal: one training, started, asked, verified, and started once more. What it showed is `rehearsal`'s to judge.

Rules of this file. No chain is begun, joined or changed: the two starts have a ledger of their own, which is removed at the end,
and what stays is what the training itself has written. While the second start is watched for what it opens, nothing of ours opens
a checkpoint that stood there before.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ckptrun import __version__, durations
from ckptrun.chain import claims, home
from ckptrun.chain.home import ChainFolder
from ckptrun.early import HUP, INT, TERM, Handlers
from ckptrun.errors import CkptrunError, Refused
from ckptrun.link import messages, rehearsal
from ckptrun.link import supervision as core
from ckptrun.link.desk import Desk
from ckptrun.link.one_link import OneLink, Ran, Where
from ckptrun.link.rehearsal import First, Kept, Second, Told
from ckptrun.link.resuming import Resumption
from ckptrun.link.supervisor import Eyes
from ckptrun.link.times import Times, times
from ckptrun.plan import Plan
from ckptrun.words import Checkpoint, Course

NOT_ALL_GOOD_EXIT = 1
LEAST_GRACE_S = 30.0
# What is left of a job's time when both starts took all of theirs.
_RESERVE_S = 10.0
_MOST_WATCHED = 256


class Around(NamedTuple):
    """What is around a rehearsal: where it runs, how long that lasts, the limit of a real link, which chains live.

    `is_live` says in words what of a chain lives, `desk` knows the steps of the job. Outside Slurm `left_s` and `limit_s` are None.
    """

    where: Where
    is_live: Callable[[str], str | None]
    desk: Desk | None = None
    left_s: float | None = None
    limit_s: float | None = None


class _Start(OneLink):
    """One of the two starts. The second one is watched for the checkpoints that it opens."""

    def _start_line(self, resumption: Resumption, link_times: Times | None, now: float) -> str:
        assert link_times is not None
        return messages.rehearsing(self.number, resumption, link_times, sees=bool(self.plan.checkpoints))

    def _eyes(self) -> Eyes:
        eyes = super()._eyes()
        if self.plan.checkpoints and self.number == 2:
            from ckptrun.checkpoints.find import find
            from ckptrun.checkpoints.reads import Reads

            # Each state of a file is verified once: after this look no other opens what stands there now.
            eyes.look(time.monotonic(), time.time())
            self._watched = find(self.plan.checkpoints)[:_MOST_WATCHED]
            self._reads = Reads(part for one in self._watched for part in one.parts)
        return eyes

    def _keep_copies(self) -> None:
        if self.number == 1:
            super()._keep_copies()

    def opened(self) -> tuple[str, ...] | None:
        """Return the names of the checkpoints that were opened, newest first; None for none, where not all could be watched."""
        read = self._reads.close()
        found = tuple(_name(one) for one in self._watched if read.intersection(one.parts))
        return found if found or self._reads.complete else None


class Rehearsal:
    """One rehearsal, from its start to its exit code. `seconds` pass before each ask."""

    def __init__(self, plan: Plan, handlers: Handlers, state_home: str, seconds: float, around: Around) -> None:
        self._handlers, self._home, self._seconds, self._around = handlers, state_home, seconds, around
        self._grace_s = plan.margin_s if plan.margin_s is not None else max(seconds, LEAST_GRACE_S)
        self._real_limit_s = min((limit for limit in (plan.limit_s, around.limit_s) if limit is not None), default=float("inf"))
        self._length_s = seconds + self._grace_s
        self._plan = plan._replace(limit_s=self._length_s, margin_s=self._grace_s, chain=None, on_end=None)
        self._late: list[int] = []

    def run(self) -> int:
        """Rehearse, say what was seen, and return our exit code. Raises Refused where nothing may be started here."""
        from contextlib import ExitStack

        self._check_time()
        with ExitStack() as held:
            for path in {os.path.realpath(path): path for path in self._plan.checkpoints}.values():
                held.callback(claims.hold(self._home, path, self._around.is_live).release)
            return self._with_ledger()

    def _check_time(self) -> None:
        left_s, needed_s = self._around.left_s, 2 * self._length_s + _RESERVE_S
        if left_s is not None and left_s < needed_s:
            raise Refused(
                f"a rehearsal of {durations.show(self._seconds)} takes up to {durations.show(needed_s)}: two starts, each with "
                f"{durations.show(self._grace_s)} for its save. This job has {durations.show(max(left_s, 0.0))} left: shorten "
                "--rehearse or --margin, or ask for a longer job"
            )

    def _with_ledger(self) -> int:
        import shutil

        try:
            own_home = home.rehearsal_home(self._home)
        except OSError as error:
            raise CkptrunError(
                f"no rehearsal can be kept in {self._home} ({error.strerror}). Set CKPTRUN_HOME to a folder with room that is yours"
            ) from None
        try:
            wanted = f"rehearsal-{home.make_id(os.path.basename(self._plan.command[0]), time.time())}"[:64]
            folder = home.create_chain(own_home, wanted, {"version": __version__, "directory": os.getcwd()})
            try:
                return self._two_starts(folder)
            finally:
                self._forget_copies(folder.id)
        finally:
            shutil.rmtree(own_home, ignore_errors=True)

    def _two_starts(self, folder: ChainFolder) -> int:
        start = self._start(folder, 1, after=0)
        if (already := start.already_over()) is not None:
            raise Refused(f"nothing can be rehearsed: {already.why}")
        messages.say(
            f"rehearsal of `{shlex.join(self._plan.command)}`: two starts of up to {durations.show(self._length_s)}. No chain is "
            "begun and nothing is submitted; what stays are the checkpoints that the training writes"
        )
        ran = self._run(start)
        if self._is_over(ran):
            return self._interrupted(start, ran)
        first, second = self._first(start, ran), None
        if first.asked and rehearsal.saved(first).good and first.kept is not None:
            start = self._start(folder, 2, after=start.last_turn)
            ran = self._run(start)
            if self._is_over(ran):
                return self._interrupted(start, ran)
            second = self._second(start, ran, first.kept)
        lines = rehearsal.judge(first, second)
        for line in lines:
            messages.say(line.sentence)
        return 0 if all(line.good for line in lines) else NOT_ALL_GOOD_EXIT

    # --- one start

    def _start(self, folder: ChainFolder, number: int, after: int) -> _Start:
        return _Start(self._plan, folder, self._handlers, number, self._around.where, after)

    def _run(self, start: _Start) -> Ran:
        start.take_start(first=True)
        resumption = start.find_resumption()
        link_times = start.times(start.started_at + self._length_s)
        start.say_start(resumption, link_times)
        policy = core.Policy(link_times, start.so_far.saves, bool(self._plan.checkpoints), start.started_at)
        variables = {"SLURM_DISABLE_STATUS": "1"} if start.where.job else None
        ran = start.supervise(resumption, policy, self._around.desk, variables)
        start.stop_leftovers(heard=self._note_late)
        start.close(start.decide(ran.end), ran, silent=True)
        return ran

    def _is_over(self, ran: Ran) -> bool:
        """Return whether a person, or Slurm, has ended it."""
        return ran.end.asked in (Course.CANCEL, Course.STOP) or bool(self._late)

    def _interrupted(self, start: _Start, ran: Ran) -> int:
        messages.say(f"the rehearsal was interrupted in start {start.number} of 2: nothing is known")
        return 128 + self._late[0] if self._late else start.decide(ran.end).exit_code

    def _note_late(self, number: int) -> None:
        if number in (HUP, INT, TERM):
            self._late.append(number)

    def _forget_copies(self, chain: str) -> None:
        if self._plan.checkpoints:
            from ckptrun.checkpoints.in_place import forget_copy

            for root in self._plan.checkpoints:
                forget_copy(root, chain)

    # --- the evidence

    def _first(self, start: _Start, ran: Ran) -> First:
        state = ran.ended.state
        kept, truncated = self._what_stands(new=state.sight.new)
        save = next((save for save in state.saves if save.asked and not save.cut), None)
        real = times(0.0, self._real_limit_s, state.saves)
        resumed = ran.resumption.checkpoint
        return First(
            status=ran.end.status,
            seconds=ran.seconds,
            grace_s=self._grace_s,
            sees=bool(self._plan.checkpoints),
            asked=ran.end.asked is not None,
            told=_told(start),
            by_file=any(event.get("by_file") for event in _asks(start)),
            hearing=state.hearing,
            ended_s=start.started_at + ran.seconds - state.asked_at if state.asked_at is not None else None,
            stopped=state.our_end is not None,
            kept=kept,
            on_ask=state.saved_at is not None,
            truncated=truncated,
            begun=self._begun(time.time() - ran.seconds),
            lost_s=start.started_at + ran.seconds - state.sight.written_at[-1] if state.sight.written_at else None,
            save_s=save.seconds if save is not None else None,
            margin_s=real.margin_s if save is not None else None,
            from_step=resumed.step if resumed is not None else None,
            steps=ran.ended.steps,
            saves=len(state.sight.written_at),
            slots=ran.ended.slots,
            fixed=self._is_fixed(len(state.sight.written_at)),
        )

    def _what_stands(self, *, new: bool) -> tuple[Kept | None, tuple[str, str] | None]:
        """Return the newest whole checkpoint, if the start wrote it, and a truncated one that is newer.

        That one is of this start, too: at its beginning all such were set aside.
        """
        if not self._plan.checkpoints:
            return None, None
        from ckptrun.checkpoints.find import newest_whole

        newest, truncated = newest_whole(self._plan.checkpoints)
        kept = Kept(_name(newest), messages.checkpoint(newest), newest.step) if newest is not None and new else None
        return kept, (_name(truncated[0]), truncated[0].why) if truncated else None

    def _is_fixed(self, saves: int) -> bool:
        """Return whether each save overwrites the same file: one that the user named, or the only one after several saves."""
        from ckptrun.checkpoints.find import find

        found = find(self._plan.checkpoints)
        return len(found) == 1 and (saves > 1 or found[0].path in self._plan.checkpoints)

    def _begun(self, since_unix: float) -> str | None:
        """Return the name of a temporary that was written to since then: a save that was not over."""
        if not self._plan.checkpoints:
            return None
        from ckptrun.checkpoints.find import entries

        late = [one for one in entries(self._plan.checkpoints) if one.temporary and one.mtime_ns / 1e9 >= since_unix]
        return os.path.relpath(max(late, key=lambda one: one.mtime_ns).path) if late else None

    @staticmethod
    def _second(start: _Start, ran: Ran, given: Kept) -> Second:
        asked = ran.end.asked is not None
        ended = ran.ended
        saves = len(ended.state.sight.written_at)
        return Second(given, ran.end.status, ran.seconds, asked, start.opened(), ended.steps, saves, ended.slots)


def _name(one: Checkpoint) -> str:
    return os.path.relpath(one.path)


def _asks(start: OneLink) -> list[dict[str, Any]]:
    return [event for event in start.history.events if event.get("event") == "asked" and event.get("link") == start.number]


def _told(start: OneLink) -> tuple[Told, ...]:
    delivered = [one for event in _asks(start) for one in event["delivered"]]
    return tuple(Told(pid, core.NAMES.get(signal, f"signal {signal}"), why) for pid, signal, why in delivered)
