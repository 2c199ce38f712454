"""A ckptrun that leads a job, step by step: judge, take the turn, train, hand over, end.

Each function is one place at which it may be: it yields what may happen there next. They stand in the order of `succession`,
`handover` and `batch`, whose acts they are; nothing is decided here that the functions of `protocol` decide there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ckptrun.chain.ledger import last_grant
from ckptrun.job.protocol import Ask, Conclusion, Duty, Evidence, Following, Handed, Next, Result, Verdict, runs_on, sees_its_base
from ckptrun.slurm.answers import Answer
from ckptrun.slurm.parse import JobId
from ckptrun.words import Course, Outcome
from tests.model.rules import Rules
from tests.model.world import (
    Bounds,
    Ill,
    Job,
    Leader,
    Mark,
    Step,
    World,
    accept,
    answers,
    ill,
    job_of,
    jobs_of,
    note_of,
    over,
    put,
    queue,
    read,
    record_of,
    script_of,
    state_of,
    stop_said,
    with_job,
    with_note,
    with_turn,
)

BEFORE_THE_TURN = ("judge", "ask", "take")
DEAF = ("end", "exit")
TOLD = {
    Course.STOP.value: "stopped",
    Course.CANCEL.value: "cancelled",
    Course.REQUEUE.value: "requeued",
    Course.UNKNOWN.value: "lost",
}


def steps(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    """Yield what this ckptrun may do next. A SIGTERM comes before everything else."""
    me = world.leaders[index]
    name = f"job {me.job}" + (f".{me.restart}" if me.restart else "")
    if me.at not in DEAF and me.at not in BEFORE_THE_TURN:
        if _is_replaced(world, me):
            yield f"{name} sees that it is replaced", gone(put(world, index, None), me)
        if me.term:
            for label, after in _told(world, index, bounds, rules):
                yield f"{name} {label}", after
            if me.term == 1 or not me.course:
                return
    for label, after in PLACES[me.at](world, index, bounds, rules):
        yield f"{name} {label}", after


def _is_replaced(world: World, me: Leader) -> bool:
    return len(world.turns) > me.turn


def _is_ours(world: World, me: Leader, rules: Rules) -> bool:
    return rules.is_ours(record_of(world, me.job), me.restart, f"n{me.node}") and not _is_replaced(world, me)


def _may_go_on(world: World, me: Leader, rules: Rules) -> bool:
    return rules.may_go_on(record_of(world, me.job), me.restart, f"n{me.node}") and not _is_replaced(world, me)


def gone(world: World, me: Leader, code: int = 75) -> World:
    """Return the world after a ckptrun's end: its job is over, unless it is not its any more."""
    job = job_of(world, me.job)
    alive = job is not None and job.at_work and job.link == me.link and job.node == me.node
    return over(world, me.job, code) if alive else world


# --- a SIGTERM


