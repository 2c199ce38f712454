"""A training that counts: `counter.py FOLDER STEPS SECONDS [--hear USR1] [--exit CODE] [--save SECONDS] [--ignore] [--deaf]`.

STEPS may be `@FILE`: the number that stands in that file when it starts. With `--until FILE` a save ends when that file exists;
variables in its name are filled in.

It prints `ready (pid N)`, then `step N` for each step, saves each step (or only when asked), resumes from the newest file, and
holds a lock so that two of them at once are noticed: the second prints `TWO AT ONCE` and exits with 99. With `--tell` it prints
`saved N`, too.
"""

import argparse
import fcntl
import json
import os
import signal
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("steps")
parser.add_argument("seconds", type=float)
parser.add_argument("--hear", default="")
parser.add_argument("--exit", type=int, default=0)
parser.add_argument("--save", type=float, default=0.0)
parser.add_argument("--until", default="")
parser.add_argument("--only-asked", action="store_true")
parser.add_argument("--ignore", action="store_true")
parser.add_argument("--deaf", action="store_true")
parser.add_argument("--tell", action="store_true")
parser.add_argument("--go-on", action="store_true")
options, extra = parser.parse_known_args()
steps = int(open(options.steps[1:]).read()) if options.steps.startswith("@") else int(options.steps)
last = os.path.expandvars(options.until)


def say(text):
    """Print one line in one write: print() writes the end of the line apart, and others print into the same log."""
    os.write(1, f"{text}\n".encode())


lock = open(options.folder + ".lock", "w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    say("TWO AT ONCE")
    sys.exit(99)

asked = False


def on_signal(number, _frame):
    """Only set a flag, and say so."""
    global asked
    asked = True
    say(f"heard {number}")


for name in filter(None, options.hear.split(",")):
    signal.signal(getattr(signal, "SIG" + name), on_signal)
if options.ignore:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
if options.deaf:  # as a program that is no Python: every signal ends it
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def save(step):
    """Write the step in two halves, slowly where that is wanted, and rename."""
    os.makedirs(options.folder, exist_ok=True)
    path = os.path.join(options.folder, f"step-{step:06d}.json")
    with open(path + ".tmp", "w") as file:
        until = time.monotonic() + options.save
        file.write('{"step": ')
        while time.monotonic() < until or (last and not os.path.exists(last)):
            file.write(" ")
            file.flush()
            time.sleep(0.05)
        file.write(f"{step}}}")
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".tmp", path)
    if options.tell:
        say(f"saved {step}")


names = sorted(os.listdir(options.folder)) if os.path.isdir(options.folder) else []
names = [name for name in names if name.endswith(".json")]
step = json.load(open(os.path.join(options.folder, names[-1])))["step"] if names else 0
say(f"ready (pid {os.getpid()})")
say(f"from {step} with {extra}")
while step < steps:
    step += 1
    say(f"step {step}")
    until = time.monotonic() + options.seconds
    while (left := until - time.monotonic()) > 0 and not asked:
        time.sleep(min(left, 0.02))
    if not options.only_asked or asked:
        save(step)
    if asked and not options.go_on:
        sys.exit(options.exit)
    asked = False
say("all steps done")
sys.exit(options.exit)
