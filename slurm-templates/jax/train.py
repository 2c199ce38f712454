"""A JAX training that goes on exactly where it stopped, with checkpoints by Orbax: `python3 train.py [FOLDER] [--steps N]`.

Needs `pip install jax orbax-checkpoint`. Parameters, optimizer and the place in the data are saved; random numbers need not be.
"""

import argparse
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

SEED, BATCH, SAVE_EVERY, RATE = 1, 64, 500, 1e-2  # SAVE_EVERY: steps that are lost when the machine dies without a word

parser = argparse.ArgumentParser()
parser.add_argument("folder", nargs="?", default="checkpoints")
parser.add_argument("--steps", type=int, default=20000)
options = parser.parse_args()
stop = False


def on_usr1(number, frame):
    """Only set a flag: the loop saves, between two steps."""
    global stop
    stop = True


def dataset():
    """Return inputs and labels: here the sign of a sum, as a stand-in for yours."""
    inputs = np.random.default_rng(SEED).normal(size=(4096, 256)).astype("float32")
    return inputs, (inputs.sum(axis=1) > 0).astype("int32")


def new_state():
    """Return parameters and momenta as they are before the first step."""
    first, second = jax.random.split(jax.random.key(SEED))
    weights = {"in": jax.random.normal(first, (256, 1024)) / 16, "out": jax.random.normal(second, (1024, 2)) / 32}
    return {"weights": weights, "momenta": jax.tree.map(jnp.zeros_like, weights)}


def loss_of(weights, inputs, labels, key=None):
    """Return the loss; with a key a fifth of the hidden units is dropped."""
    hidden = jax.nn.relu(inputs @ weights["in"])
    if key is not None:
        hidden = hidden * jax.random.bernoulli(key, 0.8, hidden.shape) / 0.8
    logs = jax.nn.log_softmax(hidden @ weights["out"])
    return -jnp.take_along_axis(logs, labels[:, None], axis=1).mean()


@jax.jit
def train_step(state, step, inputs, labels):
    """Do one step. Its random numbers follow from its number: there is nothing to save."""
    key = jax.random.fold_in(jax.random.key(SEED), step)
    slopes = jax.grad(loss_of)(state["weights"], inputs, labels, key)
    momenta = jax.tree.map(lambda momentum, slope: 0.9 * momentum + slope, state["momenta"], slopes)
    weights = jax.tree.map(lambda weight, momentum: weight - RATE * momentum, state["weights"], momenta)
    return {"weights": weights, "momenta": momenta}


def main():
    """Train from the newest checkpoint to the last step, or until told to stop."""
    signal.signal(signal.SIGUSR1, on_usr1)
    inputs, labels = dataset()
    per_epoch = len(inputs) // BATCH
    # Orbax writes into a temporary folder and renames it. Two are kept: if the newest is damaged, there is one before it.
    keep = ocp.CheckpointManagerOptions(max_to_keep=2)
    with ocp.CheckpointManager(os.path.abspath(options.folder), options=keep) as checkpoints:
        state, step = new_state(), checkpoints.latest_step() or 0
        if step:
            state = checkpoints.restore(step, args=ocp.args.StandardRestore(state))
        print(f"from step {step}", flush=True)
        told = False
        while step < options.steps and not told:
            epoch, done = divmod(step, per_epoch)
            # The order of an epoch depends on its number alone, so every job finds the same one.
            batch = np.random.default_rng([SEED, epoch]).permutation(len(inputs))[done * BATCH : (done + 1) * BATCH]
            state = train_step(state, step, inputs[batch], labels[batch])
            step += 1
            told = stop  # read once a step: the signal may come between the save and the end of the loop
            if told or step % SAVE_EVERY == 0 or step == options.steps:
                checkpoints.save(step, args=ocp.args.StandardSave(state))
                checkpoints.wait_until_finished()
                print(f"saved step {step}", flush=True)
    if step == options.steps:
        print(f"done: the loss is {float(loss_of(state['weights'], inputs, labels))!r}", flush=True)


if __name__ == "__main__":
    main()
