"""Checkpoints of plain Python data, one file of pickle or JSON that is replaced whole.

    from ckptrun.training.plain import Checkpoint

    checkpoint = Checkpoint("checkpoint.pkl")
    data = checkpoint.load({"counter": 0})
    while data["counter"] < 1000:
        data["counter"] += 1
        if checkpoint.step(data, data["counter"], 1000):  # saves when it was asked; True: stop
            sys.exit()
    checkpoint.done()

Rules of this file. It imports `ckptrun` and the standard library, so that it can be copied into a container beside `ckptrun.py`.
The file holds the program's data and nothing of ours: what another program wrote is read, and what is written here is read by any.
A pickle can execute what its writer put into it: load only files of your own, or use a name that ends in `.json`.
"""

from __future__ import annotations

import json
import os
import pickle
from typing import Any

import ckptrun


class Checkpoint:
    """One checkpoint file; `.json` at the end of its name means JSON, anything else pickle. `every`: save after so many steps, too.

    `~` is the home folder, as in the shell. Of two in one program call `step` of both before you stop: each saves for the same ask.
    """

    def __init__(self, name: str | os.PathLike[str], *, every: int = 0) -> None:
        self.name = os.path.expanduser(os.fspath(name))
        self._json = self.name.endswith(".json")
        self._run = ckptrun.current()
        self._every, self._steps, self._answered = every, 0, self._run.ask

    def load(self, fresh: Any) -> Any:
        """Return the data that stands in the file, `fresh` where there is none. Raises what pickle and json raise."""
        try:
            with open(self.name, "rb") as file:
                return json.load(file) if self._json else pickle.load(file)
        except FileNotFoundError:
            return fresh

    def step(self, data: Any, step: int | None = None, total: int | None = None) -> bool:
        """Tell that a step is done, save if that was asked for; return whether to stop now. Without `step` calls are counted."""
        self._steps += 1
        self._run.progress(self._steps if step is None else step, total)
        asked = self._run.checkpoint_requested or self._run.ask > self._answered  # the first looks; another's save answers it
        if asked or (self._every and self._steps % self._every == 0):
            self.save(data)
        return self._run.stop_requested

    def save(self, data: Any) -> None:
        """Save now. Raises OSError, and what pickle and json raise; the old file stays then."""
        ask = self._run.ask
        with ckptrun.atomic_path(self.name) as path, open(path, "wb") as file:
            if self._json:
                file.write(json.dumps(data).encode())
            else:
                pickle.dump(data, file)
        self._run.saved(self.name)
        self._answered = ask

    def done(self) -> None:
        """Say that the program is finished: no further link follows."""
        self._run.done()
