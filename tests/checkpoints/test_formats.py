"""Whole or truncated: real files made by the real libraries, cut, with parts removed, with bits turned. Nothing is unpickled."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import random
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from ckptrun.checkpoints.find import find, newest_whole
from ckptrun.checkpoints.formats import crc32c, verify
from ckptrun.words import Verdict
from tests.checkpoints.cases import FILES, SEVERAL, Case, copy, flips, lengths, look

# Nothing reads what stands in these: that they exist is all they say, or they only describe.
READ_BY_NOBODY = {"commit_success.txt", "latest", "checkpoint", "fingerprint.pb"}
# What Orbax and the libraries do without, or what only compressed nodes speak of (docs/reference/checkpoints.md).
NOT_MISSED = {"_sharding", "commit_success.txt", "process_0", "fingerprint.pb", "keras_metadata.pb", ".zarray", "0", "0.0"}


@pytest.mark.parametrize("full", [False, True], ids=["structural", "full"])
@pytest.mark.parametrize("case", [*FILES, *SEVERAL], ids=lambda case: case.id)
def test_what_the_library_wrote_is_whole(real: Path, case: Case, full: bool) -> None:
    """Each real checkpoint is found to be whole, and in its format."""
    found = look(real / case.path, full)
    assert (found.verdict, found.form) == (Verdict.WHOLE, case.form), found.why
    assert found.why


@pytest.mark.parametrize("case", FILES, ids=lambda case: case.id)
def test_every_cut_of_a_file_is_found(real: Path, tmp_path: Path, case: Case, dice: random.Random) -> None:
    """Cut at 200 random lengths, and at every one of the first and of the last twenty bytes: truncated each time."""
    path = copy(real, case, tmp_path)
    for length in lengths(path.stat().st_size, dice):
        os.truncate(path, length)
        found = look(path)
        assert found.verdict is Verdict.TRUNCATED, f"cut to {length} bytes: {found.verdict.value}, {found.why}"
        assert found.why


@pytest.mark.parametrize("case", SEVERAL, ids=lambda case: case.id)
def test_every_cut_of_every_part_is_found(real: Path, tmp_path: Path, case: Case, dice: random.Random) -> None:
    """Each part of a checkpoint of several files is cut at 200 random lengths in all and near its ends."""
    path = copy(real, case, tmp_path)
    parts = [part for part in look(path).parts if os.path.basename(part) not in READ_BY_NOBODY]
    for part in parts:
        raw = Path(part).read_bytes()
        # Behind the last bracket of JSON stands nothing that could be missed.
        size = len(raw.rstrip()) if raw[:1] in (b"{", b"[") else len(raw)
        for length in lengths(size, dice, max(200 // len(parts), 20)):
            os.truncate(part, length)
            found = look(path)
            assert found.verdict is Verdict.TRUNCATED, f"{part} cut to {length} of {size} bytes: {found.why}"
        Path(part).write_bytes(raw)
    assert look(path).verdict is Verdict.WHOLE


@pytest.mark.parametrize("case", SEVERAL, ids=lambda case: case.id)
def test_every_missing_part_is_found(real: Path, tmp_path: Path, case: Case) -> None:
    """Each part is taken away alone. A shard or a folder without its index is no checkpoint yet; else it is truncated."""
    path = copy(real, case, tmp_path)
    noticed = 0
    for part in look(path).parts:
        raw, mode = Path(part).read_bytes(), Path(part).stat()
        os.unlink(part)
        left = [verify(one) for one in find([str(path if path.is_dir() else path.parent)]) if one.path.startswith(str(path))]
        found = not left or any(one.verdict is Verdict.TRUNCATED for one in left)
        name = os.path.basename(part)
        assert found or name in NOT_MISSED, f"{part} is not missed: {left}"
        noticed += found
        Path(part).write_bytes(raw)
        os.utime(part, (mode.st_atime, mode.st_mtime))
    assert noticed, "at least one is missed"


WITH_CHECKSUMS = [case for case in FILES if case.form in ("gzip", "bzip2", "xz", "zlib") or case.path == "plain/state.pkl.zst"]


@pytest.mark.parametrize("case", WITH_CHECKSUMS, ids=lambda case: case.id)
def test_full_finds_every_turned_bit_of_compressed_data(real: Path, tmp_path: Path, case: Case, dice: random.Random) -> None:
    """A format with a checksum over all of its data: no bit between header and end can turn unseen."""
    path = copy(real, case, tmp_path)
    raw = path.read_bytes()
    # What fills up the last byte before the trailer of a deflated stream, or the last byte of bzip2's, means nothing.
    filled = len(raw) - {"zlib": 4, "gzip": 8, "bzip2": 0}.get(case.form, -1) - 1
    for place, turned in flips(raw[20:], dice):
        if place // 8 + 20 == filled:
            continue
        path.write_bytes(raw[:20] + turned)
        assert look(path, full=True).verdict is Verdict.TRUNCATED, f"bit {place} after the first 20 bytes"


@pytest.mark.parametrize("name", ["torch/zip.pt", "plain/stored.npz", "plain/packed.npz", "tensorflow/model.keras"])
def test_full_finds_every_turned_bit_in_the_members_of_a_zip_file(
    real: Path, tmp_path: Path, name: str, dice: random.Random
) -> None:
    """Each member has a checksum; only its headers have none."""
    path = copy(real, Case("", name), tmp_path)
    raw = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.compress_size > 8]
    for _ in range(200):
        member = dice.choice(members)
        begin = member.header_offset + 30 + sum(raw[member.header_offset + 26 + at] << 8 * (at % 2) for at in range(4))
        # What fills up the last byte of a deflated member means nothing.
        last = member.compress_size - (member.compress_type == zipfile.ZIP_DEFLATED)
        place = dice.randrange(8 * begin, 8 * (begin + last))
        turned = bytearray(raw)
        turned[place // 8] ^= 1 << place % 8
        path.write_bytes(turned)
        assert look(path, full=True).verdict is Verdict.TRUNCATED, f"bit {place} in {member.filename}"


def test_full_finds_every_turned_bit_of_tensorflows_data(real: Path, tmp_path: Path, dice: random.Random) -> None:
    """Every tensor has a checksum in the index, texts too, and so has every block of the index."""
    path = copy(real, Case("tensorflow", "tensorflow/managed/ckpt-2"), tmp_path)
    for part in ("ckpt-2.data-00000-of-00001", "ckpt-2.index"):
        file = path.parent / part
        raw = file.read_bytes()
        body = raw[:-48] if part.endswith(".index") else raw  # the footer has no checksum
        for place, turned in flips(body, dice):
            file.write_bytes(turned + raw[len(body) :])
            found = look(path, full=True)
            assert found.verdict is Verdict.TRUNCATED, f"bit {place} of {part}"
        file.write_bytes(raw)


def test_the_checksum_of_tensorflow_is_the_standard_one(dice: random.Random) -> None:
    """The check value of the standard; the fast way equals the table, at all lengths; the multiple is one."""
    assert crc32c.crc32c(b"123456789") == 0xE3069283
    remainder = 0
    for degree in range(crc32c.MULTIPLE[0], -1, -1):
        remainder = remainder << 1 | (degree in (*crc32c.MULTIPLE, 0))
        remainder ^= 0x11EDC6F41 if remainder >> 32 else 0
    assert remainder == 0, "x^6777 + x^484 + x^100 + 1 is a multiple of the polynomial"
    for length in (*range(5), 3266, 3267, 3268, *(dice.randrange(2_000_000) for _ in range(4))):
        data = dice.randbytes(length)
        slow = crc32c.crc32c(b"before")
        for begin in range(0, length, 1000):
            slow = crc32c.crc32c(data[begin : begin + 1000], slow)  # short pieces go through the table
        assert crc32c.crc32c(data, crc32c.crc32c(b"before")) == slow, f"{length} bytes"


def test_a_file_of_pytorch_without_checksums(tmp_path: Path) -> None:
    """torch.save can be told to leave them out; that is no damage, and it is said."""
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.rand(1000)}, tmp_path / "a.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    found = look(tmp_path / "a.pt", full=True)
    assert (found.verdict, "without checksums" in found.why) == (Verdict.WHOLE, True)


# --- writers that were interrupted and closed the file on their way out


@pytest.mark.parametrize("after", range(1, 8))
def test_a_save_of_pytorch_that_was_interrupted(tmp_path: Path, after: int) -> None:
    """Ctrl-C before the n-th record: torch.save ends the zip file all the same, and a storage is missing in it."""
    left = after

    def interrupt(frame: object, event: str, called: object) -> None:
        nonlocal left
        if event == "c_call" and getattr(called, "__name__", "") == "write_record":
            left -= 1
            if left < 0:
                raise KeyboardInterrupt

    sys.setprofile(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            torch.save({name: torch.rand(1000) for name in "abcdefghij"}, tmp_path / "a.pt")
    finally:
        sys.setprofile(None)
    assert zipfile.is_zipfile(tmp_path / "a.pt")
    found = look(tmp_path / "a.pt")
    assert (found.verdict, "missing" in found.why) == (Verdict.TRUNCATED, True)


class Interrupted:
    """Cannot be pickled to its end."""

    def __reduce__(self) -> tuple[object, ...]:
        raise KeyboardInterrupt


def test_a_compressed_pickle_whose_writer_was_interrupted(tmp_path: Path) -> None:
    """`with gzip.open(...)` closes the file also then: the compressed bytes are complete, the pickle in them is not."""
    with pytest.raises(KeyboardInterrupt), gzip.open(tmp_path / "a.pkl.gz", "wb") as file:
        pickle.dump([b"x" * 100_000, list(range(1000)), Interrupted()], file)
    assert gzip.decompress((tmp_path / "a.pkl.gz").read_bytes())
    assert look(tmp_path / "a.pkl.gz").verdict is Verdict.TRUNCATED


def test_an_array_in_a_zip_file_that_was_cut_before(tmp_path: Path) -> None:
    """A complete zip file with an array that is shorter than its own header says."""
    raw = io.BytesIO()
    np.save(raw, np.zeros(100))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("a.npy", raw.getvalue()[:-7])
    assert look(tmp_path / "a.npz").verdict is Verdict.TRUNCATED


def test_an_hdf5_file_that_was_not_closed(tmp_path: Path) -> None:
    """A writer that is killed leaves the mark of an open file in it."""
    import h5py

    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file["a"] = np.zeros(1000)
        file.flush()
        raw = (tmp_path / "a.h5").read_bytes()
    assert look(tmp_path / "a.h5").verdict is Verdict.WHOLE
    (tmp_path / "b.h5").write_bytes(raw)
    assert look(tmp_path / "b.h5").verdict is Verdict.TRUNCATED


# --- nothing is run


class Evil:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch was-run",)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of each format that holds pickles, which would run a command on load, are verified, and nothing is run."""
    import joblib

    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil-1.pkl").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "evil-2.pkl").write_bytes(pickle.dumps(Evil(), 0))
    torch.save({"x": Evil()}, tmp_path / "evil-3.pt")
    torch.save({"x": Evil()}, tmp_path / "evil-4.pt", _use_new_zipfile_serialization=False)
    joblib.dump([np.zeros(3), Evil()], tmp_path / "evil-5.joblib")
    np.save(tmp_path / "evil-6.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    (tmp_path / "evil-7").mkdir()
    (tmp_path / "evil-7" / ".metadata").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "evil-7" / "__0_0.distcp").write_bytes(b"x")
    (tmp_path / "global_step8").mkdir()
    torch.save({"x": Evil(), "dp_world_size": 1, "mp_world_size": 1}, tmp_path / "global_step8" / "mp_rank_00_model_states.pt")
    found = find([str(tmp_path)])
    assert len(found) == 8
    for full in (False, True):
        assert all(verify(one, full).verdict is not Verdict.TRUNCATED for one in found)
    assert not (tmp_path / "was-run").exists()


