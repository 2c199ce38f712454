"""PyTorch's files: zip files (since 1.6) and the older ones, in which every storage that the pickle speaks of must stand.

`torch.save` closes its zip file also when it is interrupted: then the directory is complete and storages are missing.
Source: torch/serialization.py.
"""

from __future__ import annotations

from typing import Any

from ckptrun.checkpoints.formats import zip  # noqa: A004  # a format's name is its module's
from ckptrun.checkpoints.formats.found import Cut, Found, number_of, truncated, unchecked, whole
from ckptrun.checkpoints.formats.opcodes import Followed, HoldsArrays, Name, Opaque, follow, skim
from ckptrun.checkpoints.formats.window import Window

LEGACY = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # behind the protocol: LONG1, 10 bytes, the magic number
_BYTES = {
    **dict.fromkeys(("ByteStorage", "CharStorage", "BoolStorage", "QUInt8Storage", "QInt8Storage", "UntypedStorage"), 1),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage", "QInt32Storage"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}


def check_archive(data: Window, full: bool) -> Found:
    """Return what was found in a zip file of PyTorch. Raises Cut."""
    members = {member.name: member for member in zip.members(data)}
    name = next(name for name in members if name.endswith("/data.pkl"))
    folder = name.removesuffix("data.pkl")
    try:
        state = values(data, members[name])
    except HoldsArrays:
        state = None
    except Cut:
        return truncated(f"{name} stops too early")
    for key, size in storages(state).items() if state is not None else ():
        storage = members.get(f"{folder}data/{key}")
        if storage is None:
            return truncated(f"the storage {key} is missing: its save was interrupted")
        if size is not None and storage.size < size:
            return truncated(f"the storage {key} has {storage.size} bytes of {size}")
    return zip.check_members(data, members.values(), full)


def values(data: Window, member: zip.Member) -> Followed | None:
    """Return the pickle of a zip file as values, None where it cannot be followed. Raises Cut."""
    if member.method != zip.STORED:
        return None
    stretch = data.part(member.begin, member.size)
    try:
        return follow(stretch)
    except Opaque:
        skim(stretch)
        return None


def storages(state: Followed) -> dict[str, int | None]:
    """Return the storages that a pickle speaks of, by key, with their bytes where their type is known."""
    found: dict[str, int | None] = {}
    for one in state.persistent:
        if isinstance(one, tuple) and len(one) >= 5 and one[0] == "storage" and isinstance(one[2], str):
            found[one[2]] = _storage_bytes(one[1], one[4])
    return found


def _storage_bytes(kind: Any, count: Any) -> int | None:
    width = _BYTES.get(kind.name) if isinstance(kind, Name) else None
    return width * count if width is not None and isinstance(count, int) else None


def check(path: str, full: bool) -> Found:
    """Return what was found in a file from before 1.6: five pickles, then each storage with its number of elements before it."""
    with Window(path) as data:
        try:
            return _check_legacy(data)
        except (Cut, HoldsArrays):
            return truncated("it stops in the middle of an old PyTorch file")
        except Opaque as error:
            return unchecked(f"an old PyTorch file that cannot be followed: {error}")


def _check_legacy(data: Window) -> Found:
    place = 0
    for _ in range(3):  # the magic number, the protocol, facts about the machine
        place = skim(data, place)
    state = follow(data, place)
    place = skim(data, state.end)
    kinds = {one[2]: one[1] for one in state.persistent if isinstance(one, tuple) and len(one) >= 5 and isinstance(one[2], str)}
    for key in sorted(kinds):
        count = int.from_bytes(data.take(place, 8), "little")
        size = _storage_bytes(kinds[key], count)
        if size is None:
            raise Opaque("a storage of a type that is not known")
        place += 8 + size
        if place > data.size:
            raise Cut("it ends too early")
    if place != data.size:
        return truncated(f"{data.size - place} bytes follow its last storage")
    return whole(f"an old PyTorch file, {number_of(len(kinds), 'storage')} to its end")
