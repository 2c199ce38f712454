"""How a person goes on with a chain from outside its jobs.

A resume overrides every older start, cancel and stop. It takes a turn, so that of two people at once one resumes; if it dies after
its turn, the next resume takes the next one.
"""

from __future__ import annotations

import os
from typing import TypeVar

from ckptrun.chain.history import History
from ckptrun.chain.home import ChainFolder
from ckptrun.chain.links import LinkFiles, highest_intent
from ckptrun.chain.state import final_outcome, highest_link, why_live
from ckptrun.chain.turns import Turns
from ckptrun.early import HUP, INT, TERM, Handlers
from ckptrun.errors import Refused, Stranded, TurnTaken
from ckptrun.link import messages
from ckptrun.link.errands import Errands, Pause, Procedure
from ckptrun.slurm import commands, environment, fidelity, parse
from ckptrun.slurm.parse import Answer, JobId, Queued

_AGAIN_S = 3.0
T = TypeVar("T")


def is_slurm(folder: ChainFolder) -> bool:
    """Return whether the chain's links are jobs."""
    return bool((folder.facts() or {}).get("slurm"))


def resume(folder: ChainFolder, *, dry_run: bool = False) -> str:
    """Go on with a chain: submit the link above every intent and turn; return what was done, in words.

    Raises Refused where it is complete, lives, or the controller is silent; Stranded where sbatch refuses.
    """
    if not is_slurm(folder):
        directory = (folder.facts() or {}).get("directory")
        raise Refused(f"chain {folder.id} runs without Slurm: type its command again in {directory}")
    return _run(_resume(folder, dry_run))


def _resume(folder: ChainFolder, dry_run: bool) -> Procedure[str]:
    turns = Turns(folder.turns)
    known = turns.read()
    if final_outcome(known) == "complete":
        raise Refused(f"chain {folder.id} is complete: nothing is left to do")
    lines = yield from _queue_of(folder)
    for one in lines:
        if one.at_work:
            raise Refused(f"chain {folder.id} runs as job {one.job}")
        if one.waiting and not _was_cancelled(lines):
            raise Refused(f"chain {folder.id} waits in the queue as job {one.job} ({one.reason})")
    link = max(highest_intent(folder), highest_link(known)) + 1
    if dry_run:
        return f"would submit link {link} of chain {folder.id}"
    for one in lines:
        if one.waiting and (job := parse.job_id(one.job)) is not None:
            yield commands.cancel(job)
    try:
        turn = turns.take("resume", {"link": link}, after=known[-1].number if known else 0)
    except TurnTaken:
        raise Refused(f"chain {folder.id} was resumed by another in this moment") from None
    job = yield from _submit(folder, link, turn.number)
    History(folder.events, messages.say).record("joined", link, 1, job=str(job))
    return f"link {link} of chain {folder.id} is queued as job {job}"


def _was_cancelled(lines: tuple[Queued, ...]) -> bool:
    return any(one.state == "CANCELLED" for one in lines)


def _submit(folder: ChainFolder, link: int, base: int) -> Procedure[JobId]:
    facts = folder.facts() or {}
    same = fidelity.from_json(facts["slurm"]["same"], str(facts.get("directory", "/")))
    files = LinkFiles(folder, link)
    with open(folder.script, encoding="utf-8", errors="surrogateescape") as file:
        files.prepare(file.read())
    files.intend("resume", base)
    variables = environment.successors(os.environ, base, same.variables)
    task = parse.job_id(str(facts["slurm"].get("job")))
    options = (*same.options, *((f"--array={task.task}",) if task is not None and task.task is not None else ()))
    said = yield commands.submit(options, files.script, same.arguments, variables, same.directory)
    assert said is not None
    answer = parse.submission(said.code, said.out, said.err)
    job = answer.job._replace(task=task.task if task is not None else None) if answer.job is not None else None
    if answer.answer is Answer.UNKNOWN:
        for pause_s in (0.0, _AGAIN_S, _AGAIN_S):
            yield Pause(pause_s)
            found = [one for one in (yield from _queue_of(folder)) if one.runs(files.script)]
            if found:
                job = parse.job_id(found[0].job)
                break
    if job is None:
        if answer.answer is not Answer.UNKNOWN:
            files.note_refused(answer.said)
        raise Stranded(f"sbatch: {answer.said}. `ckptrun chain resume {folder.id}` tries again")
    files.note_job(str(job))
    files.clear_away()
    return job


def _queue_of(folder: ChainFolder) -> Procedure[tuple[Queued, ...]]:
    """Return the jobs of a chain that the queue shows. Raises Refused where the controller does not answer."""
    return _jobs_of(folder, (yield from _answered_queue()))


def _answered_queue() -> Procedure[tuple[Queued, ...]]:
    said = yield commands.queue_of_user()
    assert said is not None
    if said.code != 0:
        raise Refused(f"the controller does not answer ({said.err.strip().splitlines()[-1] if said.err.strip() else 'no answer'})")
    return parse.queue(said.out)


def _foreign(one: Queued) -> bool:
    """Return whether a job of a known id is a link of another chain: an id that was handed out again."""
    return "/chains/" in one.command and "/links/" in one.command


class Onlooker:
    """Tells what of a chain lives. The queue is asked once, and only if a chain of jobs has not ended."""

    def __init__(self) -> None:
        self._queue: tuple[Queued, ...] | None = None
        self._asked = False

    def living(self, folder: ChainFolder) -> str | None:
        """Return in words what of a chain lives, None for nothing."""
        if not is_slurm(folder):
            return why_live(folder)
        if final_outcome(Turns(folder.turns).read()) is not None:
            return None
        if not self._asked:
            self._asked = True
            self._queue = _run(_whole_queue())
        if self._queue is None:
            return "whether one of its jobs lives is not known: the controller does not answer"
        return live_job(folder, self._queue)


def _whole_queue() -> Procedure[tuple[Queued, ...] | None]:
    said = yield commands.queue_of_user()
    assert said is not None
    return parse.queue(said.out) if said.code == 0 else None


def live_job(folder: ChainFolder, queue: tuple[Queued, ...]) -> str | None:
    """Return in words which job of a chain waits or runs, None for none. One that waits for a complete chain will not train."""
    complete = final_outcome(Turns(folder.turns).read()) == "complete"
    for one in _jobs_of(folder, queue):
        if one.at_work or (one.waiting and not complete):
            return f"job {one.job} {'waits' if one.waiting else 'runs'}; `ckptrun chain stop {folder.id}` stops it"
    return None


def _jobs_of(folder: ChainFolder, queue: tuple[Queued, ...]) -> tuple[Queued, ...]:
    starts = [turn for turn in Turns(folder.turns).read() if turn.kind == "start"]
    known = {str(turn.facts.get("job")) for turn in starts} | {str((folder.facts() or {}).get("slurm", {}).get("job"))}
    own = folder.links + os.sep
    return tuple(one for one in queue if one.command.startswith(own) or (one.job in known and not _foreign(one)))


def _run(procedure: Procedure[T]) -> T:
    errands = Errands()
    handlers = Handlers()

    def heard(number: int) -> None:
        if number in (HUP, INT, TERM):
            raise KeyboardInterrupt

    try:
        return errands.wait_for(procedure, handlers, heard)
    finally:
        handlers.restore()
