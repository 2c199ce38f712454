"""`chain resume`: go on with a chain of jobs from outside them.

A resume overrides every older start, cancel and stop. It takes a turn, so that of two people at once one resumes; if it dies after
its turn, the next resume takes the next one. What it does is decided in `revival`.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from ckptrun.chain import claims, ready
from ckptrun.chain.history import History
from ckptrun.chain.home import ChainFolder, wanted_home
from ckptrun.chain.ledger import Turn
from ckptrun.chain.links import LinkFiles, highest_intent
from ckptrun.chain.turns import Turns
from ckptrun.errors import Refused, Stranded, TurnTaken
from ckptrun.job import new_script, revival
from ckptrun.job.people import answered_queue, is_slurm, jobs_of
from ckptrun.job.revival import OfChain, Resumed, Revival
from ckptrun.job.succession import state_of
from ckptrun.link import messages
from ckptrun.link.errands import Pause, Procedure, carry_out
from ckptrun.plan import changes, overridden
from ckptrun.slurm import answers, commands, environment, fidelity, parse
from ckptrun.slurm.answers import Answer
from ckptrun.slurm.fidelity import Same
from ckptrun.slurm.parse import JobId

_AGAIN_S = 3.0
# What a job calls its cluster where Slurm does not tell it.
_UNNAMED = "cluster"


class Wish(NamedTuple):
    """What a person wants besides: other options than the chain's, by the plan's names; another script; only to be told."""

    options: Mapping[str, Any] = {}
    script: str | None = None
    dry_run: bool = False


def resume(folder: ChainFolder, wish: Wish) -> tuple[str, ...]:
    """Go on with a chain; return what was done, in words.

    Raises Refused where it is complete, lives, or the controller is silent; Stranded where sbatch refuses.
    """
    if not is_slurm(folder):
        directory = (folder.facts() or {}).get("directory")
        raise Refused(f"chain {folder.id} runs without Slurm: type its command again in {directory}")
    return carry_out(_resume(folder, wish))


def left_alone(folder: ChainFolder, state: str) -> str | None:
    """Return why `--all` leaves a chain alone, None where it is to go on. Asks Slurm only about one that may."""
    if state not in ("stranded", "lost"):
        return revival.goes_with_all(state, "", ())
    if not is_slurm(folder):
        return "it runs without Slurm: the same command again, in its folder, goes on"
    return carry_out(_left_alone(folder, state))


def _left_alone(folder: ChainFolder, state: str) -> Procedure[str | None]:
    if (elsewhere := (yield from _elsewhere(folder))) is not None:
        return elsewhere
    jobs = yield from _jobs(folder)
    last = next((turn for turn in reversed(Turns(folder.turns).read()) if turn.kind == "start"), None)
    job = parse.job_id(str(last.facts.get("job"))) if last is not None else None
    ended = (yield from state_of(job)) if job is not None and state == "lost" else ""
    return revival.goes_with_all(state, ended, jobs)


def _resume(folder: ChainFolder, wish: Wish) -> Procedure[tuple[str, ...]]:
    if (elsewhere := (yield from _elsewhere(folder))) is not None:
        raise Refused(f"chain {folder.id}: {elsewhere}")
    turns = Turns(folder.turns)
    known = turns.read()
    jobs = yield from _jobs(folder)
    found = revival.revive(folder.id, known, highest_intent(folder), jobs, _last_resume(folder, known), time.time())
    if found.refused:
        raise Refused(found.refused)
    if found.hasten:
        return (yield from _hasten(folder, found.hasten, wish))
    order = _order(folder, found, wish, known)
    if wish.dry_run:
        cancelled = tuple(f"would cancel job {job}, which waits" for job in found.cancel)
        line = shlex.join(("sbatch", *order.options, order.files.script, *order.same.arguments))
        told = f"would submit link {found.link} of chain {folder.id}, in {order.same.directory}: {line}"
        return (*order.differences, *cancelled, told)
    _claim(folder, wish)
    base = _take(folder, turns, found, wish)
    for text in found.cancel:
        if (waiting := parse.job_id(text)) is not None:
            yield commands.cancel(waiting)
    job = yield from _submit(folder, order, base)
    facts = {"options": dict(wish.options)} if wish.options else {}
    History(folder.events, messages.say).record("joined", found.link, 1, job=str(job), **facts)
    ready.forget(folder)
    return (*order.differences, f"link {found.link} of chain {folder.id} is queued as job {job}")


def _elsewhere(folder: ChainFolder) -> Procedure[str | None]:
    """Return why nothing can be told here of a chain of another cluster: its jobs are in that one's queue."""
    own = ((folder.facts() or {}).get("slurm") or {}).get("cluster")
    said = yield commands.show_config()
    assert said is not None
    here = parse.cluster(said.out) if said.code == 0 else None
    if here is None or own in (None, _UNNAMED, here):
        return None
    return f"its jobs are those of cluster {own}, and this is {here}: type it there"


def _jobs(folder: ChainFolder) -> Procedure[tuple[OfChain, ...]]:
    return jobs_of(folder, (yield from answered_queue()))


