"""Debian's packages for tests: installed when missing, by one process at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

_LOCK = Path("/run/lock/ckptrun-test-packages")


def ensure(*packages: str) -> str | None:
    """Install what is missing; return why it cannot be had here, None where it is there. Raises RuntimeError."""
    missing = [name for name in packages if not _is_installed(name)]
    if not missing:
        return None
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"{', '.join(missing)} missing: Debian's apt-get, as root, would install it"
    _LOCK.parent.mkdir(parents=True, exist_ok=True)
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install([name for name in missing if not _is_installed(name)])
    return None


def _is_installed(package: str) -> bool:
    if shutil.which("dpkg-query") is None:
        return False
    done = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Status}", package], capture_output=True, text=True)
    return done.stdout == "installed"


def _install(packages: list[str]) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-qq"]
    for words in (["update"], ["install", "-y", "--no-install-recommends", *packages]) if packages else ():
        done = subprocess.run([*apt, *words], env=environment, capture_output=True, text=True)
        if done.returncode != 0 and words[0] == "install":
            raise RuntimeError(f"apt-get {words[0]} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
