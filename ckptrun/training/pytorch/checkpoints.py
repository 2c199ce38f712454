"""One training's checkpoints: what is saved, when, under which name, and from which one it goes on."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any, Protocol

import ckptrun
from ckptrun.training.pytorch.dice import random_state, set_random_state
from ckptrun.training.pytorch.loader import ResumableLoader
from ckptrun.training.pytorch.ranks import RESUME, SAVE, STEP, Ranks, Vote
from ckptrun.training.pytorch.sharded import is_sharded, planner_for, said_plainly
from ckptrun.training.told import say

_FORMAT = 1
_NAME = re.compile(r"step-(\d{7,})(\.pt)?")


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
        self._ranks.begin(RESUME, self.steps)
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
            say(f"{path} holds no {', '.join(missing)}: that begins anew")
        if common["ranks"] != self._ranks.count:
            self._begin_epoch(own["parts"])
            if self._ranks.number == 0:
                who = f"{path} was saved by {common['ranks']} rank(s) and is read by {self._ranks.count}"
                say(f"{who}: random states begin anew, and so does the epoch")
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
        self._ranks.begin(SAVE, self.steps)
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
        self._ranks.begin(STEP, self.steps)
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
            with said_plainly(f"{name} cannot be saved"):
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
        planner = planner_for(self._weights_only)
        with said_plainly(f"{path} cannot be loaded"):
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

        if not any(is_sharded(part) for part in self._parts.values()):
            return []
        return [name for name, part in self._parts.items() if is_sharded(part) or isinstance(part, torch.optim.Optimizer)]

    def _sharded_parts(self) -> tuple[Any, list[Any]]:
        import torch

        models = [part for part in self._parts.values() if is_sharded(part)]
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
            say(f"{self.folder} holds no checkpoint: it begins anew; {theirs}, where ckptrun found {name}, is another folder")
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
                say(f"{error.filename or name} cannot be removed ({error.strerror}); the training goes on")

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


class Values(SimpleNamespace):
    """Numbers and texts of the program's own: `values = Values(best=0.0)`, `values.best = 0.9`; restored with the rest."""

    def state_dict(self) -> dict[str, Any]:
        """Return them."""
        return dict(vars(self))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them back."""
        vars(self).update(state_dict)


def _is_of_one_rank(part: Any) -> bool:
    return bool(getattr(part, "of_each_rank", False))


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
