"""Checkpoints of the libraries that the tests have: `python -m tests.checkpoints.native NAME FOLDER`.

They are written in a process of their own: what the libraries warn about, and the memory that they take, stays there.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import pickle
import sys
import warnings
from collections import OrderedDict
from pathlib import Path


def torch(folder: Path) -> None:
    """PyTorch's zip file, its older form, its distributed checkpoint, safetensors, and weights in shards with their index."""
    import safetensors.torch
    import torch
    from torch.distributed import checkpoint

    state = {"step": 7, "model": OrderedDict(a=torch.randn(40, 30), b=torch.zeros(3).half()), "names": ["x", "y"], "big": 1 << 80}
    torch.save(state, folder / "zip.pt")
    torch.save(state, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    checkpoint.save({"model": state["model"], "step": 3}, checkpoint_id=folder / "distributed-3", no_dist=True)
    safetensors.torch.save_file(state["model"], folder / "one.safetensors")
    sharded = folder / "sharded"
    sharded.mkdir()
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    for key, name in names.items():
        safetensors.torch.save_file({key: state["model"][key]}, sharded / name)
    index = {"metadata": {"total_size": 4806}, "weight_map": names}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def plain(folder: Path) -> None:
    """pickle in all protocols, JSON, NumPy, joblib, HDF5 of all versions, and what is compressed."""
    import h5py
    import joblib
    import numpy as np
    import zstandard

    state = {"counter": 5, "rows": [list(range(30)), "text\n" * 9, b"bytes", 1.5, (None, True), {1, 2}, 1 << 3000, "x" * 300]}
    for protocol in range(6):
        (folder / f"protocol{protocol}.pkl").write_bytes(pickle.dumps(state, protocol))
    text = {"step": 7, "weights": [0.5] * 300, "names": ['a "quoted" \\ one', "é"], "deep": [[[{}], []], {"x": [1, -2.5e-9, None]}]}
    (folder / "plain.json").write_text(json.dumps(text))
    (folder / "indented.json").write_text(json.dumps(text, indent=1))
    array = np.random.default_rng(1).random((40, 30))
    np.save(folder / "array.npy", array)
    np.save(folder / "objects.npy", np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    np.save(folder / "records.npy", np.zeros(50, dtype=[("x", "<f4", (3,)), ("name", "U7")]))
    np.savez(folder / "stored.npz", a=array, b=array[0])
    np.savez_compressed(folder / "packed.npz", a=array, b=array[0])
    mixed = {"array": array, "more": [array[0], "x"], "objects": np.array(["a", None], dtype=object), "step": 3}
    joblib.dump(mixed, folder / "plain.joblib")
    for ending in ("gz", "xz", "bz2", "z", "lzma"):
        joblib.dump(mixed, folder / f"packed.joblib.{ending}", compress=True)
    joblib.dump(mixed, folder / "packed.joblib", compress=3)
    for version in ("earliest", "v108", "latest"):
        with h5py.File(folder / f"{version}.h5", "w", libver=version) as file:
            file["array"] = array
            file.create_dataset("packed", data=array, compression="gzip")
    raw = pickle.dumps(array.tolist())
    for name, packed in (("gz", gzip.compress(raw)), ("bz2", bz2.compress(raw)), ("xz", lzma.compress(raw))):
        (folder / f"state.pkl.{name}").write_bytes(packed)
    zstd = zstandard.ZstdCompressor(write_checksum=True, threads=0).compress(raw)
    (folder / "state.pkl.zst").write_bytes(zstd)
    stream = zstandard.ZstdCompressor(write_content_size=False).compress(raw)
    (folder / "stream.pkl.zst").write_bytes(stream + zstd)


def tensorflow(folder: Path) -> None:
    """TensorFlow 2.15 with Keras 2: weights, `.keras`, `.h5`, SavedModel, and a manager's two checkpoints."""
    import tensorflow as tf

    layers = [tf.keras.layers.Dense(48, input_shape=(32,)), tf.keras.layers.Dense(4)]
    model = tf.keras.Sequential(layers)
    model.compile("adam", "mse")
    model.fit(tf.zeros((8, 32)), tf.zeros((8, 4)), verbose=0)
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.save_weights(folder / "model.weights.h5")
    model.save(folder / "saved-model")
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(model=model), str(folder / "managed"), max_to_keep=2)
    for _ in range(2):
        manager.save()


MAKERS = {maker.__name__: maker for maker in (torch, plain, tensorflow)}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    target = Path(sys.argv[2])
    target.mkdir(parents=True, exist_ok=True)
    MAKERS[sys.argv[1]](target)
