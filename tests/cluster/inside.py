"""Pid 1 of the lab: starts the daemons, says `ready`, reaps, and ends when its standard input does. The kernel ends the rest."""

from __future__ import annotations

import fcntl
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.cluster.configuration import ACCOUNTING, NODES

_READY_S = 240.0
_SIOCSIFFLAGS, _SIOCSIFADDR, _IFF_UP = 0x8914, 0x8916, 0x1
# Slurm resolves names with AI_ADDRCONFIG, for which an address in 127.0.0.0/8 is none.
_ADDRESS = "10.77.0.1"


def main(root: Path, reachable: list[Path]) -> None:
    """Bring up the lab below `root`; `reachable` are paths that the unprivileged user must be able to enter."""
    os.environ["PATH"] = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    os.environ["SLURM_CONF"] = str(root / "etc/slurm.conf")
    _loopback_up()
    socket.sethostname("lab")
    _let_in(reachable, root)
    (root / "etc/hosts").write_text(f"127.0.0.1 localhost lab {' '.join(NODES)}\n")
    _run("mount", "-n", "--bind", str(root / "etc/hosts"), "/etc/hosts")
    _start(root)
    print("ready", flush=True)
    _reap_until_eof()


def _start(root: Path) -> None:
    etc = root / "etc"
    # Slurm's clients look for munge at its usual place, which is the lab's own here.
    Path("/run/munge").mkdir(exist_ok=True)
    _run("mount", "-n", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run/munge")
    files = {"key-file": etc / "munge.key", "pid-file": "/run/munge/pid", "seed-file": "/run/munge/seed"}
    munge = _daemon(root, "munged", "munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in files.items()))
    munge.until("Created socket")
    if ACCOUNTING in (etc / "slurm.conf").read_text():
        _start_accounting(root)
    controller = _daemon(root, "slurmctld", "slurmctld", "-D", "-v")
    for node in NODES:
        start_slurmd(root, node)
    controller.until("Running as primary controller")
    # Returns when all three nodes have registered: a job that needs them waits for them.
    _run("srun", "-Q", "-N2", "true")
    _run("srun", "-Q", "-p", "prio", "true")


def _start_accounting(root: Path) -> None:
    data = f"--datadir={root}/database"
    # Its temporaries are named after its pid, which another lab's has too.
    own = [data, f"--tmpdir={root}/run", "--user=root"]
    _run("mariadb-install-db", "--no-defaults", *own, "--skip-test-db", "--auth-root-authentication-method=normal")
    small = ["--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=64M", "--skip-log-bin", "--innodb-doublewrite=0"]
    where = [f"--socket={root}/run/mariadb", f"--pid-file={root}/run/mariadb.pid", "--bind-address=127.0.0.1"]
    first = f"--init-file={root}/etc/database.sql"
    database = _daemon(root, "mariadbd", "mariadbd", "--no-defaults", *own, *where, *small, first)
    database.until("ready for connections")
    _daemon(root, "slurmdbd", "slurmdbd", "-D", "-v").until("slurmdbd version .* started")
    _run_until_answered("sacctmgr", "-i", "add", "cluster", "lab")  # slurmdbd says that it has started before it listens


def _run(*words: str) -> None:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_READY_S)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")


def _run_until_answered(*words: str) -> None:
    end_at = time.monotonic() + _READY_S
    while True:
        try:
            return _run(*words)
        except RuntimeError as error:
            if "refused" not in str(error) or time.monotonic() > end_at:
                raise


def start_slurmd(root: Path, node: str) -> None:
    """Start one slurmd on a host name of its own, so that jobs see their node's name."""
    program = 'hostname "$1"; exec slurmd -D -N "$1"'
    _daemon(root, f"slurmd-{node}", "unshare", "--uts", "sh", "-c", program, "slurmd", node)


class _Daemon:
    """A daemon in the foreground; its output goes to a file below `log`, and `until` waits for a line of it."""

    def __init__(self, name: str, log: Path, words: tuple[str, ...]) -> None:
        self.name = name
        self._lines: list[str] = []
        self._changed = threading.Condition()
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        # Where it stands is where a core file of it would lie.
        self._process = subprocess.Popen(words, cwd=log.parent, text=True, errors="replace", **pipes)
        threading.Thread(target=self._copy, args=(log,), daemon=True).start()

    def _copy(self, log: Path) -> None:
        assert self._process.stdout is not None
        with log.open("a", buffering=1) as file:
            for line in self._process.stdout:
                file.write(line)
                with self._changed:
                    self._lines.append(line)
                    del self._lines[:-200]
                    self._changed.notify_all()

    def until(self, pattern: str) -> None:
        import re

        with self._changed:
            found = self._changed.wait_for(lambda: any(re.search(pattern, line) for line in self._lines), timeout=_READY_S)
        if not found:
            raise RuntimeError(f"{self.name} never said {pattern!r}:\n{''.join(self._lines)}")


def _daemon(root: Path, name: str, *words: str) -> _Daemon:
    return _Daemon(name, root / f"log/{name}", words)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))
        address = struct.pack("16shH4s8x", b"lo:1", socket.AF_INET, 0, socket.inet_aton(_ADDRESS))
        fcntl.ioctl(handle, _SIOCSIFADDR, address)


def _let_in(paths: list[Path], root: Path) -> None:
    """Make `paths` enterable for everybody inside the lab alone, where a folder above them (like /root) is closed to others.

    A closed folder is covered by an empty one that is open, and only these paths are shown in it.
    """
    closed: dict[Path, list[Path]] = {}
    for path in paths:
        folder = next((above for above in reversed(path.parents) if not above.stat().st_mode & 0o001), None)
        if folder is not None:
            closed.setdefault(folder, []).append(path)
    mount = ["mount", "-n"]
    for number, (folder, hidden) in enumerate(closed.items()):
        kept = {path: root / f"run/kept-{number}-{place}" for place, path in enumerate(hidden)}
        for path, place in kept.items():
            place.mkdir()
            subprocess.run([*mount, "--bind", path, place], check=True)
        subprocess.run([*mount, "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder], check=True)
        for path, place in kept.items():
            path.mkdir(parents=True, exist_ok=True)
            subprocess.run([*mount, "--bind", place, path], check=True)


def _reap_until_eof() -> None:
    """Wait for the end of standard input; take leave of the orphans that pid 1 inherits."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        selector.register(0, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in selector.select()}
            if reader in ready:
                os.read(reader, 4096)
                _reap()
            if 0 in ready and not os.read(0, 4096):
                return


def _reap() -> None:
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(word) for word in sys.argv[2:]])
