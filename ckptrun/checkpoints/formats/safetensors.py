"""safetensors files: a length, a header in JSON that says where each tensor lies, and the tensors, without holes. No checksums.

Source: https://github.com/huggingface/safetensors, README, Format.
"""

from __future__ import annotations

import re

from ckptrun.checkpoints.formats import json
from ckptrun.checkpoints.formats.found import Cut, Found, number_of, truncated, whole
from ckptrun.checkpoints.formats.window import Window

_LONGEST_HEADER = 100_000_000  # the library's own bound
# Inside a text the quotes would have backslashes before them.
_OFFSETS = re.compile(rb'(?<!\\)"data_offsets"\s*:\s*\[\s*(\d{1,19})\s*,\s*(\d{1,19})\s*\]')


def check(path: str, full: bool) -> Found:
    """Return what was found."""
    with Window(path) as data:
        try:
            length = int.from_bytes(data.take(0, 8), "little")
            if length > _LONGEST_HEADER or 8 + length > data.size:
                return truncated("it stops in the middle of its header")
            header = data.part(8, length)
            json.read_value(header)
        except Cut:
            return truncated("its header is not complete")
        count, reach, total = _offsets(header)
    needed = 8 + length + reach
    if data.size != needed or total != reach:
        return truncated(f"{data.size} bytes of {needed}")
    return whole(f"{number_of(count, 'tensor')}, as long as its header says (no checksums in this format)")


def _offsets(header: Window) -> tuple[int, int, int]:
    """Return how many tensors there are, how far they reach, and their lengths together."""
    count = reach = total = 0
    rest = b""
    for piece in header.pieces():
        text = rest + piece
        last = 0
        for match in _OFFSETS.finditer(text):
            begin, end = int(match[1]), int(match[2])
            count, reach, total, last = count + 1, max(reach, end), total + end - begin, match.end()
        rest = text[max(last, len(text) - 200) :]  # one that two pieces share
    return count, reach, total
