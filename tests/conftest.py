"""Fixtures of all tests."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.cluster import install
from tests.cluster import lab as labs
from tests.end_to_end.harness import Ckptrun
from tests.end_to_end.jobs import Jobs

_FRAMEWORKS = re.compile("torch|accelerate|tensorflow")
# The same examples in each run, so that a failure is one of the change; CKPTRUN_TEST_EXPLORE=1 looks for others. How long one
# takes is the machine's affair.
_AT_LEISURE = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("same", _AT_LEISURE, derandomize=True, database=None)
hypothesis.settings.register_profile("others", _AT_LEISURE)
hypothesis.settings.load_profile("others" if os.environ.get("CKPTRUN_TEST_EXPLORE") else "same")
_LAB_FILE, _OWNER, _REQUIRED = "CKPTRUN_LAB_FILE", "CKPTRUN_LAB_OWNER", "CKPTRUN_REQUIRE_SLURM"


def pytest_configure(config: pytest.Config) -> None:
    """The first process of a run owns the lab that its workers share: it says where its record will be."""
    if not hasattr(config, "workerinput"):
        os.environ[_LAB_FILE] = str(Path(tempfile.gettempdir()) / f"ckptrun-lab-{os.getpid()}.json")
        os.environ[_OWNER] = str(os.getpid())


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the lab. If this process is killed instead, the lab's keeper notices and ends it."""
    if not hasattr(config, "workerinput"):
        path = Path(os.environ[_LAB_FILE])
        if (found := labs.load(path)) is not None:
            labs.stop(found)
        for leftover in path.parent.glob(f"{path.stem}.*"):
            leftover.unlink(missing_ok=True)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say loudly when the tests on a real Slurm were left out."""
    if (reason := install.why_not()) is not None:
        terminalreporter.section("NO SLURM: its tests were left out", sep="!", red=True, bold=True)
        terminalreporter.line(f"{reason}. Everything about jobs is untested in this run.", red=True, bold=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each group of framework programs begin the share of one worker, which then runs them one after the other.

    xdist deals the tests out in shares as they stand, and who has nothing left takes from the end of another's share. Six workers
    that met the frameworks by chance would wait for each other.
    """
    workers = int(getattr(config, "workerinput", {}).get("workercount", 1))
    groups: dict[int, list[pytest.Item]] = {}
    for item in items:
        groups.setdefault(_group(item), []).append(item)
    found = groups.pop(0, [])
    for group in sorted(groups):
        place = (group - 1) * len(items) // workers
        found[place:place] = groups[group]
    items[:] = found


def _group(item: pytest.Item) -> int:
    """Return which framework programs a test belongs to, 0 for none."""
    mark = item.get_closest_marker("framework")
    if mark is not None:
        return int(mark.args[0])
    return int(bool(_FRAMEWORKS.search(item.name)) and item.path.stem in ("test_launchers", "test_rehearse"))


@pytest.fixture(autouse=True)
def _framework(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let two framework programs run at a time, at the most: six of them on two cores are too slow for any limit."""
    group = _group(request.node)
    if not group:
        yield
        return
    with Path(os.environ[_LAB_FILE]).with_suffix(f".framework-{group}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def ckptrun(tmp_path: Path) -> Ckptrun:
    """ckptrun in a folder of its own."""
    return Ckptrun(tmp_path)


@pytest.fixture(scope="session")
def lab() -> labs.Lab:
    """The Slurm that all tests of this run share. The first worker that needs it starts it."""
    _need_slurm()
    path = Path(os.environ[_LAB_FILE])
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = labs.load(path)
        if found is None:
            found = labs.start(owner=int(os.environ[_OWNER]))
            labs.save(found, path)
    return found


@pytest.fixture
def own_lab() -> Iterator[labs.Lab]:
    """A Slurm of the test's own, whose daemons it may freeze and kill."""
    _need_slurm()
    found = labs.start(owner=os.getpid(), slurmd_timeout_s=10)
    yield found
    labs.stop(found)


def _need_slurm() -> None:
    if (reason := install.why_not()) is not None:
        if os.environ.get(_REQUIRED):
            pytest.fail(f"a real Slurm is required here: {reason}")
        pytest.skip(f"no Slurm: {reason}")


@pytest.fixture
def jobs(lab: labs.Lab, request: pytest.FixtureRequest) -> Jobs:
    """A user's folder on the shared Slurm, named after the test; no two tests share one."""
    name = re.sub(r"\W+", "-", request.node.name)
    return Jobs(lab, f"{name[:50].strip('-')}-{zlib.crc32(request.node.nodeid.encode()):08x}")


@pytest.fixture
def own_jobs(own_lab: labs.Lab) -> Jobs:
    """A user's folder on a Slurm of the test's own."""
    return Jobs(own_lab, "work")
