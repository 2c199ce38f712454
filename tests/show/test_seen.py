"""What is known becomes what is shown: never more, and nothing that is known is left out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ckptrun
from ckptrun.show import story
from ckptrun.show.building import build
from ckptrun.show.seen import Known, Life, SeenChain, Told
from ckptrun.slurm.parse import Remembered
from tests.show.tutorial import stamp

T0 = 1_795_510_800.0
IN_JOBS = {"id": "x", "slurm": {"job": "1"}, "plan": {"checkpoints": ["/ck"], "command": ["true"]}}


def event(kind: str, at: float = 0.0, link: int = 1, **facts: Any) -> dict[str, Any]:
    """Return an event so many seconds after the beginning."""
    return {"v": 1, "at": stamp(T0 + at), "link": link, "attempt": 1, "event": kind, **facts}


def chain(*events: dict[str, Any], now: float = 1000.0, facts: dict[str, Any] | None = None, **known: Any) -> SeenChain:
    """Return the chain of these events as it is seen some seconds after the beginning."""
    return build(Known(facts or IN_JOBS, events, **known), T0 + now)


def test_a_chain_is_called_by_what_is_known() -> None:
    """No end and nothing lives: lost. Where nobody can see: unknown. Never running because it once was."""
    started = event("started", job="1")
    assert chain(started).state == "lost"
    assert chain(started, life=Life("running", "job 1 runs")).state == "running"
    assert chain(started, life=Life("pending", "job 2 waits")).state == "pending"
    assert chain(started, life=Life("unknown", "the controller does not answer")).state == "unknown"
    assert chain(started, event("ended", 9, outcome="continued", seconds=9.0)).state == "lost"
    assert chain(started, event("ended", 9, outcome="complete", seconds=9.0), ended_as="complete").state == "complete"
    stopped = chain(started, event("ended", 9, outcome="continued", seconds=9.0), stopped=True)
    assert stopped.state == "stopped" and stopped.reason is not None and "chain stop" in stopped.reason
    assert chain().state == "new"
    # What the last turn says is truer than what waits in the queue for a complete chain.
    assert chain(started, ended_as="complete", life=Life("pending", "job 2 waits")).state == "complete"


def test_the_last_link_that_a_bound_allows_is_called_that() -> None:
    """Where --max-links is used up no next link is promised."""
    running = {"life": Life("running", "job 1 runs"), "now": 100.0}
    started = event("started", job="1", ask_at=T0 + 400)

    def said(links: int) -> str:
        facts = {**IN_JOBS, "plan": {"checkpoints": ["/ck"], "command": ["true"], "max_links": links}}
        return story.next_up(chain(started, facts=facts, **running), T0 + 100)[-1]

    assert said(2).endswith("then link 2 follows, submitted at that moment.")
    assert said(1).endswith("no other link follows, because --max-links is 1.")


def test_each_event_that_is_recorded_has_a_sentence() -> None:
    """What `chain show --link` prints are sentences; a dict of Python is what an event of a newer version looks like."""
    code = "".join(path.read_text() for path in Path(ckptrun.__file__).parent.rglob("*.py"))
    kinds = set(re.findall(r'record\(\s*"([a-z_]+)"', code))
    assert len(kinds) > 15
    told = story.evidence(
        [event(kind, path="/ck/1", size=2_000, name="w", begins_at=T0, ends_at=T0) for kind in kinds],
        (),
        chain(event("started")).links[0],
        T0,
    )
    assert not [line for line in told if "{'" in line]
    assert any(line.endswith("1, 2.0 kB, stands: the first that is new") for line in told)


def test_what_accounting_remembers_ends_a_link_that_said_nothing() -> None:
    """Its state is told, its end gives the time that it ran; a lost node counts as taken away."""
    known = {"1": Remembered("1", "NODE_FAIL", T0, T0, T0 + 500, "n1")}
    (link,) = chain(event("started", job="1", node="n1"), remembered=known).links
    assert (link.outcome, link.seconds, link.taken_away, link.ended_by) == ("lost", 500.0, True, "accounting")
    assert link.reason is not None and "NODE_FAIL" in link.reason


def test_a_successor_that_vanished_is_named() -> None:
    """Submitted, and neither in the queue nor started: the reason names the job and what accounting says of it."""
    events = [event("started", job="1"), event("submitted", 5, job="2"), event("ended", 9, outcome="continued", seconds=9.0)]
    known = {"2": Remembered("2", "CANCELLED by 7", None, None, None, "")}
    reason = chain(*events, remembered=known).reason
    assert reason is not None and "job 2" in reason and "CANCELLED by 7" in reason


def test_lost_work_reaches_back_to_what_the_next_start_went_on_from() -> None:
    """From the checkpoint's time to the end; all of a link whose checkpoint was truncated; nothing of one that completed."""
    saved = event("saved", 60, path="/ck/1", step=1, seconds=1.0)
    end = event("ended", 100, outcome="continued", seconds=100.0, checkpoint="/ck/1", step=1)
    goes_on = event("started", 110, 2, job="2", checkpoint="/ck/1", checkpoint_at=T0 + 60)
    done = event("ended", 150, 2, outcome="complete", seconds=40.0)
    first, second = chain(event("started", job="1"), saved, end, goes_on, done).links
    assert (first.lost_s, first.step_before, second.step_before, second.lost_s) == (40.0, None, 1, 0.0)
    anew = event("started", 110, 2, job="2")
    assert chain(event("started", job="1"), saved, end, anew).links[0].lost_s == 100.0
    assert chain(event("started", job="1"), end, facts={"id": "x", "plan": {}}).links[0].lost_s is None, (
        "no --checkpoint: not known"
    )


