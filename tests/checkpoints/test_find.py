"""What is a checkpoint, and which one is the newest."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptrun.checkpoints.find import Entry, arrange, find, find_named
from ckptrun.checkpoints.forms import step_of


def entry(path: str, at: float = 1.0, size: int = 10, root: str | None = None) -> Entry:
    """Return a file that exists only here."""
    return Entry(path, SimpleNamespace(st_size=size, st_mtime_ns=int(at * 1e9), st_ino=1), root)


def order(*files: Entry) -> list[str]:
    """Return the names of the checkpoints, newest first."""
    return [os.path.basename(one.path) for one in arrange(list(files), frozenset())]


def below(root: str, *names: str) -> list[str]:
    """Return the checkpoints among files of these names below a folder, newest first, relative to it."""
    files = [entry(f"{root}/{name}", root=root) for name in names]
    return [os.path.relpath(one.path, root) for one in arrange(files, frozenset({root}))]


def test_what_is_no_checkpoint() -> None:
    """Logs, configuration, temporaries, hidden files, state files."""
    names = [
        *(
            "train.log",
            "config.yaml",
            "config.json",
            "events.out.tfevents.1",
            "a.pt.tmp",
            ".a.pt.swp",
            "checkpoint",
            "tmpabc",
            "x.py",
        ),
        *("latest", "tokenizer.json", "trainer_state.json", "a.jsonl", "graph.pbtxt", "model.pt~", "a.safetensors.incomplete"),
    ]
    assert order(*(entry(f"/ck/{name}") for name in names)) == []


def test_newest_by_step_where_names_say_it() -> None:
    """The number decides, also above nine, and also where two were written at the same time."""
    assert order(entry("/ck/9.pt", 1), entry("/ck/10.pt", 1), entry("/ck/2.pt", 0)) == ["10.pt", "9.pt", "2.pt"]
    assert order(entry("/ck/10.pt", 1), entry("/ck/9.pt", 1), entry("/ck/2.pt", 0)) == ["10.pt", "9.pt", "2.pt"]


def test_the_word_step_decides_against_times() -> None:
    """A folder that was copied has times in any order: names with the word, or with numbers that are no slots', decide."""
    assert order(entry("/ck/step-9.pt", 5), entry("/ck/step-10.pt", 1)) == ["step-10.pt", "step-9.pt"]
    assert order(entry("/ck/epoch=0.ckpt", 5), entry("/ck/epoch=1.ckpt", 1)) == ["epoch=1.ckpt", "epoch=0.ckpt"]
    assert order(entry("/ck/1000.pt", 5), entry("/ck/2000.pt", 1)) == ["2000.pt", "1000.pt"]


def test_a_slots_number_is_no_step() -> None:
    """`ckpt-0` and `ckpt-1` in turn: the number falls while time rises, so time decides."""
    assert order(entry("/ck/ckpt-0.pt", 30), entry("/ck/ckpt-1.pt", 20)) == ["ckpt-0.pt", "ckpt-1.pt"]
    assert order(entry("/ck/1.pt", 30), entry("/ck/2.pt", 10), entry("/ck/3.pt", 20)) == ["1.pt", "3.pt", "2.pt"]


def test_names_without_a_step_go_by_time() -> None:
    """One name without a number, or of another pattern: time decides for all."""
    assert order(entry("/ck/best.pt", 3), entry("/ck/7.pt", 2), entry("/ck/8.pt", 1)) == ["best.pt", "7.pt", "8.pt"]


def test_runs_in_folders_of_their_own_go_by_time() -> None:
    """The step of another run says nothing."""
    files = [entry("/ck/run1/step-500.pt", 1, root="/ck"), entry("/ck/run2/step-20.pt", 2, root="/ck")]
    assert [one.path for one in arrange(files, frozenset({"/ck"}))] == ["/ck/run2/step-20.pt", "/ck/run1/step-500.pt"]


