"""A small real training: a neural network learns XOR by gradient descent. Standard library only.

It is a program like any user's: it saves now and then, it resumes from its newest checkpoint, and on SIGUSR1 it saves at the next
step and stops. It does not import ckptrun.
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
import sys
import time

FOLDER, STEPS, EVERY, SECONDS_A_STEP, PASSES = sys.argv[1], 240, 40, 0.03, 2
asked_to_stop = False


def on_usr1(_number: int, _frame: object) -> None:
    """Only set a flag: the loop saves at a step boundary."""
    global asked_to_stop
    asked_to_stop = True


def save(step: int, weights: list[float], loss: float) -> None:
    """Write the checkpoint beside its name and rename it: it is never seen half-written."""
    path = os.path.join(FOLDER, f"step-{step:04d}.json")
    with open(path + ".tmp", "w", encoding="utf-8") as file:
        json.dump({"step": step, "weights": weights, "loss": loss}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".tmp", path)
    for old in sorted(name for name in os.listdir(FOLDER) if name.endswith(".json"))[:-2]:
        os.remove(os.path.join(FOLDER, old))  # two generations are kept


def load() -> tuple[int, list[float], float]:
    """Return the newest step, its weights and its loss, or random weights at step 0."""
    saved = sorted(name for name in os.listdir(FOLDER) if name.endswith(".json"))
    if not saved:
        dice = random.Random(4)
        return 0, [dice.uniform(-1, 1) for _ in range(13)], 1.0
    with open(os.path.join(FOLDER, saved[-1]), encoding="utf-8") as file:
        state = json.load(file)
    return state["step"], state["weights"], state["loss"]


def train_step(weights: list[float]) -> float:
    """Do a few passes of gradient descent over the four cases of XOR with three hidden units; return the loss."""
    loss = 0.0
    for _ in range(PASSES):
        loss = 0.0
        for first, second in ((0, 0), (0, 1), (1, 0), (1, 1)):
            wanted = first ^ second
            hidden = [math.tanh(weights[3 * i] * first + weights[3 * i + 1] * second + weights[3 * i + 2]) for i in range(3)]
            answer = 1 / (1 + math.exp(-sum(weights[9 + i] * hidden[i] for i in range(3)) - weights[12]))
            loss += (answer - wanted) ** 2 / 4
            slope = (answer - wanted) * answer * (1 - answer)
            for i in range(3):
                back = slope * weights[9 + i] * (1 - hidden[i] ** 2)
                weights[9 + i] -= slope * hidden[i]
                weights[3 * i] -= back * first
                weights[3 * i + 1] -= back * second
                weights[3 * i + 2] -= back
            weights[12] -= slope
    return loss


def main() -> None:
    """Train from the newest checkpoint to the last step, or until asked to stop."""
    signal.signal(signal.SIGUSR1, on_usr1)
    os.makedirs(FOLDER, exist_ok=True)
    first, weights, loss = load()
    print(f"    training: from step {first}", flush=True)
    for step in range(first + 1, STEPS + 1):
        loss = train_step(weights)
        time.sleep(SECONDS_A_STEP)
        if step % EVERY == 0 or asked_to_stop or step == STEPS:
            save(step, weights, loss)
            print(f"    training: step {step:3d} of {STEPS}, loss {loss:.4f}, saved", flush=True)
        if asked_to_stop:
            sys.exit(0)
    print(f"    training: done, XOR is learned (loss {loss:.4f})", flush=True)


if __name__ == "__main__":
    main()
