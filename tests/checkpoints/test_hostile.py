"""Large, strange and hostile files: no crash, no hang, little memory, and milliseconds whatever the size."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import pickle
import random
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ckptrun.checkpoints.find import find, first_whole, newest_whole
from ckptrun.checkpoints.formats import UNJUDGED
from ckptrun.checkpoints.state_file import misnamed, named_newest
from ckptrun.checkpoints.watch import Watch
from ckptrun.words import Verdict
from tests.checkpoints import sparse
from tests.checkpoints.cases import FILES, SEVERAL, Case, copy, look

LARGE = 5 * 10**9
MEMORY_BYTES = 700 * 1000**2


def bytes_read() -> int:
    """Return how many bytes this process has read so far."""
    return int(next(line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar")).split()[1])


@pytest.mark.parametrize("name", list(sparse.MAKERS))
def test_5_gb_are_verified_by_a_few_bytes(tmp_path: Path, name: str) -> None:
    """What says where the file ends is read, and no data: not a megabyte of five billion bytes. One byte less is found."""
    path = tmp_path / name
    sparse.MAKERS[name](path, LARGE)
    assert path.stat().st_size > LARGE
    look(path)
    before = bytes_read()
    found = look(path)
    assert bytes_read() - before < 200_000
    assert found.verdict is Verdict.WHOLE, found.why
    os.truncate(path, path.stat().st_size - 1)
    before = bytes_read()
    assert look(path).verdict is Verdict.TRUNCATED
    assert bytes_read() - before < 200_000


@pytest.mark.parametrize("form", ["tensorflow", "distributed"])
def test_5_gb_in_several_files(real: Path, tmp_path: Path, form: str) -> None:
    """The same for checkpoints of several files."""
    source = next(case for case in SEVERAL if case.form == form)
    getattr(sparse, form)(tmp_path / "large", LARGE, real / source.path)
    look(tmp_path / "large")
    before = bytes_read()
    assert look(tmp_path / "large").verdict is Verdict.WHOLE
    assert bytes_read() - before < 200_000


# --- hostile files, verified in a process that may take little memory


def make_hostile(folder: Path) -> dict[str, str]:
    """Write files that are made to do harm; return what must be said of each, and `any` where both answers are right."""
    deep = 6_000_000
    (folder / "deep.json").write_bytes(b"[" * deep)
    (folder / "wide.json").write_bytes(b"[" + b"{}," * (deep // 3))
    (folder / "backslashes.json").write_bytes(b'["' + b"\\" * deep)
    (folder / "digits.json").write_bytes(b"[" + b"1" * deep)
    (folder / "marks.pkl").write_bytes(b"\x80\x04" + b"(" * deep)
    (folder / "length.pkl").write_bytes(b"\x80\x04\x8e" + b"\xff" * 8 + b".")
    (folder / "lists.pt").write_bytes(legacy(b"]" * deep))
    (folder / "number.pkl").write_bytes(b"I" + b"9" * deep + b"\n")
    (folder / "joblib.joblib").write_bytes(array_of((10**18, 10**18)))
    (folder / "shape.npy").write_bytes(npy_header("(" + "9" * 300 + ",)"))
    (folder / "nested.npy").write_bytes(npy_header("(" * 3000 + ")" * 3000))
    (folder / "header.safetensors").write_bytes(b"\xff" * 8 + b"{}")
    (folder / "header2.safetensors").write_bytes((90_000_000).to_bytes(8, "little") + b"{" * 1000)
    os.truncate(folder / "header2.safetensors", 200_000_000)
    (folder / "bomb.gz").write_bytes(gzip.compress(bytes(140 * 10**6)))
    (folder / "bomb.bz2").write_bytes(bz2.compress(bytes(140 * 10**6)))
    with zipfile.ZipFile(folder / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(140 * 10**6))
    (folder / "directory.pt").write_bytes(b"PK\x03\x04")
    os.truncate(folder / "directory.pt", LARGE)
    with (folder / "directory.pt").open("r+b") as file:
        file.seek(LARGE)
        file.write(b"PK\x05\x06" + bytes(4) + b"\xff\xff\xff\xff" + (LARGE - 10**9).to_bytes(8, "little")[:4] + bytes(6))
    (folder / "own.zip").write_bytes(overlapping())
    (folder / "superblock.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\xff" * 100)
    (folder / "blocks.zst").write_bytes(b"\x28\xb5\x2f\xfd\x00\x58" + b"\x02\x00\x00a" * 10**6)
    (folder / "table.index").write_bytes(b"\xff" * 40 + (0xDB4775248B80FB57).to_bytes(8, "little"))
    (folder / "table.data-00000-of-00001").write_bytes(b"x")
    (folder / "empty.pt").write_bytes(b"")
    (folder / "zeros.pt").write_bytes(bytes(1000))
    (folder / "zeros.json").write_bytes(bytes(1000))
    (folder / "text.unknown").write_text("hello")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../../../etc/passwd"}}))
    (folder / "distributed").mkdir()
    (folder / "distributed" / ".metadata").write_bytes(pickle.dumps({"a": 1}) * 3)
    (folder / "distributed" / "__0_0.distcp").write_bytes(b"x")
    # Both answers are right of these: what follows them is not there to be wrong, or it is not followed so far.
    either = {"superblock.h5", "own.zip", "distributed", "bomb.npz", "nested.npy", "lists.pt", "bomb.gz", "bomb.bz2", "shape.npy"}
    said = {name: "any" if name in either else "truncated" for name in [*os.listdir(folder), "table"]}
    return said | {"text.unknown": "not-checked"}


def legacy(state: bytes) -> bytes:
    """Return an old file of PyTorch with this pickle as its state."""
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    return magic + pickle.dumps(1001, 2) + pickle.dumps({}, 2) + b"\x80\x02" + state + b"."


def array_of(shape: tuple[int, ...]) -> bytes:
    """Return a joblib file that says to hold an array of this shape."""
    wrapper = b"\x80\x04cjoblib.numpy_pickle\nNumpyArrayWrapper\n)\x81}(X\x05\x00\x00\x00shape"
    dtype = b"X\x05\x00\x00\x00dtypecnumpy\ndtype\n(X\x02\x00\x00\x00f8tR"
    return wrapper + pickle.dumps(shape, 2)[2:-1] + dtype + b"ub" + b"x" * 100


def npy_header(shape: str) -> bytes:
    """Return a `.npy` file whose header says this shape."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header


