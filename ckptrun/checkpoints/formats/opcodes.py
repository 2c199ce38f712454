"""The opcodes of pickles, read and never carried out: where a pickle ends, and what names, numbers and tuples it is made of.

Two readers. `skim` finds the end; runs of simple opcodes pass through one regular expression. `follow` keeps a stack of values, in
which a class is only its name and an object only what it would be made of; nothing is imported, looked up or called.
Source: CPython's Lib/pickletools.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from ckptrun.checkpoints.formats.found import Cut
from ckptrun.checkpoints.formats.window import Window

# How an opcode's argument is found: fixed bytes, a little-endian length of 1, 4 or 8 bytes before it, or lines of text.
_FIXED = {ord(op): count for op, count in {"K": 1, "M": 2, "J": 4, "G": 8, "h": 1, "j": 4, "q": 1, "r": 4}.items()}
_FIXED |= {0x80: 1, 0x82: 1, 0x83: 2, 0x84: 4, 0x95: 8}
_COUNTED = {ord(op): width for op, width in {"U": 1, "C": 1, "T": 4, "B": 4, "X": 4}.items()}
_COUNTED |= {0x8A: 1, 0x8B: 4, 0x8C: 1, 0x8D: 8, 0x8E: 8, 0x96: 8}
_LINES = {ord(op): lines for op, lines in {"I": 1, "L": 1, "F": 1, "S": 1, "V": 1, "P": 1, "p": 1, "g": 1, "c": 2, "i": 2}.items()}
_BARE = frozenset(b"(0123NQRabdelostu}])") | {*(0x81, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8F, 0x90, 0x91, 0x92, 0x93, 0x94, 0x97, 0x98)}
_STOP = ord(".")
_WRAPPER = b"NumpyArrayWrapper"
# Bounded: each turn of the loop costs the expression's engine memory until the match ends.
_RUN = re.compile(
    rb"(?s:[(0123NQRabdelostu}\])\x81\x85-\x89\x8f-\x94\x97\x98]+|[Khq].|M..|[Jjr].{4}|G.{8}|[ILFSVpg][^\n]{0,64}\n){1,5000}"
)
_LONGEST_LINE = 1 << 16
_LONGEST_NAME = 512
_MOST_OPCODES = 2_000_000


class HoldsArrays(Exception):
    """The pickle is joblib's: raw arrays stand between the opcodes."""


def skim(data: Window, place: int = 0) -> int:
    """Return the place behind the STOP of the pickle that begins at `place`. Raises Cut, and HoldsArrays for joblib's."""
    while True:
        buffer, index = data.near(place)
        run = _RUN.match(buffer, index)
        if run is not None:
            place += run.end() - index
            continue
        opcode = buffer[index]
        if opcode == _STOP:
            return place + 1
        place = _behind(data, place + 1, opcode)


def _behind(data: Window, place: int, opcode: int) -> int:
    """Return the place behind an opcode's argument, which begins at `place`."""
    if opcode in _BARE:
        return place
    if (count := _FIXED.get(opcode)) is not None:
        place += count
    elif (width := _COUNTED.get(opcode)) is not None:
        count = _number(data, place, width, signed=opcode == ord("T") or opcode == 0x8B)
        if count == len(_WRAPPER) and data.take(place + width, count) == _WRAPPER:
            raise HoldsArrays
        place += width + count
    elif (lines := _LINES.get(opcode)) is not None:
        for _ in range(lines):
            line = place
            place = data.find(b"\n", place) + 1
            if place - line == len(_WRAPPER) + 1 and data.take(line, len(_WRAPPER)) == _WRAPPER:
                raise HoldsArrays
    else:
        raise Cut("its bytes are no pickle")
    if place > data.size:
        raise Cut("it stops in the middle of a pickle")
    return place


def _number(data: Window, place: int, width: int, *, signed: bool = False) -> int:
    number = int.from_bytes(data.take(place, width), "little", signed=signed)
    if number < 0:
        raise Cut("its bytes are no pickle")
    return number


# --- values


class Name(NamedTuple):
    """A class or function, by name only."""

    module: str
    name: str


class Made:
    """An object as the pickle describes it: what would be called with which arguments, and the state it would be given."""

    __slots__ = ("arguments", "state", "what")

    def __init__(self, what: Any, arguments: Any) -> None:
        self.what, self.arguments = what, arguments
        self.state: Any = None


