"""PURE. The fields of protocol buffer messages, without their schema.

Source: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from collections.abc import Iterator

from ckptrun.checkpoints.formats.found import Cut

_LONGEST_VARINT = 10


def varint(raw: bytes, place: int) -> tuple[int, int]:
    """Return the number that begins at `place` and the place behind it. Raises Cut."""
    value = 0
    for number, byte in enumerate(raw[place : place + _LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            return value, place + number + 1
    raise Cut("a number is not complete")


def fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield number and value of each field of a message, integers as they are, all else as bytes. Raises Cut."""
    place = 0
    while place < len(raw):
        number, kind, value, begin, place = field(raw, place)
        if place > len(raw):
            raise Cut("a field is not complete")
        yield number, value if kind == 0 else (int.from_bytes(raw[begin:place], "little") if kind == 5 else raw[begin:place])


def field(raw: bytes, place: int) -> tuple[int, int, int, int, int]:
    """Return number, kind, value, and where the value's bytes begin and end, of the field at `place`; it may reach beyond `raw`."""
    tag, place = varint(raw, place)
    number, kind, value = tag >> 3, tag & 7, 0
    if number == 0:
        raise Cut("no field begins where one should")
    begin = place
    if kind == 0:
        value, place = varint(raw, place)
    elif kind == 2:
        value, begin = varint(raw, place)
        place = begin + value
    elif kind in (1, 5):
        place += 8 if kind == 1 else 4
    else:
        raise Cut("no field begins where one should")
    return number, kind, value, begin, place
