"""The training of the benchmark, `training.py STEPS SECONDS SAVE_SECONDS`: saves when asked, resumes, notes when it did what."""

import json
import os
import signal
import sys
import time

steps, seconds, save_seconds = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
asked = False


def on_usr1(_number, _frame):
    """Only set a flag."""
    global asked
    asked = True


def note(what):
    """Append what happened, and when."""
    with open("times.jsonl", "a") as file:
        file.write(json.dumps([what, time.time(), os.environ.get("SLURM_JOB_ID")]) + "\n")


def save(step):
    """Write for as long as a large model would take."""
    os.makedirs("ck", exist_ok=True)
    with open("ck/.tmp", "w") as file:
        file.write(json.dumps({"step": step}))
        until = time.monotonic() + save_seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
            file.write(" ")
            file.flush()
    os.replace("ck/.tmp", f"ck/step-{step:07d}.json")


signal.signal(signal.SIGUSR1, on_usr1)
names = sorted(name for name in os.listdir("ck") if name.endswith(".json")) if os.path.isdir("ck") else []
step = json.load(open("ck/" + names[-1]))["step"] if names else 0
note("begun")
while step < steps and not asked:
    time.sleep(seconds)
    step += 1
if asked:
    save(step)
note("ended")
sys.exit(0 if step == steps or os.environ.get("CKPTRUN") else 3)
