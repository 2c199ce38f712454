"""The watch: histories of files, with times that the test gives."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ckptrun.checkpoints.watch import Watch
from ckptrun.words import Verdict


class Looking:
    """A folder that is looked at four times a second of the test's own time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, 1000.0
        self.watch = Watch([str(folder)], self.now)

    def write(self, name: str, text: str) -> None:
        """Write a file, dated now."""
        (self.folder / name).parent.mkdir(exist_ok=True, parents=True)
        (self.folder / name).write_text(text)
        os.utime(self.folder / name, (self.now, self.now))

    def copy(self, source: Path, name: str) -> None:
        """Write a file with the bytes of another, dated now."""
        (self.folder / name).parent.mkdir(exist_ok=True, parents=True)
        (self.folder / name).write_bytes(source.read_bytes())
        os.utime(self.folder / name, (self.now, self.now))

    def look(self, later_s: float = 0.25, opened: frozenset[str] = frozenset()):  # type: ignore[no-untyped-def]
        """Let time pass, and look."""
        self.now += later_s
        return self.watch.look(self.now, self.now, opened)


@pytest.fixture
def looking(tmp_path: Path) -> Looking:
    """A folder that does not exist yet."""
    return Looking(tmp_path / "ck")


WHOLE = json.dumps({"step": 1, "weights": [0.5] * 20})


def test_what_stood_there_before_is_not_new(tmp_path: Path) -> None:
    """It is the newest, but not new, and nothing is being written."""
    (tmp_path / "step-1.json").write_text(WHOLE)
    sight = Looking(tmp_path).look()
    assert (os.path.basename(sight.newest.path), sight.new, sight.writing, sight.written_at) == ("step-1.json", False, False, ())


def test_a_save_in_place_is_being_written_until_it_is_whole(looking: Looking) -> None:
    """Half a file is writing, and not the newest; whole, it is new, dated with its last write."""
    looking.write("step-1.json", WHOLE[:9])
    assert looking.look().writing
    looking.write("step-1.json", WHOLE[:20])
    sight = looking.look()
    assert (sight.writing, sight.newest) == (True, None)
    looking.write("step-1.json", WHOLE)
    at = looking.now
    sight = looking.look()
    assert (sight.writing, sight.new, sight.newest.verdict, sight.written_at) == (False, True, Verdict.WHOLE, (at,))
    assert [round(save.seconds, 2) for save in sight.saves] == [0.5], "from the look before the first byte"


def test_a_temporary_beside_it_is_a_save_being_written(looking: Looking) -> None:
    """Grown, not renamed yet: writing; renamed: whole; a temporary that nobody touches any more is nothing."""
    looking.look()
    looking.write("step-1.json.tmp", WHOLE[:9])
    assert looking.look().writing
    looking.write("step-1.json.tmp", WHOLE)
    assert looking.look().writing
    (looking.folder / "step-1.json.tmp").rename(looking.folder / "step-1.json")
    sight = looking.look()
    assert (sight.writing, sight.new) == (False, True)
    looking.write("step-2.json.tmp", WHOLE[:5])
    assert looking.look().writing
    assert not looking.look().writing


def test_how_long_a_save_took(looking: Looking) -> None:
    """Only its own writing counts: not the time since the save before it, which a look saw begin, too; no log beside it."""
    looking.look()
    for number in range(1, 4):
        for part in (9, 20):
            looking.write(f"step-{number}.json.tmp", WHOLE[:part])
            assert looking.look().saves == ()
        looking.write(f"step-{number}.json.tmp", WHOLE)
        (looking.folder / f"step-{number}.json.tmp").rename(looking.folder / f"step-{number}.json")
        assert [round(save.seconds, 2) for save in looking.look().saves] == [0.5], number
        for _ in range(20):
            looking.write("events.log", f"{looking.now}")
            assert looking.look(0.5).saves == ()


def test_a_save_of_which_one_look_saw_the_beginning(looking: Looking) -> None:
    """It took less than two looks: not measured, and the next one is not taken to have begun with it."""
    looking.look()
    for number in range(1, 4):
        looking.write(f"step-{number}.json.tmp", WHOLE[:9])
        assert looking.look().writing
        (looking.folder / f"step-{number}.json.tmp").rename(looking.folder / f"step-{number}.json")
        looking.write(f"step-{number}.json", WHOLE)
        sight = looking.look()
        assert (sight.writing, sight.saves, len(sight.written_at)) == (False, (), number)
        for _ in range(20):
            assert looking.look(0.5).saves == ()


