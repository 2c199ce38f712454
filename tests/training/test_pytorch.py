"""The PyTorch adapter in one process: what is restored, to the bit, and what is refused."""

from __future__ import annotations

import copy
import os
import random
import resource
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch.utils import data

import ckptrun
from ckptrun import mailbox
from ckptrun.training.pytorch import Checkpoints, ResumableLoader, Values
from ckptrun.training.pytorch.dice import random_state, set_random_state
from ckptrun.words import Verdict
from tests.checkpoints.cases import look
from tests.test_mailbox import Clock, training


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """These models are so small that several threads cost more than they give, and most where others want the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Noisy(data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Rows that are disturbed with all three generators each time they are read, as augmentations do."""

    def __init__(self, plain: bool) -> None:
        self._rows = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
        self._plain = plain

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        row = self._rows[place]
        noise = 0.0 if self._plain else random.random() + numpy.random.rand() + torch.rand(1).item()
        return row + 0.1 * noise, (row.sum() > 0).long()


class Stream(data.IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Rows in an order of their own, from the random state."""

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        plain = Noisy(plain=True)
        return (plain[place] for place in torch.randperm(len(plain)).tolist())


class Doubled(data.DataLoader[tuple[torch.Tensor, torch.Tensor]]):
    """A loader of the user's own class, which does more with its batches than the plain one."""

    def __iter__(self) -> Any:
        """Return them, twice as large."""
        return ((rows * 2, labels) for rows, labels in super().__iter__())


LOADERS: dict[str, Callable[[], Any]] = {
    "shuffled, read here, augmented": lambda: data.DataLoader(Noisy(plain=False), batch_size=6, shuffle=True),
    "two workers": lambda: data.DataLoader(Noisy(plain=True), batch_size=6, shuffle=True, num_workers=2),
    "two workers, augmented": lambda: data.DataLoader(Noisy(plain=False), batch_size=6, shuffle=True, num_workers=2),
    "a generator of its own": lambda: data.DataLoader(
        Noisy(plain=True), batch_size=6, shuffle=True, generator=torch.Generator().manual_seed(5)
    ),
    "a rank's part": lambda: data.DataLoader(
        Noisy(plain=True), batch_size=3, sampler=data.DistributedSampler(Noisy(plain=True), 2, 1)
    ),
    "an iterable dataset": lambda: data.DataLoader(Stream(), batch_size=6),
    "workers that stay": lambda: data.DataLoader(
        Noisy(plain=True), batch_size=6, shuffle=True, num_workers=1, persistent_workers=True
    ),
    "drawn while workers read": lambda: data.DataLoader(
        Noisy(plain=True),
        batch_size=6,
        num_workers=1,
        sampler=data.RandomSampler(range(40), replacement=True, generator=torch.Generator().manual_seed(5)),
    ),
    "a class of one's own": lambda: Doubled(Noisy(plain=True), batch_size=6, shuffle=True),
    "weighted": lambda: data.DataLoader(
        Noisy(plain=True),
        batch_size=6,
        sampler=data.WeightedRandomSampler([*range(1, 41)], 40, generator=torch.Generator().manual_seed(5)),
    ),
    "no DataLoader": lambda: [data.default_collate([Noisy(plain=True)[place] for place in (one, one + 9)]) for one in range(7)],
}


RARE = ("workers that stay", "drawn while workers read", "a class of one's own", "weighted")
USUAL = [name for name in LOADERS if name not in (*RARE, "two workers, augmented")]


class Program:
    """A training as a user writes it: three epochs of seven batches, with dropout, a scheduler and a scaler."""

    def __init__(self, folder: Path, loader: str, every: int = 0) -> None:
        torch.manual_seed(7)
        random.seed(7)
        numpy.random.seed(7)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 2)
        )
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, 0.1, total_steps=21)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=4)
        self.loader = ResumableLoader(LOADERS[loader]())
        self.checkpoints = Checkpoints(
            str(folder),
            every=every,
            model=self.model,
            optimizer=self.optimizer,
            scheduler=self.scheduler,
            scaler=self.scaler,
            loader=self.loader,
        )
        self.first = self.checkpoints.resume()
        self.seen: list[float] = []

    def run(self, stop_after: int | None = None, between_epochs: int | None = None) -> Program:
        """Train to the end, or save and stop after so many steps in all: at the last batch's end, or after its epoch."""
        for _ in range(self.loader.epoch, 3):
            for rows, labels in self.loader:
                self.seen.append(rows.sum().item())
                self.optimizer.zero_grad()
                loss = torch.nn.functional.cross_entropy(self.model(rows), labels.flatten())
                self.scaler.scale(loss).backward()
                self.scaler.step(self.optimizer)
                self.scaler.update()
                self.scheduler.step()
                if self.checkpoints.step(21):
                    return self
                if self.checkpoints.steps == stop_after:
                    self.checkpoints.save()
                    return self
            if self.checkpoints.steps == between_epochs:
                self.checkpoints.save()
                return self
        return self

    def state(self) -> list[Any]:
        """Return all that training has changed."""
        optimizer = self.optimizer.state_dict()["state"]
        tensors = [*self.model.state_dict().values(), *(one for state in optimizer.values() for one in state.values())]
        return [*(one.tolist() for one in tensors), self.scheduler.state_dict(), self.scaler.state_dict(), random.random()]


