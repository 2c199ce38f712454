"""A training that waits to be asked: `hearer.py FOLDER [--hear USR1,TERM] [--heed TERM] [--once] [--helpers]`.

It prints `ready (pid N)`, waits for a signal that it heeds, saves one file, prints `saved (pid N) heard [numbers]`, exits with 0.
With --once a handler is good for one signal only. With --helpers it has two processes of its own, as trainings do: a forked worker,
which so has its handlers, and a program that catches everything. After the save they print `helper (pid N) heard [numbers]`.
"""

import argparse
import json
import os
import signal
import sys

EVERYTHING = sorted(set(range(1, 32)) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD})

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("--hear", default="USR1")
parser.add_argument("--heed", default="")
parser.add_argument("--once", action="store_true")
parser.add_argument("--helpers", action="store_true")
parser.add_argument("--helper", type=int)
options, _ = parser.parse_known_args()

heard = []


def numbers(names):
    """Return the numbers of signals that are named in one word."""
    return [getattr(signal, "SIG" + name) for name in names.split(",")]


def say(text):
    """Print one line in one write, so that lines of several processes do not mix."""
    os.write(1, f"{text}\n".encode())


def on_signal(number, _frame):
    """Only note it."""
    heard.append(int(number))
    if options.once:
        signal.signal(number, signal.SIG_DFL)


def help_until(reader):
    """Be a helper: wait until the training closes its end of the pipe, and tell what was heard until then."""
    say("helper")
    os.read(reader, 1)
    say(f"helper (pid {os.getpid()}) heard {heard}")
    os._exit(0)


if options.helper is not None:
    for one in EVERYTHING:
        signal.signal(one, on_signal)
    help_until(options.helper)

for one in numbers(options.hear):
    signal.signal(one, on_signal)
reader, writer = os.pipe()
if options.helpers:
    if os.fork() == 0:
        os.close(writer)
        help_until(reader)
    if os.fork() == 0:
        os.close(writer)
        os.set_inheritable(reader, True)
        # Under another name a Python does not find its library by itself.
        home = {"PYTHONHOME": sys.base_prefix}
        os.execve(sys.executable, ["telemetry-core", *sys.argv[:2], "--helper", str(reader)], os.environ | home)
os.close(reader)
heeded = set(numbers(options.heed or options.hear))
woken, waker = os.pipe()
os.set_blocking(waker, False)
signal.set_wakeup_fd(waker)
say(f"ready (pid {os.getpid()})")
while not heeded & set(heard):
    os.read(woken, 1)
os.makedirs(options.folder, exist_ok=True)
path = os.path.join(options.folder, f"step-000001-rank-{os.environ.get('RANK', os.environ.get('PMI_RANK', '0'))}.json")
with open(path + ".tmp", "w") as file:
    json.dump({"heard": heard}, file)
os.replace(path + ".tmp", path)
os.close(writer)
if options.helpers:
    os.wait(), os.wait()
say(f"saved (pid {os.getpid()}) heard {heard}")
