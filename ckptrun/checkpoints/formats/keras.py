"""Keras' `.keras` files: zip files with the configuration, and the weights as an HDF5 file inside.

Source: keras/src/saving/saving_lib.py.
"""

from __future__ import annotations

from ckptrun.checkpoints.formats import hdf5, zip  # noqa: A004  # a format's name is its module's
from ckptrun.checkpoints.formats.found import Found, truncated
from ckptrun.checkpoints.formats.window import Window

_NEEDED = ("config.json", "metadata.json", "model.weights.h5")


def check_archive(data: Window, full: bool) -> Found:
    """Return what was found in a `.keras` file. Raises Cut."""
    members = {member.name: member for member in zip.members(data)}
    missing = [name for name in _NEEDED if name not in members]
    if missing and not any(name.startswith("model.weights") for name in members):
        return truncated(f"{missing[0]} is missing")
    weights = members.get("model.weights.h5")
    if weights is not None and weights.method == zip.STORED:
        found = hdf5.check_stretch(data.part(weights.begin, weights.size))
        if found.is_truncated:
            return truncated(f"{weights.name}: {found.why}")
    return zip.check_members(data, members.values(), full)