@pytest.mark.parametrize("loader", USUAL)
def test_resumed_is_as_uninterrupted(tmp_path: Path, loader: str) -> None:
    """Stopped at the first step, in an epoch, at its last step, in the next, at the very end: all is the same, to the bit."""
    whole = Program(tmp_path / "whole", loader).run()
    expected = whole.state()
    seen: list[float] = []
    for stop in (1, 4, 7, 12, 14, 20, 21):
        part = Program(tmp_path / "parts", loader).run(stop)
        seen += part.seen
    assert part.checkpoints.steps == 21 and seen == whole.seen, "each batch once, in the same order"
    assert part.state() == expected


@pytest.mark.parametrize("loader", USUAL)
def test_resumed_between_two_epochs(tmp_path: Path, loader: str) -> None:
    """Saved by the code after an epoch, as the guide's program does: the next epoch has the order that it would have had."""
    whole = Program(tmp_path / "whole", loader).run()
    expected = whole.state()
    seen = [*Program(tmp_path / "parts", loader).run(between_epochs=7).seen]
    seen += Program(tmp_path / "parts", loader).run(between_epochs=14).seen
    part = Program(tmp_path / "parts", loader).run()
    assert seen + part.seen == whole.seen
    assert part.state() == expected


@pytest.mark.parametrize("loader", RARE)
def test_loaders_of_rarer_kinds(tmp_path: Path, loader: str) -> None:
    """Stopped in the first epoch and in the second: the rest of both, and the third, are as they would have been."""
    whole = Program(tmp_path / "whole", loader).run()
    expected = whole.state()
    seen = [*Program(tmp_path / "parts", loader).run(4).seen, *Program(tmp_path / "parts", loader).run(10).seen]
    part = Program(tmp_path / "parts", loader).run()
    assert seen + part.seen == whole.seen
    assert part.state() == expected


Seen = list[tuple[float, ...]]
Loaders = tuple[ResumableLoader, ...]


def in_parts(folder: Path, train: Callable[[Checkpoints, Loaders, int | None], Seen]) -> tuple[Seen, Seen]:
    """Return what a training of two loaders has seen in one go, and what in three, stopped after three and after nine steps."""

    def started(name: str, stop: int | None) -> Seen:
        torch.manual_seed(7)
        random.seed(7)
        numpy.random.seed(7)
        loaders = tuple(ResumableLoader(data.DataLoader(Noisy(plain=False), batch_size=6, shuffle=True)) for _ in range(2))
        checkpoints = Checkpoints(folder / name, one=loaders[0], other=loaders[1])
        checkpoints.resume()
        return train(checkpoints, loaders, stop)

    return started("whole", None), [*started("parts", 3), *started("parts", 9), *started("parts", None)]


def saved(checkpoints: Checkpoints, stop: int | None) -> bool:
    """Count a step, and save where it is the last one for now."""
    checkpoints.step()
    if checkpoints.steps == stop:
        checkpoints.save()
    return checkpoints.steps == stop


