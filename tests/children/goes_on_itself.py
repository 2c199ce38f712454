"""A training that goes on by itself: `goes_on_itself.py FOLDER STEPS SECONDS requeue|requeue-late|sbatch`.

It counts as `counter.py` does, and saves each step. On USR1 in its first start it does what frameworks do: it requeues its job and
trains on (at once, or when that is refused already), or it submits its script again and exits.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

folder, steps, seconds, how = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
asked = False


def on_usr1(_number, _frame):
    """Only set a flag."""
    global asked
    asked = True


def say(text):
    """Print one line in one write."""
    os.write(1, f"{text}\n".encode())


def run(*words):
    """Run a command of Slurm's and say how it ended."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    say(f"{' '.join(words[:2])}: {done.returncode} {(done.stdout + done.stderr).strip()}")


def go_on():
    """Do what ckptrun does, too."""
    if how == "sbatch":
        run("sbatch", "--parsable", "--output=again-%j.out", "job.sh")
        sys.exit(0)
    while how == "requeue-late" and "Requeue=0" not in subprocess.getoutput(f"scontrol -o show job {os.environ['SLURM_JOB_ID']}"):
        time.sleep(0.1)
    run("scontrol", "requeue", os.environ["SLURM_JOB_ID"])
    open("requeued", "w").close()


signal.signal(signal.SIGUSR1, on_usr1)
lock = open(folder + ".lock", "w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    say("TWO AT ONCE")
    sys.exit(99)
os.makedirs(folder, exist_ok=True)
names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))
step = json.load(open(os.path.join(folder, names[-1])))["step"] if names else 0
first = (os.environ["CKPTRUN_LINK"], os.environ["CKPTRUN_ATTEMPT"]) == ("1", "1")
while step < steps:
    step += 1
    say(f"step {step}")
    time.sleep(seconds)
    path = os.path.join(folder, f"step-{step:06d}.json")
    with open(path + ".tmp", "w") as file:
        json.dump({"step": step}, file)
    os.replace(path + ".tmp", path)
    if asked and first:
        go_on()
        asked = first = False
    elif asked:
        sys.exit(0)
say("all steps done")
