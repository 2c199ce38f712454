"""HDF5 files (`.h5`, `.weights.h5`): whole when the file is as long as its superblock says, and its writer has closed it.

The format has no checksum over the data. Source: HDF5 File Format Specification 3.0, II.A.
"""

from __future__ import annotations

from ckptrun.checkpoints.formats.found import Cut, Found, truncated, unchecked, whole
from ckptrun.checkpoints.formats.window import Window

MAGIC = b"\x89HDF\r\n\x1a\n"
_OPEN_FOR_WRITING = 0x01 | 0x04


def check(path: str, full: bool) -> Found:
    """Return what was found."""
    with Window(path) as data:
        return check_stretch(data)


def check_stretch(data: Window) -> Found:
    """Return what was found in a stretch that holds an HDF5 file."""
    try:
        version, width = data.take(8, 1)[0], 0
        if version in (0, 1):
            width = data.take(13, 1)[0]
            fields = 24 if version == 0 else 28
        elif version in (2, 3):
            width, fields = data.take(9, 1)[0], 12
        if width not in (2, 4, 8):
            return unchecked(f"an HDF5 superblock of version {version}, which is not known")
        end = int.from_bytes(data.take(fields + 2 * width, width), "little")
        if version == 3 and data.take(11, 1)[0] & _OPEN_FOR_WRITING:
            return truncated("its writer has not closed it")
    except Cut:
        return truncated("it stops in the middle of its superblock")
    if end > data.size:
        return truncated(f"{data.size} bytes of {end}")
    if end == 0:
        return truncated("its superblock was never completed")
    return whole("as long as its superblock says (no checksums in this format)")
