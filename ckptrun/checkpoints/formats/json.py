"""JSON: whole when it is read to its end. It is read piece by piece and nothing of it is kept; there is no checksum.

Several values one after the other (JSON lines) are a usual form. Source: RFC 8259, and Python's NaN and Infinity.
"""

from __future__ import annotations

import re

from ckptrun.checkpoints.formats.found import Cut, Found, truncated, unchecked, whole
from ckptrun.checkpoints.formats.window import Window

_SPACE = rb"[ \t\r\n]{0,100}"
_TEXT = rb'"[^"\\\x00-\x1f]{0,200}"'
_NUMBER = rb"-?(?:\d{1,400}(?:\.\d{1,400})?(?:[eE][-+]?\d{1,9})?|Infinity)"
_SIMPLE = rb"(?:%s|NaN|true|false|null|%s)" % (_NUMBER, _TEXT)
_ARRAY = rb"\[%s(?:%s%s(?:,%s%s%s){0,50})?\]" % (_SPACE, _SIMPLE, _SPACE, _SPACE, _SIMPLE, _SPACE)
_PAIR = rb"%s%s:%s%s%s" % (_TEXT, _SPACE, _SPACE, _SIMPLE, _SPACE)
_OBJECT = rb"\{%s(?:%s(?:,%s%s){0,50})?\}" % (_SPACE, _PAIR, _SPACE, _PAIR)
_VALUE = rb"(?:%s|%s|%s)" % (_SIMPLE, _ARRAY, _OBJECT)
_WORD = re.compile(_SIMPLE)
_SPACES = re.compile(rb"[ \t\r\n]{1,4096}")
# Many members at once; bounded, because each costs the expression's engine memory until the match ends.
_ITEMS = re.compile(rb"(?:%s%s%s,){1,2000}" % (_SPACE, _VALUE, _SPACE))
_PAIRS = re.compile(rb"(?:%s%s%s:%s%s%s,){1,2000}" % (_SPACE, _TEXT, _SPACE, _SPACE, _VALUE, _SPACE))
_LONGEST_WORD = 1000
_DEEPEST = 100_000
_MARKS = (b"\xff\xfe", b"\xfe\xff")  # UTF-16


def check(path: str, full: bool) -> Found:
    """Return what was found. Reads the whole file."""
    with Window(path) as data:
        if data.size >= 2 and data.take(0, 2) in _MARKS:
            return unchecked("JSON in UTF-16 is not checked")
        place = 3 if data.size >= 3 and data.take(0, 3) == b"\xef\xbb\xbf" else 0
        try:
            while (place := _behind_space(data, place)) < data.size:
                place = read_value(data, place)
        except Cut as error:
            return truncated(f"no complete JSON: {error}")
    return whole("it is read to its end (no checksums in this format)")


def read_value(data: Window, place: int = 0) -> int:
    """Return the place behind the value that begins at `place`. Raises Cut."""
    place = _behind_space(data, place)
    opened = bytearray()  # of the arrays and objects around this place
    while True:
        place = _behind_space(data, place)
        mark = data.take(place, 1)
        if mark in (b"[", b"{"):
            opened += mark
            place = _behind_space(data, place + 1)
            if len(opened) > _DEEPEST:
                raise Cut("it is nested too deeply")
            if data.take(place, 1) != (b"]" if mark == b"[" else b"}"):
                place = _behind_many(data, place, opened[-1])
                place = _behind_key(data, place) if mark == b"{" else place
                continue
        else:
            place = _behind_word(data, place, mark)
        # A value is complete, or an empty array or object is about to be closed.
        place = _behind_closed(data, place, opened)
        if not opened:
            return place
        place = _behind_many(data, place + 1, opened[-1])
        if opened[-1] == ord("{"):
            place = _behind_key(data, place)


def _behind_closed(data: Window, place: int, opened: bytearray) -> int:
    """Close what ends here; return the place of the comma that follows, or the place behind the whole value."""
    while opened:
        place = _behind_space(data, place)
        mark = data.take(place, 1)
        if mark == b",":
            return place
        if mark != (b"]" if opened[-1] == ord("[") else b"}"):
            raise Cut(f"byte {place} is out of place")
        opened.pop()
        place += 1
    return place


def _behind_many(data: Window, place: int, around: int) -> int:
    """Return the place behind as many simple members, each with its comma, as stand in the same piece."""
    form = _ITEMS if around == ord("[") else _PAIRS
    while place < data.size:
        buffer, index = data.near(place)
        match = form.match(buffer, index)
        if match is None:
            break
        place += match.end() - index
    return place


def _behind_key(data: Window, place: int) -> int:
    place = _behind_space(data, place)
    place = _behind_space(data, _behind_text(data, place))
    if data.take(place, 1) != b":":
        raise Cut(f"byte {place} is out of place")
    return place + 1


def _behind_word(data: Window, place: int, mark: bytes) -> int:
    if mark == b'"':
        return _behind_text(data, place)
    buffer, index = data.near(place, min(_LONGEST_WORD, data.size - place))
    match = _WORD.match(buffer, index)
    if match is None:
        raise Cut(f"byte {place} is out of place")
    return place + match.end() - index


def _behind_text(data: Window, place: int) -> int:
    """Return the place behind a text. A quote ends it when an even number of backslashes stands before it."""
    if data.take(place, 1) != b'"':
        raise Cut(f"byte {place} is out of place")
    begin = place + 1
    place = begin
    while True:
        end = data.find(b'"', place)
        if b"\x00" in data.take(place, min(end - place, 4096)):
            raise Cut("zero bytes stand where text should")
        backslashes = 0
        while end - backslashes > begin and data.take(end - backslashes - 1, 1) == b"\\":
            backslashes += 1
        if backslashes % 2 == 0:
            return end + 1
        place = end + 1


def _behind_space(data: Window, place: int) -> int:
    while place < data.size:
        buffer, index = data.near(place)
        match = _SPACES.match(buffer, index)
        if match is None:
            break
        place += match.end() - index
    return place
