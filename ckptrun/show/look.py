"""Look at chains: the ledger on disk, one question to the queue, one to accounting, one look at this machine's processes.

Rule: the queue and accounting are each asked once at most, whatever the number of chains and links, and only where the ledger does
not know. Nobody's silence is an error: what it would have told is then not known, and said so.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from ckptrun import durations, mailbox
from ckptrun.chain import jobs, liveness
from ckptrun.chain.history import read_events
from ckptrun.chain.home import ChainFolder
from ckptrun.chain.ready import kept
from ckptrun.chain.state import stop_mark
from ckptrun.chain.turns import Turns
from ckptrun.errors import CkptrunError, UsageError
from ckptrun.link.errands import Procedure, carry_out
from ckptrun.show.building import build
from ckptrun.show.ended import Ended, stamps_of
from ckptrun.show.seen import Event, Known, Life, SeenChain, SeenLink, Told
from ckptrun.show.starts import starts_of
from ckptrun.slurm import commands, parse, pending
from ckptrun.slurm.parse import Remembered, Standing
from ckptrun.words import Checkpoint

# Accounting is asked about the newest of the jobs that have vanished: the words of one command are limited.
ASKED_AT_ONCE = 500


class OnDisk(NamedTuple):
    """What stands on disk of one chain: `final` is the outcome that ended it for good.

    `start` is what the newest start's turn says, of a chain that has ended what its last turn says: both name link and attempt.
    """

    folder: ChainFolder
    facts: dict[str, Any]
    events: list[Event]
    oddities: list[str]
    start: dict[str, Any]
    final: str | None

    @property
    def in_jobs(self) -> bool:
        """Return whether the chain's links are jobs."""
        return isinstance(self.facts.get("slurm"), dict)

    @property
    def known_jobs(self) -> list[str]:
        """Return the jobs that the ledger names, in order."""
        first = self.facts["slurm"].get("job") if self.in_jobs else None
        named = [event.get("job") for event in self.events if event.get("event") in ("started", "submitted", "joined")]
        return list(dict.fromkeys(str(job) for job in [first, *named] if job))


def read(folder: ChainFolder) -> OnDisk | None:
    """Read one chain from disk; None where it has no record that can be read."""
    facts = folder.facts()
    if facts is None:
        return None
    events, oddities = read_events(folder.events)
    turns = Turns(folder.turns).newest_first()
    newest = next(turns, None)
    outcome = str(newest.facts.get("outcome")) if newest is not None and newest.kind == "end" else None
    if newest is not None and outcome not in (None, "continued", "requeued"):
        return OnDisk(folder, facts, events, oddities, newest.facts, outcome)
    started = newest if newest is None or newest.kind == "start" else next((turn for turn in turns if turn.kind == "start"), None)
    return OnDisk(folder, facts, events, oddities, started.facts if started is not None else {}, None)


def closely(folder: ChainFolder, looker: Looker) -> tuple[OnDisk, SeenChain]:
    """Return one chain with all that can be known of it. Raises CkptrunError where its record cannot be read."""
    one = read(folder)
    if one is None:
        raise CkptrunError(f"the record of chain {folder.id}, {folder.json}, cannot be read: look at the file")
    return one, looker.see([one], closely=True)[0]


def link_of(seen: SeenChain, number: str) -> SeenLink:
    """Return the link that a person names: `3` is the last start of link 3, `3.2` its second. Raises UsageError."""
    wanted, _, attempt = number.partition(".")
    found = [link for link in seen.links if str(link.number) == wanted and attempt in ("", str(link.attempt))]
    if not found:
        known = f"it has links 1 to {seen.links[-1].number}" if seen.links else "no link of it has started"
        raise UsageError(f"--link {number}: chain {seen.id} has no such start; {known}")
    return found[-1]


