"""A long computation in plain Python that goes on where it stopped: `python3 train.py [FOLDER] [--steps N]`.

It estimates pi with darts. Put your own work into `work`: what it needs to go on is one dictionary.
"""

import argparse
import glob
import os
import pickle
import random
import signal

SAVE_EVERY = 1000  # steps: what is lost when the machine dies without a word

parser = argparse.ArgumentParser()
parser.add_argument("folder", nargs="?", default="checkpoints")
parser.add_argument("--steps", type=int, default=20000)
options = parser.parse_args()
stop = False


def on_usr1(number, frame):
    """Only set a flag: the state may be half-changed here, so the loop saves, between two steps."""
    global stop
    stop = True


def work(state):
    """Do one step."""
    for _ in range(10000):
        state["hits"] += random.random() ** 2 + random.random() ** 2 < 1
        state["darts"] += 1


def saved():
    """Return the checkpoints, the newest last."""
    return sorted(glob.glob(os.path.join(glob.escape(options.folder), "step-*.pkl")))


def save(state):
    """Write beside the name, bring it to the disk, then rename: nobody ever finds half a checkpoint."""
    os.makedirs(options.folder, exist_ok=True)
    path = os.path.join(options.folder, f"step-{state['step']:08d}.pkl")
    with open(path + ".tmp", "wb") as file:
        pickle.dump({**state, "random": random.getstate()}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".tmp", path)
    for old in saved()[:-2]:  # two are kept: if the newest is damaged, there is one before it
        os.remove(old)


def load():
    """Return the newest state, or the first one where nothing was saved yet."""
    # ckptrun names the newest checkpoint that it found whole; without ckptrun the newest one is taken.
    path = os.environ.get("CKPTRUN_CHECKPOINT") or (saved() or [None])[-1]
    if path is None:
        random.seed(1)
        return {"step": 0, "hits": 0, "darts": 0}
    with open(path, "rb") as file:
        state = pickle.load(file)
    random.setstate(state.pop("random"))
    return state


signal.signal(signal.SIGUSR1, on_usr1)
state = load()
print(f"from step {state['step']}", flush=True)
told = False
while state["step"] < options.steps and not told:
    work(state)
    state["step"] += 1
    told = stop  # read once a step: the signal may come between the save and the end of the loop
    if told or state["step"] % SAVE_EVERY == 0 or state["step"] == options.steps:
        save(state)
        print(f"saved step {state['step']}", flush=True)
if state["step"] == options.steps:
    print(f"done: pi is about {4 * state['hits'] / state['darts']!r}", flush=True)
