"""Which format a single file is in: told by its first bytes where they say it, else by its name.

A file that was cut after its first byte still has to be told: what is left of the first bytes is enough then.
"""

from __future__ import annotations

import importlib
import os

from ckptrun.checkpoints.formats.found import Cut, Found, truncated, unchecked
from ckptrun.checkpoints.formats.window import Window

# First bytes -> format. The longest of them that fits decides.
_BY_MAGIC = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", "pytorch-legacy"),
    *((bytes([0x80, protocol]), "pickle") for protocol in range(1, 6)),
    (b"\x93NUMPY", "npy"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x5d\x00\x00", "lzma"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
_BY_SUFFIX = {
    **dict.fromkeys((".pt", ".pth"), "pytorch"),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), "pickle"),
    **dict.fromkeys((".h5", ".hdf5"), "hdf5"),
    ".keras": "keras",
    ".npy": "npy",
    ".npz": "npz",
    ".json": "json",
    ".safetensors": "safetensors",
    ".gz": "gzip",
    ".bz2": "bzip2",
    ".xz": "xz",
    ".zst": "zstd",
    ".z": "zlib",
    ".lzma": "lzma",
}
# What these names say wins over first bytes: their formats have none.
_NAMED = (".json", ".safetensors")
_ZLIB = tuple(bytes([0x78, level]) for level in (0x01, 0x5E, 0x9C, 0xDA))
_ZLIB_SUFFIXES = (".joblib", ".pkl", ".pickle", ".z")
# Format -> the module that checks it, with check(path, full) -> Found.
_MODULES = {
    "pytorch-legacy": "pytorch",
    **dict.fromkeys(("gzip", "zlib", "bzip2", "xz", "lzma"), "compressed"),
    "npy": "numpy",
}
# Formats that are zip files -> the module that checks them, with check_archive(window, full) -> Found.
_ARCHIVES = {"pytorch": "pytorch", "npz": "numpy", "keras": "keras"}
_LONGEST_MAGIC = 14


def check_file(path: str, full: bool) -> Found:
    """Return what was found in a file, and its format. Raises OSError."""
    try:
        with Window(path) as data:
            if not data.size:
                return truncated("empty")._replace(form=_BY_SUFFIX.get(_suffix(path), ""))
            form = _form(path, data.take(0, min(_LONGEST_MAGIC, data.size)))
            if form is None:
                return unchecked("in a format that is not checked")
            if form == "zip":
                form = _archive(path, data)
            if form in _ARCHIVES:
                return _check_archive(form, data, full)._replace(form=form)
        found: Found = importlib.import_module(f"{__package__}.{_MODULES.get(form, form)}").check(path, full)
        return found._replace(form=form)
    except Cut as error:
        return unchecked(str(error))


def _form(path: str, start: bytes) -> str | None:
    suffix = _suffix(path)
    if suffix in _NAMED:
        return _BY_SUFFIX[suffix]
    fitting = [(magic, form) for magic, form in _BY_MAGIC if start.startswith(magic)]
    if fitting:
        return max(fitting)[1] if len(fitting) == 1 else max(fitting, key=lambda one: len(one[0]))[1]
    if start.startswith(_ZLIB) and suffix in _ZLIB_SUFFIXES:
        return "zlib"
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    return next((form for magic, form in _BY_MAGIC if magic.startswith(start)), None)


def _archive(path: str, data: Window) -> str:
    """Return what a zip file is: what its name says, else what its members say."""
    from ckptrun.checkpoints.formats import zip  # noqa: A004  # a format's name is its module's

    named = _BY_SUFFIX.get(_suffix(path))
    try:
        for member in zip.members(data):
            if member.name.endswith("/data.pkl"):
                return "pytorch"
            if named != "pytorch" and (member.name.endswith(".npy") or member.name == "model.weights.h5"):
                return "npz" if member.name.endswith(".npy") else "keras"
    except Cut:
        pass
    return named if named in ("npz", "keras") else "zip"


def _check_archive(form: str, data: Window, full: bool) -> Found:
    try:
        found: Found = importlib.import_module(f"{__package__}.{_ARCHIVES[form]}").check_archive(data, full)
    except Cut as error:
        return truncated(f"no complete zip file: {error}")
    return found


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()