def record_of(one: OnDisk, link: SeenLink) -> tuple[list[Event], list[dict[str, Any]]]:
    """Return the events and the turns of one start, in order."""
    events = starts_of(one.events).get((link.number, link.attempt), [])
    turns = [turn.facts for turn in Turns(one.folder.turns).newest_first() if turn.facts.get("link") == link.number]
    return events, [facts for facts in reversed(turns) if facts.get("attempt", link.attempt) == link.attempt]


class Looker:
    """Tells what of chains lives. The queue (or `ask`) is asked, and the processes are looked at, when first needed, and once."""

    def __init__(self, now: float | None = None, ask: Callable[[float], Queue] | None = None) -> None:
        self.now = time.time() if now is None else now
        self._ask = ask or _ask_queue
        self.queue: Queue | None = None
        self._trainings: dict[str, tuple[int, str]] | None = None

    def see(self, found: Sequence[OnDisk], *, closely: bool = False) -> list[SeenChain]:
        """Return the chains as they stand. `closely` reads besides what only one chain's page shows: when link 1 was submitted."""
        lives = [self.life(one) for one in found]
        remembered = self._remembered(found, lives)
        return [self._seen(one, life, remembered, closely) for one, life in zip(found, lives, strict=True)]

    def see_many(self, paths: Iterable[str], ended: Ended) -> Iterator[SeenChain]:
        """Yield the chains of these folders in short, as a list needs them. Those that accounting is asked about come last."""
        vanished: list[OnDisk] = []
        for path in paths:
            stamps = stamps_of(path)
            if (known := ended.get(os.path.basename(path), stamps)) is not None:
                yield known
                continue
            one = read(ChainFolder(path))
            if one is None:
                continue
            life = self.life(one)
            if _vanished(one, life):
                vanished.append(one)
                continue
            seen = _in_short(self._seen(one, life, {}, closely=False))
            if one.final is not None:
                ended.keep(seen, stamps)
            yield seen
        yield from map(_in_short, self.see(vanished))

    def living_folders(self) -> set[str]:
        """Return the folders of the chains of which the queue shows a job by its script's path."""
        self.queue = self.queue or self._ask(self.now)
        return self.queue.chains

    def silent(self) -> bool:
        """Return whether the queue was asked and did not answer."""
        return self.queue is not None and self.queue.commands is None

    def queued_commands(self) -> tuple[str, ...] | None:
        """Return the scripts, with their arguments, of the jobs in the queue; None where it does not answer."""
        self.queue = self.queue or self._ask(self.now)
        return self.queue.commands

    def life(self, one: OnDisk) -> Life | None:
        """Return what of a chain lives, None for nothing."""
        if one.final is not None:
            return None
        if not one.in_jobs:
            return self._process(one)
        self.queue = self.queue or self._ask(self.now)
        return self.queue.life(one)

    def _seen(self, one: OnDisk, life: Life | None, remembered: dict[str, Remembered], closely: bool) -> SeenChain:
        stopped = os.path.exists(one.folder.stop) and stop_mark(one.folder) is not None
        submitted_at = _submitted_at(one) if closely else None
        told = _told(one, living=life is not None)
        known = Known(
            one.facts, one.events, tuple(one.oddities), one.final, life, remembered, told, submitted_at, stopped, kept(one.folder)
        )
        return build(known, self.now)

    def _remembered(self, found: Sequence[OnDisk], lives: Sequence[Life | None]) -> dict[str, Remembered]:
        """Ask once for all jobs that went without a word and that the queue does not show any more."""
        told = self.queue.ended if self.queue is not None else {}
        vanished = [job for one, life in zip(found, lives, strict=True) for job in _vanished(one, life) if job not in told]
        newest = sorted(dict.fromkeys(vanished), key=_number, reverse=True)[:ASKED_AT_ONCE]
        return {**(carry_out(_ask_accounting(newest)) if newest else {}), **told}

    def _process(self, one: OnDisk) -> Life | None:
        facts = one.start
        names = ("node", "boot_id", "pid", "pid_started")
        if not all(name in facts for name in names):
            return None
        alive = liveness.alive(*(facts[name] for name in names))
        node, pid = str(facts["node"]), facts["pid"]
        if alive:
            return Life("running", f"its ckptrun is process {pid} on this machine", node=node)
        if alive is None:
            return Life("unknown", f"it was last started on {node}, and whether it runs there cannot be seen from here", node=node)
        self._trainings = _trainings() if self._trainings is None else self._trainings
        if (outlived := self._trainings.get(one.folder.mailbox)) is not None:
            pid, words = outlived
            return Life("running", f"its training outlived it as process {pid} ({words}); `kill {pid}` ends that", node=node)
        return None


