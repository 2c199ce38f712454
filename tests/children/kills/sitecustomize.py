"""Kills the ckptrun that imports it before the N-th thing that it does to the world after the ask: a folder for PYTHONPATH.

`CKPTRUN_TEST_KILL=FOLDER:N[:N...]`. What is done to the world is a call that another process could see: a file opened for writing,
written, linked, renamed, removed, a folder made, a signal sent, a process forked. Between two such calls nothing outside changes:
to be killed before each of them, and at none, is to be killed at every system call. The ask is the first signal that is sent.

The first ckptrun that gets that far is killed at the first N, the next that starts after it at the second. FOLDER tells what
happened: `killed-1` holds the call, `count-1` how many there were where a ckptrun ended by itself.
"""

import atexit
import builtins
import os
import signal
import sys

TO_WRITE = os.O_WRONLY | os.O_RDWR
folder, _, numbers = os.environ.get("CKPTRUN_TEST_KILL", "").partition(":")


class Killer:
    """Counts, in this process alone, and kills it at its number."""

    def __init__(self, place, number):
        self.place, self.number = place, number
        self.count, self.asked = 0, False
        self.real_open, self.real_kill, self.real_fork = os.open, os.kill, os.fork

    def before(self, what):
        """Be killed now, if it is time."""
        self.count += self.asked
        if self.asked and self.count == self.number:
            self.note("killed", f"{self.count}: {what}")
            self.real_kill(os.getpid(), signal.SIGKILL)

    def note(self, word, text):
        """Write what happened, once."""
        os.close(self.real_open(self.path(word), os.O_CREAT | os.O_EXCL, 0o644))
        with open(self.path(word), "w") as file:
            file.write(text)

    def path(self, word):
        """Return where a note stands."""
        return os.path.join(folder, f"{word}-{self.place}")

    def ended(self):
        """Note how many calls there were in a ckptrun that asked and was not killed."""
        if self.asked and not os.path.exists(self.path("count")):
            self.asked = False
            self.note("count", str(self.count))

    # --- what is wrapped

    def kill(self, pid, number):
        """Send a signal; the first one is the ask."""
        self.asked = self.asked or number != 0
        self.before(f"kill {signal.Signals(number).name}")
        return self.real_kill(pid, number)

    def fork(self):
        """Fork; the child is not counted."""
        self.before("fork")
        pid = self.real_fork()
        if pid == 0:
            self.asked = False
        return pid

    def open(self, path, flags, *rest, **named):
        """Open; to read alone changes nothing."""
        if flags & (TO_WRITE | os.O_CREAT):
            self.before(f"open {path}")
        return self.real_open(path, flags, *rest, **named)

    def wrap(self, name):
        """Count a function whose every call changes something."""
        real = getattr(os, name)

        def wrapped(*words, **named):
            if name not in ("write", "pwrite") or words[0] > 2:
                self.before(f"{name} {words[0]}")
            return real(*words, **named)

        setattr(os, name, wrapped)

    def begin(self):
        """Put ourselves before the functions."""
        for name in ("write", "pwrite", "link", "unlink", "remove", "rename", "replace", "mkdir", "rmdir", "symlink", "truncate"):
            self.wrap(name)
        os.kill, os.fork, os.open = self.kill, self.fork, self.open
        real = builtins.open

        def wrapped(file, mode="r", *rest, **named):
            if not isinstance(file, int) and set(mode) & set("wax+"):
                self.before(f"open {file}")
            return real(file, mode, *rest, **named)

        builtins.open = wrapped
        atexit.register(self.ended)


if numbers and any(os.path.basename(word) == "ckptrun" for word in sys.orig_argv[:3]) and "chain" not in sys.orig_argv[:4]:
    wanted = [int(number) for number in numbers.split(":")]
    for place, number in enumerate(wanted, 1):
        if not os.path.exists(os.path.join(folder, f"killed-{place}")):
            Killer(place, number).begin()
            break