def test_the_newest_whole_one(real: Path, tmp_path: Path) -> None:
    """The newest is cut: the one before it is used, and the cut one is told."""
    path = copy(real, Case("tensorflow", "tensorflow/managed/ckpt-2"), tmp_path)
    newest, truncated = newest_whole([str(path.parent)])
    assert newest is not None
    assert (newest.path, newest.step, newest.verdict, truncated) == (str(path), 2, Verdict.WHOLE, ())
    os.truncate(f"{path}.data-00000-of-00001", 100)
    newest, truncated = newest_whole([str(path.parent)])
    assert newest is not None
    assert (os.path.basename(newest.path), [os.path.basename(one.path) for one in truncated]) == ("ckpt-1", ["ckpt-2"])


def test_one_that_is_proved_only_by_reading_is_read_at_a_start(tmp_path: Path) -> None:
    """A large gzip says nothing of its end: before a training resumes from it, it is read."""
    raw = gzip.compress(random.Random(1).randbytes(9_000_000), 0)
    (tmp_path / "step-1.pkl.gz").write_bytes(raw)
    (tmp_path / "step-2.pkl.gz").write_bytes(raw[:-1000])
    assert [verify(one).verdict for one in find([str(tmp_path)])] == [Verdict.NOT_CHECKED] * 2
    newest, truncated = newest_whole([str(tmp_path)])
    assert newest is not None
    assert (newest.step, newest.verdict, len(truncated)) == (1, Verdict.WHOLE, 1)
