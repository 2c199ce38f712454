"""What is said of a cluster: from what Slurm 22.05.8 printed (`said/`), and from the same with one thing changed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ckptrun.doctor.cluster import Check, Said, judge, limits_of
from ckptrun.doctor.findings import Severity
from ckptrun.slurm import parse

SAID = Path(__file__).parent / "said"
# When the recorded configuration was asked for.
ASKED_AT = parse.utc("2026-11-25T00:02:43")


def said(**changed: object) -> Said:
    """Return the recorded answers, with some of them changed."""
    names = ("config", "partitions", "reservations", "associations", "qualities")
    return Said(*((SAID / name).read_text() for name in names), asked_at=ASKED_AT)._replace(**changed)  # type: ignore[arg-type]


def found(name: str, whole: Said) -> list[Check]:
    """Return the checks of a name."""
    return [check for check in judge(whole) if check.name == name]


def test_the_recorded_cluster() -> None:
    """Every check in its order; nothing keeps a chain from working."""
    checks = judge(said())
    assert [check.name for check in checks] == [
        *("version", "submitting", "time limit", "default time", "jobs", "running jobs", "wall time", "jobs", "wall time"),
        *("KillWait", "JobRequeue", "proctrack", *["preemption"] * 4, "accounting", "service window", "clock"),
    ]
    warned = [check.name for check in checks if check.severity is Severity.WARNING]
    assert warned == ["default time", "jobs", "KillWait", "service window"]
    assert not [check for check in checks if check.severity is Severity.ERROR]
    assert all(len(check.what.splitlines()) == 1 for check in checks)


CONFIG = [
    ("SLURM_VERSION", "20.11.9", "version", Severity.WARNING, "older than 21.08"),
    ("SLURM_VERSION", "21.08.5", "version", Severity.GOOD, "Slurm 21.08.5"),
    ("SLURM_VERSION", "25.05.1", "version", Severity.GOOD, "Slurm 25.05.1"),
    ("KillWait", "30 sec", "KillWait", Severity.GOOD, "30 s (KillWait)"),
    ("JobRequeue", "0", "JobRequeue", Severity.WARNING, "--successor start"),
    ("ProctrackType", "proctrack/linuxproc", "proctrack", Severity.GOOD, "every process"),
    ("AccountingStorageType", "accounting_storage/none", "accounting", Severity.WARNING, "ckptrun sbatch"),
    ("AccountingStoreFlags", "(null)", "accounting", Severity.GOOD, "how it ended"),
    ("MinJobAge", "10 sec", "MinJobAge", Severity.GOOD, "forgets a job 10 s after"),
    ("PriorityType", "priority/multifactor", "priority", Severity.GOOD, "gains no age"),
]


@pytest.mark.parametrize(("name", "value", "check", "severity", "words"), CONFIG, ids=[f"{row[0]} {row[1]}" for row in CONFIG])
def test_a_setting(name: str, value: str, check: str, severity: Severity, words: str) -> None:
    """One line of the configuration changed: what it means is said."""
    config = re.sub(rf"^{name}( *)=.*$", rf"{name}\1= {value}", said().config, flags=re.MULTILINE)
    (one,) = found(check, said(config=config))
    assert one.severity is severity and words in one.what


def test_accrue_always() -> None:
    """Then a successor gains age while it waits."""
    config = said().config.replace("priority/basic", "priority/multifactor") + "\nPriorityFlags = ACCRUE_ALWAYS\n"
    assert "gains age" in found("priority", said(config=config))[0].what


@pytest.mark.parametrize(
    ("allowed", "requeue", "severity"),
    [
        ("ALL", "1", Severity.GOOD),
        ("n[1-3]", "0", Severity.GOOD),
        ("login[01-02]", "1", Severity.WARNING),
        ("login", "0", Severity.ERROR),
    ],
)
def test_who_may_submit(allowed: str, requeue: str, severity: Severity) -> None:
    """AllocNodes without a partition's nodes: by requeue; without requeue a chain would be stranded."""
    partitions = said().partitions.replace("AllocNodes=ALL", f"AllocNodes={allowed}")
    config = said().config.replace("JobRequeue              = 1", f"JobRequeue = {requeue}")
    (one,) = found("submitting", said(partitions=partitions, config=config))
    assert one.severity is severity
    assert ("batch" in one.what) == (severity is not Severity.GOOD)


def test_the_limits_of_accounting() -> None:
    """Those of the user and of each quality of service that he may use; one job at a time leaves no room for a successor."""
    checks = [check for check in judge(said()) if check.name in ("jobs", "wall time")]
    assert [check.what.split(":")[0] for check in checks] == [
        "account students lets one job be submitted at a time",
        "account students",
        "QOS short lets 8 jobs be submitted at a time",
        "QOS short",
    ]
    assert "10 h" in checks[1].what and "4 h" in checks[3].what


def test_a_service_window() -> None:
    """In how long, from when, for how long; one that is on; one that is over, or is no maintenance, is not told."""
    (ahead,) = found("service window", said())
    assert "window begins in 2 h (2026-11-25 02:02:37 UTC) for 8 h" in ahead.what
    assert ASKED_AT is not None
    (now,) = found("service window", said(asked_at=ASKED_AT + 3 * 3600))
    assert "is on, for 7 h" in now.what
    assert found("service window", said(asked_at=ASKED_AT + 86400)) == []
    assert found("service window", said(reservations=said().reservations.replace("MAINT,", ""))) == []
    assert found("service window", said(reservations="No reservations in the system\n")) == []


@pytest.mark.parametrize(("apart_s", "severity"), [(1, Severity.GOOD), (-20, Severity.WARNING), (400, Severity.ERROR)])
def test_the_clock(apart_s: int, severity: Severity) -> None:
    """The controller's time is that of its answer."""
    assert ASKED_AT is not None
    (one,) = found("clock", said(asked_at=ASKED_AT + apart_s))
    assert one.severity is severity


def test_the_limits_of_the_partitions() -> None:
    """By name, with the default; UNLIMITED is none."""
    text = said().partitions.replace("MaxTime=UNLIMITED", "MaxTime=2-12:00:00", 1)
    limits = limits_of(text)
    assert limits.default_partition == "batch" and limits.partitions == {"batch": 60 * 3600.0}
    assert limits.time_of(None) == limits.time_of("batch,wide") == 60 * 3600.0
    assert limits.time_of("wide") is None
    assert limits_of("").time_of(None) is None


def test_host_names() -> None:
    """Lists as Slurm writes them; brackets multiply."""
    assert parse.host_names("n[1-3,07],login,a[1-2]b[0-1]") == (
        *("n1", "n2", "n3", "n07", "login"),
        *("a1b0", "a1b1", "a2b0", "a2b1"),
    )
    assert parse.host_names("n[08-11]") == ("n08", "n09", "n10", "n11")
    assert parse.host_names("") == ()


def test_silence() -> None:
    """What nobody said is not judged."""
    assert [check.severity for check in judge(Said(config="x")) if check.severity is Severity.ERROR] == []