def overlapping() -> bytes:
    """Return a zip file whose many entries are all the same bytes."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(10**7))
    text = raw.getvalue()
    begin = text.index(b"PK\x01\x02")
    entry, end = text[begin : text.index(b"PK\x05\x06")], text[text.index(b"PK\x05\x06") :]
    count = 50
    sizes = count.to_bytes(2, "little") * 2 + (count * len(entry)).to_bytes(4, "little")
    return text[:begin] + entry * count + end[:8] + sizes + end[16:]


@pytest.mark.parametrize("options", [(), ("--full",)], ids=["structural", "full"])
def test_hostile_files(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Bombs, huge lengths, deep nesting: a verdict for each, within a minute and a few hundred megabytes, and no traceback."""
    expected = make_hostile(tmp_path)
    command = [sys.executable, "-m", "ckptrun", "verify", "--json", *options, str(tmp_path)]
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))  # noqa: E731
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, timeout=600)
    assert (done.returncode, done.stderr) == (1, "")
    said = {os.path.relpath(row["path"], tmp_path): (row["status"], row["why"]) for row in json.loads(done.stdout)["data"]}
    for name, (status, why) in said.items():
        assert why and UNJUDGED not in why, f"{name}: {why}"
        assert expected[name] in ("any", status), f"{name}: {status}, {why}"
    assert {"deep.json", "bomb.gz", "directory.pt", "table", "distributed", "own.zip"} <= set(said)


def test_names_that_are_no_files(tmp_path: Path) -> None:
    """A FIFO, a socket, a link to nothing, an empty folder: nothing waits; the code is 1, or 2 where nothing is."""
    os.mkfifo(tmp_path / "a.pt")
    (tmp_path / "b.pt").symlink_to("nothing")
    (tmp_path / "c.pt").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "d.pt"))
        for name, code in {"a.pt": 1, "b.pt": 2, "c.pt": 1, "d.pt": 1}.items():
            done = run_verify(tmp_path / name)
            assert (done.returncode, "Traceback" in done.stderr) == (code, False), name
        assert "no regular file" in run_verify(tmp_path / "a.pt").stdout
        assert "no checkpoint" in run_verify(tmp_path / "c.pt").stderr


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """It is said, and it is not whole. Run as another user where we are root, whom nothing is forbidden."""
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(1))
    (tmp_path / "a.pkl").chmod(0)
    assert "cannot be read: Permission denied" in looked_at_by_another_user(tmp_path, "a.pkl")


def test_a_shard_that_may_not_be_read(real: Path, tmp_path: Path) -> None:
    """One file of several: the checkpoint is not whole, and it is said which and why."""
    shutil.copytree(real / "torch/sharded", tmp_path / "sharded")
    shard = min((tmp_path / "sharded").glob("*.safetensors"))
    shard.chmod(0)
    said = looked_at_by_another_user(tmp_path, "sharded/model.safetensors.index.json")
    assert "Permission denied" in said


def looked_at_by_another_user(tmp_path: Path, name: str) -> str:
    """Return what is said of a checkpoint by somebody to whom something is forbidden."""
    program = "from tests.checkpoints.cases import look\nfrom pathlib import Path\nprint(look(Path(sys.argv[1])).why)"
    command = [sys.executable, "-c", f"import sys\n{program}", str(tmp_path / name)]
    if os.geteuid() == 0:
        for folder in (one for one in (tmp_path, *tmp_path.parents) if Path(tempfile.gettempdir()) in one.parents):
            folder.chmod(folder.stat().st_mode | 0o055)
        modules = (
            "import os, sys, json, tests.checkpoints.cases\nfrom ckptrun.checkpoints.formats import pickle, safetensors, sharded"
        )
        command[2] = f"{modules}\nos.setuid(65534)\n{program}"
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def strange_folder(folder: Path) -> None:
    """Write one whole checkpoint, and beside it what must not be opened, followed or waited for."""
    (folder / "step-1.json").write_text('{"step": 1}')
    os.mkfifo(folder / "step-2.json")
    (folder / "step-3.json").symlink_to("step-3.json")
    (folder / "step-4.json").symlink_to("/dev/zero")
    (folder / "step-5.json").symlink_to("step-2.json")
    (folder / "again").symlink_to(".")
    (folder / "loop").symlink_to("pool")
    (folder / "pool").symlink_to("loop")