def _in_short(one: SeenChain) -> SeenChain:
    """Return what a list needs of a chain: of all links the newest, and how that ended."""
    links = tuple(link._replace(saves=(), set_aside=()) for link in one.links[-1:])
    return one._replace(links=links, command=(), options={})


class Queue:
    """What the queue showed, by chain and by job; nothing where it was silent. `ended` are the jobs that it still remembers."""

    def __init__(self, text: str | None, silence: str, now: float) -> None:
        standings = parse.standings(text) if text is not None else None
        self._silence, self._now = silence, now
        self._by_folder: dict[str, list[Standing]] = {}
        self._by_job: dict[str, Standing] = {}
        self.ended: dict[str, Remembered] = {}
        self.commands = None if standings is None else tuple(one.queued.command for one in standings)
        for one in standings or ():
            job = one.queued.job
            self._by_job[job] = one
            if (found := re.match(r"(.+)/links/\d+/script(?: |$)", one.queued.command)) is not None:
                self._by_folder.setdefault(found[1], []).append(one)
            if not (one.queued.waiting or one.queued.at_work):
                self.ended[job] = Remembered(job, one.queued.state, one.submitted_at, one.starts_at, one.ends_at, one.node)

    @property
    def chains(self) -> set[str]:
        """Return the folders of the chains of which a job waits or runs."""
        return set(self._by_folder)

    def life(self, one: OnDisk) -> Life | None:
        """Return what of a chain of jobs the queue shows, None for nothing."""
        if self._silence:
            return Life("unknown", f"whether one of its jobs lives is not known: {self._silence}")
        found = [*self._by_folder.get(one.folder.path, ()), *self._by_id(one)]
        at_work = [one for one in found if one.queued.at_work]
        waiting = [one for one in found if one.queued.waiting]
        if at_work:
            return _running(at_work[-1], waiting, self._now)
        return _waits(waiting[0], self._now) if waiting else None

    def _by_id(self, one: OnDisk) -> Iterator[Standing]:
        """Yield the jobs whose script does not show the chain: the first, and those that joined. An id may be another's by now."""
        cluster = str(one.facts["slurm"].get("cluster", "cluster"))
        home = os.path.dirname(os.path.dirname(one.folder.path))
        for job in one.known_jobs:
            standing = self._by_job.get(job)
            if standing is None or standing.queued.command.startswith(one.folder.links + os.sep):
                continue
            entry = jobs.find(home, cluster, job)
            ours = entry is not None and entry.chain == one.folder.id
            if (
                ours
                and entry is not None
                and (entry.submitted_at == standing.submitted_at or entry.command == standing.queued.command)
            ):
                yield standing


def _running(one: Standing, waiting: list[Standing], now: float) -> Life:
    left = f", {durations.show(max(one.ends_at - now, 0.0))} left" if one.ends_at is not None else ""
    job, node = one.queued.job, one.node or None
    where = f" on {node}" if node else ""
    following = waiting[0].queued.job if waiting else None
    return Life("running", f"job {job} runs{where}{left}", job, node, ends_at=one.ends_at, next_job=following)


def _waits(one: Standing, now: float) -> Life:
    said = pending.in_words(one.queued.reason)
    start = ""
    if one.starts_at is not None and one.starts_at > now:
        start = f"; Slurm expects it to start in {durations.show(one.starts_at - now)}"
    never = "" if said.helps else ". Waiting does not help"
    sentence = f"job {one.queued.job} waits: {said.sentence}{start}{never}"
    return Life("pending", sentence, one.queued.job, why=one.queued.reason, starts_at=one.starts_at)


