"""What a real Slurm needs on this machine: Debian's packages, and an unprivileged user whose jobs run."""

from __future__ import annotations

import fcntl
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "slurmdbd", "munge", "mariadb-server")
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "slurmdbd", "munged", "mariadbd", "unshare", "nsenter", "setpriv")
USER = "ckptrunlab"
_LOCK = Path("/run/lock/ckptrun-lab-install")
_POLICY = Path("/usr/sbin/policy-rc.d")


def why_not() -> str | None:
    """Return why no Slurm can be had here, None where it can."""
    if os.geteuid() != 0:
        return "a real Slurm needs root: daemons, cgroups, jobs of another user"
    if _missing() and shutil.which("apt-get") is None:
        return f"{', '.join(_missing())} missing, and there is no apt-get to install Debian's Slurm with"
    if not Path("/sys/fs/cgroup/freezer").is_dir():
        return "no cgroup v1 freezer is mounted at /sys/fs/cgroup/freezer, which proctrack/cgroup of this Slurm needs"
    return None


def install() -> None:
    """Install what is missing; one process at a time. Raises RuntimeError with what apt-get said."""
    with _locked():
        if _missing():
            _install_packages(PACKAGES)
        try:
            pwd.getpwnam(USER)
        except KeyError:
            subprocess.run(["useradd", "--system", "--no-create-home", "--shell", "/bin/bash", USER], check=True)


def install_one(program: str, package: str) -> str | None:
    """Install the Debian package of a program that is missing; return why it cannot be had, None where it is there."""
    if shutil.which(program) is not None:
        return None
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"{program} is missing, and only root can install Debian's {package}"
    with _locked():
        if shutil.which(program) is None:
            _install_packages((package,))
    return None


def _missing() -> list[str]:
    return [program for program in PROGRAMS if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]


@contextmanager
def _locked() -> Iterator[None]:
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install_packages(packages: tuple[str, ...]) -> None:
    ours = not _POLICY.exists()
    if ours:  # Debian starts what it installs, on the usual ports; a policy of 101 means: do not
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq"]
    try:
        for words in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            done = subprocess.run([*apt, *words], env=environment, capture_output=True, text=True)
            if done.returncode != 0 and words[0] == "install":
                raise RuntimeError(f"apt-get {words[0]} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    finally:
        if ours:
            _POLICY.unlink()