def test_two_loaders_at_once(tmp_path: Path) -> None:
    """Each batch of both, and what is drawn while they are read, as in one go: the second does not turn the random state back."""

    def train(checkpoints: Checkpoints, loaders: Loaders, stop: int | None) -> Seen:
        seen = []
        for _ in range(loaders[0].epoch, 3):
            for (one, _), (other, _) in zip(*loaders, strict=True):
                seen.append((one.sum().item(), other.sum().item(), random.random()))
                if saved(checkpoints, stop):
                    return seen
        return seen

    whole, parts = in_parts(tmp_path, train)
    assert parts == whole and len(whole) == 21


def test_a_loader_for_validation(tmp_path: Path) -> None:
    """Wrapped like the other one, and read after each epoch: it leaves the random state as the training made it."""

    def train(checkpoints: Checkpoints, loaders: Loaders, stop: int | None) -> Seen:
        seen: Seen = []
        for _ in range(loaders[0].epoch, 3):
            for one, _ in loaders[0]:
                seen.append((one.sum().item(), random.random()))
                if saved(checkpoints, stop):
                    return seen
            seen += [(other.sum().item(),) for other, _ in loaders[1]]
        return seen

    whole, parts = in_parts(tmp_path, train)
    assert parts == whole and len(whole) == 42


def test_epochs_that_are_left_and_looks_at_the_data(tmp_path: Path) -> None:
    """Four batches an epoch, then `break`: each epoch is counted. A batch that is looked at first costs neither epoch nor place."""

    def train(checkpoints: Checkpoints, loaders: Loaders, stop: int | None) -> Seen:
        loader, seen = loaders[0], []
        assert next(iter(loader))[0].shape == (6, 6)
        for epoch in range(loader.epoch, 3):
            for one, _ in loader:
                assert loader.epoch == epoch
                seen.append((one.sum().item(), random.random()))
                if saved(checkpoints, stop):
                    return seen
                if loader.place == 4:
                    break
        return seen

    whole, parts = in_parts(tmp_path, train)
    assert parts == whole and len(whole) == 12


def test_what_the_wrapped_loader_knows() -> None:
    """`len(loader.dataset)` stands in most programs; what it does not know is an AttributeError as ever."""
    loader = ResumableLoader(data.DataLoader(Noisy(plain=True), batch_size=6))
    assert (len(loader.dataset), loader.batch_size, len(loader)) == (40, 6, 7)
    assert len(copy.copy(loader).dataset) == 40
    with pytest.raises(AttributeError, match="nothing"):
        _ = loader.nothing


def test_other_parts_of_a_training(tmp_path: Path) -> None:
    """LBFGS, an average of weights, frozen weights, several optimizers, and gradients that are added up over two batches."""

    def train(name: str, stop: int | None = None) -> list[Any]:
        torch.manual_seed(7)
        model, head = torch.nn.Linear(6, 4).bfloat16().float(), torch.nn.Linear(4, 2)
        model.bias.requires_grad_(False)
        average = torch.optim.swa_utils.AveragedModel(head)
        lbfgs, sgd = torch.optim.LBFGS(head.parameters(), lr=0.1), torch.optim.SGD([model.weight], lr=0.1, momentum=0.9)
        loader = ResumableLoader(data.DataLoader(Noisy(plain=True), batch_size=5, shuffle=True))
        parts = {"model": model, "head": head, "average": average, "lbfgs": lbfgs, "sgd": sgd, "loader": loader}
        checkpoints = Checkpoints(tmp_path / name, **parts)
        checkpoints.resume()
        for _ in range(loader.epoch, 2):
            for rows, labels in loader:
                torch.nn.functional.cross_entropy(head(model(rows)), labels).backward()
                if loader.place % 2:
                    continue
                sgd.step()
                sgd.zero_grad()
                features = model(rows).detach()

                def closure(features: torch.Tensor = features, labels: torch.Tensor = labels) -> torch.Tensor:
                    lbfgs.zero_grad()
                    loss = torch.nn.functional.cross_entropy(head(features), labels)
                    loss.backward()
                    return loss

                lbfgs.step(closure)
                lbfgs.zero_grad()
                average.update_parameters(head)
                if saved(checkpoints, stop):
                    return []
        return [tensor.tolist() for part in (model, head, average) for tensor in part.state_dict().values()]

    whole = train("whole")
    train("parts", 2)
    train("parts", 5)
    assert train("parts") == whole


