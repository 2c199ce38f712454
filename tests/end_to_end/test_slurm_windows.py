"""Service windows on a real Slurm: reservations for maintenance that a running link must be over before."""

from __future__ import annotations

import json

import pytest

from tests.cluster.lab import Lab
from tests.end_to_end.jobs import Jobs
from tests.end_to_end.test_slurm_see import chain, shown


def announce(lab: Lab, seconds: int) -> None:
    """Announce a service window of all nodes, as administrators do it: what runs is left alone until it begins."""
    when = (f"StartTime=now+{seconds}", "Duration=30")
    what = ("ReservationName=maint", "Nodes=ALL", "Flags=MAINT,IGNORE_JOBS", "Users=root")
    lab.admin("scontrol", "create", "reservation", *what, *when)


@pytest.mark.long
def test_a_window_that_is_announced_while_a_link_runs(own_lab: Lab, own_jobs: Jobs) -> None:
    """It is seen when the end time is read again: on record with its span, said as the reason, shaded in the report."""
    jobs = own_jobs
    jobs.submit(jobs.script(jobs.counter(5000, 0.2, "--hear USR1", options="--time-limit 80s --margin 20s")))
    jobs.until_event("started")
    announce(own_lab, 70)
    (window,) = jobs.until_event("window_ahead")
    assert (window["name"], window["ends_at"] - window["begins_at"]) == ("maint", 1800.0)
    link = shown(jobs)["links"][0]
    assert (link["window_at"], link["window_until"]) == (window["begins_at"], window["ends_at"])
    (asked,) = jobs.until_event("asked")
    assert asked["reason"].startswith("a service window begins on ")
    (ended,) = jobs.until_event("ended")
    assert (ended["outcome"], ended["reason"]) == ("continued", asked["reason"])
    assert "service window maint, from" in chain(jobs, "show", "--link", "1")
    assert "service window" in chain(jobs, "list", "--state", "pending")
    chain(jobs, "report", "-o", "report.html")
    assert 'class="window"' in (jobs.folder / "report.html").read_text()
    chain(jobs, "stop")


def test_a_limit_that_slurm_cut_to_fit_before_a_window(own_lab: Lab, own_jobs: Jobs) -> None:
    """`--time-min` lets a job start before a window: the link knows why its limit is short, and counts nothing twice."""
    jobs = own_jobs
    announce(own_lab, 100)
    jobs.submit("--time-min=1", jobs.script(jobs.counter(20, 0.1, "--hear USR1", options="")))
    (window,) = jobs.until_event("window_ahead")
    jobs.until(lambda: jobs.outcomes() == ["complete"] or None)
    assert "(maint), right behind this job's end" in jobs.log() or "(maint): will ask" in jobs.log()
    page = json.loads(chain(jobs, "show", "--json"))["data"]
    assert page["links"][0]["window_at"] == window["begins_at"]