def test_a_save_that_was_given_up(looking: Looking) -> None:
    """A writer that failed leaves half a file: the next save, an hour later, did not take an hour."""
    looking.look()
    for part in (9, 20):
        looking.write("step-1.json.tmp", WHOLE[:part])
        assert looking.look().writing
    for _ in range(360):
        assert looking.look(10.0).saves == ()
    looking.write("step-2.json", WHOLE)
    assert looking.look(0.5).saves == ()


def test_a_temporary_that_is_open_is_being_written_though_it_does_not_grow(looking: Looking) -> None:
    """A writer that pauses has its file open."""
    looking.write("step-1.json.tmp", WHOLE[:9])
    looking.look()
    opened = frozenset({str(looking.folder / "step-1.json.tmp")})
    assert looking.look(opened=opened).writing


def test_what_is_open_since_before_and_was_not_written_to_is_no_save(looking: Looking, tmp_path: Path) -> None:
    """A training may keep a data set's file open to write: only what it has written to in this link is being written."""
    looking.write("data.json", WHOLE)
    later = Looking(looking.folder)
    opened = frozenset({str(looking.folder / "data.json")})
    assert not later.look(opened=opened).writing
    later.write("data.json", WHOLE + " ")
    assert later.look(opened=opened).writing
    assert not later.look().writing


@pytest.mark.parametrize("wrong_s", [-3600.0, 3600.0])
def test_a_file_servers_clock_may_be_wrong(looking: Looking, wrong_s: float) -> None:
    """An hour off: a save is dated between the looks that saw it change, and its quiet time is counted by our own clock."""
    looking.look()
    looking.write("weights.bin", "x" * 50)
    os.utime(looking.folder / "weights.bin", (looking.now + wrong_s,) * 2)
    first = looking.now
    assert looking.look().writing
    sight = looking.look(1.1)
    assert (sight.writing, sight.new, len(sight.written_at)) == (False, True, 1)
    assert first <= sight.written_at[0] <= first + 0.25
    looking.write("step-2.json", WHOLE[:9])
    os.utime(looking.folder / "step-2.json", (looking.now + wrong_s,) * 2)
    assert looking.look().writing
    assert not looking.look(3.0).writing, "cut and silent"


def test_a_file_that_was_cut_is_never_the_newest(looking: Looking) -> None:
    """Truncated and silent: not being written after two seconds, and the one before stays the newest."""
    looking.write("step-1.json", WHOLE)
    looking.look()
    looking.write("step-2.json", WHOLE[:9])
    assert looking.look().writing
    sight = looking.look(3.0)
    assert (sight.writing, os.path.basename(sight.newest.path)) == (False, "step-1.json")


def test_an_unknown_format_has_to_be_quiet(looking: Looking) -> None:
    """What cannot be checked counts when it has not changed for a second, and is called not checked."""
    looking.write("weights.bin", "x" * 50)
    assert looking.look().writing
    looking.look(0.5)
    sight = looking.look(0.75)
    assert (sight.writing, sight.new, sight.newest.verdict) == (False, True, Verdict.NOT_CHECKED)


def test_one_that_is_overwritten_again_and_again(looking: Looking) -> None:
    """Each whole state of the same file is a save of its own."""
    for number in range(4):
        looking.write("state.json", json.dumps({"n": number}))
        sight = looking.look()
    assert len(sight.written_at) == 4


def test_a_tensorflow_checkpoint_counts_when_the_state_file_names_it(looking: Looking) -> None:
    """Readers go by the `checkpoint` file: until that names the new one, it is still being saved."""
    looking.folder.mkdir()
    looking.write("checkpoint", 'model_checkpoint_path: "1.ckpt"\n')
    index = b"\x00" * 40 + (0xDB4775248B80FB57).to_bytes(8, "little")
    looking.write("2.ckpt.data-00000-of-00001", "x")
    (looking.folder / "2.ckpt.index").write_bytes(index)
    os.utime(looking.folder / "2.ckpt.index", (looking.now, looking.now))
    assert looking.look().writing