class Followed(NamedTuple):
    """A pickle's end, its value, and its persistent ids in order."""

    end: int
    value: Any
    persistent: list[Any]


class Opaque(Exception):
    """The pickle cannot be followed: too many opcodes, or an order of them that makes no sense."""


_MARK = object()
Built = Callable[[Made, int], int]


def follow(data: Window, place: int = 0, built: Built | None = None) -> Followed:
    """Follow one pickle. `built(object, place)` is called when an object has its state and returns where to read on.

    Long texts and all bytes become None. Raises Cut where it ends too early and Opaque where it cannot be followed.
    """
    reader = _Reader(data, built)
    try:
        for _ in range(_MOST_OPCODES):
            opcode = data.take(place, 1)[0]
            if opcode == _STOP:
                return Followed(place + 1, reader.stack[-1], reader.persistent)
            place = reader.step(opcode, place + 1)
    except (IndexError, TypeError, KeyError, AttributeError) as error:
        raise Opaque(f"its opcodes make no sense: {error}") from None
    raise Opaque("it has too many objects to be followed")


class _Reader:
    def __init__(self, data: Window, built: Built | None) -> None:
        self.data, self.built = data, built
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.persistent: list[Any] = []

    def step(self, opcode: int, place: int) -> int:
        """Take in one opcode whose argument begins at `place`; return where the next one stands."""
        if (action := _ACTIONS.get(opcode)) is not None:
            action(self)
        if opcode in _BARE:
            made = self.stack[-1] if opcode == ord("b") else None
            return self.built(made, place) if self.built is not None and isinstance(made, Made) else place
        if opcode in _FIXED:
            return self._fixed(opcode, place, _FIXED[opcode])
        if opcode in _COUNTED:
            return self._counted(opcode, place, _COUNTED[opcode])
        if opcode in _LINES:
            return self._lines(opcode, place, _LINES[opcode])
        raise Cut("its bytes are no pickle")

    def _fixed(self, opcode: int, place: int, count: int) -> int:
        raw = self.data.take(place, count)
        number = int.from_bytes(raw, "little", signed=opcode == ord("J"))
        if opcode in b"KMJ":
            self.stack.append(number)
        elif opcode == ord("G") or opcode in (0x82, 0x83, 0x84):
            self.stack.append(None)
        elif opcode in b"hj":
            self.stack.append(self.memo[number])
        elif opcode in b"qr":
            self.memo[number] = self.stack[-1]
        return place + count

    def _counted(self, opcode: int, place: int, width: int) -> int:
        count = _number(self.data, place, width, signed=opcode in (ord("T"), 0x8B))
        place += width
        if place + count > self.data.size:
            raise Cut("it stops in the middle of a pickle")
        value: Any = None
        if opcode in (0x8A, 0x8B) and count <= 16:
            value = int.from_bytes(self.data.take(place, count), "little", signed=True)
        elif opcode in (ord("X"), 0x8C, 0x8D, ord("U"), ord("T")) and count <= _LONGEST_NAME:
            value = self.data.take(place, count).decode("utf-8", "surrogateescape")
        self.stack.append(value)
        return place + count

    def _lines(self, opcode: int, place: int, count: int) -> int:
        lines = []
        for _ in range(count):
            end = self.data.find(b"\n", place)
            lines.append(self.data.take(place, min(end - place, _LONGEST_LINE)).decode("utf-8", "surrogateescape"))
            place = end + 1
        self._line(opcode, lines)
        return place

    def _line(self, opcode: int, lines: list[str]) -> None:
        if opcode == ord("c"):
            self.stack.append(Name(*lines))
        elif opcode == ord("i"):
            arguments = self.marked()
            self.stack.append(Made(Name(*lines), tuple(arguments)))
        elif opcode == ord("p"):
            self.memo[_integer(lines[0])] = self.stack[-1]
        elif opcode == ord("g"):
            self.stack.append(self.memo[_integer(lines[0])])
        elif opcode in b"IL":
            self.stack.append({"00": False, "01": True}.get(lines[0], _integer(lines[0].rstrip("L"))))
        elif opcode == ord("P"):
            self.persistent.append(lines[0])
            self.stack.append(lines[0])
        else:
            self.stack.append(lines[0].strip("'\"") if opcode in b"SV" else None)

    def marked(self) -> list[Any]:
        """Take everything above the topmost mark."""
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise IndexError("no mark")
        found = self.stack[place + 1 :]
        del self.stack[place:]
        return found

    def drop_marked(self) -> None:
        """Make a list or set of what stands above the mark, and forget what is in it."""
        self.marked()
        self.stack.append([])

    def tuple_of(self, count: int) -> None:
        """Make a tuple of the topmost values."""
        values = tuple(self.stack[-count:])
        if len(values) < count:
            raise IndexError("an empty stack")
        self.stack[-count:] = [values]

    def make(self, extra: int = 0) -> None:
        """Replace a callable and its arguments (and `extra` more) by what would be made."""
        if extra:
            self.stack.pop()
        arguments = self.stack.pop()
        self.stack[-1] = Made(self.stack[-1], arguments)

    def make_marked(self) -> None:
        """Make an object from a class and what follows it above the mark."""
        what, *arguments = self.marked()
        self.stack.append(Made(what, tuple(arguments)))

    def put_items(self, values: list[Any]) -> None:
        """Put keys and values into the dictionary on top, as far as keys are texts or numbers."""
        target = self.stack[-1]
        if isinstance(target, dict):
            for key, value in zip(values[::2], values[1::2], strict=False):
                if isinstance(key, (str, int)):
                    target[key] = value

    def set_state(self) -> None:
        """Give the object on top its state."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], Made):
            self.stack[-1].state = state

    def name(self) -> None:
        """Make a name of the two topmost texts."""
        name = self.stack.pop()
        self.stack[-1] = Name(str(self.stack[-1]), str(name))

    def memoize(self) -> None:
        """Remember the topmost value under the next number."""
        self.memo[len(self.memo)] = self.stack[-1]

    def persist(self) -> None:
        """Note the topmost value as a persistent id; it stands for itself."""
        self.persistent.append(self.stack[-1])

    def push_dict(self) -> None:
        """Make a dictionary of what stands above the mark."""
        values = self.marked()
        self.stack.append({})
        self.put_items(values)

    def set_one(self) -> None:
        """Put one key and value into the dictionary below them."""
        values = self.stack[-2:]
        del self.stack[-2:]
        self.put_items(values)


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise Cut("its bytes are no pickle") from None


def _push(value: Any) -> Callable[[_Reader], None]:
    return lambda reader: reader.stack.append(value)


# What an opcode does to the stack beside its argument. Lists and sets stay empty: nothing here asks for what is in them.
_ACTIONS: dict[int, Callable[[_Reader], Any]] = {
    ord("("): _push(_MARK),
    ord("0"): lambda reader: reader.stack.pop(),
    ord("1"): _Reader.marked,
    ord("2"): lambda reader: reader.stack.append(reader.stack[-1]),
    ord("N"): _push(None),
    ord("Q"): _Reader.persist,
    ord("R"): _Reader.make,
    ord("a"): lambda reader: reader.stack.pop(),
    ord("b"): _Reader.set_state,
    ord("d"): _Reader.push_dict,
    ord("}"): lambda reader: reader.stack.append({}),
    ord("e"): _Reader.marked,
    ord("l"): _Reader.drop_marked,
    ord("]"): lambda reader: reader.stack.append([]),
    ord("o"): _Reader.make_marked,
    ord("s"): _Reader.set_one,
    ord("t"): lambda reader: reader.stack.append(tuple(reader.marked())),
    ord(")"): _push(()),
    ord("u"): lambda reader: reader.put_items(reader.marked()),
    0x81: _Reader.make,
    0x85: lambda reader: reader.tuple_of(1),
    0x86: lambda reader: reader.tuple_of(2),
    0x87: lambda reader: reader.tuple_of(3),
    0x88: _push(True),
    0x89: _push(False),
    0x8F: lambda reader: reader.stack.append([]),
    0x90: _Reader.marked,
    0x91: _Reader.drop_marked,
    0x92: lambda reader: reader.make(1),
    0x93: _Reader.name,
    0x94: _Reader.memoize,
    0x97: _push(None),
}