def test_two_generations_are_kept(tmp_path: Path) -> None:
    """Saved each third step: the newest two stay, whole and of the names that ckptrun reads steps from; foreign files stay."""
    tmp_path.joinpath("step-notes.pt").write_text("mine")
    Program(tmp_path, "no DataLoader", every=3).run()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000018.pt", "step-0000021.pt", "step-notes.pt"]
    found = look(tmp_path / "step-0000021.pt")
    assert (found.verdict, found.step) == (Verdict.WHOLE, 21)


def test_asked_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save and go on: one save more. Save and stop: saved at that step, said with its path, and stopped."""
    clock, folder = Clock(), tmp_path / "mailbox"
    folder.mkdir()
    monkeypatch.setattr(ckptrun, "_current", training(folder, clock))
    program = Program(tmp_path / "ck", "no DataLoader")
    step = program.checkpoints.step

    def stepping(total: int) -> bool:
        clock.now += 2.0
        if program.checkpoints.steps in (4, 9):
            mailbox.ask(str(folder), 2, 1, stop=program.checkpoints.steps == 9, reason="r")
        return step(total)

    monkeypatch.setattr(program.checkpoints, "step", stepping)
    program.run()
    assert program.checkpoints.steps == 10
    assert sorted(path.name for path in (tmp_path / "ck").iterdir()) == ["step-0000005.pt", "step-0000010.pt"]
    words = {word.kind: word for word in mailbox.words(str(folder), 2, 1)}
    assert words["saved"].facts == {"path": str(tmp_path / "ck" / "step-0000010.pt"), "step": 10}
    assert words["saved"].heard == 2


def test_the_checkpoint_that_ckptrun_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It verified that one: it is loaded, not the newest of the folder."""
    Program(tmp_path, "no DataLoader", every=3).run()
    run = ckptrun.Run({"CKPTRUN": "1", "CKPTRUN_CHECKPOINT": str(tmp_path / "step-0000018.pt")})
    monkeypatch.setattr(ckptrun, "_current", run)
    assert Program(tmp_path, "no DataLoader").first == 18


class Counter:
    """An object of the user's own with a state."""

    def __init__(self, value: object) -> None:
        self.value = value

    def state_dict(self) -> dict[str, object]:
        """Return it."""
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take it back."""
        self.value = state["value"]


class Own:
    """What weights_only does not load."""


def test_what_could_not_be_loaded_is_refused_when_it_is_first_saved(tmp_path: Path) -> None:
    """An object of a class of one's own: said at the first save, by PyTorch's own words, and nothing is written."""
    with pytest.raises(Exception, match="weights_only"):
        Checkpoints(str(tmp_path), own=Counter(Own())).save()
    assert not list(tmp_path.iterdir())
    Checkpoints(str(tmp_path), own=Counter(Own()), weights_only=False).save()
    again = Counter(None)
    Checkpoints(str(tmp_path), own=again, weights_only=False).resume()
    assert isinstance(again.value, Own)


def test_another_program(tmp_path: Path) -> None:
    """A checkpoint with a part that the program does not have: said by name, nothing begins anew unseen."""
    Checkpoints(str(tmp_path), own=Counter(1)).save()
    with pytest.raises(ValueError, match="holds a 'own'; Checkpoints was given other"):
        Checkpoints(str(tmp_path), other=Counter(1)).resume()


def test_an_ask_of_ones_own(tmp_path: Path) -> None:
    """A signal handler of the program's calls `ask`: saved and stopped at the step's end."""
    program = Program(tmp_path, "no DataLoader")
    program.checkpoints.ask()
    program.run()
    assert program.checkpoints.steps == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000001.pt"]


def test_other_ranks_than_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Saved by two ranks, read by one: the model is restored, the random states are not, and that is said."""
    Checkpoints(str(tmp_path), own=Counter(1)).save()
    (path,) = tmp_path.iterdir()
    torch.save(torch.load(path, weights_only=True) | {"ranks": 2}, path)
    again = Counter(None)
    Checkpoints(str(tmp_path), own=again).resume()
    assert again.value == 1
    assert "was saved by 2 rank(s) and is read by 1" in capsys.readouterr().err


