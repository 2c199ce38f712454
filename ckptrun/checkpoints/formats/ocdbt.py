"""PURE. Which data files a manifest, or a node of the tree, of an OCDBT database speaks of. Source: tensorstore, "Database format".

What cannot be read says nothing: a later version, or another compression, is no proof that something is missing.
"""

from __future__ import annotations

import re

from ckptrun.checkpoints.formats.unzstd import unpack

MANIFEST, TREE = b"\x0c\xdb\x3a\x2a", b"\x0c\xdb\x20\xde"
_FILE = re.compile(r"(?:[\w.=-]+/)*d/[0-9a-f]{32}")
_MOST_BYTES, _MOST_FILES = 1 << 24, 1 << 16
_ZSTD = 1


class _Reader:
    def __init__(self, raw: bytes, at: int = 0) -> None:
        self.raw, self.at = raw, at

    def number(self) -> int:
        """Return a number of 7 bits a byte, the lowest first."""
        value = shift = 0
        while True:
            byte = self.raw[self.at]
            self.at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.raw):
            raise ValueError("it ends too early")
        self.at += count
        return self.raw[self.at - count : self.at]


def files_of(node: bytes) -> list[str]:
    """Return the data files, relative to the folder of the database's manifest; none where the node cannot be read."""
    try:
        header = _Reader(node, 12)
        version, compression = header.number(), header.number()
        body = node[header.at : -4]
        content = _Reader(unpack(body, _MOST_BYTES) if compression == _ZSTD else body)
        if version or compression > _ZSTD:
            return []
        if node.startswith(MANIFEST):
            if not _skip_settings(content):
                return []
        elif node.startswith(TREE):
            content.take(1)  # the node's height
        else:
            return []
        return _table(content)
    except (ValueError, IndexError):
        return []


def _skip_settings(content: _Reader) -> bool:
    """Pass over a manifest's settings; return whether its table of files follows."""
    content.take(16)  # uuid
    kind = content.number()
    content.number()  # the largest value that stands in a node
    content.number()  # the largest node
    content.take(1)
    if content.number() == _ZSTD:
        content.take(4)
    return kind == 0  # another kind says in further files what the versions are


def _table(content: _Reader) -> list[str]:
    """Return the files of a table: each has its beginning in common with the one before it."""
    count = content.number()
    if count > _MOST_FILES:
        return []
    common = [0, *(content.number() for _ in range(count - 1))][:count]
    further = [content.number() for _ in range(count)]
    for _ in range(count):
        content.number()  # how much of the name is a folder of another database
    names: list[bytes] = []
    for shared, length in zip(common, further, strict=True):
        names.append((names[-1][:shared] if names else b"") + content.take(length))
    found = [name.decode("ascii", "replace") for name in names]
    return found if all(_FILE.fullmatch(name) for name in found) else []
