"""Zip files: whole when the directory stands at the end and every member lies between the start and the directory.

The directory is written last, so a file that was cut anywhere has none. Its own small reader, because `zipfile` reads a directory
of any length into memory, and accepts a file that is only the end of one.
Source: PKWARE's APPNOTE.TXT, 4.3 and 4.5.3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ckptrun.checkpoints.formats.found import Cut, Found, number_of, truncated, whole
from ckptrun.checkpoints.formats.window import PIECE_BYTES, Window

STORED, _DEFLATED = 0, 8
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_LONGEST_COMMENT = 1 << 16
_FULL32 = 0xFFFFFFFF


class Member(NamedTuple):
    """One member: where its bytes begin, how many there are, how they are packed, and their checksum when unpacked."""

    name: str
    method: int
    begin: int
    size: int
    unpacked: int
    checksum: int


def check(path: str, full: bool) -> Found:
    """Return what was found; `full` reads every member and compares its CRC."""
    with Window(path) as data:
        try:
            return check_members(data, members(data), full)
        except Cut as error:
            return truncated(f"no complete zip file: {error}")


def check_members(data: Window, found: Iterable[Member], full: bool) -> Found:
    """Return what was found in the members of a zip file. Raises Cut."""
    found = list(found)
    if not found:
        return truncated("a zip file without members")
    stand = f"the directory and {number_of(len(found), 'member')} stand"
    if not full:
        return whole(stand)
    # PyTorch can be told to leave the sums out: then all of them are 0.
    if not any(member.checksum for member in found):
        return whole(f"{stand}; it was written without checksums")
    unread = 0
    for member in found:
        summed = _checksum(data, member)
        unread += summed is None
        if summed is not None and summed != member.checksum:
            return truncated(f"{member.name}: the checksum is wrong")
    rest = f", {unread} not read" if unread else ""
    return whole(f"the checksums of {number_of(len(found) - unread, 'member')} are right{rest}")


def members(data: Window) -> Iterator[Member]:
    """Yield the members in the order of the directory, each known to lie inside the file. Raises Cut."""
    count, size, place = _directory(data)
    directory_begin, end = place, place + size
    for _ in range(count):
        if place + _ENTRY.size > end:
            raise Cut("its directory is shorter than it says")
        entry = _ENTRY.unpack(data.take(place, _ENTRY.size))
        signature, method, checksum, packed, unpacked = entry[0], entry[4], entry[7], entry[8], entry[9]
        name_length, extra_length, comment_length, header = entry[10], entry[11], entry[12], entry[16]
        if signature != b"PK\x01\x02":
            raise Cut("its directory is broken")
        name = data.take(place + _ENTRY.size, name_length).decode("utf-8", "replace")
        extra = data.take(place + _ENTRY.size + name_length, extra_length)
        unpacked, packed, header = _long_fields(extra, unpacked, packed, header)
        begin = _begin(data, header, name)
        if begin + packed > directory_begin:
            raise Cut(f"the member {name} reaches beyond the directory")
        yield Member(name, method, begin, packed, unpacked, checksum)
        place += _ENTRY.size + name_length + extra_length + comment_length
    if place != end:
        raise Cut("its directory is longer than its members")


def _directory(data: Window) -> tuple[int, int, int]:
    """Return the number of members, and the length and place of the directory."""
    tail_begin = max(data.size - _LONGEST_COMMENT - _END.size, 0)
    tail = data.take(tail_begin, data.size - tail_begin)
    at = tail.rfind(b"PK\x05\x06")
    while at >= 0:
        if at + _END.size <= len(tail):
            found = _END.unpack(tail[at : at + _END.size])
            if at + _END.size + found[7] == len(tail):
                break
        at = tail.rfind(b"PK\x05\x06", 0, at)
    if at < 0:
        raise Cut("it has no directory at its end")
    count, size, place = found[4], found[5], found[6]
    end = tail_begin + at
    if end >= _LOCATOR.size:
        locator = _LOCATOR.unpack(data.take(end - _LOCATOR.size, _LOCATOR.size))
        if locator[0] == b"PK\x06\x07":
            end = locator[2]
            long = _END64.unpack(data.take(end, _END64.size))
            if long[0] != b"PK\x06\x06":
                raise Cut("its directory's long record is missing")
            count, size, place = long[7], long[8], long[9]
    if place + size != end:
        raise Cut("its directory is not where it says")
    return count, size, place


def _long_fields(extra: bytes, unpacked: int, packed: int, header: int) -> tuple[int, int, int]:
    """Return sizes and offset with those that did not fit into 32 bits taken from the extra field."""
    values: list[int] = [unpacked, packed, header]
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, place)
        if kind == 1:
            at, last = place + 4, min(place + 4 + length, len(extra))
            for number, value in enumerate(values):
                if value == _FULL32:
                    if at + 8 > last:
                        raise Cut("its directory is broken")
                    values[number] = int.from_bytes(extra[at : at + 8], "little")
                    at += 8
        place += 4 + length
    return values[0], values[1], values[2]


def _begin(data: Window, header: int, name: str) -> int:
    """Return where a member's bytes begin, behind its local header."""
    local = _LOCAL.unpack(data.take(header, _LOCAL.size))
    if local[0] != b"PK\x03\x04":
        raise Cut(f"the member {name} has no header")
    begin: int = header + _LOCAL.size + local[9] + local[10]
    return begin


def _checksum(data: Window, member: Member) -> int | None:
    """Return the CRC of a member's bytes when unpacked, None for a way of packing that is not read. Raises Cut."""
    if member.method == STORED:
        summed = 0
        for piece in data.pieces(member.begin, member.begin + member.size):
            summed = zlib.crc32(piece, summed)
        return summed
    return _unpacked_checksum(data, member) if member.method == _DEFLATED else None


def _unpacked_checksum(data: Window, member: Member) -> int:
    summed = length = 0
    unpacker = zlib.decompressobj(-15)
    try:
        for piece in data.pieces(member.begin, member.begin + member.size):
            rest = piece
            while rest:
                unpacked = unpacker.decompress(rest, PIECE_BYTES)
                length += len(unpacked)
                # More than the directory says is no member of it: a bomb is not blown up to the end.
                if length > member.unpacked:
                    raise Cut(f"the member {member.name} is longer than the directory says")
                summed = zlib.crc32(unpacked, summed)
                rest = unpacker.unconsumed_tail
    except zlib.error:
        raise Cut(f"the member {member.name} cannot be unpacked") from None
    summed = zlib.crc32(unpacker.flush(), summed)
    if not unpacker.eof:
        raise Cut(f"the member {member.name} stops too early")
    return summed
