"""Everybody below us: our own process tree, the tasks of our job's steps, and relays. Who can be told what, and how."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from ckptrun.early import TERM
from ckptrun.link import child, process_tree
from ckptrun.link.desk import Desk
from ckptrun.link.post import Post
from ckptrun.words import Status

if TYPE_CHECKING:
    from ckptrun.link.silence import Written
    from ckptrun.link.steps import Seen
    from ckptrun.link.target import Audience, Target

KILL = 9


def warm_up() -> None:
    """Import ahead of the ask what tells who is asked: none of it is needed to start the training."""
    from ckptrun.link import job_steps, silence, target  # noqa: F401

    process_tree.warm_up()


class Branches:
    """The branches of one link. `crew` is how many relays there are beside us in our own step."""

    def __init__(self, wanted: int | None, desk: Desk | None, post: Post | None, crew: int = 0) -> None:
        self._wanted, self._desk, self._post, self._crew = wanted, desk, post, crew
        self._seen: Seen | None = None

    def pids(self) -> tuple[int, ...]:
        """Return the pids of our own living descendants."""
        return process_tree.pids(self._apart())

    def may_live(self) -> bool:
        """Return whether there may be descendants at all: without a child, orphans that came to us included, there are none."""
        return child.has_children()

    def open_for_writing(self, folders: tuple[str, ...], *, just_heard: bool = False) -> frozenset[str]:
        """Return the files below `folders` that a descendant has open for writing.

        `just_heard`: those who live were read a moment ago, by `listen`; reading them again would cost as much as all the rest.
        """
        by = [process.pid for process in self._seen.processes] if just_heard and self._seen is not None else self.pids()
        return process_tree.open_for_writing(folders, by)

    def written(self, *, just_heard: bool = False) -> dict[int, Written] | None:
        """Return what all descendants have written; None where some of those who are asked cannot be seen from here.

        `just_heard` as in `open_for_writing`.
        """
        elsewhere = self._crew > 0 or (self._post is not None and self._post.relays_hear() is not None)
        if elsewhere or self._seen is None or self._seen.sruns:
            return None
        return process_tree.written([process.pid for process in self._seen.processes] if just_heard else self.pids())

    def _apart(self) -> frozenset[int]:
        return self._desk.pids() if self._desk is not None else frozenset()

    # --- hearing

    def listen(self, root: int, told: Mapping[int, Collection[int]], *, saves_unasked: bool) -> Audience:
        """Return who can be told what now; `told` as in `audience`, `saves_unasked` as in `Post.can_be_told`."""
        from ckptrun.link.target import audience, told_by_file, told_by_relays

        self._seen = self._look()
        found = audience(self._seen.processes, root, self._wanted, told)
        if self._post is None:
            return found
        hearing = self._post.relays_hear()
        if hearing is not None:
            found = told_by_relays(found, hearing, beside=self._crew > 0)
        return told_by_file(found) if self._post.can_be_told(saves_unasked=saves_unasked) else found

    def _look(self) -> Seen:
        from ckptrun.link import job_steps
        from ckptrun.link.steps import Seen, graft, is_srun

        processes = process_tree.read(self._apart())
        sruns = [process.pid for process in processes if is_srun(process)]
        if not sruns:
            return Seen(processes, {}, frozenset(), frozenset())
        job = self._desk.job() if self._desk is not None else None
        steps = job_steps.read(job) if job is not None else ()
        all_hear = self._desk is not None and self._desk.all_hear()
        return graft(processes, steps, job_steps.listening_ports(sruns), self._wanted, all_hear=all_hear)

    # --- telling

    def deliver(self, target: Target) -> bool:
        """Send an ask to one who was heard; return whether it went out. TERM for tasks behind an srun goes to the controller."""
        assert self._seen is not None
        step = self._seen.through.get(target.pid)
        if target.pid not in self._seen.sruns and not process_tree.catches(target.pid, target.signal):
            return False  # reading a large tree takes longer than a training needs to end
        if step is not None and target.signal == TERM and self._desk is not None:
            self._desk.signal_step(step)
            return True
        return child.send(target.pid, target.signal)

    def terminate(self, reason: str) -> tuple[int, ...]:
        """Send TERM to everybody who is left, past srun; return the pids on this node."""
        seen = self._seen = self._look()
        if self._post is not None:
            self._post.tell_relays_to_end(reason)
        for step in set(seen.through.values()):
            if self._desk is not None:
                self._desk.signal_step(step)
        pids = tuple(dict.fromkeys(pid for pid in (*self.pids(), *seen.local) if pid not in seen.sruns))
        for pid in pids:
            child.send(pid, TERM)
        return pids

    def kill(self) -> tuple[int, ...]:
        """Send KILL to everybody who is left; srun gets TERM, at which it kills its tasks on every node."""
        seen = self._seen = self._look()
        pids = tuple(dict.fromkeys((*self.pids(), *seen.local)))
        for pid in pids:
            child.send(pid, TERM if pid in seen.sruns else KILL)
        return pids

    # --- those beside us

    def crew_left(self) -> bool:
        """Return whether a relay beside us is still at work."""
        return self._crew > 0 and self._post is not None and len(self._post.statuses()) < self._crew

    def worst(self, own: Status) -> Status:
        """Return the worst of our own branch's status and of those of the relays beside us."""
        if not self._crew or self._post is None:
            return own
        return max((own, *self._post.statuses()), key=lambda status: status.exit_code)