def test_shards_without_an_index_are_not_yet_a_checkpoint() -> None:
    """TensorFlow writes the index last, and so does Hugging Face."""
    assert order(entry("/ck/3.ckpt.data-00000-of-00001")) == []
    assert order(entry("/ck/3.ckpt.data-00000-of-00001"), entry("/ck/3.ckpt.index")) == ["3.ckpt"]
    one = [entry(f"/ck/model.ckpt-5.{part}") for part in ("data-00000-of-00001", "index", "meta")]
    assert order(*one) == ["model.ckpt-5"]
    assert order(one[2]) == []
    shards = [entry(f"/ck/model-0000{number}-of-00002.safetensors") for number in (1, 2)]
    assert order(*shards) == []
    assert order(*shards, entry("/ck/model.safetensors.index.json")) == ["model.safetensors.index.json"]
    variant = [entry("/ck/unet.fp16-00001-of-00001.safetensors"), entry("/ck/unet.safetensors.index.fp16.json")]
    assert order(*variant) == ["unet.safetensors.index.fp16.json"]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["d/.metadata", "d/__0_0.distcp", "d/__1_0.distcp"], ["d"]),
        (["d/__0_0.distcp"], ["d"]),
        (["3/saved_model.pb", "3/variables/variables.index", "3/variables/variables.data-00000-of-00001"], ["3"]),
        (["m/variables/variables.index", "m/variables/variables.data-00000-of-00001"], ["m"]),
        (["checkpoint-500/model.safetensors", "checkpoint-500/optimizer.pt", "latest.txt"], ["checkpoint-500"]),
        (["checkpoint-5/global_step5/mp_rank_00_model_states.pt", "checkpoint-5/trainer_state.json"], ["checkpoint-5"]),
        (["latest", "global_step3/mp_rank_00_model_states.pt"], ["global_step3"]),
        (["7/_CHECKPOINT_METADATA", "7/default/_METADATA", "7/default/d/ab12"], ["7"]),
        (["7/default/_METADATA", "7/default/manifest.ocdbt"], ["7"]),
        (["a/_METADATA", "a/params.w/.zarray", "a/params.w/0.0"], ["a"]),
        (["8.orbax-checkpoint-tmp-17/default/d/ab12"], []),
        (["tmp-checkpoint-9/model.safetensors"], []),
        ([".hidden/a.pt"], []),
        (["checkpoint-1/step-5.pt", "checkpoint-1/step-6.pt"], ["checkpoint-1/step-6.pt", "checkpoint-1/step-5.pt"]),
        (["run/a.pt"], ["run/a.pt"]),
        (["epoch=1-step=4.ckpt/.metadata", "epoch=1-step=4.ckpt/meta.pt"], ["epoch=1-step=4.ckpt"]),
        (["iter_0000100/mp_rank_00/model_optim_rng.pt"], ["iter_0000100"]),
        (["checkpoint-3/.metadata.tmp"], []),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else str(value),
)
def test_folders_that_are_one_checkpoint(names: list[str], found: list[str]) -> None:
    """All files below such a folder count as one; what is being made does not count."""
    assert below("/ck", *names) == found


def test_files_of_ranks_are_one_checkpoint() -> None:
    """Each rank its own file: one checkpoint a step, named by the first rank's, the rank's number being no step."""
    names = [f"step-{step}-rank{rank}.pt" for step in (9, 10) for rank in range(12)]
    found = arrange([entry(f"/ck/{name}", root="/ck") for name in names], frozenset({"/ck"}))
    assert [(os.path.basename(one.path), one.step, len(one.parts)) for one in found] == [
        ("step-10-rank0.pt", 10, 12),
        ("step-9-rank0.pt", 9, 12),
    ]
    (one,) = arrange([entry(f"/ck/model_rank_{rank:02d}.pt") for rank in (1, 0, 2)], frozenset())
    assert (one.path, one.step, one.form) == ("/ck/model_rank_00.pt", None, "ranked")
    assert sorted(order(entry("/ck/ranked.pt"), entry("/ck/frank1.pt"))) == ["frank1.pt", "ranked.pt"]


def test_the_named_folder_may_be_the_checkpoint() -> None:
    """`--checkpoint saved/`, where saved is the checkpoint itself, or holds others beside what is final."""
    assert below("/ck", "saved_model.pb", "variables/variables.index") == ["."]
    final = ["trainer_state.json", "optimizer.pt", "model.safetensors"]
    inner = ["checkpoint-5/model.safetensors", "checkpoint-5/trainer_state.json"]
    assert "checkpoint-5" in below("/ck", *final, *inner)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        *(
            ("ckpt-0012.pt", 12),
            ("model.pt", None),
            ("7.ckpt", 7),
            ("epoch3-step400.pt", 400),
            ("loss0.25-3.pth", 3),
            ("v2_model", 2),
        ),
        *(("step=400-epoch=2.ckpt", 400), ("epoch=3-val_loss=0.25.ckpt", 3), ("weights.05-0.25.h5", 5), ("checkpoint-500", 500)),
        *(("epoch=0-step=10-v1.ckpt", 10), ("global_step30", 30), ("model_best-0.93.pt", None), ("1234567890123456789.pt", None)),
    ],
)
def test_step_of_a_name(name: str, step: int | None) -> None:
    """What follows the word, else the last number in the name, without its ending; a fraction is no step."""
    assert step_of(f"/x1/{name}") == step


