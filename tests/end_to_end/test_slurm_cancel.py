"""scancel at random moments: what a person cancels does not come back, whatever the chain was doing."""

from __future__ import annotations

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cluster.lab import Lab
from tests.end_to_end.jobs import Jobs

SIDE_BY_SIDE = 8
LONGEST_S = 16.0


def test_15_scancels(lab: Lab) -> None:
    """Fifteen chains, each cancelled at a random moment of its first three links."""
    _cancel(lab, 15)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_100_scancels(lab: Lab) -> None:
    """A hundred of them."""
    _cancel(lab, 100)


def _cancel(lab: Lab, count: int) -> None:
    seed = int(os.environ.get("CKPTRUN_TEST_SEED", "20261125"))
    print(f"seed {seed}")
    moments = [random.Random(seed + number).uniform(0.0, LONGEST_S) for number in range(count)]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        found = list(pool.map(lambda numbered: _one(Jobs(lab, f"cancel-{count}-{numbered[0]}"), numbered[1]), enumerate(moments)))
    phases = {phase for phase in found if phase}
    print(f"cancelled while: {sorted(phases)}")
    assert len([phase for phase in found if phase]) >= count * 3 // 4, "too few cancels met a job"


def _one(jobs: Jobs, moment_s: float) -> str:
    """Cancel the job that a chain has in the queue at a moment, see that nothing of it is left, and say what it was doing."""
    jobs.submit(jobs.script(jobs.counter(1000, 0.1, "--hear USR1 --save 0.3 --only-asked", options="--time-limit 5s --margin 2s")))
    threading.Event().wait(moment_s)  # a moment, not a condition
    while True:
        queue = jobs.queue()
        doing = [event["event"] for event in jobs.events()][-1:]
        if not queue:
            assert jobs.outcomes()[-1:] != ["continued"], jobs.story()
            return ""
        target = queue[-1] if len(queue) == 1 else min(queue, key=int)
        jobs.run("scancel", target)
        if jobs.state_of(target) == "CANCELLED":
            break
    for job in jobs.queue():
        jobs.after(job)
    assert jobs.queue() == [], jobs.story()
    after = [event for event in jobs.events("started") if int(event["job"]) > int(target)]
    assert after == [], jobs.story()
    # A link that had started has written its own end; where the cancel came after that, the next one has written of it.
    started = {event["job"]: event["link"] for event in jobs.events("started")}
    ends = jobs.events("ended")
    assert target not in started or not ends or ends[-1]["link"] >= started[target], jobs.story()
    return doing[0] if doing else "before the start"