def _told(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    me = world.leaders[index]
    if me.term == 1:
        if "the turn term" in rules.without:
            yield "hears SIGTERM", put(world, index, me._replace(term=2))
            return
        after = with_turn(world, Mark("term", me.link), me.turn)
        if after is None:
            yield "hears SIGTERM and sees that it is replaced", gone(put(world, index, None), me)
        else:
            yield "hears SIGTERM: turn term", put(after, index, me._replace(term=2, turn=me.turn + 1))
        return
    if me.course:
        return
    for answered, word, asked in answers(world, bounds):
        course = rules.of_term(record_of(world, me.job) if answered else None, me.restart).course
        if course is Course.GO_ON and stop_said(world):
            course = Course.STOP
        told = me._replace(course=course.value)
        if course is Course.UNKNOWN or "the turn term" in rules.without:
            yield f"asks why: {course.value}{word}", put(asked, index, told)
        elif (after := with_turn(asked, Mark("term", me.link, course=course.value), me.turn)) is None:
            yield "asks why and sees that it is replaced", gone(put(asked, index, None), me)
        else:
            yield f"asks why: {course.value}, turn term", put(after, index, told._replace(turn=me.turn + 1))


# --- before the training


def _judge(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    """Read the ledger. Another node's last turn, and its note, may not be visible yet."""
    me = world.leaders[index]
    noted = note_of(world, me.link)
    fresh = me._replace(at="ask", read=len(world.turns), noted=noted, siblings=False)
    yield from _asked(world, index, fresh, {}, rules, "reads the ledger")
    if bounds.allows(world, Ill.STALE):
        unseen = ill(world, Ill.STALE)
        seen = sees_its_base(read(world.turns[:-1]), me.base) or "a start waits for the turn it builds on" in rules.without
        if world.turns and seen:
            stale = fresh._replace(read=fresh.read - 1)
            yield from _asked(unseen, index, stale, {}, rules, "reads the ledger without the last turn")
        if noted:
            yield from _asked(unseen, index, fresh._replace(noted=0), {}, rules, "reads the ledger without the note of its job")


def _ask(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    """Ask what is needed; while the controller is silent it waits, so that no answer is no step."""
    me = world.leaders[index]
    evidence = _evidence(world, me)
    ask = rules.judge(evidence)
    if ask is Ask.SIBLINGS:
        siblings = jobs_of(world, me.link) if "a look for siblings at the start" not in rules.without else ()
        yield from _asked(world, index, me._replace(siblings=True), {"siblings": siblings}, rules, "looks for its siblings")
    elif ask is Ask.FOLLOWING:
        submitted = me.link + 1 in world.intents and me.link + 1 not in world.refused
        recent = me.link + 1 not in world.old_intents
        following = Following(submitted, jobs_of(world, me.link + 1), recent)
        yield from _asked(world, index, me, {"following": following}, rules, "looks for its successor")
    else:
        last = last_grant(evidence.turns)
        assert last is not None
        state = state_of(world, int(last.facts["job"]), accounting=bounds.accounting)
        yield from _asked(world, index, me, {"predecessor": state}, rules, f"asks for its predecessor: {state or 'unknown'}")


def _evidence(world: World, me: Leader) -> Evidence:
    turns = read(world.turns[: me.read])
    noted = str(me.noted) if me.noted else None
    record = record_of(world, me.job)
    runs_here = record is not None and record.at_work and runs_on(record, f"n{me.node}")
    found = Evidence("c", me.link, str(me.job), me.restart, f"n{me.node}", me.base, turns, noted, batch_shell=runs_here)
    return found._replace(siblings=()) if me.siblings else found


def _asked(world: World, index: int, me: Leader, known: dict[str, object], rules: Rules, label: str) -> Iterator[Step]:
    found = rules.judge(_evidence(world, me)._replace(**known))  # type: ignore[arg-type]
    if isinstance(found, Ask):
        yield label, put(world, index, me)
    elif not found.go:
        yield f"{label} and leaves: {found.why.split('.')[0]}", gone(put(world, index, None), me, found.exit_code)
    else:
        # The mark of a stop is read before the turn is taken.
        reads = "a start looks for a stop" not in rules.without
        me = _admitted(me, found)._replace(stops=reads and stop_said(world), halted=world.stopped)
        yield f"{label} and may start", put(world, index, me)


def _admitted(me: Leader, verdict: Verdict) -> Leader:
    fence = tuple(job.number for job in verdict.fence.jobs) if verdict.fence is not None else None
    return me._replace(at="take", after=verdict.after, fence=fence, read=0, noted=0, siblings=False)


def _take(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    me = world.leaders[index]
    mark = Mark("start", me.link, me.job, me.restart, me.node)
    behind = len(world.turns) if "the turn behind the one judged by" in rules.without else me.after
    after = with_turn(world, mark, behind)
    if after is None:
        again = me._replace(at="judge", after=0, fence=None) if "judged again" not in rules.without else None
        lost = put(world, index, again)
        yield "finds its turn taken", lost if again is not None else gone(lost, me)
        return
    me = me._replace(turn=behind + 1, first_turn=behind + 1, after=0)
    if me.stops:
        yield f"takes turn {me.turn}, start, and is stopped", put(after, index, me._replace(at="end", outcome="stopped"))
        return
    # What an earlier start has left on this node is waited for, and ended.
    left_here = any(one.trains and one.node == me.node for one in world.leaders)
    if (me.fence is not None or left_here) and "the fencing time" not in rules.without:
        yield f"takes turn {me.turn}, start, and waits behind its fence", put(after, index, me._replace(at="fence"))
    else:
        yield f"takes turn {me.turn}, start, and trains", train(after, index, me)


def _fence(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    """Wait for the jobs, and then so long that every ckptrun which was replaced has looked, and has stopped its training."""
    me = world.leaders[index]
    if me.term:  # it ends before the training, as if that had been told
        yield from _end_of_training(world, index, bounds, rules)
        return
    over = all(state_of(world, job, accounting=bounds.accounting) not in ("RUNNING", "COMPLETING") for job in me.fence or ())
    looks = "a look whether it is replaced behind the fence" not in rules.without
    if over and not (looks and _is_replaced(world, me)) and not any(one.trains for one in world.leaders):
        yield "trains, the fencing time being over", train(world, index, me)


def train(world: World, index: int, me: Leader) -> World:
    """Return the world in which a training begins."""
    grants = [number for number, mark in enumerate(world.turns, 1) if mark.kind == "resume"]
    since = world.turns[grants[-1] if grants else 0 :]
    wrong = world.wrong
    if any(one.trains for one in world.leaders):
        wrong = wrong or "two trainings of one chain live at once"
    if me.halted:
        wrong = wrong or "a link trains that has started after a `chain stop`, and no person has gone on"
    if me.late:
        wrong = wrong or "something trains after a scancel, and no person has gone on"
    if world.complete and any(mark.outcome == "complete" for mark in world.turns):
        wrong = wrong or "a complete chain trains again"
    if any(mark.outcome == "failed" for mark in since):
        wrong = wrong or "a chain that has failed trains again, and no person has gone on"
    me = me._replace(at="train", trains=True, trained=True, fence=None)
    return put(world, index, me)._replace(wrong=wrong)


# --- the training, and the hand-over beside it


def _train(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    me = world.leaders[index]
    if stop_said(world) and not me.course:
        yield "sees that it is to stop", put(world, index, me._replace(course=Course.STOP.value))
    if not me.course and me.link < bounds.links:
        yield "asks its training to save, and hands over", put(world, index, me._replace(at="intend"))
    if me.course == Course.GO_ON.value:
        yield "hands over", put(world, index, me._replace(at="intend"))
    if me.course != Course.GO_ON.value:
        yield from _end_of_training(world, index, bounds, rules)


def _end_of_training(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    """The training ends: as it was told, or complete, or by its own fault."""
    me = world.leaders[index]
    ended = me._replace(at="settle", trains=False)
    if me.course in TOLD:
        yield f"ends as {TOLD[me.course]}", put(world, index, ended._replace(outcome=TOLD[me.course]))
    elif me.handed or me.course or not me.trained:
        yield "ends its training, which saved", put(world, index, ended._replace(outcome="continued"))
    if me.trained and not me.course:
        yield "has completed its training", put(world, index, ended._replace(outcome="complete"))._replace(complete=True)
        if bounds.allows(world, Ill.FAILURE):
            yield "fails in its training", ill(put(world, index, ended._replace(outcome="failed")), Ill.FAILURE)


def _intend(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    me = world.leaders[index]
    link = me.link + 1
    me = me._replace(handed="", successor=0, seen=False)
    if link not in world.intents or "the intent is adopted" in rules.without:
        after = world._replace(intents=world.intents | {link})
        yield f"takes the intent for link {link}", put(after, index, me._replace(at="ours"))
    elif link in world.refused:
        yield f"finds the intent for link {link}, refused", put(world, index, me._replace(at="ours"))
    else:
        me = me._replace(at="look", doubt=2 if link in world.old_intents else max(me.doubt, 1))
        yield f"finds the intent for link {link}", put(world, index, me)


def _look(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    """Look twice; no answer is no step."""
    me = world.leaders[index]
    found = rules.successor_in(jobs_of(world, me.link + 1))
    if found.handed is not Handed.LOST:
        yield f"looks for link {me.link + 1}: {found.handed.value}", put(world, index, _found(me, found))
    elif me.at == "look":
        yield f"looks for link {me.link + 1}: nothing", put(world, index, me._replace(at="look again"))
    elif rules.may_repeat(found, me.doubt - 1, 0.5):
        yield f"looks for link {me.link + 1} again: nothing", put(world, index, me._replace(at="ours"))
    else:
        me = me._replace(at="handed", handed=Handed.REFUSED.value)
        yield f"looks for link {me.link + 1} again: nothing, and MinJobAge is over", put(world, index, me)


def _found(me: Leader, found: Result) -> Leader:
    if found.handed is Handed.QUEUED and found.job is not None:
        return me._replace(at="secure", successor=found.job.number, doubt=0)
    return me._replace(at="handed", handed=found.handed.value, doubt=0)


def _ours(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    """Ask whether the job is still ours; no answer is no step."""
    me = world.leaders[index]
    if _may_go_on(world, me, rules) or "a look whether the job is ours before sbatch" in rules.without:
        after = world._replace(refused=world.refused - {me.link + 1})
        yield "asks whether its job is its own: yes", put(after, index, me._replace(at="submit"))
    else:
        certain = not me.doubt and not _is_replaced(world, me)
        after = world._replace(refused=world.refused | {me.link + 1}) if certain else world
        yield "asks whether its job is its own: no", put(after, index, me._replace(at="handed", handed=Handed.NOT_OURS.value))


def _submit(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    me = world.leaders[index]
    job = Job(0, me.link + 1, me.first_turn, me.job)
    for answer, label, after, number in submissions(world, job, bounds):
        for word, then in _answered(after, index, answer, number, rules):
            yield f"submits link {me.link + 1}: {label}{word}", then


def submissions(world: World, job: Job, bounds: Bounds) -> Iterator[tuple[Answer, str, World, int]]:
    """Yield what may become of an `sbatch`: the answer, in words, the world, and the job's id."""
    accepted = accept(world, job)
    yield Answer.ACCEPTED, f"job {world.next_id}", accepted, world.next_id
    if bounds.allows(world, Ill.LOST_ANSWER):
        yield Answer.UNKNOWN, f"job {world.next_id}, and the answer is lost", ill(accepted, Ill.LOST_ANSWER), 0
        yield Answer.UNKNOWN, "no answer, and no job", ill(world, Ill.LOST_ANSWER), 0
    if bounds.allows(world, Ill.LATE):
        yield Answer.UNKNOWN, "no answer yet", ill(world, Ill.LATE)._replace(listening=(*world.listening, job)), 0
    if bounds.allows(world, Ill.LIMIT):
        yield Answer.LIMITED, "a limit", ill(world, Ill.LIMIT), 0
    if bounds.allows(world, Ill.REFUSED):
        yield Answer.REFUSED, "refused", ill(world, Ill.REFUSED), 0


def _answered(world: World, index: int, answer: Answer, number: int, rules: Rules) -> Iterator[Step]:
    me = world.leaders[index]
    following = rules.after_submission(answer, in_doubt=me.doubt > 0)
    if following is Next.SECURE:
        at = "secure" if "the waiting move only when it was seen" not in rules.without else "move at once"
        yield "", put(world, index, me._replace(at=at, successor=number, doubt=0))
    elif following is Next.LOOK:
        yield "", put(world, index, me._replace(at="look", doubt=1))
    else:
        at = "look whether refused" if following is Next.LOOK_WHETHER_REFUSED else "refused"
        yield "", put(world, index, me._replace(at=at, handed=answer.value))


def _look_whether_refused(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    """A refusal is certain when nothing came of an earlier submission either."""
    me = world.leaders[index]
    found = rules.successor_in(jobs_of(world, me.link + 1))
    if found.handed is not Handed.LOST:
        yield f"looks for link {me.link + 1}: {found.handed.value}", put(world, index, _found(me._replace(handed=""), found))
    else:
        yield f"looks for link {me.link + 1}: nothing", put(world, index, me._replace(at="refused", doubt=0))


def _refused(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    me = world.leaders[index]
    after = world._replace(refused=world.refused | {me.link + 1})
    if me.handed == Answer.REFUSED.value or not me.trains:  # a limit is tried again until the training has ended
        yield "notes that it was refused", put(after, index, me._replace(at="handed", handed=Handed.REFUSED.value))
    else:
        yield "notes that it was refused, and tries again", put(after, index, me._replace(at="ours", handed=""))


def _secure(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    me = world.leaders[index]
    for answered, word, asked in answers(world, bounds):
        siblings = jobs_of(world, me.link + 1) if answered and "a look for siblings after the answer" not in rules.without else None
        found = rules.with_siblings(Result(Handed.QUEUED, JobId(me.successor)), siblings)
        if found.handed is Handed.CANCELLED:
            shown = any(one.job == str(me.successor) for one in siblings or ())
            after = cancel(asked, me.successor) if shown else asked
            me = me._replace(at="handed", handed=found.handed.value)
            yield "finds that a person cancelled a sibling, and cancels its own", put(after, index, me)
        else:
            yield f"looks for siblings{word}", put(asked, index, me._replace(at="note"))
        me = world.leaders[index]


def _note(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    me = world.leaders[index]
    yield f"notes job {me.successor}", put(with_note(world, me.link + 1, me.successor), index, me._replace(at="keep"))


def _keep(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    me = world.leaders[index]
    job = job_of(world, me.job)
    keeps = "Requeue is withdrawn" in rules.without or job is None or job.ending == "requeue"
    after = world if keeps else with_job(world, me.job, requeue=False)
    yield "withdraws its Requeue", put(after, index, me._replace(at="handed", handed=Handed.QUEUED.value))


def _handed(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    """The hand-over has come to something, and the training still runs: the first look may come, or the training ends."""
    me = world.leaders[index]
    if me.outcome:
        yield "goes back to its end", put(world, index, me._replace(at="settle"))
        return
    if me.handed == Handed.QUEUED.value and not me.seen and me.trains and not me.course:
        yield from _look_at_it(world, index, bounds, rules, "looks at its successor")
    yield from _end_of_training(world, index, bounds, rules)


def _look_at_it(world: World, index: int, bounds: Bounds, rules: Rules, label: str) -> Iterator[Step]:
    me = world.leaders[index]
    for answered, word, asked in answers(world, bounds):
        lines = queue(world) if answered else None
        found = rules.seen_again(JobId(me.successor), lines, script_of(me.link + 1), seen=me.seen)
        if found.handed is Handed.LOST and me.again:
            yield f"{label}: gone again", put(asked, index, me._replace(handed=Handed.REFUSED.value))
        elif found.handed is Handed.LOST:
            yield f"{label}: gone", put(asked, index, me._replace(at="intend", again=1))
        elif found.handed is Handed.QUEUED and found.job is not None:
            after = moved(with_job(asked, found.job.number, fresh=False), me.job, found.job.number, rules)
            yield f"{label}: it waits", put(after, index, me._replace(seen=True, successor=found.job.number))
        elif found.handed is Handed.CANCELLED:
            yield f"{label}: cancelled", put(asked, index, me._replace(handed=found.handed.value))
        else:
            yield f"{label}{word}", put(asked, index, me._replace(seen=False))


def moved(world: World, job: int, successor: int, rules: Rules) -> World:
    """Return the world in which who waited for a job waits for its successor; unknown jobs count as fulfilled."""
    if world.waiter != job or "the waiting are moved" in rules.without:
        return world
    return world._replace(waiter=successor if job_of(world, successor) is not None else 0)


def _move_at_once(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    me = world.leaders[index]
    yield "moves who waits for it", put(moved(world, me.job, me.successor, rules), index, me._replace(at="secure"))


# --- the end


def _settle(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    """Make true what the end owes the next link, then end."""
    me = world.leaders[index]
    if TOLD.get(me.course, me.outcome) != me.outcome:
        hurried = put(world, index, me._replace(outcome=TOLD[me.course]))._replace(hurried=True)
        yield f"ends as {TOLD[me.course]} after all", hurried
        return
    duty = rules.duty(Outcome(me.outcome))
    if duty is Duty.QUEUED and stop_said(world) and "a link looks for a stop before it goes on" not in rules.without:
        yield "is stopped instead of going on", put(world, index, me._replace(outcome="stopped", at="settle"))
    elif duty is Duty.QUEUED:
        yield from _secure_the_next(world, index, bounds, rules)
    elif duty is Duty.NONE or me.link + 1 not in world.intents:
        yield "has nothing to settle", put(world, index, me._replace(at="end"))
    else:
        yield from _take_back(world, index, bounds, rules, duty)


def _secure_the_next(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    me = world.leaders[index]
    if not me.handed:
        yield "hands over", put(world, index, me._replace(at="intend"))
        return
    if me.handed == Handed.QUEUED.value:
        if "the last look" in rules.without:
            yield "ends without a last look", put(world, index, me._replace(at="end"))
            return
        for label, after in _look_at_it(world, index, bounds, rules, "looks at its successor a last time"):
            found = after.leaders[index]
            goes_on = found.at == "settle" and found.handed == Handed.QUEUED.value
            yield label, put(after, index, found._replace(at="end")) if goes_on else after
        return
    found = rules.conclusion(Handed(me.handed))
    job = job_of(world, me.job)
    if found is Conclusion.STOPPED:
        yield "ends as stopped", put(world, index, me._replace(at="end", outcome="stopped"))
    elif found is Conclusion.REPLACED:
        yield "ends as replaced", gone(put(world, index, None), me)
    elif job is not None and job.requeue and _may_go_on(world, me, rules):
        after = with_job(world, me.job, ending="requeue", restart=job.restart + 1, state="COMPLETING")
        yield "requeues its job", put(after, index, me._replace(at="end", outcome="requeued"))
    else:
        yield "ends as stranded", put(world, index, me._replace(at="end", outcome="stranded"))


def _take_back(world: World, index: int, bounds: Bounds, rules: Rules, duty: Duty) -> Iterator[Step]:
    """Cancel the successor, one act a step; who waits for it is given back to this job first."""
    me = world.leaders[index]
    if "the successor is cancelled before the end" in rules.without:
        yield "leaves its successor", put(world, index, me._replace(at="end"))
        return
    if not _is_ours(world, me, rules) and "a look whether the job is ours before the cancel" not in rules.without:
        yield "leaves a successor that is not its own any more", put(world, index, me._replace(at="end"))
        return
    if bounds.allows(world, Ill.SILENT):
        yield "cannot take its successor back (no answer)", ill(put(world, index, me._replace(at="end")), Ill.SILENT)
    waiting = [int(one.job) for one in jobs_of(world, me.link + 1) if one.waiting]
    kept = [job for job in waiting if duty is Duty.LET_GO and world.waiter == job]
    for job in waiting:
        if job in kept:
            continue
        if world.waiter == job and "the waiting are given back" not in rules.without:
            yield f"gives back who waits for job {job}", world._replace(waiter=me.job)
        else:
            yield f"cancels job {job}, its successor", cancel(world, job)
        return
    yield "leaves nothing behind", put(world, index, me._replace(at="end"))


def cancel(world: World, number: int) -> World:
    """Return the world after `scancel` of a job by a ckptrun; a job that waits is over at once."""
    job = job_of(world, number)
    if job is None or job.over:
        return world
    if job.link == 0:
        return world._replace(wrong=world.wrong or "a job that is not ours is cancelled")
    if job.state == "PENDING":
        world = with_job(world, number, state="CANCELLED")
        return world._replace(waiter=-1) if world.waiter == number else world
    return with_job(world, number, ending="cancel", state="COMPLETING")


def _end(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    me = world.leaders[index]
    if not rules.takes_end_turn(Outcome(me.outcome)):
        yield "ends without a turn", put(world, index, me._replace(at="exit"))
        return
    after = with_turn(world, Mark("end", me.link, outcome=me.outcome, trained=me.trained), me.turn)
    if after is None:
        yield "finds its end taken", gone(put(world, index, None), me)
    else:
        yield f"takes turn {me.turn + 1}, end {me.outcome}", put(after, index, me._replace(at="exit"))


def _exit(world: World, index: int, bounds: Bounds, rules: Rules) -> Iterator[Step]:
    me = world.leaders[index]
    left = world.waiter == me.job and me.outcome == "continued" and "left waiting, it exits with 75" not in rules.without
    code = 75 if left else 0 if me.outcome in ("complete", "continued", "requeued") else 75
    yield f"exits with {code}", gone(put(world, index, None), me, code)


PLACES: dict[str, Callable[[World, int, Bounds, Rules], Iterator[Step]]] = {
    "judge": _judge,
    "ask": _ask,
    "take": _take,
    "fence": _fence,
    "train": _train,
    "intend": _intend,
    "look": _look,
    "look again": _look,
    "ours": _ours,
    "submit": _submit,
    "look whether refused": _look_whether_refused,
    "refused": _refused,
    "secure": _secure,
    "move at once": _move_at_once,
    "note": _note,
    "keep": _keep,
    "handed": _handed,
    "settle": _settle,
    "end": _end,
    "exit": _exit,
}
