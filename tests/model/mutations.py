"""The protocol with one rule taken out, and what then goes wrong; where nothing does, it is said what the rule spares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ckptrun.chain.ledger import Turn, last_grant
from ckptrun.job import protocol, revival
from ckptrun.job.protocol import Evidence, Following, Next, Result, Verdict
from ckptrun.slurm.answers import Answer
from ckptrun.words import Outcome
from tests.model import invariants as must
from tests.model.rules import Rules
from tests.model.world import Bounds, Ill


class Mutation(NamedTuple):
    """A rule, the protocol without it, within which bounds that shows, and what breaks; `why` says what for a rule is that breaks
    nothing here.
    """

    rule: str
    rules: Rules
    bounds: Bounds
    breaks: str = ""
    why: str = ""


def _only(*ills: Ill, people: int = 0, patient: bool = False, stops: int = 0) -> Bounds:
    """Return bounds within which each of these may happen once, and nothing else, in a chain of two links without accounting."""
    return Bounds(len(ills), 2, {one: int(one in ills) for one in Ill}, people, accounting=False, patient=patient, stops=stops)


def _without(step: str) -> Rules:
    return Rules(without=frozenset({step}))


def _judging(change: Callable[[Evidence], Evidence]) -> Rules:
    """Return rules in which a start judges by something else than is true."""
    return Rules(judge=lambda evidence: protocol.judge(change(evidence)))


def _turns(change: Callable[[Turn], Turn]) -> Rules:
    return _judging(lambda evidence: evidence._replace(turns=tuple(change(turn) for turn in evidence.turns)))


def _any_base(evidence: Evidence) -> Evidence:
    last = last_grant(evidence.turns)
    return evidence._replace(base=last.number if last is not None else 0)


def _no_cancel(evidence: Evidence) -> Evidence:
    return evidence._replace(predecessor="FAILED") if evidence.predecessor == "CANCELLED" else evidence


def _nothing_follows(evidence: Evidence) -> Evidence:
    return evidence._replace(following=Following(False))


def _never_recent(evidence: Evidence) -> Evidence:
    return evidence._replace(following=evidence.following and evidence.following._replace(recent=False))


def _outcome_is_not(outcome: str) -> Callable[[Turn], Turn]:
    return lambda turn: turn._replace(facts=turn.facts | {"outcome": "continued"}) if turn.facts.get("outcome") == outcome else turn


def _no_course(turn: Turn) -> Turn:
    return turn._replace(facts={name: fact for name, fact in turn.facts.items() if name != "course"})


def _trained(turn: Turn) -> Turn:
    return turn._replace(facts=turn.facts | {"trained": True})


def _told(turn: Turn) -> Turn:
    return turn._replace(facts=turn.facts | {"reason": "?"}) if turn.kind == "term" and "reason" not in turn.facts else turn


def _fence_behind_the_last_only(evidence: Evidence) -> Any:
    found = protocol.judge(evidence)
    starts = [turn for turn in evidence.turns if turn.kind == "start"]
    if isinstance(found, Verdict) and starts and starts[-1].facts.get("node") == evidence.node:
        return found._replace(fence=None)
    return found


def _first_sibling_is_it(evidence: Evidence) -> Any:
    found = protocol.judge(evidence)
    first = any(one.at_work and int(one.job) < int(evidence.job) for one in evidence.siblings or ())
    return Verdict(False, "a sibling came first") if first and not (isinstance(found, Verdict) and not found.go) else found


def _wherever_it_runs(rule: Callable[..., bool]) -> Callable[..., bool]:
    return lambda record, restart, node: rule(record and record._replace(fields={}), restart, node)


def _take_for_refused(answer: Answer, *, in_doubt: bool) -> Next:
    return Next.REFUSED if answer is Answer.UNKNOWN else protocol.after_submission(answer, in_doubt=in_doubt)


def _never_in_doubt(answer: Answer, *, in_doubt: bool) -> Next:
    return protocol.after_submission(answer, in_doubt=False)


def _whatever_its_age(found: Result, age_s: float, min_job_age_s: float) -> bool:
    return protocol.may_repeat(found, 0.0, min_job_age_s)


def _above_the_turns_only(chain: str, turns: tuple[Turn, ...], intent: int, *rest: Any) -> Any:
    return revival.revive(chain, turns, 0, *rest)


def _every_cancel_counts(chain: str, turns: tuple[Turn, ...], *rest: Any) -> Any:
    forgotten = tuple(turn._replace(kind="other") if turn.kind == "resume" else turn for turn in turns)
    return revival.revive(chain, forgotten, *rest)


def _always_ends(outcome: Outcome) -> bool:
    return True


MUTATIONS = (
    # The hand-over.
    Mutation("an intent is adopted, not repeated", _without("the intent is adopted"), _only(Ill.REQUEUE), must.ONE_SUBMISSION),
    Mutation(
        "an answer that was lost is looked for before sbatch is run again",
        Rules(after_submission=_take_for_refused),
        _only(Ill.LOST_ANSWER),
        must.ONE_SUBMISSION,
    ),
    Mutation(
        "a job that is gone is submitted again only while the queue would show a cancelled one",
        Rules(may_repeat=_whatever_its_age),
        _only(Ill.CANCEL, Ill.PURGE),
        must.CANCELLED_STAYS,
    ),
    Mutation(
        "a refusal says nothing of an earlier submission without an answer",
        Rules(after_submission=_never_in_doubt),
        _only(Ill.LATE, Ill.LIMIT, Ill.REFUSED),
        why="what came of the first submission waits, too, and is the link; the rule spares the chain a second job, or a requeue",
    ),
    Mutation(
        "nothing is submitted for a job that is not ours any more",
        _without("a look whether the job is ours before sbatch"),
        _only(Ill.LOST_NODE, Ill.CANCEL, Ill.REQUEUE),
        why="the successor judges how this job has ended; the rule spares the cluster a job that starts for nothing",
    ),
    Mutation(
        "a job that is being cancelled is not requeued",
        Rules(may_go_on=protocol.is_ours),
        _only(Ill.LOST_NODE, Ill.CANCEL, Ill.REFUSED),
        must.CANCELLED_STAYS,
    ),
    Mutation(
        "nothing is cancelled for a job that is not ours any more",
        _without("a look whether the job is ours before the cancel"),
        _only(Ill.LOST_NODE),
        must.GOES_ON,
    ),
    Mutation(
        "siblings are looked for after the answer",
        _without("a look for siblings after the answer"),
        _only(Ill.LATE, Ill.CANCEL),
        why="the last look, and the successor at its start, see the cancelled sibling, too; the rule ends the link as stopped",
    ),
    Mutation(
        "siblings are looked for at the start",
        _without("a look for siblings at the start"),
        _only(Ill.LATE, Ill.CANCEL, Ill.CRASH),
        must.CANCELLED_STAYS,
    ),
    Mutation(
        "which sibling came first decides nothing (it once did)",
        Rules(judge=_first_sibling_is_it),
        _only(Ill.LATE, Ill.STALE),
        must.GOES_ON,
    ),
    Mutation(
        "Requeue is withdrawn",
        _without("Requeue is withdrawn"),
        _only(Ill.LOST_NODE, Ill.REQUEUE),
        why="a later attempt adopts its successor; the rule spares the chain the two minutes that a requeued job waits",
    ),
    Mutation(
        "the successor is looked at before the end",
        _without("the last look"),
        _only(Ill.AMNESIA, Ill.CANCEL),
        why="who waits is left behind and not released; the rule makes `continued` true",
    ),
    Mutation(
        "of two siblings the noted one is the link",
        _judging(lambda evidence: evidence._replace(noted=None)),
        _only(Ill.LATE, Ill.CRASH),
        why="the first to take its turn is; the rule makes it the one that others were moved to",
    ),
    # Starts.
    Mutation("a start builds on its submitter's turn", _judging(_any_base), _only(Ill.LATE, Ill.CRASH), must.ONE_SUCCESSOR),
    Mutation(
        "a start takes the turn behind the one it was judged by",
        _without("the turn behind the one judged by"),
        _only(Ill.LATE, Ill.LOST_NODE),
        must.ONE_TRAINING,
    ),
    Mutation("who finds his turn taken is judged again", _without("judged again"), _only(Ill.STALE), must.GOES_ON),
    Mutation(
        "a start waits until it sees the turn it builds on",
        _without("a start waits for the turn it builds on"),
        _only(Ill.LOST_NODE, Ill.STALE),
        must.GOES_ON,
    ),
    Mutation("a start waits for the fencing time", _without("the fencing time"), _only(Ill.LOST_NODE), must.ONE_TRAINING),
    Mutation(
        "who was replaced while it waited does not train",
        _without("a look whether it is replaced behind the fence"),
        _only(Ill.LOST_NODE, Ill.FORGOTTEN),
        must.COMPLETE_STAYS,
    ),
    Mutation(
        "a job whose start was forgotten goes on in its next run",
        _judging(lambda evidence: evidence._replace(batch_shell=False)),
        _only(Ill.FORGOTTEN),
        must.GOES_ON,
    ),
    Mutation(
        "only who runs where the controller says takes its job for its own",
        Rules(is_ours=_wherever_it_runs(protocol.is_ours)),
        _only(Ill.FORGOTTEN),
        must.GOES_ON,
    ),
    Mutation(
        "the fence reaches back to every start without an end",
        Rules(judge=_fence_behind_the_last_only),
        _only(Ill.LOST_NODE, Ill.CRASH, people=1, patient=True),
        must.ONE_TRAINING,
    ),
    Mutation(
        "the fence reaches past an end before the training",
        _turns(_trained),
        _only(Ill.LOST_NODE, Ill.CANCEL, people=1, patient=True),
        must.ONE_TRAINING,
    ),
    Mutation(
        "a later attempt looks whether its successor was cancelled",
        _judging(_nothing_follows),
        _only(Ill.CANCEL, Ill.REQUEUE),
        must.CANCELLED_STAYS,
    ),
    Mutation(
        "an intent of which the queue shows nothing yet stops nobody", _judging(_never_recent), _only(Ill.LOST_NODE), must.GOES_ON
    ),
    Mutation("who follows a complete link leaves", _turns(_outcome_is_not("complete")), _only(Ill.SILENT), must.COMPLETE_STAYS),
    Mutation(
        "who follows a failed link leaves", _turns(_outcome_is_not("failed")), _only(Ill.FAILURE, Ill.SILENT), must.FAILED_STAYS
    ),
    # A cancel.
    Mutation("who follows a cancelled job leaves", _judging(_no_cancel), _only(Ill.CANCEL), must.CANCELLED_STAYS),
    Mutation(
        "the turn term comes before everything else", _without("the turn term"), _only(Ill.CANCEL, Ill.PURGE), must.CANCELLED_STAYS
    ),
    Mutation(
        "who was told to end, and why is not known, is not followed",
        _turns(_told),
        _only(Ill.CANCEL, Ill.PURGE),
        must.CANCELLED_STAYS,
    ),
    Mutation(
        "who was told to end because of a cancel is not followed",
        _turns(_no_course),
        _only(Ill.CANCEL, Ill.PURGE),
        must.CANCELLED_STAYS,
    ),
    Mutation(
        "who does not know why it ends takes no end turn",
        Rules(takes_end_turn=_always_ends),
        _only(Ill.CANCEL, Ill.SILENT, Ill.PURGE),
        must.CANCELLED_STAYS,
    ),
    Mutation(
        "the successor is cancelled before the turn end",
        _without("the successor is cancelled before the end"),
        _only(Ill.CANCEL, Ill.FAILURE, Ill.CRASH),
        why="the successor reads the end turn and leaves; the rule spares the cluster a job that starts for nothing",
    ),
    # A stop.
    Mutation("a start looks for a stop", _without("a start looks for a stop"), _only(stops=1), must.STOP_STAYS),
    Mutation(
        "a stop reads the turns again, after the queue",
        _without("a stop reads the turns again"),
        _only(Ill.STALE, Ill.CRASH, people=1, patient=True, stops=1),
        must.STOP_STAYS,
    ),
    Mutation(
        "a link looks for a stop before it goes on",
        _without("a link looks for a stop before it goes on"),
        _only(Ill.LATE, stops=1),
        why="the successor finds the mark and ends; the rule spares the cluster a job that starts for nothing",
    ),
    # Who waits.
    Mutation(
        "who waits is moved only after the successor was seen",
        _without("the waiting move only when it was seen"),
        _only(Ill.AMNESIA),
        must.WAITS_FOR_THE_CHAIN,
    ),
    Mutation(
        "a link that leaves somebody waiting ends with 75",
        _without("left waiting, it exits with 75"),
        _only(Ill.SILENT),
        must.WAITS_FOR_THE_CHAIN,
    ),
    # People.
    Mutation("a resume takes a turn", _without("the turn resume"), _only(Ill.CANCEL), must.NOTHING_LOST),
    Mutation("a resume is above every intent", Rules(revive=_above_the_turns_only), _only(Ill.CANCEL), must.NOTHING_LOST),
    Mutation(
        "a resume takes its turn before it cancels what waits in vain",
        _without("resume takes its turn before it cancels"),
        _only(Ill.CANCEL, people=2),
        must.RESUMED,
    ),
    Mutation(
        "a cancel from before the last resume does not count",
        Rules(revive=_every_cancel_counts),
        _only(Ill.CANCEL, people=2),
        must.RESUMED,
    ),
)