def test_files_may_vanish(looking: Looking) -> None:
    """A rotation that deletes, a folder that goes away: no exception, nothing newest."""
    looking.write("step-1.json", WHOLE)
    looking.look()
    (looking.folder / "step-1.json").unlink()
    assert looking.look().newest is None
    looking.folder.rmdir()
    assert looking.look(20.0).newest is None


def test_a_folder_is_being_written_while_any_of_it_grows(looking: Looking, real: Path) -> None:
    """Hugging Face's, file by file as the Trainer writes them: writing until the last one is whole, and a moment longer."""
    source = real / "transformers" / "run" / "checkpoint-6"
    order = ["config.json", "model.safetensors", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"]
    for name in (*order, "generation_config.json"):
        looking.copy(source / name, f"checkpoint-6/{name}")
        sight = looking.look(0.5)
        assert (sight.writing, sight.new) == (True, False), name
    looking.copy(source / "trainer_state.json", "checkpoint-6/trainer_state.json")
    assert looking.look(0.25).writing
    sight = looking.look(1.0)
    assert sight.newest is not None
    assert (sight.writing, sight.new, sight.newest.path) == (False, True, str(looking.folder / "checkpoint-6"))
    assert len(sight.written_at) == 1


def test_a_folder_that_is_renamed_when_it_is_complete(looking: Looking, real: Path) -> None:
    """Orbax writes into a temporary folder: a save while files come into it, pauses included; then new and whole at once."""
    source = real / "orbax" / "steps" / "10"
    looking.look()
    for part in sorted(source.rglob("*")):
        if part.is_file():
            looking.copy(part, f"10.orbax-checkpoint-tmp/{part.relative_to(source)}")
            assert looking.look().writing
            assert looking.look(2.0).writing, "the next file may be long in coming"
    (looking.folder / "10.orbax-checkpoint-tmp").rename(looking.folder / "10")
    sight = looking.look()
    assert sight.newest is not None
    assert (sight.writing, sight.new, sight.newest.step) == (False, True, 10)


def test_a_leftover_temporary_folder_is_nothing(tmp_path: Path) -> None:
    """What a predecessor left behind when it was killed is no save of this link."""
    left = tmp_path / "ck" / "3.orbax-checkpoint-tmp" / "default"
    left.mkdir(parents=True)
    (left / "a").write_text("x")
    os.utime(left / "a", (999.9, 999.9))
    looking = Looking(tmp_path / "ck")
    assert not looking.look().writing


def test_many_files_that_grow_together(looking: Looking) -> None:
    """Forty ranks write at once: whichever of them grows is seen."""
    for rank in range(40):
        looking.write(f"d/__{rank}_0.distcp", "x")
    assert looking.look().writing
    for rank in (0, 20, 39):
        looking.write(f"d/__{rank}_0.distcp", "xx")
        assert looking.look(3.5).writing, f"rank {rank} grew"


def test_files_of_ranks_are_one_save(looking: Looking) -> None:
    """Rank after rank, with pauses: being written until all have been quiet for a while, and one save then."""
    for rank in range(3):
        looking.write(f"step-1-rank{rank}.json", WHOLE)
        assert looking.look(0.25).writing
        assert looking.look(2.0).writing, "the next rank may be slower"
    sight = looking.look(1.1)
    assert (sight.writing, sight.new, len(sight.written_at)) == (False, True, 1)
    assert sight.newest is not None and len(sight.newest.parts) == 3


def test_a_deepspeed_checkpoint_counts_when_latest_names_it(looking: Looking, real: Path) -> None:
    """Readers go by the file `latest`: until that names the new one, it is still being saved."""
    looking.write("latest", "global_step1")
    for part in (real / "deepspeed" / "run" / "global_step2").iterdir():
        looking.copy(part, f"global_step2/{part.name}")
    assert looking.look().writing
    assert looking.look(3.5).writing, "whole and quiet, but not named"
    looking.write("latest", "global_step2")
    sight = looking.look()
    assert (sight.writing, sight.new) == (False, True)
