"""PyTorch's zip files (`torch.save` since 1.6): whole when the central directory stands and every entry lies inside the file.

The directory is at the end of a zip file and is written last, so a file that was cut anywhere has none.
"""

from __future__ import annotations

import struct
import zipfile

from ckptrun.words import Checkpoint

_LOCAL_HEADER = struct.Struct("<4s5H3L2H")


def check(checkpoint: Checkpoint) -> str | None:
    """Return why the file is truncated, None for a whole one. Reads the directory and the local headers only."""
    try:
        with zipfile.ZipFile(checkpoint.path) as archive, open(checkpoint.path, "rb") as file:
            entries = archive.infolist()
            if not entries:
                return "a zip file without entries"
            start_of_directory = archive.start_dir
            for entry in entries:
                file.seek(entry.header_offset)
                header = file.read(_LOCAL_HEADER.size)
                if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
                    return f"the entry {entry.filename} has no header"
                *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
                end = entry.header_offset + _LOCAL_HEADER.size + name_length + extra_length + entry.compress_size
                if end > start_of_directory:
                    return f"the entry {entry.filename} reaches beyond the directory"
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, EOFError) as error:
        return f"no complete zip file: {error}"
    return None
