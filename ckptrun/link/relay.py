"""A ckptrun below the leader of its job, or beside it in the same step: it asks on its own branch and hands the status back.

Rules of this file. A relay decides nothing: it submits nothing and takes no turn. It is asked by the leader's file, by USR1, or by
Slurm's TERM, whichever comes first; a second TERM is no reason to end the training, because Slurm sends two at a time limit, and
its SIGKILL comes by itself. A letter that says `ending` means that the training has had its time. One without `stop` is for
trainings that look for it: no signal says "save and go on". What its training can be told, and how it ended, it says in
the mailbox.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ckptrun import mailbox
from ckptrun.early import USR1, Handlers
from ckptrun.link import child, events, messages, process_tree
from ckptrun.link import supervision as core
from ckptrun.link.desk import LeafDesk
from ckptrun.link.supervisor import Supervisor
from ckptrun.link.target import audience
from ckptrun.link.times import Times, times
from ckptrun.words import Course, Hearing, Reason, Status

LETTERS_EVERY_S = 1.0
HEARING_EVERY_S = 10.0


class Lead(NamedTuple):
    """Whom a relay follows: the leader's chain, link and attempt, the chain's mailbox, and when the link ends (Unix time)."""

    chain: str
    link: int
    attempt: int
    mailbox: str
    end_at: float | None
    wanted: int | None = None


def lead_of(environment: Mapping[str, str]) -> Lead | None:
    """Return whom the marker in the environment names, None where there is none."""
    link, attempt, end = (environment.get(f"CKPTRUN_{name}", "") for name in ("LINK", "ATTEMPT", "END_TIME"))
    folder, chain = environment.get("CKPTRUN_MAILBOX", ""), environment.get("CKPTRUN_CHAIN", "")
    if not (link.isdecimal() and attempt.isdecimal() and folder and chain):
        return None
    return Lead(chain, int(link), int(attempt), folder, float(end) if end.isdecimal() else None)


class RelayDesk(LeafDesk):
    """What a relay listens to beside its signals: the leader's letters. It answers with what its branch can be told."""

    def __init__(self, lead: Lead, root: Callable[[], int]) -> None:
        self._lead, self._root = lead, root
        self._look_at = self._tell_at = 0.0
        self._said = False, False
        self._hearing: Hearing | None = None

    def due_at(self) -> float | None:
        """Return the time of the next look at the mailbox."""
        return self._look_at

    def attend(self) -> tuple[events.Event, ...]:
        """Look for a letter, and from time to time tell what can be told."""
        now = time.monotonic()
        if now < self._look_at:
            return ()
        self._look_at = now + LETTERS_EVERY_S
        if now >= self._tell_at:
            self._tell_at = now + (HEARING_EVERY_S if self._hearing is Hearing.HEARS else LETTERS_EVERY_S)
            self._tell()
        asked = mailbox.read_ask(self._lead.mailbox, self._lead.link, self._lead.attempt)
        said = (asked.stop, asked.ending) if asked is not None else (False, False)
        if asked is None or said <= self._said:
            return ()
        self._said = said
        if not asked.ending and self._reads_itself():
            return ()  # a signal beside the letter could break the save that it is about to make
        reason = Reason(Course.GO_ON, f"the leader asks ({asked.reason})")
        heard = events.SignalReceived(now, USR1, reason=reason)
        return (heard, events.TermDue(now)) if asked.ending else (heard,)

    def _reads_itself(self) -> bool:
        """Return whether the training of this branch hears no signal, and looks for the leader's letter as we do."""
        if self._hearing is Hearing.HEARS:
            return False
        below = {process.pid for process in process_tree.read()}
        words = mailbox.words(self._lead.mailbox, self._lead.link, self._lead.attempt)
        ready = [word for word in words if word.kind == "ready" and word.facts.get("looks") is True]
        return any(word.host == mailbox.host() and word.pid in below for word in ready)

    def _tell(self) -> None:
        hearing = audience(process_tree.read(), self._root(), self._lead.wanted).hearing
        if hearing is not self._hearing:
            self._hearing = hearing
            say(self._lead, "relay", hearing=hearing.value)


def say(lead: Lead, kind: str, **facts: object) -> None:
    """Say a word to the leader; a mailbox that fails is no reason to stop anything."""
    try:
        mailbox.say(lead.mailbox, lead.link, lead.attempt, kind, **facts)
    except OSError:
        return


def run_relay(command: tuple[str, ...], lead: Lead, environment: dict[str, str], handlers: Handlers) -> Status:
    """Run the command on its branch; return how it ended, after the leader was told."""
    root: list[int] = []

    def record(_event: str, **_facts: object) -> None:
        return

    def start() -> int:
        child.become_subreaper()
        root.append(child.start(command, environment, handlers.mask))
        return root[0]

    now = time.monotonic()
    policy = core.Policy(_times(lead, now), start_at=now, relays=True)
    desk = RelayDesk(lead, lambda: root[0])
    supervisor = Supervisor(
        policy, handlers, None, (), lead.wanted, record, lambda: False, lambda: None, lambda _saved: False, desk
    )
    status = supervisor.run(start).state.status or Status(0, None)
    say(lead, "status", code=status.code, signal=status.signal)
    return status


def _times(lead: Lead, now: float) -> Times | None:
    """Return when a relay acts by itself: it asks at no time, and ends what its leader has not ended when that one would KILL.

    The end time in the environment is a whole second, so it may be one too early.
    """
    if lead.end_at is None or (left_s := lead.end_at + 1.0 - time.time()) <= 0:
        return None
    found = times(now, now + left_s, ())
    return found._replace(ask_at=found.end_at, term_at=found.kill_at, kill_at=found.end_at, margin_s=left_s)


def speak_as_relay() -> None:
    """Say which task speaks: many relays print into one log."""
    task = os.environ.get("SLURM_PROCID")
    node = os.environ.get("SLURMD_NODENAME") or os.uname().nodename
    messages.voice = f"task {task} on {node}: " if task is not None else f"relay on {node}: "
