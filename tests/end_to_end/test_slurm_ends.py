"""What the end of a training means inside a job: every cell of the table, by the ledger, by Slurm, by what ran afterwards."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from tests.cluster.lab import Lab
from tests.end_to_end.jobs import Jobs

OPTIONS = "--time-limit 200s --done-file done --again-exit 85"
# What the training does when it is told to end, or by itself after ten steps where nobody tells it.
ROWS = {
    "says done": "touch done; exit 0",
    "exits 0": "exit 0",
    "dies of a signal": "trap - USR1 TERM; kill -USR1 $$",
    "again-exit": "exit 85",
    "another exit, saved": "save; exit 3",
    "another exit, not saved": "exit 3",
}
TRAINING = """\
step=0
save() {{ mkdir -p ck; echo "{{}}" > ck/.tmp; mv ck/.tmp ck/step-$(date +%s%N).json; }}
trap '{end}' USR1 TERM
[ -e ready-$SLURM_JOB_ID-$CKPTRUN_ATTEMPT ] || touch ready-$SLURM_JOB_ID-$CKPTRUN_ATTEMPT
[ $CKPTRUN_LINK$CKPTRUN_ATTEMPT = 11 ] || {{ touch again; touch done; exit 0; }}
while [ {alone} = no ] || [ $((step += 1)) -lt 10 ]; do read -t 0.05 < pipe; done
{end}
"""


class Cell(NamedTuple):
    """What must come of it: the link's outcome, the job's state in accounting, and whether another start follows."""

    outcome: str
    state: str
    again: bool


# The done-file decides what exit 0 means here: without it, exit 0 unasked is "go on".
UNASKED = {
    "says done": Cell("complete", "COMPLETED", again=False),
    "exits 0": Cell("continued", "COMPLETED", again=True),
    "dies of a signal": Cell("failed", "FAILED", again=False),
    "again-exit": Cell("continued", "COMPLETED", again=True),
    "another exit, saved": Cell("failed", "FAILED", again=False),
    "another exit, not saved": Cell("failed", "FAILED", again=False),
}
GO_ON = {
    "says done": Cell("complete", "COMPLETED", again=False),
    "exits 0": Cell("continued", "COMPLETED", again=True),
    "dies of a signal": Cell("continued", "COMPLETED", again=True),
    "again-exit": Cell("continued", "COMPLETED", again=True),
    "another exit, saved": Cell("continued", "COMPLETED", again=True),
    "another exit, not saved": Cell("continued", "COMPLETED", again=True),
}
# What is complete is requeued by Slurm all the same: the second attempt finds the chain complete, and ends with 0.
REQUEUE = {row: Cell("requeued", "COMPLETED", again=True) for row in ROWS}
REQUEUE["says done"] = Cell("complete", "COMPLETED", again=False)
CANCEL = {row: Cell("cancelled", "CANCELLED", again=False) for row in ROWS} | {
    "says done": Cell("complete", "CANCELLED", again=False)
}


@pytest.mark.parametrize(
    ("cells", "tell"),
    [(UNASKED, ()), (GO_ON, ("scancel", "-b", "-s", "USR1")), (REQUEUE, ("scontrol", "requeue")), (CANCEL, ("scancel",))],
    ids=["unasked", "go on", "requeue", "cancel"],
)
def test_a_column_of_the_table(lab: Lab, cells: dict[str, Cell], tell: tuple[str, ...], request: pytest.FixtureRequest) -> None:
    """All rows of one column side by side."""
    started = {}
    for row, end in ROWS.items():
        jobs = Jobs(lab, f"{request.node.callspec.id}-{row}".replace(" ", "-").replace(",", ""))
        jobs.run("mkfifo", "pipe")
        text = TRAINING.format(end=end, alone="no" if tell else "yes")
        jobs.run("tee", "train.sh", input=text)
        started[row] = (jobs, jobs.submit(jobs.script(f"exec ckptrun --checkpoint ck {OPTIONS} bash train.sh 3<>pipe")))
    for jobs, job in started.values():
        jobs.until(lambda jobs=jobs, job=job: (jobs.folder / f"ready-{job}-1").exists() or None)
        if tell:
            jobs.run(*tell, job)
    for row, (jobs, job) in started.items():
        jobs.until_event("ended")
        cell = cells[row]
        assert jobs.outcomes()[0] == cell.outcome, f"{row}\n{jobs.story()}"
        if "requeue" in tell:
            jobs.start_requeued(job)
        if cell.again:
            jobs.until(lambda jobs=jobs: (jobs.folder / "again").exists() or None)
            jobs.until_over()
        else:
            jobs.until_over()
            assert len(jobs.events("started")) == 1, f"{row}\n{jobs.story()}"
        assert jobs.state_of(job) == cell.state, row
        assert jobs.queue() == [], row


def test_out_of_memory(jobs: Jobs) -> None:
    """A training that the kernel kills for want of memory has failed, with the peak, and is not run again."""
    program = "x = bytearray(10**6)\nwhile True: x += bytearray(10**7)\n"
    jobs.run("tee", "grow.py", input=program)
    job = jobs.submit("--mem=200", jobs.script("exec ckptrun --time-limit 200s python grow.py"))
    assert jobs.until_over() == ["failed"]
    assert "out of memory" in jobs.events("ended")[0]["reason"]
    assert jobs.state_of(job) in ("FAILED", "OUT_OF_MEMORY")
    assert jobs.queue() == []


TELL = """\
#!/bin/sh
echo "$CKPTRUN_CHAIN|$CKPTRUN_DIRECTORY|$CKPTRUN_OUTCOME|$CKPTRUN_EXIT_CODE|$CKPTRUN_LINK|$CKPTRUN_JOB|$CKPTRUN_STARTS" >> told
[ -n "$CKPTRUN_REASON$CKPTRUN_SECONDS$CKPTRUN_STEP" ] && [ -e "$CKPTRUN_CHECKPOINT" ] || echo "a fact is missing" >> told
exit 3
"""


def test_on_end_is_run_once_for_a_chain_of_jobs(lab: Lab) -> None:
    """At the end of two links and not between them; also of a chain that is cancelled. That it fails changes no exit code."""
    bounded, cancelled = Jobs(lab, "on-end-bounded"), Jobs(lab, "on-end-cancelled")
    for jobs, options in ((bounded, "--time-limit 12s --margin 4s --max-links 2"), (cancelled, "--time-limit 200s")):
        jobs.run("tee", "tell.sh", input=TELL)
        jobs.run("chmod", "+x", "tell.sh")
        line = jobs.counter(5000, 0.1, "--hear USR1,TERM", options=f"{options} --on-end ./tell.sh")
        jobs.submit(jobs.script(f"{line} > counted-$SLURM_JOB_ID 2>&1"))
    cancelled.until(lambda: list(cancelled.folder.glob("ck/*.json")) or None)
    cancelled.run("scancel", cancelled.jobs()[0])
    ended: dict[str, tuple[Jobs, str, list[str]]] = {
        "stopped": (bounded, "75", ["continued", "stopped"]),
        "cancelled": (cancelled, "75", ["cancelled"]),
    }
    for outcome, (jobs, code, outcomes) in ended.items():
        assert jobs.until_over() == outcomes, jobs.story()
        (chain,) = jobs.state.glob("chains/*")
        facts = [chain.name, str(jobs.folder), outcome, code, str(len(outcomes)), jobs.jobs()[-1], str(len(outcomes))]
        assert (jobs.folder / "told").read_text().splitlines() == ["|".join(facts)], outcome
        (event,) = jobs.events("on_end_ran")
        assert (event["ok"], event["link"]) == (False, len(outcomes)) and "./tell.sh ended with exit code 3 after" in event["text"]
    assert " ExitCode=75:0 " in bounded.run("scontrol", "-o", "show", "job", bounded.jobs()[-1])
