"""PURE. Unpack one zstandard frame, for small ones where no library is at hand: some hundred kB a second.

Source: RFC 8878. Bits are read forwards in descriptions of tables, and backwards, from the end of the bytes, everywhere else.
A frame that is not what the RFC says ends in ValueError or IndexError, never in an answer that grows beyond `most` bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_LITERALS = (
    *((code, 0) for code in range(16)),
    *((16, 1), (18, 1), (20, 1), (22, 1), (24, 2), (28, 2), (32, 3), (40, 3), (48, 4), (64, 6), (128, 7), (256, 8), (512, 9)),
    *((1 << bits, bits) for bits in range(10, 17)),
)
_MATCHES = (
    *((code + 3, 0) for code in range(32)),
    *((35, 1), (37, 1), (39, 1), (41, 1), (43, 2), (47, 2), (51, 3), (59, 3), (67, 4), (83, 4), (99, 5)),
    *(((1 << bits) + 3, bits) for bits in range(7, 17)),
)
_USUAL_LITERALS = (4, 3, *[2] * 11, 1, 1, 1, *[2] * 9, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1)
_USUAL_MATCHES = (1, 4, 3, *[2] * 6, *[1] * 37, *[-1] * 7)
_USUAL_OFFSETS = (*[1] * 6, 2, 2, 2, *[1] * 15, *[-1] * 5)


class Table(NamedTuple):
    """A table of finite state entropy: for each state the symbol, how many bits come next, and what they are added to."""

    bits: int
    symbols: Sequence[int]
    counts: Sequence[int]
    bases: Sequence[int]


class Backwards:
    """Bits from the end of bytes to their beginning. The highest bit that is set in the last byte marks where they start."""

    def __init__(self, raw: bytes) -> None:
        if not raw or not raw[-1]:
            raise ValueError("no end of the bits")
        self._raw = raw
        self.left = 8 * len(raw) - (9 - raw[-1].bit_length())

    def take(self, count: int) -> int:
        """Return the next bits. Before the beginning there are zeros, which `left`, then negative, tells."""
        self.left -= count
        if self.left < -64 * 8:
            raise ValueError("too many bits")
        low = max(self.left, 0)
        first = low >> 3
        value = int.from_bytes(self._raw[first : first + 10], "little") >> (low & 7)
        if self.left < 0:
            return (value << -self.left) & ((1 << count) - 1)
        return value & ((1 << count) - 1)


class _Forwards:
    """Bits from the beginning of bytes."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self.at = raw, 0

    def take(self, count: int) -> int:
        if self.at + count > 8 * len(self._raw) + 16:
            raise ValueError("too many bits")
        first = self.at >> 3
        value = int.from_bytes(self._raw[first : first + 8], "little") >> (self.at & 7)
        self.at += count
        return value & ((1 << count) - 1)


