"""A training whose saves outlive its steps: `saver.py FOLDER STEPS HOW [--hear] [--wait]`.

HOW is `thread` (a thread writes half, pauses with the file open, writes the rest; the next save begins some time after it) or
`process` (asked, or at its end, it leaves a process of its own behind, which begins half a second later and lets three ranks write
one shard each into a folder; with `--wait` it ends only when that has begun). It prints `begin N` and `end N` around each save,
whoever makes it, and resumes from the newest that is whole.
"""

import json
import os
import signal
import sys
import threading
import time

folder, steps, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
STEP_S, EVERY, PAUSE_S, BETWEEN_S, RANKS = 0.1, 45, 2.6, 1.0, 3
asked = False


def say(text):
    """Print one line in one write."""
    os.write(1, f"{text}\n".encode())


def on_usr1(_number, _frame):
    """Only set a flag."""
    global asked
    asked = True


if "--hear" in sys.argv:
    signal.signal(signal.SIGUSR1, on_usr1)
else:  # as a program that is no Python: every signal ends it
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def write(path, step, pause_s):
    """Write one file under its own name, in two halves."""
    with open(path, "w") as file:
        text = json.dumps({"step": step, "weights": [0.5] * 50})
        file.write(text[:40])
        file.flush()
        time.sleep(pause_s)
        file.write(text[40:])
        file.flush()
        os.fsync(file.fileno())


def in_thread(step):
    """Save in the background of the steps that follow."""
    say(f"begin {step}")
    os.makedirs(folder, exist_ok=True)
    write(os.path.join(folder, f"step-{step:06d}.json"), step, PAUSE_S)
    say(f"end {step}")


def in_process(step):
    """Leave a process behind that saves; whoever waits for us need not wait for it."""
    begun, begins = os.pipe()
    if os.fork():
        if "--wait" in sys.argv:
            os.read(begun, 1)
        return
    os.setsid()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    time.sleep(0.5)
    say(f"begin {step}")
    place = os.path.join(folder, f"step-{step:06d}")
    os.makedirs(place)
    os.write(begins, b"x")
    ranks = []
    for rank in range(RANKS):
        pid = os.fork()
        if pid == 0:
            time.sleep(rank * BETWEEN_S)
            write(os.path.join(place, f"shard-{rank}.json"), step, 0.3)
            os._exit(0)
        ranks.append(pid)
    for pid in ranks:
        os.waitpid(pid, 0)
    say(f"end {step}")
    os._exit(0)


def newest():
    """Return the step of the newest checkpoint, 0 without one; fail where it is not whole."""
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    if not names:
        return 0
    path = os.path.join(folder, names[-1])
    files = [path] if os.path.isfile(path) else [os.path.join(path, f"shard-{rank}.json") for rank in range(RANKS)]
    return max(json.load(open(file))["step"] for file in files)


step = newest()
say(f"ready (pid {os.getpid()})")
say(f"from {step}")
saving = None
while step < steps and not asked:
    step += 1
    time.sleep(STEP_S)
    if how == "thread" and step % EVERY == 0:
        if saving is not None:
            saving.join()
        saving = threading.Thread(target=in_thread, args=(step,))
        saving.start()
if how == "process":
    in_process(step)
    say("over")
    os._exit(0)
if saving is not None:
    saving.join()