def test_what_must_not_be_opened(tmp_path: Path) -> None:
    """FIFOs, devices, links that lead in circles: neither a start, nor a look, nor `verify` waits or follows; one is found."""
    strange_folder(tmp_path)
    assert [os.path.basename(one.path) for one in find([str(tmp_path)])] == ["step-1.json"]
    newest, truncated = newest_whole([str(tmp_path)])
    assert newest is not None and (os.path.basename(newest.path), truncated) == ("step-1.json", ())
    sight = Watch([str(tmp_path)], 0.0).look(0.0, 2e9)
    assert sight.newest is not None and os.path.basename(sight.newest.path) == "step-1.json"
    assert run_verify(tmp_path).returncode == 0
    for name in ("/dev/null", "/dev/zero", str(tmp_path / "step-5.json")):
        assert "no regular file" in run_verify(name).stdout
    assert run_verify(tmp_path / "loop").returncode == 2


@pytest.mark.parametrize("form", ["tensorflow", "deepspeed"])
def test_a_state_file_that_is_a_fifo(tmp_path: Path, form: str) -> None:
    """Nobody ever writes into it: it names nothing, and is no state file."""
    os.mkfifo(tmp_path / ("checkpoint" if form == "tensorflow" else "latest"))
    assert named_newest(str(tmp_path), form) is None
    assert misnamed(str(tmp_path), form) == ""


def test_names_that_would_write_to_a_terminal(tmp_path: Path) -> None:
    """A name with a line end and an escape is one line, as Python writes them; for programs it is the name as it is."""
    name = "step-1\nall: whole\x1b[2J.json"
    (tmp_path / name).write_text("{}")
    (line,) = run_verify(tmp_path).stdout.splitlines()
    assert r"step-1\nall: whole" in line and r"whole\x1b[2J.json: whole" in line
    (row,) = json.loads(run_verify("--json", tmp_path).stdout)["data"]
    assert row["path"] == str(tmp_path / name)


def test_of_thousands_one_is_verified(tmp_path: Path) -> None:
    """A watch reads the newest, and not the others that stood there before; a look at a folder at rest reads nothing at all."""
    for number in range(1500):
        (tmp_path / f"step-{number}.pkl").write_bytes(pickle.dumps(number))
    watch = Watch([str(tmp_path)], 1e9)
    before = bytes_read()
    assert os.path.basename(watch.look(0.0, 2e9).newest.path) == "step-1499.pkl"
    assert bytes_read() - before < 5_000
    before = bytes_read()
    watch.look(0.25, 2e9 + 0.25)
    assert bytes_read() - before < 5_000


def test_one_that_vanishes_is_not_truncated(tmp_path: Path) -> None:
    """A checkpoint that another program removes between the listing and the look is nothing to be set aside."""
    for number in (1, 2):
        (tmp_path / f"step-{number}.json").write_text("{}")
    found = find([str(tmp_path)])
    (tmp_path / "step-2.json").unlink()
    newest, truncated = first_whole(found)
    assert newest is not None and (newest.step, truncated) == (1, ())


def run_verify(*words: object) -> subprocess.CompletedProcess[str]:
    """Run `ckptrun verify`."""
    command = [sys.executable, "-m", "ckptrun", "verify", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("case", [*FILES, *SEVERAL], ids=lambda case: case.id)
def test_no_change_of_bytes_is_too_strange(real: Path, tmp_path: Path, case: Case, dice: random.Random) -> None:
    """Bytes overwritten, taken out, put in at random places: a verdict with a reason each time, nothing else."""
    path = copy(real, case, tmp_path)
    parts = [Path(part) for part in look(path).parts]
    for number in range(120):
        part = dice.choice(parts)
        raw = part.read_bytes()
        place, count = dice.randrange(len(raw) + 1), dice.choice((1, 1, 2, 4, 8, 100))
        new = dice.choice((b"\xff" * count, bytes(count), dice.randbytes(count), b""))
        part.write_bytes(raw[:place] + new + raw[place + dice.choice((0, count)) :])
        found = look(path, full=number % 2 == 0) if part.stat().st_size or number else None
        assert found is None or (found.verdict is not None and found.why and UNJUDGED not in found.why), found
        part.write_bytes(raw)


def test_the_arrays_of_a_pickle_of_numpy(tmp_path: Path) -> None:
    """A plain pickle of arrays is no joblib file, though it speaks of NumPy."""
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": np.zeros(1000)}, 5))
    assert look(tmp_path / "a.pkl").verdict is Verdict.WHOLE
