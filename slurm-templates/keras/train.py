"""A Keras training that goes on exactly where it stopped, for Keras 2 and 3: `python3 train.py [FOLDER] [--steps N]`.

Model, optimizer and the place in the data are saved, in the middle of an epoch too; put your own model and data in their places.
With Keras 2 the random numbers of Dropout layers are not saved: there such a model goes on well, but not to the last digit.
"""

import argparse
import glob
import os
import signal

import numpy as np
import tensorflow as tf
from tensorflow import keras

SEED, BATCH, SAVE_EVERY = 1, 64, 500  # SAVE_EVERY: steps that are lost when the machine dies without a word

parser = argparse.ArgumentParser()
parser.add_argument("folder", nargs="?", default="checkpoints")
parser.add_argument("--steps", type=int, default=20000)
options = parser.parse_args()
stop = False


def on_usr1(number, frame):
    """Only set a flag: the callback saves, between two steps."""
    global stop
    stop = True


def dataset():
    """Return inputs and labels: here the sign of a sum, as a stand-in for yours."""
    inputs = np.random.default_rng(SEED).normal(size=(4096, 256)).astype("float32")
    return inputs, (inputs.sum(axis=1) > 0).astype("int32")


def order(epoch, done, count):
    """Return which examples are left of an epoch. Their order depends on its number alone, so every job finds the same one."""
    return np.random.default_rng([SEED, epoch]).permutation(count)[done * BATCH :]


def new_model():
    """Return the model as it is before its first step."""
    layers = [keras.layers.Dense(1024, activation="relu"), keras.layers.BatchNormalization(), keras.layers.Dense(2)]
    model = keras.Sequential([keras.Input((256,)), *layers])
    model.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def saved():
    """Return the checkpoints, the newest last."""
    return sorted(glob.glob(os.path.join(glob.escape(options.folder), "step-*.keras")))


class Checkpoints(keras.callbacks.Callback):
    """Counts steps; saves now and then, and when told to stop."""

    def __init__(self, step):
        super().__init__()
        self.step, self.told = step, False

    def on_train_batch_end(self, batch, logs=None):
        """Save between two steps, where model and optimizer belong together."""
        self.step += 1
        self.told = stop  # read once a step: the signal may come between the save and the end
        last = self.step == options.steps
        if self.told or last or self.step % SAVE_EVERY == 0:
            self.save()
        self.model.stop_training = self.told or last

    def save(self):
        """Write under another name, bring it to the disk, then rename: nobody ever finds half a checkpoint."""
        os.makedirs(options.folder, exist_ok=True)
        temporary = os.path.join(options.folder, f".step-{self.step:08d}.tmp.keras")
        self.model.save(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, os.path.join(options.folder, f"step-{self.step:08d}.keras"))
        for old in saved()[:-2]:  # two are kept: if the newest is damaged, there is one before it
            os.remove(old)
        print(f"saved step {self.step}", flush=True)


def main():
    """Train from the newest checkpoint to the last step, or until told to stop."""
    signal.signal(signal.SIGUSR1, on_usr1)
    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    inputs, labels = dataset()
    # ckptrun names the newest checkpoint that it found whole; without ckptrun the newest one is taken.
    path = os.environ.get("CKPTRUN_CHECKPOINT") or (saved() or [None])[-1]
    model = keras.models.load_model(path) if path else new_model()
    # The optimizer counts its steps: they are saved with it.
    checkpoints = Checkpoints(int(model.optimizer.iterations.numpy()))
    print(f"from step {checkpoints.step}", flush=True)
    while checkpoints.step < options.steps and not checkpoints.told:
        epoch, done = divmod(checkpoints.step, len(inputs) // BATCH)
        left = order(epoch, done, len(inputs))
        model.fit(inputs[left], labels[left], BATCH, shuffle=False, verbose=0, callbacks=[checkpoints])
    if checkpoints.step == options.steps:
        print(f"done: the loss is {float(model.evaluate(inputs, labels, verbose=0))!r}", flush=True)


if __name__ == "__main__":
    main()