def test_shares_waits_and_idleness() -> None:
    """A wait is from the end before, or from when a person went on; until then the chain stood still."""
    events = [
        event("started", 100, job="1"),
        event("ended", 200, outcome="stopped", seconds=100.0),
        event("joined", 500, 2, job="2"),
        event("started", 520, 2, job="2"),
        event("ended", 600, 2, outcome="complete", seconds=80.0),
    ]
    totals = chain(*events, submitted_at=T0 + 40).totals
    assert (totals.used_s, totals.waited_s, totals.idle_s) == (180.0, 80.0, 300.0)


def test_the_end_is_estimated_from_steps_links_and_waits() -> None:
    """Steps a second over what ran; what does not fit into this link needs more of them, each with the usual wait."""
    events = [event("started", 0, job="1", limit_s=100.0, margin_s=10.0, ask_at=T0 + 90)]
    told = Told(step=50, total=200, at=T0 + 50)
    progress = chain(*events, now=50.0, told=told, life=Life("running", "job 1 runs"), submitted_at=T0 - 20).progress
    assert (progress.step, progress.total, progress.running_s, progress.links) == (50, 200, 150.0, 2)
    assert progress.done_at == T0 + 50 + 150 + 2 * 20


def test_an_end_found_by_the_next_link_belongs_to_the_last_attempt() -> None:
    """Who finds an end knows no attempt; two starts of one link are two rows."""
    first = event("started", 0, job="1")
    again = {**event("started", 50, job="1"), "attempt": 2}
    links = chain(first, event("ended", 20, outcome="requeued", seconds=20.0), again, event("ended", 99, outcome="lost")).links
    assert [(link.attempt, link.outcome) for link in links] == [(1, "requeued"), (2, "lost")]


def test_reordered_lines_read_as_they_were_written() -> None:
    """The events of one start are put in the order of their times."""
    events = [
        event("ended", 100, outcome="continued", seconds=100.0, checkpoint="/ck/2", step=2),
        event("saved", 90, path="/ck/2", step=2, seconds=1.0),
        event("saved", 50, path="/ck/1", step=1, seconds=1.0),
        event("started", job="1"),
    ]
    assert chain(*events).links == chain(*reversed(events)).links


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
NAMES = st.sampled_from(
    [
        "seconds",
        "step",
        "checkpoint",
        "path",
        "reason",
        "outcome",
        "job",
        "limit_s",
        "attempt",
        "delivered",
        "size",
        "checkpoint_at",
        "at",
    ]
)
KINDS = st.sampled_from(
    ["started", "saved", "asked", "ended", "joined", "submitted", "child_started", "set_aside", "warned", "later"]
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(KINDS, st.integers(-1, 3), st.dictionaries(NAMES, VALUES)), max_size=8))
def test_any_history_can_be_drawn(written: list[tuple[str, int, dict[str, Any]]]) -> None:
    """Values of any kind where others are meant: every page is drawn all the same."""
    import json
    import tempfile
    from pathlib import Path

    from ckptrun.chain.history import read_events
    from ckptrun.show import as_json, pages

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        path.write_text("".join(json.dumps({**event(kind, 0, link), **facts}) + "\n" for kind, link, facts in written))
        events, _ = read_events(str(path))
    seen = chain(*events)
    assert pages.show_lines(seen, T0, 80, lambda text, _: text)
    assert pages.list_lines([seen], T0, 80, lambda text, _: text)
    json.dumps(as_json.whole(seen))
    for link in seen.links:
        assert pages.link_lines(seen, link, events, [], T0, 80)