def test_paths_that_do_not_exist_hold_nothing(tmp_path: Path) -> None:
    """A missing folder, an empty one, a named file that is missing, one that exists whatever its name."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "state.log").write_text("x")
    assert find([str(tmp_path / "missing"), str(tmp_path / "empty"), str(tmp_path / "none.pkl")]) == ()
    assert [one.path for one in find([str(tmp_path / "state.log")])] == [str(tmp_path / "state.log")]


def test_what_is_no_regular_file_is_none(tmp_path: Path) -> None:
    """FIFOs, sockets, links to nothing, links in a circle, folders that are empty: passed over, and nothing waits."""
    os.mkfifo(tmp_path / "a.pt")
    (tmp_path / "b.pt").symlink_to("nothing")
    (tmp_path / "c").symlink_to(".")
    (tmp_path / "d.pt").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "e.pt"))
        assert find([str(tmp_path), str(tmp_path / "a.pt"), str(tmp_path / "e.pt")]) == ()


def test_what_a_path_names(tmp_path: Path) -> None:
    """A file, TensorFlow's prefix, its index, a shard, an index of weights; None for what is not there."""
    for name in ("2.ckpt.index", "2.ckpt.data-00000-of-00001", "12.ckpt.index", "a.pt", "3.ckpt.data-00000-of-00001"):
        (tmp_path / name).write_text("x")
    for name in ("2.ckpt", "2.ckpt.index", "2.ckpt.data-00000-of-00001"):
        (found,) = find_named(str(tmp_path / name)) or ()
        assert (found.path, len(found.parts)) == (str(tmp_path / "2.ckpt"), 2)
    (found,) = find_named(str(tmp_path / "3.ckpt")) or ()
    assert (found.form, found.step, len(found.parts)) == ("tensorflow", 3, 1), "shards without an index"
    assert [one.path for one in find_named(str(tmp_path / "a.pt")) or ()] == [str(tmp_path / "a.pt")]
    assert find_named(str(tmp_path / "4.ckpt")) is None


# --- a plain specification

STEMS = (
    "step-{}.pt",
    "ckpt-{}.pt",
    "{}.ckpt",
    "best.pt",
    "step-{}.pt.tmp",
    "train-{}.log",
    "checkpoint-{}/a.bin",
    "checkpoint-{}/b.bin",
)
NAMES = st.tuples(st.sampled_from(STEMS), st.integers(0, 12)).map(lambda one: one[0].format(one[1]))
FOLDERS = st.dictionaries(NAMES, st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=7)
SHARDS = st.dictionaries(st.sampled_from(["5.tf.index", "5.tf.data-00000-of-00002", "5.tf.data-00001-of-00002"]), st.integers(0, 5))


def specification(files: dict[str, int]) -> str | None:
    """Return the newest checkpoint among files with their times, as docs/reference/checkpoints.md says it."""
    times: dict[str, list[int]] = {}
    for name, at in files.items():
        if name.endswith((".tmp", ".log")):
            continue
        whole = name.split("/")[0] if "/" in name else re.sub(r"\.(index|data-.*)$", "", name)
        times.setdefault(whole, []).append(at)
    if "5.tf.index" not in files:
        times.pop("5.tf", None)
    found = {name: max(at) for name, at in times.items()}
    steps = {name: int(re.findall(r"\d+", name)[0]) if re.search(r"\d", name) else -1 for name in found}
    if not found:
        return None
    by_time = max(found, key=lambda name: (found[name], steps[name], name))
    if len({re.sub(r"\d+", "", name) for name in found}) > 1 or -1 in steps.values():
        return by_time
    agree = sorted(found, key=lambda name: (found[name], steps[name])) == sorted(found, key=lambda name: steps[name])
    slots = sorted(steps.values()) in ([*range(len(steps))], [*range(1, len(steps) + 1)]) and not by_time.startswith("step")
    return by_time if slots and not agree else max(found, key=lambda name: steps[name])


@given(FOLDERS, SHARDS)
def test_the_newest_equals_its_specification(files: dict[str, tuple[int, int]], shards: dict[str, int]) -> None:
    """Over names, times with ties, sizes, and parts that are missing, find picks what the specification says."""
    entries = [entry(f"/ck/{name}", at, size, "/ck") for name, (at, size) in files.items()]
    entries += [entry(f"/ck/{name}", at, root="/ck") for name, at in shards.items()]
    found = arrange(entries, frozenset({"/ck"}))
    expected = specification({name: at for name, (at, _) in files.items()} | shards)
    assert (os.path.relpath(found[0].path, "/ck") if found else None) == expected
    assert len({part for one in found for part in one.parts}) == sum(len(one.parts) for one in found), "no file belongs to two"


@given(FOLDERS)
def test_the_order_does_not_depend_on_the_listing(files: dict[str, tuple[int, int]]) -> None:
    """The same files in any order of the listing are the same checkpoints in the same order."""
    entries = [entry(f"/ck/{name}", at, size, "/ck") for name, (at, size) in files.items()]
    assert arrange(entries, frozenset({"/ck"})) == arrange(entries[::-1], frozenset({"/ck"}))


def test_in_the_working_directory_a_file_counts_by_its_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `Makefile` is no checkpoint there; elsewhere a name without an ending is one."""
    for name in ("Makefile", "1.pt"):
        (tmp_path / name).write_bytes(b"x")
    assert {os.path.basename(one.path) for one in find([str(tmp_path)])} == {"Makefile", "1.pt"}
    monkeypatch.chdir(tmp_path)
    assert [os.path.basename(one.path) for one in find([str(tmp_path)])] == ["1.pt"]
    assert [os.path.basename(one.path) for one in find([str(tmp_path / "Makefile")])] == ["Makefile"], "named by the user himself"