def _last_resume(folder: ChainFolder, turns: tuple[Turn, ...]) -> Resumed | None:
    if not turns or turns[-1].kind != "resume":
        return None
    facts = turns[-1].facts
    files = LinkFiles(folder, int(facts.get("link", 0)))
    return Resumed(files.number, float(facts.get("at") or 0.0), files.refused or files.job is not None)


def _hasten(folder: ChainFolder, text: str, wish: Wish) -> Procedure[tuple[str, ...]]:
    """Let a requeued job start now: Slurm holds it for two minutes, and only somebody who outlives it can say that it need not."""
    if wish.options or wish.script is not None:
        raise Refused(f"chain {folder.id} goes on as job {text}, which was requeued: it keeps its script and its options")
    if wish.dry_run:
        return (f"would let job {text}, which was requeued, start in 2 s",)
    job = parse.job_id(text)
    assert job is not None
    said = yield commands.start_soon(job)
    assert said is not None
    if said.code != 0:
        raise Refused(
            f"job {text} waits to start again, and scontrol does not let it go now: {parse.said(said.err) or 'no answer'}"
        )
    return (f"job {text} of chain {folder.id} was requeued and waits: it may start in 2 s",)


class _Order(NamedTuple):
    """A link as it is to be submitted: its files, its script's text, how, and what differs from the chain's own."""

    files: LinkFiles
    script: str
    same: Same
    options: tuple[str, ...]
    differences: tuple[str, ...]


def _order(folder: ChainFolder, found: Revival, wish: Wish, turns: tuple[Turn, ...]) -> _Order:
    facts = folder.facts() or {}
    so_far = overridden(facts.get("plan") or {}, (turn.facts for turn in turns))
    same = fidelity.from_json(facts["slurm"]["same"], str(facts.get("directory", "/")))
    first = parse.job_id(str(facts["slurm"].get("job")))
    options = (*same.options, *((f"--array={first.task}",) if first is not None and first.task is not None else ()))
    own = new_script.current(folder)
    script, differences = own, changes(so_far, wish.options)
    if wish.script is not None:
        script = new_script.read(wish.script)
        differences += new_script.differences(own, script, wish.script, same.options)
    return _Order(LinkFiles(folder, found.link), script, same, options, tuple(differences))


def _claim(folder: ChainFolder, wish: Wish) -> None:
    """Claim the checkpoint paths that a person has named anew. Raises Refused where another chain that lives has one."""
    if not wish.options.get("checkpoints"):
        return
    from ckptrun.chain.home import open_chain
    from ckptrun.job.people import Onlooker

    home, onlooker = wanted_home(), Onlooker()

    def living(chain: str) -> str | None:
        known = open_chain(home, chain)
        return onlooker.living(known) if known is not None else None

    for path in wish.options["checkpoints"]:
        claims.claim(home, path, folder.id, living)


def _take(folder: ChainFolder, turns: Turns, found: Revival, wish: Wish) -> int:
    facts: dict[str, Any] = {"link": found.link} | ({"options": dict(wish.options)} if wish.options else {})
    try:
        return turns.take("resume", facts, after=found.after).number
    except TurnTaken:
        raise Refused(f"chain {folder.id} was resumed by another in this moment") from None
    except OSError as error:
        raise _no_room(folder, error) from None


def _no_room(folder: ChainFolder, error: OSError) -> Stranded:
    return Stranded(f"nothing can be written to {folder.path} ({error.strerror}): make room there, then type this again")


def _submit(folder: ChainFolder, order: _Order, base: int) -> Procedure[JobId]:
    files, same = order.files, order.same
    try:
        files.prepare(order.script, anew=True)
        files.intend("resume", base)
    except OSError as error:
        raise _no_room(folder, error) from None
    variables = environment.successors(os.environ, base, same.variables)
    said = yield commands.submit(order.options, files.script, same.arguments, variables, same.directory)
    assert said is not None
    answer = answers.submission(said.code, said.out, said.err)
    job = answer.job._replace(task=_task(folder)) if answer.job is not None else None
    if answer.answer is Answer.UNKNOWN:
        job = yield from _look_for(files.script)
    if job is None:
        if answer.answer is not Answer.UNKNOWN:
            files.note_refused(answer.said)
        ready.keep(folder, ready.ready_command(folder))
        raise Stranded(f"chain {folder.id}: sbatch: {answer.said}. `ckptrun chain resume {folder.id}` tries again")
    files.note_job(str(job))
    files.clear_away()
    return job


def _task(folder: ChainFolder) -> int | None:
    first = parse.job_id(str(((folder.facts() or {}).get("slurm") or {}).get("job")))
    return first.task if first is not None else None


def _look_for(script: str) -> Procedure[JobId | None]:
    """Look for the job of a submission without an answer: it may be in the controller's listen queue still."""
    for pause_s in (0.0, _AGAIN_S, _AGAIN_S):
        yield Pause(pause_s)
        found = [one for one in (yield from answered_queue()) if one.runs(script)]
        if found:
            return parse.job_id(found[0].job)
    return None
