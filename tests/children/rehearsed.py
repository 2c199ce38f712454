"""A training that resumes, or does not: `rehearsed.py FOLDER FAULT`. It saves ten times a second, and once more on SIGUSR1.

FAULT is `none`; `unopened`: looks at the folder and never opens a file; `anew`: opens the newest, and begins at zero all the same;
`cut`: the save that was asked for is half a file; `refuses`: fails when there is something to resume.

It prints `ready` when it hears.
"""

import json
import os
import signal
import sys
import time

folder, fault = sys.argv[1:]
asked = False


def on_usr1(_number, _frame):
    """Only set a flag."""
    global asked
    asked = True


signal.signal(signal.SIGUSR1, on_usr1)
print("ready", flush=True)
os.makedirs(folder, exist_ok=True)
names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))
step = 0
if names and fault == "refuses":
    sys.exit("there is something already")
if names and fault != "unopened":
    with open(os.path.join(folder, names[-1])) as file:
        loaded = json.load(file)["step"]
    step = 0 if fault == "anew" else loaded
stride = 1 if names else 10  # however slow this machine is, one that begins anew is behind
while True:
    step += stride
    time.sleep(0.1)
    path = os.path.join(folder, f"step-{step:06d}.json")
    with open(path + ".tmp", "w") as file:
        file.write(f'{{"step": {step}' if asked and fault == "cut" else f'{{"step": {step}}}')
    os.replace(path + ".tmp", path)
    if asked:
        sys.exit(0)