def test_gpu_states_of_another_machine(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As many devices: set. Fewer: said. The states themselves can only be seen on a machine with GPUs."""
    taken: list[Any] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", taken.extend)
    state = random_state()
    set_random_state({**state, "cuda": ["one"]})
    set_random_state({**state, "cuda": ["one", "two"]})
    assert taken == ["one"]
    assert "saved with 2 GPUs, read with 1" in capsys.readouterr().err


def test_augmentation_in_workers_is_not_restored(tmp_path: Path) -> None:
    """Workers draw from states of their own, which nobody can read: the same order, other noise."""
    whole = Program(tmp_path / "whole", "two workers, augmented").run()
    seen = [*Program(tmp_path / "parts", "two workers, augmented").run(3).seen]
    seen += Program(tmp_path / "parts", "two workers, augmented").run().seen
    assert seen[:3] == whole.seen[:3] and len(seen) == len(whole.seen)
    assert seen[3:7] != whole.seen[3:7]


def test_a_save_of_its_own_holds_what_is_true_now(tmp_path: Path) -> None:
    """Called after a step that has saved, or after resume: what changed since, without a step, is in it, and its path is a file."""
    values = Values(best=0.0)
    checkpoints = Checkpoints(tmp_path, every=1, values=values)
    checkpoints.step()
    values.best = 0.5
    assert checkpoints.save() == str(tmp_path / "step-0000001.pt")
    again = Values(best=0.0)
    checkpoints = Checkpoints(tmp_path, values=again)
    assert checkpoints.resume() == 1 and again.best == 0.5
    again.best = 0.7
    checkpoints.save()
    Checkpoints(tmp_path, values=values).resume()
    assert values.best == 0.7


def test_two_checkpoints_in_one_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An ask is answered by both. ckptrun names one file only: it is resumed from by the one in whose folder it stands."""
    clock, folder = Clock(), tmp_path / "mailbox"
    folder.mkdir()
    monkeypatch.setattr(ckptrun, "_current", training(folder, clock))
    both = [Checkpoints(tmp_path / name, own=Counter(name)) for name in ("one", "other")]
    mailbox.ask(str(folder), 2, 1, stop=True, reason="r")
    assert [checkpoints.step() for checkpoints in both] == [True, True]
    assert [path.name for name in ("one", "other") for path in (tmp_path / name).iterdir()] == ["step-0000001.pt"] * 2
    told = {"CKPTRUN": "1", "CKPTRUN_CHECKPOINT": str(tmp_path / "one" / "step-0000001.pt")}
    monkeypatch.setattr(ckptrun, "_current", ckptrun.Run(told))
    again = Counter(None)
    assert Checkpoints(tmp_path / "other", own=again).resume() == 1 and again.value == "other"
    assert Checkpoints(tmp_path / "third", own=again).resume() == 0, "the file of another training"
    said = capsys.readouterr().err
    assert f"{tmp_path}/third holds no checkpoint: it begins anew; {tmp_path}/one, where ckptrun found" in said


def test_a_container_that_knows_the_folder_by_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ckptrun verified /on/the/host/step-0000001.pt: here that is the file of that name, not the newest."""
    for steps in (1, 2):
        checkpoints = Checkpoints(tmp_path, own=Counter(steps))
        checkpoints.steps = steps
        checkpoints.save()
    run = ckptrun.Run({"CKPTRUN": "1", "CKPTRUN_CHECKPOINT": "/on/the/host/step-0000001.pt"})
    monkeypatch.setattr(ckptrun, "_current", run)
    assert Checkpoints(tmp_path, own=Counter(None)).resume() == 1


def test_a_program_that_changes_its_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is the one that it was when `Checkpoints` was made."""
    monkeypatch.chdir(tmp_path)
    checkpoints = Checkpoints("ck", own=Counter(1))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert checkpoints.save() == str(tmp_path / "ck" / "step-0000000.pt")
    assert (tmp_path / "ck" / "step-0000000.pt").is_file()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"keep": 0}, "keep is 1 or more"),
        ({"every": -1}, "every is 0 .only when asked. or more"),
        ({"loader": data.DataLoader([1, 2])}, "loader, of class DataLoader, which has no state_dict.*wrap it in ResumableLoader"),
        ({"best": 0.5}, "best, of class float, .*Values"),
    ],
)
def test_what_checkpoints_cannot_be_given(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    """Said when it is made, not at the first save, hours later."""
    with pytest.raises((ValueError, TypeError), match=said):
        Checkpoints(tmp_path, **options)


def test_a_program_that_does_not_resume(tmp_path: Path) -> None:
    """It would begin anew in each job: said before its first step. In an empty folder nothing is missed."""
    Checkpoints(tmp_path, own=Counter(1)).step()
    Checkpoints(tmp_path, own=Counter(1)).save()
    with pytest.raises(RuntimeError, match=r"step-0000000.pt is there, .*: call resume\(\) before the first step"):
        Checkpoints(tmp_path, own=Counter(1)).step()


@pytest.mark.parametrize("content", [{"model": {}, "step": 3}, [1, 2]])
def test_a_file_of_another_program(tmp_path: Path, content: object) -> None:
    """It has the same name: said by its path, with what to do."""
    torch.save(content, tmp_path / "step-0000003.pt")
    with pytest.raises(ValueError, match=r"step-0000003.pt was not saved by this version of Checkpoints: move it"):
        Checkpoints(tmp_path, own=Counter(1)).resume()


def test_sharded_before_and_not_now(tmp_path: Path) -> None:
    """A folder of FSDP, read by a program whose model is whole: said in one sentence."""
    (tmp_path / "step-0000003").mkdir()
    with pytest.raises(ValueError, match=r"step-0000003 is of a sharded model, and this one is not"):
        Checkpoints(tmp_path, model=torch.nn.Linear(1, 1)).resume()


def test_a_part_that_came_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a checkpoint does not hold begins anew, and that is said."""
    Checkpoints(tmp_path, own=Counter(1)).save()
    Checkpoints(tmp_path, own=Counter(None), late=Counter(2)).resume()
    assert "step-0000000.pt holds no late: that begins anew" in capsys.readouterr().err


def test_dictionaries_of_other_classes(tmp_path: Path) -> None:
    """With weights_only=False whatever can be pickled is saved, a defaultdict as well."""
    Checkpoints(tmp_path, own=Counter(defaultdict(list, a=[1])), weights_only=False).save()
    again = Counter(None)
    Checkpoints(tmp_path, own=again, weights_only=False).resume()
    assert again.value == {"a": [1]}


def test_an_old_checkpoint_that_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The new one is saved: said, and the training goes on."""
    checkpoints = Checkpoints(tmp_path, every=1, keep=1, own=Counter(1))

    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        assert [checkpoints.step(), checkpoints.step()] == [False, False]
    assert "step-0000001.pt cannot be removed (Permission denied); the training goes on" in capsys.readouterr().err
    checkpoints.step()
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000003.pt"], "made good by the next save"


def test_a_file_that_cannot_be_written_whole(tmp_path: Path) -> None:
    """The disk is full: said with its path and what is free. The checkpoint before stands, nothing else does."""
    values = Values(text="")
    checkpoints = Checkpoints(tmp_path, values=values)
    checkpoints.step()
    checkpoints.save()
    checkpoints.step()
    values.text = "x" * 200_000
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(RuntimeError, match=r"step-0000002.pt cannot be saved, \d+ bytes are free in its folder: "):
            checkpoints.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000001.pt"]


def test_epochs_on_other_ranks(tmp_path: Path) -> None:
    """Saved by two ranks in their second epoch, read by one: the second epoch begins anew, not the training."""
    before = Program(tmp_path, "no DataLoader").run(9)
    (path,) = tmp_path.iterdir()
    torch.save(torch.load(path, weights_only=True) | {"ranks": 2}, path)
    again = Program(tmp_path, "no DataLoader")
    assert again.state()[:-1] == before.state()[:-1], "all but the random numbers"
    assert (again.first, again.loader.epoch, again.loader.place) == (9, 1, 0)
    assert [len(list(again.loader)), again.loader.epoch] == [7, 2]


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch's own modules, at their import
def test_compiled(tmp_path: Path) -> None:
    """A model of `torch.compile` is saved without its wrapping: it is read with it, and without."""
    model = torch.nn.Linear(3, 3)
    Checkpoints(tmp_path, model=torch.compile(model)).save()
    for again in (torch.nn.Linear(3, 3), torch.compile(torch.nn.Linear(3, 3))):
        Checkpoints(tmp_path, model=again).resume()
        assert torch.equal(again.weight, model.weight)
