"""Checkpoints of a PyTorch training that resume exactly, in one process and on all ranks of `torch.distributed`.

    from ckptrun.training.pytorch import Checkpoints, ResumableLoader

    loader = ResumableLoader(DataLoader(data, batch_size=64, shuffle=True))
    checkpoints = Checkpoints("checkpoints", model=model, optimizer=optimizer, scheduler=scheduler, loader=loader)
    checkpoints.resume()
    for epoch in range(loader.epoch, EPOCHS):
        for batch in loader:
            train(batch)
            if checkpoints.step():  # saves when it was asked; True: stop
                sys.exit()
    checkpoints.done()

Rules of this file. It imports `ckptrun` and PyTorch, nothing else of ckptrun, so that it can be copied into a container beside
`ckptrun.py`. All ranks make every call, in the same order. What all of them must do at the same step is agreed on in a process
group of its own, on the CPU, and only at steps that each rank knows beforehand: so no rank ever waits for a vote that another does
not join.
"""

from __future__ import annotations

import os
import random
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

import ckptrun

_FORMAT = 1
_NAME = re.compile(r"step-(\d{7,})(\.pt)?")
# A vote costs some tenths of a millisecond. One a second is never felt; the bound keeps steps that suddenly become slow from
# putting the next vote off for minutes.
_VOTE_EVERY_S = 1.0
_MOST_STEPS_WITHOUT_VOTE = 50
# A rank may validate for hours; one that dies is noticed at once by its closed connection.
_PATIENCE = timedelta(days=7)


_CALLS = ("a call", "resume", "step", "save")
_RESUME, _STEP, _SAVE = 1, 2, 3


