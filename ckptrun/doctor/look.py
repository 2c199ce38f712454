"""What the doctor looks at: Slurm's commands, the state folder, the installation. It judges nothing that `cluster` can judge."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import NamedTuple

from ckptrun.chain.home import state_home
from ckptrun.doctor import cluster
from ckptrun.doctor.cluster import Check, Said
from ckptrun.doctor.findings import Severity
from ckptrun.doctor.script import Limits
from ckptrun.errors import StateUnusable
from ckptrun.slurm import commands
from ckptrun.slurm.job import has_clients

_GOOD, _WARNING, _ERROR = Severity.GOOD, Severity.WARNING, Severity.ERROR
# File systems that one node has for itself; whatever is not on the list may be shared.
_LOCAL = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "ramfs", "overlay", "zfs", "f2fs", "vfat", "squashfs"})
_LEAST_ROOM = 100_000_000
_SLOW_S = 2.0


def limits() -> Limits:
    """Return the time limits of the partitions; nothing is known where there is no Slurm, or it does not answer."""
    if not has_clients():
        return Limits()
    return cluster.limits_of(_run(commands.show_partitions()) or "")


def slurm() -> tuple[Check, ...]:
    """Look at the cluster."""
    if not has_clients():
        what = (
            "no Slurm here (no scontrol and sbatch on PATH): links run one after the other on this machine; the rest was looked at"
        )
        return (Check("Slurm", _GOOD, what),)
    asked_at = time.time()
    config = _run(commands.show_config())
    if config is None:
        return (
            Check(
                "Slurm",
                _ERROR,
                "the controller does not answer: no job starts or ends now; try again, then tell the administrators",
            ),
        )
    user = _user()
    calls = (commands.show_partitions(), commands.show_reservations(), commands.associations(user), commands.qualities())
    partitions, reservations, associations, qualities = (_run(call) or "" for call in calls)
    return cluster.judge(Said(config, partitions, reservations, associations, qualities, asked_at))


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return os.environ.get("USER", "")


def _run(call: commands.Call) -> str | None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SINFO_", "SACCT_"))}
    environment |= {"TZ": "UTC0", "SLURM_TIME_FORMAT": "standard", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            call.argv,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=call.timeout_s,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


# --- the state folder


def state_folder(in_cluster: bool) -> tuple[Check, ...]:
    """Look at the folder in which the ledgers stand."""
    try:
        home = state_home()
    except StateUnusable as error:
        return (Check("place", _ERROR, str(error)),)
    kind = _file_system(home)
    checks = [Check("place", _GOOD, f"{home} can be written")]
    if in_cluster and kind in _LOCAL:
        what = f"its file system is {kind}, which one node has for itself: set CKPTRUN_HOME to a folder that all nodes see"
        checks.append(Check("shared", _WARNING, what))
    elif in_cluster:
        checks.append(Check("shared", _GOOD, f"its file system is {kind or 'not known'}"))
    return (*checks, _operations(home), _room(home))


def _file_system(path: str) -> str:
    """Return the type of the file system that holds a path: of the mount point that is nearest above it."""
    path = os.path.realpath(path)
    best = ("", "")
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                place, kind = (line.split() + ["", "", ""])[1:3]
                place = place.encode("utf-8", "surrogateescape").decode("unicode_escape", "replace") if "\\" in place else place
                if (path == place or path.startswith(place.rstrip("/") + "/")) and len(place) >= len(best[0]):
                    best = (place, kind)
    except OSError:
        return ""
    return best[1]


def _operations(home: str) -> Check:
    """Try what the ledger stands on: a file that only one can create, link() and rename()."""
    import tempfile

    doing = "mkdir"
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=home) as folder:
            first, second, third = (os.path.join(folder, name) for name in "abc")
            doing = "exclusive create"
            os.close(os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            try:
                os.close(os.open(first, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            except FileExistsError:
                doing = "link()"
            else:
                return Check(
                    "operations", _ERROR, f"two can create one file in {home}: no promise of a chain holds; set CKPTRUN_HOME"
                )
            os.link(first, second)
            try:
                os.link(first, second)
            except FileExistsError:
                doing = "rename()"
            os.rename(second, third)
            doing = "fsync()"
            handle = os.open(third, os.O_WRONLY)
            os.fsync(handle)
            os.close(handle)
    except OSError as error:
        return Check(
            "operations", _ERROR, f"{doing} does not work in {home} ({error.strerror}): set CKPTRUN_HOME to another folder"
        )
    return Check("operations", _GOOD, "exclusive create, link(), rename() and fsync() work in it")


def _room(home: str) -> Check:
    found = os.statvfs(home)
    free = found.f_bavail * found.f_frsize
    if found.f_files and not found.f_favail:
        return Check("room", _ERROR, f"no file can be made any more in {home}: all inodes are used")
    if free < _LEAST_ROOM:
        return Check("room", _WARNING, f"{free / 1e6:.0f} MB are free in {home}: a chain's ledger needs little, a checkpoint more")
    return Check("room", _GOOD, f"{free / 1e9:.3g} GB are free there")


# --- the installation


class Installed(NamedTuple):
    """What runs: the interpreter, its version, where ckptrun is."""

    python: str
    version: str
    package: str


def installed() -> Installed:
    """Return what runs now."""
    import ckptrun

    return Installed(sys.executable, ".".join(map(str, sys.version_info[:3])), os.path.dirname(os.path.abspath(ckptrun.__file__)))


def installation() -> tuple[Check, ...]:
    """Look at the installation: which Python, where, and how long a start takes on its file system."""
    found = installed()
    checks = [Check("Python", _GOOD, f"{found.version} ({found.python}), ckptrun in {found.package}")]
    best = min(_start_s() for _ in range(3))
    if best > _SLOW_S:
        what = f"a start takes {best:.1f} s: the file system is slow; install ckptrun on a faster one"
        checks.append(Check("start", _WARNING, what))
    else:
        checks.append(Check("start", _GOOD, f"a start takes {best * 1000:.0f} ms"))
    return tuple(checks)


def _start_s() -> float:
    before = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", "import ckptrun.link.one_link"], capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    return time.perf_counter() - before
