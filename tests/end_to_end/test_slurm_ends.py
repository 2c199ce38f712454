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
