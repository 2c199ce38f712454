"""What a dying writer leaves, once: `plant.py FOLDER`. Where checkpoints stand, a newer one appears that was cut in the middle.

It also leaves a temporary, and TensorFlow's `checkpoint` file names the new one, as after a real save. FOLDER.planted says which.
"""

import re
import sys
from pathlib import Path

folder = Path(sys.argv[1])
marker = Path(f"{folder}.planted")
found = [path for path in folder.glob("*.*") if re.match(r"\d+\.(pt|ckpt\.index)$", path.name)] if folder.is_dir() else []
if found and not marker.exists():
    newest = max(int(path.name.partition(".")[0]) for path in found)
    for part in folder.glob(f"{newest}.*"):
        raw = part.read_bytes()
        (folder / part.name.replace(f"{newest}.", f"{newest + 1}.", 1)).write_bytes(raw[: len(raw) * 2 // 3])
    (folder / f"{newest + 2}.pt.tmp").write_bytes(b"PK")
    state = folder / "checkpoint"
    if state.exists():
        state.write_text(state.read_text().replace(f'"{newest}.', f'"{newest + 1}.'))
    marker.write_text(str(newest + 1))