class _State:
    """What a block takes over from the one before it."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.huffman: tuple[int, list[tuple[int, int]]] | None = None
        self.tables: list[Table | None] = [None, None, None]
        self.offsets = [1, 4, 8]


def unpack(frame: bytes, most: int) -> bytes:
    """Return what a frame holds. Raises ValueError or IndexError where it is broken, or holds more than `most` bytes."""
    descriptor = frame[4]
    single = descriptor >> 5 & 1
    place = 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3] + (single, 2, 4, 8)[descriptor >> 6]
    state = _State()
    while True:
        header = int.from_bytes(frame[place : place + 3], "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        body = frame[place + 3 : place + 3 + (1 if kind == 1 else size)]
        if kind == 0:
            state.out += body
        elif kind == 1:
            state.out += body * size
        else:
            _block(body, state, most)
        if len(state.out) > most:  # a block is a few MB at the most
            raise ValueError("it holds too much")
        place += 3 + len(body)
        if last:
            return bytes(state.out)
        if place >= len(frame):
            raise ValueError("no last block")


def _block(body: bytes, state: _State, most: int) -> None:
    literals, rest = _read_literals(body, state)
    if rest[0] == 0:
        state.out += literals
        return
    count, place = rest[0], 1
    if count == 255:
        count, place = rest[1] + (rest[2] << 8) + 0x7F00, 3
    elif count > 127:
        count, place = (count - 128 << 8) + rest[1], 2
    modes, place = rest[place], place + 1
    usual = ((_USUAL_LITERALS, 6, 9), (_USUAL_OFFSETS, 5, 8), (_USUAL_MATCHES, 6, 9))
    for number, (distribution, bits, largest) in enumerate(usual):
        mode = modes >> (6 - 2 * number) & 3
        if mode == 0:
            state.tables[number] = _table(distribution, bits)
        elif mode == 1:
            state.tables[number], place = Table(0, [rest[place]], [0], [0]), place + 1
        elif mode == 2:
            state.tables[number], used = _described(rest[place:], largest)
            place += used
    _sequences(Backwards(rest[place:]), count, literals, state, most)


def _sequences(source: Backwards, count: int, literals: bytes, state: _State, most: int) -> None:
    """Copy literals and matches, one after the other, to the end of what there is so far."""
    tables = [table for table in state.tables if table is not None]
    if len(tables) < 3:
        raise ValueError("a table is missing")
    states = [source.take(table.bits) for table in tables]
    out, used = state.out, 0
    for number in range(count):
        literal, offset, match = (table.symbols[at] for table, at in zip(tables, states, strict=True))
        distance = (1 << offset) + source.take(offset)
        length = _MATCHES[match][0] + source.take(_MATCHES[match][1])
        copied = _LITERALS[literal][0] + source.take(_LITERALS[literal][1])
        out += literals[used : used + copied]
        used += copied
        _copy_match(out, _distance(distance, copied, state.offsets), length, most)
        if number + 1 < count:
            for one in (0, 2, 1):
                table, at = tables[one], states[one]
                states[one] = table.bases[at] + source.take(table.counts[at])
    out += literals[used:]


def _copy_match(out: bytearray, distance: int, length: int, most: int) -> None:
    if not 0 < distance <= len(out) or len(out) + length > most:
        raise ValueError("a match reaches too far")
    start = len(out) - distance
    while length > 0:  # it may overlap what it writes
        piece = out[start : start + min(length, distance)]
        out += piece
        start, length = start + len(piece), length - len(piece)


def _distance(value: int, copied: int, known: list[int]) -> int:
    """Return how far back a match lies; the last three distances have short names, others when no literal was copied."""
    if value > 3:
        known[:] = [value - 3, known[0], known[1]]
        return known[0]
    place = value - 1 + (copied == 0)
    found = known[0] - 1 if place == 3 else known[place]
    if place == 1:
        known[:2] = [found, known[0]]
    elif place > 1:
        known[:] = [found, known[0], known[1]]
    return found


# --- literals


def _read_literals(body: bytes, state: _State) -> tuple[bytes, bytes]:
    """Return the literals of a block, and what follows them."""
    kind, form = body[0] & 3, body[0] >> 2 & 3
    if kind < 2:
        begin, shift = ((1, 3), (2, 4), (1, 3), (3, 4))[form]
        size = int.from_bytes(body[:begin], "little") >> shift
        if kind == 0:
            return body[begin : begin + size], body[begin + size :]
        return body[begin : begin + 1] * size, body[begin + 1 :]
    begin, bits = ((3, 10), (3, 10), (4, 14), (5, 18))[form]
    header = int.from_bytes(body[:begin], "little") >> 4
    size, packed = header & (1 << bits) - 1, header >> bits
    source, rest = body[begin : begin + packed], body[begin + packed :]
    if kind == 2:
        state.huffman, used = _huffman(source)
        source = source[used:]
    if state.huffman is None:
        raise ValueError("no tree")
    return _streams(source, size, 1 if form == 0 else 4, state.huffman), rest


def _streams(source: bytes, size: int, count: int, tree: tuple[int, list[tuple[int, int]]]) -> bytes:
    sizes = [int.from_bytes(source[at : at + 2], "little") for at in (0, 2, 4)] if count == 4 else []
    place = 6 if count == 4 else 0
    bits, codes = tree
    out = bytearray()
    for number in range(count):
        end = place + sizes[number] if number < len(sizes) else len(source)
        stream = Backwards(source[place:end])
        place = end
        at = stream.take(bits)
        while stream.left > -bits:
            symbol, length = codes[at]
            out.append(symbol)
            at = (at << length & (1 << bits) - 1) + stream.take(length)
    if len(out) != size:
        raise ValueError("literals of another length")
    return bytes(out)


def _huffman(source: bytes) -> tuple[tuple[int, list[tuple[int, int]]], int]:
    """Return a tree as a table, code -> symbol and its length, and how many bytes described it."""
    size = source[0]
    if size >= 128:
        count, used = size - 127, 1 + (size - 126) // 2
        weights = [source[1 + number // 2] >> (0 if number & 1 else 4) & 15 for number in range(count)]
    else:
        used = 1 + size
        weights = _weights(source[1:used])
    total = sum(1 << weight - 1 for weight in weights if weight)
    bits = total.bit_length()
    left = (1 << bits) - total
    if not total or left & left - 1 or bits > 12:
        raise ValueError("no tree")
    weights.append(left.bit_length())
    codes = [
        (symbol, bits + 1 - weight)
        for wanted in range(1, bits + 1)
        for symbol, weight in enumerate(weights)
        if weight == wanted
        for _ in range(1 << weight - 1)
    ]
    return (bits, codes), used


def _weights(source: bytes) -> list[int]:
    """Return weights that two states in turn have packed; the bits end where a state would have to read before their beginning."""
    table, used = _described(source, 6)
    stream = Backwards(source[used:])
    states = [stream.take(table.bits), stream.take(table.bits)]
    weights: list[int] = []
    for turn in range(256):
        at = states[turn & 1]
        weights.append(table.symbols[at])
        states[turn & 1] = table.bases[at] + stream.take(table.counts[at])
        if stream.left < 0:
            return [*weights, table.symbols[states[1 - (turn & 1)]]]
    raise ValueError("too many weights")


# --- tables of finite state entropy


def _described(source: bytes, largest: int) -> tuple[Table, int]:
    """Return a table and how many bytes described it."""
    stream = _Forwards(source)
    bits = stream.take(4) + 5
    if bits > largest:
        raise ValueError("a table is too large")
    left, counts = 1 << bits, list[int]()
    while left > 0:
        width = (left + 1).bit_length()
        value, low = stream.take(width), (1 << width - 1) - 1
        threshold = (1 << width) - 1 - (left + 1)
        if value & low < threshold:
            value &= low
            stream.at -= 1
        elif value > low:
            value -= threshold
        counts.append(value - 1)
        left -= abs(value - 1)
        while value == 1:
            zeros = stream.take(2)
            counts += [0] * zeros
            if zeros < 3:
                break
    if left < 0:
        raise ValueError("a table is broken")
    return _table(counts, bits), (stream.at + 7) // 8


def _table(distribution: Sequence[int], bits: int) -> Table:
    size = 1 << bits
    symbols, high = [0] * size, size
    for symbol, count in enumerate(distribution):
        if count == -1:
            high -= 1
            symbols[high] = symbol
    place, step = 0, (size >> 1) + (size >> 3) + 3
    for symbol, count in enumerate(distribution):
        for _ in range(max(count, 0)):
            symbols[place] = symbol
            place = place + step & size - 1
            while place >= high:
                place = place + step & size - 1
    following = [abs(count) for count in distribution]
    counts, bases = [], []
    for symbol in symbols:
        count = bits + 1 - following[symbol].bit_length()
        counts.append(count)
        bases.append((following[symbol] << count) - size)
        following[symbol] += 1
    return Table(bits, symbols, counts, bases)
