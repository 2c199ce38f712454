"""What a link starts from: the newest whole checkpoint, after truncated ones were set aside and a lost one was brought back."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import NamedTuple

from ckptrun import durations
from ckptrun.chain.model import ChainSoFar
from ckptrun.errors import CkptrunError, Refused
from ckptrun.link import messages
from ckptrun.plan import Plan
from ckptrun.words import Checkpoint, one_line

_AT_ONCE_S = 1.0


# How long a temporary must not have been written to where another program, not this chain, may be its writer.
_LEFT_FOR_S = 60.0
# A file's time may be that much in the future: it is of the file server's clock.
_CLOCKS_S = 300.0


class Resumption(NamedTuple):
    """Whether a start resumes, from which checkpoint, and a note about it for the start line."""

    resumes: bool
    checkpoint: Checkpoint | None = None
    note: str = ""


def find_resumption(plan: Plan, chain: str, link: int, known: ChainSoFar, record: Callable[..., None]) -> Resumption:
    """Return what this start resumes from; repair what can be repaired on the way. Raises Refused as `_find` does.

    Raises CkptrunError, too, where a checkpoint cannot be moved or brought back.
    """
    try:
        return _find(plan, chain, link, known, record)
    except OSError as error:
        where = error.filename or ", ".join(plan.checkpoints)
        raise CkptrunError(f"{where}: {error.strerror}. Nothing was started; mend that, and type the same command again") from None


def _find(plan: Plan, chain: str, link: int, known: ChainSoFar, record: Callable[..., None]) -> Resumption:
    """Return what this start resumes from.

    Raises Refused when no whole checkpoint stands although one was seen before in this chain: training would begin anew and, in
    time, overwrite what is left.
    """
    if not plan.checkpoints:
        return Resumption(resumes=known.starts_in_all > 0)
    from ckptrun.checkpoints.find import newest_whole

    if plan.fresh and known.starts_in_all == 0:
        _start_fresh(plan, chain, record)
    _set_leftovers_aside(plan, link, known, record)
    newest, truncated = newest_whole(plan.checkpoints)
    if newest is None and truncated:
        _adopt_copies(plan, chain)
    for cut in truncated:
        _set_aside(plan, cut, link, record)
    if newest is not None:
        _mend_state_file(newest, record)
    else:
        newest = _bring_back(plan, chain, record, missing=not truncated)
    if newest is None:
        if known.seen_whole:
            folders = ", ".join(plan.checkpoints)
            raise Refused(
                f"no whole checkpoint stands in {folders}, although this chain has seen one: it does not train from the beginning. "
                "Put it back (see the folders *.set-aside), or begin a new chain with --fresh"
            )
        return Resumption(resumes=False)
    keep_copies(plan, chain, record)
    return Resumption(True, newest, _note(newest, known))


def _note(newest: Checkpoint, known: ChainSoFar) -> str:
    last = known.last
    ago = f"saved {durations.show(max(time.time() - newest.at, 0.0))} ago"
    if last is None:
        return f"{ago}, older than this chain"
    link = f"link {last.link}" if last.attempt == 1 else f"attempt {last.attempt} of link {last.link}"
    if last.ended_at is None:
        return f"{ago}, {link} died without a word"
    before_s = last.ended_at - newest.at
    if abs(before_s) < _AT_ONCE_S:  # clocks of two nodes, and what a file system makes of a time, differ by that much
        return f"saved as {link} ended"
    return f"saved {durations.show(abs(before_s))} {'before' if before_s > 0 else 'after'} {link} ended"


def _start_fresh(plan: Plan, chain: str, record: Callable[..., None]) -> None:
    from ckptrun.checkpoints.set_aside import set_all_aside

    for place in set_all_aside(plan.checkpoints, f"before-{chain}"):
        messages.say(f"--fresh: what stood there is now {_shown(place)}")
        record("set_aside", path=None, to=place)


def _set_aside(plan: Plan, cut: Checkpoint, link: int, record: Callable[..., None]) -> None:
    from ckptrun.checkpoints.set_aside import set_aside

    place = set_aside(cut, _root_of(plan, cut), link)
    messages.say(f"{_shown(cut.path)} is truncated ({one_line(cut.why)}): set aside to {_shown(place)}")
    record("set_aside", path=cut.path, to=place)


def _mend_state_file(newest: Checkpoint, record: Callable[..., None]) -> None:
    """Let the state file beside a checkpoint name it, where it names what is not there: a kill came between the two."""
    from ckptrun.checkpoints.state_file import mend, misnamed

    folder = os.path.dirname(newest.path)
    if why := misnamed(folder, newest.form):
        mend(folder, newest.form, newest.path)
        messages.say(f"the state file in {_shown(folder)} was mended ({why}): it names {one_line(os.path.basename(newest.path))}")
        record("state_file_mended", path=newest.path, why=why)


def _shown(path: str) -> str:
    return one_line(os.path.relpath(path))


def _set_leftovers_aside(plan: Plan, link: int, known: ChainSoFar, record: Callable[..., None]) -> None:
    """Set aside what writers have left that died: all of it where the chain's own were the last, else what is old enough."""
    from ckptrun.checkpoints.set_aside import real, set_leftovers_aside

    until = time.time() + _CLOCKS_S if known.starts_in_all else time.time() - _LEFT_FOR_S
    for root in plan.checkpoints:
        try:
            names = set_leftovers_aside(root, link, until)
        except OSError as error:  # another user's, in a folder that many share: nothing that a start could not live with
            messages.say(f"what a save that never ended has left in {_shown(root)} cannot be moved ({error.strerror})")
            continue
        if names:
            place = f"{real(root).rstrip('/')}.set-aside/link-{link}"
            what = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
            messages.say(f"left behind by a save that never ended: {one_line(what)}, set aside to {_shown(place)}")
            record("set_aside", path=None, to=place, leftovers=names[:10])


def _adopt_copies(plan: Plan, chain: str) -> None:
    from ckptrun.checkpoints.in_place import adopt_copy

    for root in plan.checkpoints:
        adopt_copy(root, chain)


def _bring_back(plan: Plan, chain: str, record: Callable[..., None], *, missing: bool) -> Checkpoint | None:
    from ckptrun.checkpoints.in_place import bring_back

    for root in plan.checkpoints:
        found = bring_back(root, chain, missing=missing)
        if found is not None:
            messages.say(f"{_shown(found.path)} was brought back from the last whole copy of it")
            record("restored", path=found.path, copy=None)
            return found
    return None


def warn_of_room(saved: Checkpoint, record: Callable[..., None]) -> bool:
    """Say where the next save may not fit beside the last; return whether that was said."""
    from ckptrun.checkpoints.room import too_little

    room = too_little(saved)
    if room is None:
        return False
    text = messages.little_room(room.where, room.free_bytes, room.free_files, saved)
    messages.say(text)
    record("warned", about="room", text=text)
    return True


def keep_copies(plan: Plan, chain: str, record: Callable[..., None]) -> None:
    """Copy the checkpoints that are overwritten in place; one that is too large for it is said once a chain."""
    from ckptrun.checkpoints.in_place import keep_copy

    for root in plan.checkpoints:
        copy = keep_copy(root, chain)
        if copy.path is not None:
            record("copied", path=root, copy=copy.path)


def _root_of(plan: Plan, found: Checkpoint) -> str:
    """Return the `--checkpoint` path under which a checkpoint was found."""
    for root in plan.checkpoints:
        if found.path == root or found.path.startswith(root.rstrip("/") + "/"):
            return root
    return plan.checkpoints[0]
