"""Signal handlers, installed before anything heavy is imported: until then SIGUSR1 would kill us.

Nothing happens in a handler: the interpreter writes the signal's number to a pipe, and the loop of the link reads it there.
Handlers come before the child, too: a signal that the batch script ignores (`trap '' USR1`) would otherwise be ignored in the
child for ever, because ignored signals survive an exec and caught ones do not.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` imports enum: 4 ms in which USR1 would kill us
import os

HUP, INT, QUIT, USR1, USR2, TERM, CHLD = 1, 2, 3, 10, 12, 15, 17
# HUP and INT that were ignored at our start stay so: that is what `nohup` and a shell's `&` mean by it.
_LEAVE_IGNORED = (HUP, INT, QUIT)


class Handlers:
    """The handlers of this process and the pipe on which signals arrive. `restore` puts back what was there."""

    NUMBERS = (HUP, INT, QUIT, USR1, USR2, TERM, CHLD)

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._earlier_fd = _signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        self._earlier = {}
        for number in self.NUMBERS:
            if number in _LEAVE_IGNORED and _signal.getsignal(number) == _signal.SIG_IGN:
                continue
            self._earlier[number] = _signal.signal(number, _noted)
        # A mask that we inherited would keep the signals from us; the child gets it back as it was.
        self.mask = _signal.pthread_sigmask(_signal.SIG_UNBLOCK, self.NUMBERS)

    def arrived(self) -> bytes:
        """Return the numbers of the signals that arrived since the last call, one byte each; does not wait."""
        try:
            return os.read(self.reader, 4096)
        except BlockingIOError:
            return b""

    def restore(self) -> None:
        """Put back the handlers, the mask and the wakeup descriptor that were there before."""
        for number, handler in self._earlier.items():
            _signal.signal(number, handler)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self.mask)
        _signal.set_wakeup_fd(self._earlier_fd)
        os.close(self.reader)
        os.close(self._writer)


def _noted(_number: int, _frame: object) -> None:
    """Do nothing: that the signal was caught has already written its number to the pipe."""
