"""Watch the checkpoint paths during a link: what is new, what is whole, what is being written.

Rules. A checkpoint is settled when its structure is complete; a large one is verified only when it did not change between two
looks, one in a format that is not checked has to be quiet for a second, a folder without a list of its files for longer, because
another may still be to come. Each state of a file is verified once.
What already stood when the watch began is not new. When a file was written is what its time says, but never outside the two looks
between which it changed: a file server's clock may be wrong by minutes. Looking is cheap: a folder is listed anew only when it
changed, or every minute; in between only the files that were written last are looked at.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ckptrun.checkpoints.find import Entry, arrange, listing
from ckptrun.checkpoints.formats import verify
from ckptrun.checkpoints.state_file import named_newest
from ckptrun.checkpoints.stopwatch import Stopwatch
from ckptrun.words import Checkpoint, Save, Sight, Verdict

_FULL_LISTING_EVERY_S = 60.0
_HOT_FILES = 8
# While the files of a folder are being written in parallel, all that were written lately are looked at.
_HOT_FOR_S = 10.0
_MOST_HOT_FILES = 256
_MOST_FOLDERS = 64
# A file that cannot be checked, or that is no whole checkpoint, may be between two writes: it has so long to change again.
_QUIET_S = 1.0
# Small files are verified while they change, too: a training that saves without a pause would never be seen to have saved.
_VERIFIED_AT_ONCE_BYTES = 64 * 1000**2
_SLOW_WRITER_S = 2.0
# How long TensorFlow may take between a checkpoint and the `checkpoint` file that names it, and the like.
_NAMING_S = 5.0
# Folders without a list of their files: the next file may follow so long after the last. Hugging Face's have a last file.
_QUIET_FOLDERS_S = {"folder": 3.0, "deepspeed": 3.0, "ranked": 3.0, "hugging-face": 1.0}

Print = tuple[tuple[int, int, int], ...]


class Watch:
    """What one link sees of its checkpoints. Times are Unix seconds unless their name says otherwise."""

    def __init__(self, paths: Sequence[str], since_unix: float) -> None:
        self._paths, self._named = tuple(paths), frozenset(paths)
        self._files: dict[str, Entry] = {}
        self._folders: dict[str, int] = {}
        self._listed_at = float("-inf")
        self._hot: list[Entry] = []
        self._verdicts: dict[str, tuple[Print, Checkpoint]] = {}
        self._written_at: list[float] = []
        self._newest: Checkpoint | None = None
        self._new = False
        self._became: list[Checkpoint] = []
        self._last_unix = since_unix
        self._stopwatch = Stopwatch()
        self._quiet: Sight | None = None
        self._list(float("-inf"))
        self._prints = {path: entry.print for path, entry in self._files.items()}
        self._between: dict[str, tuple[float, float]] = {}
        self._stood = dict(self._prints)
        self._before = {one.path: self._print(one) for one in self._candidates()}
        self._settled = dict(self._before)

    def look(self, monotonic: float, unix: float, open_for_writing: frozenset[str] = frozenset()) -> Sight:
        """Return what stands there now. `open_for_writing` are the files that the process tree has open to write."""
        quiet = self._quiet if not open_for_writing else None
        if quiet is not None and self._is_unchanged(monotonic):
            self._last_unix = unix
            return quiet
        self._list(monotonic)
        if quiet is not None and self._is_as_it_was():
            self._last_unix = unix
            return quiet
        changed = self._changed(unix)
        candidates = self._candidates()
        saves = self._settle(candidates, changed, unix)
        parts = self._parts(candidates)
        unsettled = parts - self._settled_parts(candidates)
        writing = bool(changed & unsettled) or self._writing(candidates, parts, unix, open_for_writing)
        if changed & unsettled:
            self._stopwatch.grew(self._last_unix, unix)
        self._last_unix = unix
        sight = Sight(self._newest, self._new, writing, tuple(self._written_at), tuple(saves), tuple(self._became))
        self._quiet = None if writing or changed or saves else sight._replace(became=())
        return sight

    # --- what is there

    def _is_unchanged(self, monotonic: float) -> bool:
        """Return whether nothing has happened since a look that found all at rest. A few stats: most looks end here."""
        if monotonic - self._listed_at >= _FULL_LISTING_EVERY_S:
            return False
        try:
            for folder, at in self._folders.items():
                if os.stat(folder).st_mtime_ns != at:
                    return False
            for entry in self._hot:
                found = os.stat(entry.path)
                if found.st_mtime_ns != entry.mtime_ns or found.st_size != entry.size or found.st_ino != entry.inode:
                    return False
        except OSError:
            return False
        return True

    def _is_as_it_was(self) -> bool:
        """Return whether a listing has found the files of the last one, unchanged: then there is nothing new to think about."""
        return {path: entry.print for path, entry in self._files.items()} == self._prints

    def _list(self, monotonic: float) -> None:
        if monotonic - self._listed_at < _FULL_LISTING_EVERY_S and self._folder_times() == self._folders:
            self._restat()
            return
        self._listed_at = monotonic
        # The times are read before the listing: what changes in between is seen at the next look.
        times = self._folder_times()
        found = listing(self._paths)
        self._files = {entry.path: entry for entry in found.files}
        for folder in found.folders:
            times.setdefault(folder, _mtime_ns(folder))
        newest = sorted({*found.folders} - {*self._paths}, key=lambda folder: times[folder])[-_MOST_FOLDERS:]
        self._folders = {folder: times[folder] for folder in (*self._paths, *newest)}
        self._hot = self._hottest(list(self._files.values()))

    def _folder_times(self) -> dict[str, int]:
        return {folder: _mtime_ns(folder) for folder in {*self._folders, *self._paths}}

    def _hottest(self, files: list[Entry]) -> list[Entry]:
        """Return the files that were written last: a few, and more that were written in the last seconds before the newest."""
        files = sorted(files, key=lambda entry: entry.mtime_ns)[-_MOST_HOT_FILES:]
        lately_ns = max((self._last_unix - _HOT_FOR_S) * 1e9, 0)
        return [entry for number, entry in enumerate(reversed(files)) if number < _HOT_FILES or entry.mtime_ns >= lately_ns][::-1]

    def _restat(self) -> None:
        hot = []
        for entry in self._hot:
            try:
                found = os.stat(entry.path)
            except OSError:
                self._files.pop(entry.path, None)
                continue
            hot.append(entry.again(found))
            self._files[entry.path] = hot[-1]
        self._hot = self._hottest(hot)

    def _changed(self, unix: float) -> set[str]:
        """Return the files that are new or changed since the last look."""
        now = {path: entry.print for path, entry in self._files.items()}
        changed = {path for path, found in now.items() if self._prints.get(path) != found}
        self._prints = now
        self._between = {path: between for path, between in self._between.items() if path in now}
        self._between |= dict.fromkeys(changed, (self._last_unix, unix))
        return changed

    def _written(self, paths: Sequence[str], at: float) -> float:
        """Return when files were written last, by our own clock, where `at` is what their times say."""
        between = [self._between[path] for path in paths if path in self._between]
        if not between:
            return at
        earliest, latest = max(between, key=lambda one: one[1])
        return min(max(at, earliest), latest)

    def _candidates(self) -> tuple[Checkpoint, ...]:
        return arrange(list(self._files.values()), self._named)

    def _print(self, one: Checkpoint) -> Print:
        return tuple(self._files[part].print for part in one.parts)

    # --- what is whole

    def _settle(self, candidates: tuple[Checkpoint, ...], changed: set[str], unix: float) -> list[Save]:
        """Take in every checkpoint that has become whole since the last look; return the saves that were watched."""
        saves: list[Save] = []
        self._became = []
        for one in reversed(candidates):
            found = self._print(one)
            if self._settled.get(one.path) == found:
                continue
            if changed.intersection(one.parts) and one.size > _VERIFIED_AT_ONCE_BYTES:
                continue
            if not self._is_settled(one, found, unix):
                continue
            self._settled[one.path] = found
            written_at = self._written(one.parts, one.at)
            self._written_at.append(written_at)
            self._written_at.sort()
            self._became.append(self._checked(one, found))
            saves += self._stopwatch.whole(written_at, unix)
        # Of thousands that stand there one is verified, the newest, and those before it only where it is truncated.
        settled = ((one, found) for one in candidates if self._settled.get(one.path) == (found := self._print(one)))
        checked = (self._checked(one, found) for one, found in settled)
        self._newest = next((one for one in checked if one.verdict is not Verdict.TRUNCATED), None)
        self._became.sort(key=lambda one: one.at)
        self._new = self._new or bool(self._became)
        return saves

    def _is_settled(self, one: Checkpoint, found: Print, unix: float) -> bool:
        checked = self._checked(one, found)
        quiet_s = unix - self._written(one.parts, one.at)
        if checked.verdict is Verdict.TRUNCATED:
            return False
        if checked.verdict is Verdict.NOT_CHECKED:
            return quiet_s >= _QUIET_S
        if one.form in _QUIET_FOLDERS_S and quiet_s < _QUIET_FOLDERS_S[one.form]:
            return False
        return self._is_named(one, unix)

    def _is_named(self, one: Checkpoint, unix: float) -> bool:
        """A checkpoint counts when the state file beside it, where its format has one, names it: readers go by that."""
        named = named_newest(os.path.dirname(one.path), one.form)
        if named is None or os.path.basename(named) == os.path.basename(one.path):
            return True
        return unix - self._written(one.parts, one.at) >= _NAMING_S

    def _checked(self, one: Checkpoint, found: Print) -> Checkpoint:
        known = self._verdicts.get(one.path)
        if known is None or known[0] != found:
            known = found, verify(one)
            self._verdicts[one.path] = known
        return known[1]

    # --- what is being written

    def _parts(self, candidates: tuple[Checkpoint, ...]) -> set[str]:
        """Return the files that are, or will be, part of a checkpoint. Logs and the like are none."""
        parts = {part for one in candidates for part in one.parts}
        parts |= {path for path, entry in self._files.items() if entry.temporary}
        return parts | {path for path in self._files if path.rpartition(".data-")[0]}

    def _settled_parts(self, candidates: tuple[Checkpoint, ...]) -> set[str]:
        return {part for one in candidates if self._settled.get(one.path) == self._print(one) for part in one.parts}

    def _writing(self, candidates: tuple[Checkpoint, ...], parts: set[str], unix: float, open_for_writing: frozenset[str]) -> bool:
        # What is open since before this link and was not written to, a data set's file, is no save.
        touched = [path for path in parts if open_for_writing and self._stood.get(path) != self._prints.get(path)]
        if any(os.path.realpath(path) in open_for_writing for path in touched):
            return True
        if any(self._is_being_made(entry, unix) for entry in self._files.values() if entry.in_temporary_folder):
            return True
        return any(self._unfinished(one, unix) for one in candidates)

    def _is_being_made(self, entry: Entry, unix: float) -> bool:
        """Return whether a file in a temporary folder was written in this link a moment ago: it is renamed when all is in it."""
        quiet_s = unix - self._written([entry.path], entry.mtime_ns / 1e9)
        return self._stood.get(entry.path) != entry.print and quiet_s < _NAMING_S

    def _unfinished(self, one: Checkpoint, unix: float) -> bool:
        """Return whether a checkpoint changed in this link, is not settled, and its writer may only be slow."""
        found = self._print(one)
        if self._settled.get(one.path) == found or self._before.get(one.path) == found:
            return False
        truncated = self._checked(one, found).verdict is Verdict.TRUNCATED
        return unix - self._written(one.parts, one.at) < (_SLOW_WRITER_S if truncated else _NAMING_S)


def _mtime_ns(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
