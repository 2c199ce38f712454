"""The training of the benchmark, `training.py STEPS SECONDS SAVE_SECONDS EVERY`: saves every so many steps and when asked, resumes.

It notes when it did what, and in which run of which job.
"""

import json
import os
import signal
import sys
import time

state = {"step": 0}
asked = False


def on_usr1(_number, _frame):
    """Only set a flag."""
    global asked
    asked = True


def note(what):
    """Append what happened, and when."""
    run = f"{os.environ.get('SLURM_JOB_ID')}.{os.environ.get('SLURM_RESTART_COUNT') or 0}"
    with open("times.jsonl", "a") as file:
        file.write(json.dumps([what, time.time(), run]) + "\n")


def save(seconds):
    """Write for as long as a large model would take."""
    os.makedirs("ck", exist_ok=True)
    with open("ck/.tmp", "w") as file:
        file.write(json.dumps({"step": state["step"]}))
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
            file.write(" ")
            file.flush()
    os.replace("ck/.tmp", f"ck/step-{state['step']:07d}.json")


def resume():
    """Read the newest checkpoint."""
    names = sorted(name for name in os.listdir("ck") if name.endswith(".json")) if os.path.isdir("ck") else []
    state["step"] = json.load(open("ck/" + names[-1]))["step"] if names else 0


def train(steps, seconds, save_seconds, every):
    """Go on from the newest checkpoint until the end or the ask."""
    resume()
    note("begun")
    while state["step"] < steps and not asked:
        time.sleep(seconds)
        state["step"] += 1
        if state["step"] % every == 0 and state["step"] < steps and not asked:
            save(save_seconds)
    if asked:
        save(save_seconds)
    note("done" if state["step"] == steps else "ended")


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, on_usr1)
    train(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
    sys.exit(0 if state["step"] == int(sys.argv[1]) or os.environ.get("CKPTRUN") else 3)
