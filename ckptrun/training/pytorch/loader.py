"""The place in the data: a DataLoader that goes on in the middle of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ckptrun.training.pytorch.dice import generator_like, random_state, set_random_state


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
            loader.generator = generator_like(own)

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

    def begin_epoch(self, epoch: int) -> None:
        """Begin this epoch, unless a later one has begun, when next iterated over: the one before ended before this loader did."""
        epoch = max(self.epoch, epoch)
        if self._resumed is None:
            self.epoch, self.place, self._began = epoch, 0, None
        else:  # nothing was read in this start
            self.load_state_dict({**self._resumed, "epoch": epoch, "place": 0})

    def go_on_as_drawn(self) -> None:
        """Go on, where that is to come, with the random state of this moment: something has drawn since the one that was saved."""
        if self._resumed is not None:
            self._resumed = {**self._resumed, "now": {**self._resumed["now"], "random": random_state()}}

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