def _ask_queue(now: float) -> Queue:
    return Queue(*ask_for_standings(), now)


def ask_for_standings() -> tuple[str | None, str]:
    """Ask the queue; return what it printed, or None and why it said nothing."""
    return carry_out(_standings())


def _standings() -> Procedure[tuple[str | None, str]]:
    said = yield commands.standings()
    assert said is not None
    if said.code == 0:
        return said.out, ""
    return None, "there is no squeue here" if said.code == 127 else "the controller does not answer"


def _ask_accounting(jobs_wanted: Sequence[str]) -> Procedure[dict[str, Remembered]]:
    said = yield commands.remembered(jobs_wanted)
    assert said is not None
    return parse.remembered(said.out) if said.code == 0 else {}


def _vanished(one: OnDisk, life: Life | None) -> list[str]:
    """Return the jobs of a chain of which the ledger does not know how they ended, or whether they ever started."""
    if not one.in_jobs:
        return []
    started: dict[int, str] = {}
    ended: set[int] = set()
    submitted: str | None = None
    for event in one.events:
        kind, job, number = event.get("event"), event.get("job"), int(event["link"])
        if kind == "started" and isinstance(job, str):
            started[number], submitted = job, None
        elif kind == "submitted" and isinstance(job, str):
            submitted = job
        elif kind == "ended" and event.get("seconds") is not None:
            ended.add(number)
    unheard = [job for number, job in started.items() if number not in ended and (life is None or job != life.job)]
    return unheard + ([submitted] if submitted is not None and life is None and one.final is None else [])


def _number(job: str) -> int:
    digits = re.match(r"\d+", job)
    return int(digits[0]) if digits else 0


def _submitted_at(one: OnDisk) -> float | None:
    slurm = one.facts.get("slurm")
    if not isinstance(slurm, dict) or not re.fullmatch(r"\d{1,10}(_\d{1,10})?", str(slurm.get("job"))):
        return None
    home = os.path.dirname(os.path.dirname(one.folder.path))
    entry = jobs.find(home, str(slurm.get("cluster", "cluster")), str(slurm["job"]))
    return entry.submitted_at if entry is not None and entry.chain == one.folder.id else None


def _told(one: OnDisk, *, living: bool) -> Told:
    """Read what the training itself has said last, and, of a chain that lives, when its newest checkpoint was written."""
    number, attempt = one.start.get("link"), one.start.get("attempt")
    if not isinstance(number, int) or not isinstance(attempt, int):
        return Told()
    words = mailbox.words(one.folder.mailbox, number, attempt)
    step = total = at = None
    for word in words:
        if word.kind == "progress" and isinstance(word.facts.get("step"), int):
            step, at = word.facts["step"], word.at
            total = word.facts["total"] if isinstance(word.facts.get("total"), int) else total
    newest = _newest_checkpoint(one) if living else None
    if step is None and newest is not None:
        step, at = newest.step, newest.at
    return Told(step, total, at, newest.at if newest is not None else None)


def _newest_checkpoint(one: OnDisk) -> Checkpoint | None:
    plan = one.facts.get("plan")
    paths = plan.get("checkpoints") if isinstance(plan, dict) else None
    if not isinstance(paths, list) or not paths:
        return None
    from ckptrun.checkpoints.find import find

    try:
        return max(find([str(path) for path in paths]), key=lambda found: found.at, default=None)
    except OSError:
        return None


def _trainings() -> dict[str, tuple[int, str]]:
    """Return the processes of this machine that belong to a chain, by the mailbox that their environment names."""
    found: dict[str, tuple[int, str]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    variables = file.read().split(b"\0")
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    words = os.fsdecode(file.read().replace(b"\0", b" ").strip())[:60]
            except OSError:
                continue
            for variable in variables:
                if variable.startswith(b"CKPTRUN_MAILBOX="):
                    found.setdefault(os.fsdecode(variable[16:]), (int(name), words))
    return found
