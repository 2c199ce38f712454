"""One lab from outside: start it, run commands in it as the unprivileged user or as root, end it."""

from __future__ import annotations

import json
import os
import pwd
import random
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from tests.cluster import configuration, install

REPOSITORY = Path(__file__).parents[2]
_CGROUPS = Path("/sys/fs/cgroup")
_keepers: list[subprocess.Popen[str]] = []  # theirs is a life of their own: nobody here waits for their end


class Lab(NamedTuple):
    """A running lab: its folder, and the pids of its keeper and of its pid 1 as seen from here."""

    root: Path
    keeper: int
    init: int

    @property
    def home(self) -> Path:
        """Return the folder of the unprivileged user."""
        return self.root / "home"

    def argv(self, *words: str | Path, user: bool = True, cwd: Path | None = None) -> list[str]:
        """Return the command line that runs words inside the lab."""
        become = ["setpriv", f"--reuid={install.USER}", f"--regid={install.USER}", "--init-groups", "--"] if user else []
        folder = [f"--wd={cwd}"] if cwd else []
        inside = ["nsenter", f"--target={self.init}", "--mount", "--net", "--uts", "--pid", *folder, "--", *become]
        return [*inside, *(str(word) for word in words)]

    def environment(self) -> dict[str, str]:
        """Return the environment of a person who has logged in to the lab."""
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(self.home),
            "USER": install.USER,
            "LOGNAME": install.USER,
            "SHELL": "/bin/bash",
            "LANG": "C.UTF-8",
            "SLURM_CONF": str(self.root / "etc/slurm.conf"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, *words: str | Path, user: bool = True, cwd: Path | None = None, check: bool = True, **options: Any) -> str:
        """Run a command to its end and return what it printed. Raises AssertionError with its stderr where it fails."""
        settings: dict[str, Any] = {"env": self.environment(), "text": True, "capture_output": True, "timeout": 600} | options
        done = subprocess.run(self.argv(*words, user=user, cwd=cwd), check=False, **settings)
        assert not check or done.returncode == 0, f"{shlex.join(map(str, words))}: {done.returncode}\n{done.stdout}{done.stderr}"
        return str(done.stdout)

    def admin(self, *words: str | Path, check: bool = True) -> str:
        """Run a command as root."""
        return self.run(*words, user=False, check=check)

    def start_daemon(self, *words: str, name: str = "") -> None:
        """Start a daemon that was ended, as root; it lives no longer than the lab."""
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": None, "stderr": subprocess.STDOUT, "text": True}
        with (self.root / f"log/{name or words[0]}").open("a") as log:
            argv = self.argv(*words, user=False)
            _keepers.append(subprocess.Popen(argv, env=self.environment(), **pipes | {"stdout": log}))

    def kill_daemon(self, name: str) -> None:
        """Kill a daemon with SIGKILL; what it has started lives on."""
        self.admin("kill", "-9", str(self.daemon(name)), check=False)

    def restart_daemon(self, name: str) -> None:
        """Start a daemon that was killed: `slurmctld`, or `slurmd-n1` on a host name of its own."""
        kind, _, node = name.partition("-")
        if node:
            self.start_daemon("unshare", "--uts", "sh", "-c", 'hostname "$1"; exec slurmd -D -N "$1"', "slurmd", node, name=name)
        else:
            self.start_daemon(kind, "-D")

    def daemon(self, name: str) -> int:
        """Return a daemon's pid inside the lab: `slurmctld`, `slurmdbd` or `slurmd-n1`."""
        return int((self.root / f"run/{name}.pid").read_text())


def start(owner: int | None, *, slurmd_timeout_s: int = 30, min_job_age_s: int = 300, accounting: bool = True) -> Lab:
    """Start a lab that lives until `owner` has ended, or until `stop`. Raises RuntimeError with what its start said."""
    install.install()
    root = Path(tempfile.mkdtemp(prefix="ckptrun-lab-"))
    root.chmod(0o755)
    configuration.write(root, random.randrange(1, 6000) * 10_000, slurmd_timeout_s, min_job_age_s, accounting)
    home = root / "home"
    home.mkdir()
    user = pwd.getpwnam(install.USER)
    os.chown(home, user.pw_uid, user.pw_gid)
    words = [sys.executable, "-m", "tests.cluster.lab", str(root), str(owner or 0)]
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    keeper = subprocess.Popen(words, cwd=REPOSITORY, start_new_session=True, **pipes)
    _keepers.append(keeper)
    assert keeper.stdout is not None and keeper.stderr is not None
    line = keeper.stdout.readline()
    if not line:
        raise RuntimeError(f"the lab did not start: {keeper.stderr.read()}")
    keeper.stderr.close()
    keeper.stdout.close()
    return Lab(root, keeper.pid, int(line))


def stop(lab: Lab) -> None:
    """End a lab, and wait until nothing of it is left."""
    try:
        handle = os.pidfd_open(lab.keeper)
    except ProcessLookupError:
        return
    signal.pidfd_send_signal(handle, signal.SIGTERM)
    select.select([handle], [], [], 60)
    os.close(handle)


def save(lab: Lab, path: Path) -> None:
    """Write where a lab is, for other processes."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps([str(lab.root), lab.keeper, lab.init]))
    temporary.replace(path)


def load(path: Path) -> Lab | None:
    """Return the lab that was saved, None where there is none."""
    try:
        root, keeper, init = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return Lab(Path(root), keeper, init) if Path(f"/proc/{init}/ns").exists() else None


# --- the keeper


def _keep(root: Path, owner: int) -> None:
    """Hold a lab: start its pid 1, wait for the owner's end or a SIGTERM, end it, and take its traces away."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)
    owner_handle = [os.pidfd_open(owner)] if owner else []
    flags = ["--pid", "--mount", "--net", "--uts", "--fork", "--kill-child", "--mount-proc"]
    reachable = [str(REPOSITORY), sys.prefix, sys.base_prefix]
    words = ["unshare", *flags, sys.executable, "-m", "tests.cluster.inside", str(root), *dict.fromkeys(reachable)]
    inside = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert inside.stdin is not None and inside.stdout is not None
    try:
        if inside.stdout.readline() == "ready\n":
            init = Path(f"/proc/{inside.pid}/task/{inside.pid}/children").read_text().split()[0]
            print(init, flush=True)
            os.close(1)
            select.select([reader, *owner_handle], [], [])
    finally:
        inside.stdin.close()
        inside.wait()
        _clear_cgroups(root)
        shutil.rmtree(root, ignore_errors=True)


def _clear_cgroups(root: Path) -> None:
    """Remove the empty cgroups of the lab's jobs: Slurm's own clean-up ended with it."""
    first = next(
        int(line.partition("=")[2]) for line in (root / "etc/slurm.conf").read_text().splitlines() if line.startswith("FirstJobId=")
    )
    for folder in sorted(_CGROUPS.glob("*/slurm*/uid_*/job_*"), reverse=True):
        if first <= int(folder.name.removeprefix("job_")) < first + 10_000:
            for inner in (*sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True), folder):
                try:
                    inner.rmdir()
                except OSError:
                    continue


if __name__ == "__main__":
    _keep(Path(sys.argv[1]), int(sys.argv[2]))