class Stateful(Protocol):
    """What can be saved: a model, an optimizer, a scheduler, a GradScaler, a ResumableLoader, an object of your own."""

    def state_dict(self) -> Any:
        """Return what is to be saved: tensors, numbers, texts, and lists and dictionaries of them."""

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Take back what `state_dict` returned."""


class Checkpoints:
    """The checkpoints of one training: `FOLDER/step-0000012.pt`, for sharded models (FSDP) the folder `FOLDER/step-0000012`.

    `parts` are saved and restored under their names; on several ranks they are the first one's, of a ResumableLoader each one's.
    `every`: save after so many steps, too; 0 saves only when asked. `keep`: how many checkpoints stay, 1 at least. `weights_only`
    is what `torch.load` is given; True executes nothing that stands in a file. One `Checkpoints` holds all that a program trains.
    Raises ValueError or TypeError for what can be none of these.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, every: int = 0, keep: int = 2, weights_only: bool = True, **parts: Stateful
    ) -> None:
        _check_arguments(every, keep, parts)
        # The program may change its directory.
        self.folder, self.steps = os.path.abspath(folder), 0
        self._every, self._keep, self._weights_only = every, keep, weights_only
        self._parts = parts
        self._loaders = [part for part in parts.values() if isinstance(part, ResumableLoader)]
        self._run = ckptrun.current()
        self._ranks = Ranks()
        self._vote = Vote(self._run, self._ranks)
        self._knows_where_to_begin = self._is_plain = False
        for loader in self._loaders:
            loader.begin_to_count()

    def resume(self) -> int:
        """Restore the newest checkpoint, if there is one; return how many steps are done.

        Raises what `torch.load` and `load_state_dict` raise, ValueError for a file of another program: a checkpoint that does not
        fit is no reason to begin anew. RuntimeError where `torch.distributed` was set up after this object was made.
        """
        self._ranks.begin(_RESUME, self.steps)
        self._knows_where_to_begin = True
        if self._sharded():
            self._sharded_parts()  # raises now, not at the first save
        path = self._ranks.from_first(self._ranks.first_does(self._newest))
        if path is None:
            return 0
        common, own = self._load_sharded(path) if os.path.isdir(path) else self._load_file(path)
        self.steps = int(common["step"])
        for name, state in common["parts"].items():
            self._part(name, path).load_state_dict(state)
        missing = [name for name in self._parts if name not in (*common["parts"], *own["parts"], *self._sharded())]
        if missing and self._ranks.number == 0:
            _say(f"{path} holds no {', '.join(missing)}: that begins anew")
        if common["ranks"] != self._ranks.count:
            self._begin_epoch(own["parts"])
            if self._ranks.number == 0:
                who = f"{path} was saved by {common['ranks']} rank(s) and is read by {self._ranks.count}"
                _say(f"{who}: random states begin anew, and so does the epoch")
            return self.steps
        for name, state in own["parts"].items():
            self._part(name, path).load_state_dict(state)
        self._share_random_state()
        set_random_state(own["random"])
        return self.steps

    def step(self, total: int | None = None) -> bool:
        """Count a step that is done, save if that was asked for; return whether to stop now.

        Raises RuntimeError where `resume` was never called although there is a checkpoint.
        """
        self._ranks.check()
        if not self._knows_where_to_begin:
            self._begin()
        self.steps += 1
        for loader in self._loaders:
            loader.count_step()
        if self._ranks.number == 0:
            self._run.progress(self.steps, total)
        wanted = self._vote.take(self.steps)
        if wanted.save or (self._every and self.steps % self._every == 0):
            self._save(wanted.ask)
        return wanted.stop

    def ask(self) -> None:
        """Ask for a save and a stop at the next vote: for a signal handler of your own, on any rank."""
        self._vote.own_ask = True

    def save(self) -> str:
        """Save now, and return the path. All ranks call it at the same step. Raises on all of them where it fails."""
        return self._save(0)

    def done(self) -> None:
        """Say that the training is finished: no further link follows."""
        self._run.done()

    def _save(self, ask: int) -> str:
        self._ranks.begin(_SAVE, self.steps)
        sharded = self._sharded()
        name = os.path.join(self.folder, f"step-{self.steps:07d}{'' if sharded else '.pt'}")
        self._save_sharded(name) if sharded else self._save_file(name)
        self._is_plain = True
        self._run.answer(ask)
        if self._ranks.number == 0:
            self._run.saved(name)
            self._remove_old()
        return name

    def _begin(self) -> None:
        """Raise where a training would begin anew beside its checkpoints, because the program does not ask for them. Collective."""
        self._ranks.begin(_STEP, self.steps)
        self._knows_where_to_begin = True
        path = self._ranks.from_first(self._ranks.first_does(self._newest))
        if path is not None:
            raise RuntimeError(f"{path} is there, and this training begins anew: call resume() before the first step")

    def _share_random_state(self) -> None:
        """Let the loaders that were in the middle of an epoch, if any was, set the random state: one of them, and once."""
        due = [True]
        for loader in self._loaders:
            begins = loader.place > 0 or not any(one.place for one in self._loaders)
            loader.share_random_state(due if begins else [False])

    def _begin_epoch(self, states: dict[str, Any]) -> None:
        """Let the loaders begin the epoch anew that another number of ranks was in: each has another part of the data now."""
        for name, part in self._parts.items():
            if isinstance(part, ResumableLoader) and name in states:
                part.epoch = states[name]["epoch"]

    # --- one file, written by the first rank

    def _save_file(self, name: str) -> None:
        everybody = self._ranks.to_first(self._own_state())

        def write() -> None:
            state = {**self._common_state(), "each": everybody}
            self._check_plain(state)
            with ckptrun.atomic_path(name) as path:
                _write(state, path, name)

        self._ranks.first_does(write)

    def _load_file(self, path: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what all ranks share, and what is this rank's own: the first one's where the ranks are others now."""
        import torch

        if self._sharded():
            raise ValueError(f"{path} is of a model that was not sharded, and this one is: go on without FSDP, or elsewhere")
        state = torch.load(path, map_location="cpu", weights_only=self._weights_only)
        if not isinstance(state, dict) or state.get("format") != _FORMAT:
            raise ValueError(f"{path} was not saved by this version of Checkpoints: move it, or give Checkpoints another folder")
        return state, state["each"][self._ranks.number if state["ranks"] == self._ranks.count else 0]

    def _common_state(self) -> dict[str, Any]:
        sharded = self._sharded()
        parts = {
            name: _unwrapped(part).state_dict()
            for name, part in self._parts.items()
            if name not in sharded and not _is_of_one_rank(part)
        }
        return {"format": _FORMAT, "step": self.steps, "ranks": self._ranks.count, "parts": parts}

    def _own_state(self) -> dict[str, Any]:
        parts = {name: part.state_dict() for name, part in self._parts.items() if _is_of_one_rank(part)}
        return {"random": random_state(), "parts": parts}

    def _check_plain(self, state: Any) -> None:
        """Raise at the first save, not in the next link, where `weights_only` would refuse to load what was saved."""
        import io

        import torch

        if self._is_plain:
            return
        file = io.BytesIO()
        torch.save(_without_tensors(state), file)
        file.seek(0)
        torch.load(file, weights_only=self._weights_only)

    # --- a folder, written by all ranks

    def _save_sharded(self, name: str) -> None:
        from torch.distributed import checkpoint

        folder = ckptrun.atomic_dir(name)
        temporary = self._ranks.from_first(self._ranks.first_does(folder.__enter__))
        failed: BaseException | None = None
        try:
            with _said_plainly(f"{name} cannot be saved"):
                checkpoint.save(self._sharded_state(), checkpoint_id=temporary, process_group=self._ranks.group)
            own = {**self._own_state(), "common": self._common_state()}
            self._check_plain(own)
            _write(own, os.path.join(temporary, f"rank-{self._ranks.number}.pt"), name)
        except Exception as error:
            failed = error
        try:
            self._ranks.all_or_none(failed)
        except Exception as error:
            folder.__exit__(type(error), error, None)
            raise
        self._ranks.first_does(lambda: folder.__exit__(None, None, None))

    def _load_sharded(self, path: str) -> tuple[dict[str, Any], dict[str, Any]]:
        import torch
        from torch.distributed import checkpoint
        from torch.distributed.checkpoint.state_dict import set_state_dict

        if not self._sharded():
            raise ValueError(f"{path} is of a sharded model, and this one is not: wrap it as before (FSDP), or take another folder")
        state = self._sharded_state()
        planner = _planner(self._weights_only)
        with _said_plainly(f"{path} cannot be loaded"):
            checkpoint.load(state, checkpoint_id=path, process_group=self._ranks.group, planner=planner)
        model, optimizers = self._sharded_parts()
        set_state_dict(model, optimizers, model_state_dict=state["model"], optim_state_dict=state["optimizers"])
        names = (os.path.join(path, f"rank-{number}.pt") for number in (self._ranks.number, 0))
        file = next(name for name in names if os.path.exists(name))
        own = torch.load(file, map_location="cpu", weights_only=self._weights_only)
        return own["common"], own

    def _sharded(self) -> list[str]:
        """Return the names of a model that lies in parts on several ranks, and of its optimizers; none where each rank has all.

        Found anew each time: the program may shard its model after `Checkpoints` was given it.
        """
        import torch

        if not any(_is_sharded(part) for part in self._parts.values()):
            return []
        return [name for name, part in self._parts.items() if _is_sharded(part) or isinstance(part, torch.optim.Optimizer)]

    def _sharded_parts(self) -> tuple[Any, list[Any]]:
        import torch

        models = [part for part in self._parts.values() if _is_sharded(part)]
        if len(models) != 1:
            raise ValueError(f"one sharded model can be saved, not {len(models)}")
        # By name: PyTorch numbers their groups through, and the program may name its parts in another order next time.
        parts = (self._parts[name] for name in sorted(self._parts))
        return models[0], [part for part in parts if isinstance(part, torch.optim.Optimizer)]

    def _sharded_state(self) -> dict[str, Any]:
        from torch.distributed.checkpoint.state_dict import get_state_dict

        model, optimizers = self._sharded_parts()
        of_model, of_optimizers = get_state_dict(model, optimizers)
        return {"model": of_model, "optimizers": of_optimizers}

    # --- which one

    def _newest(self) -> str | None:
        """Return what ckptrun verified where that is in our folder, else the newest that is."""
        found = self._all()
        theirs, name = os.path.split(self._run.checkpoint or "")
        # Another `Checkpoints` of this program has a folder, too. One that is not here at all has another name in this container.
        ours = not os.path.isdir(theirs) or os.path.realpath(theirs) == os.path.realpath(self.folder)
        if ours and name in found:
            return os.path.join(self.folder, name)
        if not found and not ours and _NAME.fullmatch(name):
            _say(f"{self.folder} holds no checkpoint: it begins anew; {theirs}, where ckptrun found {name}, is another folder")
        return os.path.join(self.folder, found[-1]) if found else None

    def _all(self) -> list[str]:
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        matches = (found for name in names if (found := _NAME.fullmatch(name)))
        return [found[0] for found in sorted(matches, key=lambda found: int(found[1]))]

    def _remove_old(self) -> None:
        # What is newer than this save belongs to a training that stood here before: it is not ours to remove.
        ours = [name for name in self._all() if int(_NAME.fullmatch(name)[1]) <= self.steps]  # type: ignore[index]
        for name in ours[: -self._keep]:
            try:
                _remove(os.path.join(self.folder, name))
            except OSError as error:  # what is new was saved: that is no reason to end
                _say(f"{error.filename or name} cannot be removed ({error.strerror}); the training goes on")

    def _part(self, name: str, path: str) -> Stateful:
        if name not in self._parts:
            raise ValueError(f"{path} holds a {name!r}; Checkpoints was given {', '.join(self._parts)}")
        part: Stateful = _unwrapped(self._parts[name])
        return part


def _check_arguments(every: int, keep: int, parts: dict[str, Any]) -> None:
    if every < 0 or keep < 1:
        raise ValueError(f"every={every}, keep={keep}: every is 0 (only when asked) or more, keep is 1 or more")
    for name, part in parts.items():
        if not (hasattr(part, "state_dict") and hasattr(part, "load_state_dict")):
            what = type(part).__name__
            remedy = "wrap it in ResumableLoader" if what.endswith("Loader") else "put numbers and texts into Values"
            raise TypeError(f"Checkpoints was given {name}, of class {what}, which has no state_dict and load_state_dict: {remedy}")


def _write(state: dict[str, Any], path: str, name: str) -> None:
    import shutil

    import torch

    try:
        torch.save(state, path)
    except RuntimeError as error:  # of a full disk PyTorch says "unexpected pos 8768 vs 8662"
        free = shutil.disk_usage(os.path.dirname(path)).free
        raise RuntimeError(f"{name} cannot be saved, {free} bytes are free in its folder: {error}") from error


def _remove(path: str) -> None:
    """Remove a checkpoint; a folder under another name, because one that is half removed looks whole to a listing."""
    import shutil

    if not os.path.isdir(path):
        os.unlink(path)
        return
    folder, name = os.path.split(path)
    gone = os.path.join(folder, f".{name}.{os.urandom(4).hex()}.tmp")
    os.rename(path, gone)
    shutil.rmtree(gone)


# --- all ranks


class Wanted(NamedTuple):
    """What all ranks have agreed on; `ask` is the highest number of an ask that any of them has heard of."""

    save: bool = False
    stop: bool = False
    ask: int = 0


class Ranks:
    """The ranks of `torch.distributed`, or the one process there is. A collective call is made by all of them."""

    def __init__(self) -> None:
        import torch.distributed as dist

        self.number, self.count, self.group = 0, 1, None
        self._call, self._step = 0, 0
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            self.number, self.count = dist.get_rank(), dist.get_world_size()
            self.group = dist.new_group(backend="gloo", timeout=_PATIENCE)

    def begin(self, call: int, step: int) -> None:
        """Take note of the call that this rank makes now, and of its step, which must be every rank's; raise as `check` does."""
        self.check()
        self._call, self._step = call, step

    def check(self) -> None:
        """Raise RuntimeError where the ranks are not those that were there when this was made: each would go on by itself."""
        import torch.distributed as dist

        there = dist.is_available() and dist.is_initialized()
        if there and self.count == 1 and dist.get_world_size() > 1:
            raise RuntimeError("Checkpoints was made before init_process_group, for one rank alone: make it after that")
        if not there and self.count > 1:
            raise RuntimeError("destroy_process_group was called before the last step or save of Checkpoints: call it after that")

    def highest(self, numbers: list[float]) -> list[float]:
        """Return the highest of each number, four at most, over all ranks. Collective.

        Raises RuntimeError on all ranks where one makes another call, or the same at another step, and where one has ended.
        """
        if self.count == 1:
            return numbers
        import torch
        import torch.distributed as dist

        # Always as many, so that ranks meet here whatever they are about to do: gloo would wait, or mix up what does not fit.
        mine = [self._call, self._step, -self._call, -self._step, *numbers, *[0.0] * (4 - len(numbers))]
        found = torch.tensor(mine, dtype=torch.float64, device="cpu")  # the program may have another default device
        try:
            dist.all_reduce(found, op=dist.ReduceOp.MAX, group=self.group)
        except RuntimeError as error:
            raise RuntimeError("another rank has ended, and this one cannot go on alone; what that one said says why") from error
        call, step, lowest_call, lowest_step, *high = (float(one) for one in found)
        if (call, step) != (-lowest_call, -lowest_step):
            here = f"this one is in {_CALLS[self._call]} at step {self._step}, another one is not"
            raise RuntimeError(f"{here}: all ranks call resume, step and save alike (no `if rank == 0`), and count the same steps")
        return high[: len(numbers)]

    def from_first(self, value: Any) -> Any:
        """Return the first rank's value. Collective."""
        if self.count == 1:
            return value
        import torch.distributed as dist

        self.highest([])
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def to_first(self, value: Any) -> list[Any]:
        """Return the values of all ranks on the first one, an empty list on the others. Collective."""
        if self.count == 1:
            return [value]
        import torch.distributed as dist

        self.highest([])
        box: list[Any] = [None] * self.count if self.number == 0 else []
        dist.gather_object(value, box or None, dst=0, group=self.group)
        return box

    def first_does(self, act: Callable[[], Any]) -> Any:
        """Let the first rank act while the others wait; raise on all ranks where that fails. Collective."""
        result, failed = None, None
        if self.number == 0:
            try:
                result = act()
            except Exception as error:
                failed = error
        self.all_or_none(failed)
        return result

    def all_or_none(self, failed: BaseException | None) -> None:
        """Raise on all ranks where one has failed: the others would wait for it in their next collective call. Collective."""
        anywhere = self.highest([float(failed is not None)])[0]
        if failed is not None:
            raise failed
        if anywhere:
            raise RuntimeError("another rank has failed; what it raised says why")


class Vote:
    """Whether to save and to stop, agreed on by all ranks at steps that each of them knows.

    The next vote's step follows from the last vote's result, which is the same on all ranks: about one a second by the slowest of
    them. Without other ranks every step is one, and costs a look at a clock.
    """

    def __init__(self, run: ckptrun.Run, ranks: Ranks) -> None:
        self.own_ask = False
        self._run, self._ranks = run, ranks
        self._next = self._last = self._answered = 0
        self._last_at: float | None = None

    def take(self, step: int) -> Wanted:
        """Return what all ranks want after this step. Collective at the steps of a vote, else free."""
        if self._ranks.count == 1:
            return self._agreed(self._own())
        if step < self._next:
            return Wanted()
        self._ranks.begin(_STEP, step)
        now = time.monotonic()
        seconds = (now - self._last_at) / max(1, step - self._last) if self._last_at is not None else 0.0
        own = self._own()
        save, stop, ask, slowest = self._ranks.highest([float(own.save), float(own.stop), float(own.ask), seconds])
        self._last, self._last_at = step, time.monotonic()
        self._next = step + (min(_MOST_STEPS_WITHOUT_VOTE, max(1, int(_VOTE_EVERY_S / slowest))) if slowest > 0 else 1)
        return self._agreed(Wanted(save > 0, stop > 0, int(ask)))

    def _own(self) -> Wanted:
        # By its number: another vote of this program may have answered the ask with a save of what it has.
        save = self._run.checkpoint_requested or self._run.ask > self._answered or self.own_ask
        stop = self._run.stop_requested or self.own_ask
        return Wanted(save, stop, self._run.ask) if save or stop else Wanted()

    def _agreed(self, wanted: Wanted) -> Wanted:
        self._answered = max(self._answered, wanted.ask)
        return wanted


# --- the place in the data


class ResumableLoader:
    """A DataLoader that goes on in the middle of an epoch, in the same order, without reading what was trained on before.

    `epoch` counts the epochs that are over; `for epoch in range(loader.epoch, EPOCHS): for batch in loader:` resumes. The order of
    an epoch is what the wrapped loader makes of the random state at its beginning, which is kept. `set_epoch` of a
    DistributedSampler is called. A loader of another kind, or of an IterableDataset, is read from its beginning and what was
    trained on is passed over. An epoch that is left with `break` is over when the next one begins; where no step was counted since
    it began it was a look at the data, and begins again. What the wrapped loader knows (`dataset`, `batch_size`), this one does.
    """

    of_each_rank = True

    def __init__(self, loader: Any) -> None:
        self.epoch = self.place = 0
        self._loader = loader
        self._began: dict[str, Any] | None = None
        self._resumed: dict[str, Any] | None = None
        self._started: dict[str, Any] | None = None
        # Shared by the loaders of one `Checkpoints`: the first that goes on sets the random state, the next would turn it back.
        self._random_due = [True]
        self._stepped: bool | None = None  # since the iteration began; None where nobody counts
        if getattr(loader, "persistent_workers", False):
            # Such workers get one seed for all epochs. After a resume a later epoch would draw it, and shift all that follows.
            own = getattr(loader, "generator", None)
            loader.generator = _generator(own)

    def __getattr__(self, name: str) -> Any:
        """Return what the wrapped loader knows."""
        if name == "_loader":  # a copy that is not filled yet
            raise AttributeError(name)
        return getattr(self._loader, name)

    def __len__(self) -> int:
        """Return the batches of a whole epoch."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        """Return the batches of this epoch that are left, or of a new one."""
        if self._began is not None and self._resumed is None:
            self._was_left()
        resumed, self._resumed = self._resumed, None
        self._started, self._stepped = resumed, None if self._stepped is None else False
        for sampler in self._samplers():
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(self.epoch)
        if resumed is None or resumed["place"] == 0:
            if resumed is not None and self._random_is_due():  # saved between two epochs: nothing has been drawn for this one
                set_random_state(resumed["now"]["random"])
            self.place, self._began = 0, self._states()
            source = iter(self._loader)
        else:
            self._began = resumed["began"]
            now = self._states()
            if self._random_is_due():
                now["random"] = resumed["now"]["random"]
            self._set_states(resumed["began"])
            source = iter(self._rest(self.place, lambda: self._reach(now)))
        began = self._began  # another one, where the next epoch has begun before this iterator is closed
        try:
            for batch in source:
                self.place += 1
                yield batch
        except GeneratorExit:
            if self._began is not began or not self._is_at_end():
                raise
        self.epoch, self.place, self._began = self.epoch + 1, 0, None

    def state_dict(self) -> dict[str, Any]:
        """Return the place, and the random states at the epoch's beginning and now."""
        if self._resumed is not None:
            return self._resumed
        return {"epoch": self.epoch, "place": self.place, "began": self._began, "now": self._states()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there, when the loader is next iterated over."""
        self.epoch, self.place, self._resumed = state_dict["epoch"], state_dict["place"], state_dict
        self._random_due = [True]
        self._set_generators(state_dict["now"])

    def begin_to_count(self) -> None:
        """Take note that `count_step` is called after each step that is done with what is read here."""
        self._stepped = False

    def count_step(self) -> None:
        """Take note of a step."""
        self._stepped = True

    def share_random_state(self, due: list[bool]) -> None:
        """Set the random state only where the one element is True, which becomes False then."""
        self._random_due = due

    def _was_left(self) -> None:
        """Count the epoch that was left before its end; without a step since it began it was a look, and begins there again."""
        if self._stepped is not False:
            self.epoch += 1
        elif self._started is not None:
            self.load_state_dict(self._started)

    def _is_at_end(self) -> bool:
        """Return whether the last batch was read: `zip` ends with another loader's end, and never asks for this one's."""
        try:
            return self.place >= len(self._loader)
        except TypeError:
            return False

    def _random_is_due(self) -> bool:
        due, self._random_due[0] = self._random_due[0], False
        return due

    def _reach(self, now: dict[str, Any]) -> None:
        set_random_state(now["random"])
        # A sampler that feeds workers was ahead of the training. What it has drawn up to this place is drawn again by now.
        if not getattr(self._loader, "num_workers", 0):
            self._set_generators(now)

    def _rest(self, place: int, reached: Callable[[], None]) -> Any:
        """Return the loader from a place on; `reached` is called before the first of its batches is read."""
        import torch.utils.data as data

        loader = self._loader
        # A class derived from it may do more with its batches than the plain one that would take its place here.
        known = isinstance(loader, data.DataLoader) and type(loader).__iter__ is data.DataLoader.__iter__
        if not known or isinstance(loader.dataset, data.IterableDataset) or loader.batch_sampler is None:
            return _passed_over(loader, place, reached)
        same = ("num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context", "generator")
        options = {name: getattr(loader, name) for name in same}
        if loader.num_workers:
            options["prefetch_factor"] = loader.prefetch_factor
        return data.DataLoader(loader.dataset, batch_sampler=_From(loader.batch_sampler, place, reached), **options)

    def _samplers(self) -> list[Any]:
        batches = getattr(self._loader, "batch_sampler", None)
        found = (getattr(self._loader, "sampler", None), batches, getattr(batches, "sampler", None))
        return list({id(one): one for one in found if one is not None}.values())

    def _generators(self) -> list[Any]:
        found = [getattr(one, "generator", None) for one in (self._loader, *self._samplers())]
        return list({id(one): one for one in found if one is not None}.values())

    def _states(self) -> dict[str, Any]:
        return {"random": random_state(), "generators": [one.get_state() for one in self._generators()]}

    def _set_states(self, states: dict[str, Any]) -> None:
        set_random_state(states["random"])
        self._set_generators(states)

    def _set_generators(self, states: dict[str, Any]) -> None:
        for generator, state in zip(self._generators(), states["generators"]):  # noqa: B905  # Python 3.8 knows no `strict`
            generator.set_state(state)


class Values(SimpleNamespace):
    """Numbers and texts of the program's own: `values = Values(best=0.0)`, `values.best = 0.9`; restored with the rest."""

    def state_dict(self) -> dict[str, Any]:
        """Return them."""
        return dict(vars(self))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back."""
        vars(self).update(state_dict)


class _From:
    """A batch sampler from a place on.

    The passing over happens when the first batch is wanted: a DataLoader draws from the random state before it asks its sampler,
    which may draw, too, and an uninterrupted epoch did both in this order.
    """

    def __init__(self, sampler: Any, place: int, reached: Callable[[], None]) -> None:
        self._sampler, self._place, self._reached = sampler, place, reached

    def __len__(self) -> int:
        return max(0, len(self._sampler) - self._place)

    def __iter__(self) -> Iterator[Any]:
        return _passed_over(self._sampler, self._place, self._reached)


def _passed_over(source: Any, place: int, reached: Callable[[], None]) -> Iterator[Any]:
    found = iter(source)
    for _ in range(place):
        next(found, None)
    reached()
    yield from found


# --- random states


def _generator(like: Any) -> Any:
    """Return a generator with the seed of another one, or of PyTorch's own; nothing is drawn for it."""
    import torch

    return torch.Generator().manual_seed(torch.initial_seed() if like is None else like.initial_seed())


def random_state() -> dict[str, Any]:
    """Return the states of Python's, NumPy's (where it is loaded), PyTorch's and CUDA's generators, as plain values."""
    import torch

    found: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if "numpy" in sys.modules:
        state = sys.modules["numpy"].random.get_state(legacy=False)
        # Lists instead of arrays: torch.load reads them with weights_only.
        found["numpy"] = {**state, "state": {**state["state"], "key": state["state"]["key"].tolist()}}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        found["cuda"] = torch.cuda.get_rng_state_all()
    return found


def set_random_state(found: dict[str, Any]) -> None:
    """Set the generators to what `random_state` returned. CUDA's are set where there are as many devices."""
    import torch

    random.setstate(found["python"])
    torch.set_rng_state(found["torch"])
    if "numpy" in found:
        import numpy

        key = numpy.array(found["numpy"]["state"]["key"], dtype=numpy.uint32)
        numpy.random.set_state({**found["numpy"], "state": {**found["numpy"]["state"], "key": key}})
    states = found.get("cuda", [])
    if states and torch.cuda.is_available():
        if len(states) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(states)
        else:
            _say(f"saved with {len(states)} GPUs, read with {torch.cuda.device_count()}: their random states begin anew")


def _is_of_one_rank(part: Any) -> bool:
    return bool(getattr(part, "of_each_rank", False))


def _is_sharded(part: Any) -> bool:
    import torch

    if not isinstance(part, torch.nn.Module):
        return False
    # By their names: both classes would have to be imported for every training that has neither.
    wrapped = any(type(module).__name__ == "FullyShardedDataParallel" for module in part.modules())
    return wrapped or any(type(one).__name__ == "DTensor" for one in part.parameters())


def _planner(weights_only: bool) -> Any:
    """Return a planner that reads what is no tensor as `torch.load` does with `weights_only`; PyTorch's own does without."""
    import torch
    from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner

    class Planner(DefaultLoadPlanner):  # type: ignore[misc]
        def load_bytes(self, read_item: Any, value: Any) -> None:
            import io

            plain = torch.load(value, weights_only=weights_only)
            again = io.BytesIO()
            torch.save(plain, again)
            again.seek(0)
            super().load_bytes(read_item, again)

    return Planner()


@contextmanager
def _said_plainly(what: str) -> Iterator[None]:
    """Raise RuntimeError, with what each rank says, for CheckpointException: no `except Exception` would catch that one."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except CheckpointException as error:
        said = (f"rank {rank}: {type(one).__name__}: {one}" for rank, (one, _) in sorted(error.failures.items()))
        raise RuntimeError(f"{what}: {'; '.join(said)}") from error


def _unwrapped(part: Any) -> Any:
    """Return the model inside DistributedDataParallel and `torch.compile`: its checkpoint can be read without them, too."""
    import torch

    while isinstance(part, torch.nn.Module):
        if isinstance(part, torch.nn.parallel.DistributedDataParallel):
            part = part.module
        elif type(part).__name__ == "OptimizedModule":  # by its name: the class is in a private module of PyTorch's
            part = part._orig_mod
        else:
            break
    return part


def _without_tensors(value: Any) -> Any:
    import torch

    if isinstance(value, torch.Tensor):
        return None
    if type(value) in (dict, OrderedDict):  # others may not be made of their items alone
        return type(value)({name: _without_tensors(one) for name, one in value.items()})
    if type(value) in (list, tuple):
        return type(value)(_without_tensors(one) for one in value)
    return value


def _say(text: str) -> None:
    print(f"ckptrun: {text}", file=sys.stderr, flush=True)
