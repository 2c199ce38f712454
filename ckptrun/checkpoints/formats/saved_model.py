"""TensorFlow's SavedModel folders: `saved_model.pb`, a protocol buffer, and the variables, a checkpoint of index and shards.

Keras adds `keras_metadata.pb` with one record for each of its objects in the graph. `fingerprint.pb` is not looked at: a model
loads without it. Source: tensorflow/core/protobuf/saved_model.proto, meta_graph.proto, saved_object_graph.proto.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ckptrun.checkpoints.formats.found import Cut, Found, truncated, whole
from ckptrun.checkpoints.formats.protobuf import field
from ckptrun.checkpoints.formats.tensorflow import check_bundle
from ckptrun.checkpoints.formats.window import Window
from ckptrun.words import Checkpoint

_META_GRAPH, _OBJECT_GRAPH, _NODE, _USER_OBJECT, _IDENTIFIER = 2, 7, 1, 4, 1
_ASSET, _ASSET_NAME = 6, 2
_LONGEST_TAG_BYTES = 20


def check(checkpoint: Checkpoint, full: bool) -> Found:
    """Return what was found in a SavedModel folder."""
    model = os.path.join(checkpoint.path, "saved_model.pb")
    if model not in checkpoint.parts:
        if f"{model}txt" in checkpoint.parts:
            return _check_variables(checkpoint, full)
        return truncated("saved_model.pb is missing")
    try:
        with Window(model) as data:
            objects, assets = _contents(data)
    except Cut as error:
        return truncated(f"saved_model.pb: {error}")
    for name in assets:
        if os.path.join(checkpoint.path, "assets", name) not in checkpoint.parts:
            return truncated(f"assets/{name} is missing")
    why = _check_keras(checkpoint, objects)
    if why is not None:
        return truncated(f"keras_metadata.pb: {why}")
    return _check_variables(checkpoint, full)


def _check_variables(checkpoint: Checkpoint, full: bool) -> Found:
    prefix = os.path.join(checkpoint.path, "variables", "variables")
    if not any(part.startswith(f"{prefix}.") for part in checkpoint.parts):
        # A graph without variables has no such folder; one of Keras always has.
        return whole("the graph stands; it has no variables")
    found = check_bundle(prefix, checkpoint.parts, full)
    return truncated(f"variables: {found.why}") if found.is_truncated else whole(f"the graph stands; variables: {found.why}")


def _contents(data: Window) -> tuple[int, list[str]]:
    """Return how many of the graph's objects are Keras', and the names of the assets. Raises Cut."""
    objects, assets, graphs = 0, [], 0
    for begin, end in _inner(data, 0, data.size, _META_GRAPH):
        graphs += 1
        for number, first, last in _fields(data, begin, end):
            if number == _OBJECT_GRAPH:
                objects += sum(_is_keras(data, *node) for node in _inner(data, first, last, _NODE))
            elif number == _ASSET:
                assets += [_text(data, *name) for name in _inner(data, first, last, _ASSET_NAME)]
    if not graphs:
        raise Cut("it holds no graph")
    return objects, assets


def _is_keras(data: Window, begin: int, end: int) -> bool:
    for user_object in _inner(data, begin, end, _USER_OBJECT):
        return any(_text(data, *name).startswith("_tf_keras_") for name in _inner(data, *user_object, _IDENTIFIER))
    return False


def _text(data: Window, begin: int, end: int) -> str:
    return data.take(begin, min(end - begin, 4096)).decode(errors="replace")


def _inner(data: Window, begin: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Yield where the values of one field begin and end."""
    return ((first, last) for number, first, last in _fields(data, begin, end) if number == wanted)


def _fields(data: Window, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, begin and end of each field of a message that may be too large to be read at once. Raises Cut."""
    while begin < end:
        number, _, _, first, last = field(data.take(begin, min(_LONGEST_TAG_BYTES, end - begin)), 0)
        if begin + last > end:
            raise Cut("it stops in the middle")
        yield number, begin + first, begin + last
        begin += last


def _check_keras(checkpoint: Checkpoint, objects: int) -> str | None:
    """Return why Keras' records are truncated: there must be one for each of its objects."""
    path = os.path.join(checkpoint.path, "keras_metadata.pb")
    if path not in checkpoint.parts:
        return None  # a model of Keras may be saved without
    try:
        with Window(path) as data:
            records = sum(1 for _ in _inner(data, 0, data.size, 1))
    except Cut as error:
        return str(error)
    return f"{records} records of {objects}" if records < objects else None
