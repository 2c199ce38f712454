"""A training that imports ckptrun: `api_counter.py FOLDER STEPS SECONDS [--deaf] [--every N] [--exit CODE] [--save SECONDS]`.

It counts, a step a line, and prints what it hears. `--deaf` leaves every signal at what the system does with it, INT too.
`--blind` never looks for an ask.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import time

import ckptrun

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.add_argument("steps", type=int)
parser.add_argument("seconds", type=float)
parser.add_argument("--deaf", action="store_true")
parser.add_argument("--blind", action="store_true")
parser.add_argument("--every", type=int, default=0)
parser.add_argument("--exit", type=int, default=0)
parser.add_argument("--save", type=float, default=0.0)
parser.add_argument("--hear", default="")
options = parser.parse_args()

if options.deaf:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
for name in filter(None, options.hear.split(",")):
    signal.signal(getattr(signal, "SIG" + name), lambda number, frame: print("signal", number, flush=True))

run = ckptrun.current()
names = sorted(os.listdir(options.folder)) if os.path.isdir(options.folder) else []
names = [name for name in names if name.endswith(".json") and not name.startswith(".")]
newest = run.checkpoint or (os.path.join(options.folder, names[-1]) if names else None)
first = json.load(open(newest))["step"] if newest else 0
print("module", ckptrun.__file__, flush=True)
print("sbatch", shutil.which("sbatch"), flush=True)
print(f"ready (pid {os.getpid()})", flush=True)
print("from", first, "resume", run.resume, flush=True)
for step in range(first, options.steps):
    time.sleep(options.seconds)
    print(f"step {step + 1}\n", end="", flush=True)  # in one piece: ckptrun writes into the same log
    run.progress(step + 1, options.steps)
    asked = not options.blind and run.checkpoint_requested
    if asked:
        print(f"asked at {time.time():.3f}", flush=True)
    if asked or (options.every and (step + 1) % options.every == 0):
        name = os.path.join(options.folder, f"step-{step + 1:07d}.json")
        with ckptrun.atomic_path(name) as path, open(path, "w") as file:
            file.write('{"step": ')
            time.sleep(options.save)
            file.write(f"{step + 1}}}")
        run.saved(name)
        print("saved", step + 1, flush=True)
    if not options.blind and run.stop_requested:
        print("stopping", flush=True)
        break
else:
    run.done()
sys.exit(options.exit)
