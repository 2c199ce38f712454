"""Site profiles: those that come with ckptrun, a person's own, and every mistake in one with its line."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ckptrun import sites
from ckptrun.errors import UsageError

ROOT = Path(__file__).parent.parent


def test_what_is_known_of_ai_lab() -> None:
    """A time stays a time: YAML of old reads 12:00:00 as a number."""
    site = sites.load("ai-lab")
    assert (site.partition, site.time, site.limits.time_s, site.limits.gpus) == ("l4", "12:00:00", 43200.0, 4)
    assert site.containers[0] == "singularity" and set(site.images) == {"python", "pytorch", "tensorflow"}


def test_own_profiles_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile in the configuration folder is found by its name, and before one that came with ckptrun."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "ckptrun" / "sites"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("partition: gpu\nlimits:\n  time: 2-00:00:00\n")
    (folder / "generic.yaml").write_text("partition: other\n")
    assert {"ai-lab", "generic", "mine"} <= set(sites.names())
    assert (sites.load("mine").partition, sites.load("mine").limits.time_s) == ("gpu", 172800.0)
    assert sites.load("generic").partition == "other"


MISTAKES = """\
partitoin: gpu
time: 300
containers: [docker]
limits:
  gpu: 4
  time: 12:00:00
  time: 24:00:00
gpu-option: gres
gpu-option: gres
images: none
"""


def test_all_mistakes_with_their_lines() -> None:
    """Each mistake is told with file, line and the nearest key, all at once."""
    with pytest.raises(UsageError) as error:
        sites.read("x", MISTAKES, "x.yaml")
    lines = [mistake.split(":")[1] for mistake in error.value.mistakes]
    assert lines == ["1", "2", "3", "5", "7", "9", "10"]
    assert "did you mean partition?" in str(error.value) and "did you mean gpus?" in str(error.value)


@pytest.mark.parametrize(
    "text", ["a: [", "- x\n", "just words", "a: &x {b: *x}", "!!python/object/apply:os.system [touch canary]", "\x00", "? [a]\n: b"]
)
def test_what_is_no_profile_is_refused(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken, foreign and hostile files end in one error, and nothing in them is carried out."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"x\.yaml"):
        sites.read("x", text, "x.yaml")
    assert not list(tmp_path.iterdir())


def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a person's own profiles, which is the only one there is."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    own = folder / "ckptrun" / "sites"
    own.mkdir(parents=True)
    return own


def test_what_is_no_text_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, a pipe, a device, a dangling link, no UTF-8, too large: one sentence with the path, nothing hangs."""
    own = in_folder(tmp_path, monkeypatch)
    (own / "folder.yaml").mkdir()
    os.mkfifo(own / "pipe.yaml")
    (own / "device.yaml").symlink_to("/dev/zero")
    (own / "dangling.yaml").symlink_to("nowhere")
    (own / "latin.yaml").write_bytes(b"# one\ndescription: \xe9\n")
    (own / "large.yaml").write_bytes(b"#" * (1 << 20) + b"\n")
    expected = {"folder": "no file", "pipe": "no file", "device": "no file", "dangling": "No such file", "large": "1 MiB"}
    for name, why in (expected | {"latin": ":2: not UTF-8"}).items():
        with pytest.raises(UsageError) as error:
            sites.load(name)
        assert why in str(error.value) and f"{own}/{name}.yaml" in str(error.value) and "\n" not in str(error.value)


def test_a_control_character_has_its_line() -> None:
    """YAML's reader tells a position; a person wants the line."""
    with pytest.raises(UsageError, match=r"x\.yaml:3: this is no YAML"):
        sites.read("x", "# one\n# two\npartition: a\x01b\n", "x.yaml")


def test_a_time_above_the_sites_own_limit() -> None:
    """Said of the file, in its line; where no time is said, a job asks for what the site allows."""
    with pytest.raises(UsageError, match=r"x\.yaml:2: time: 20:00:00 is longer than limits: time, 12 h"):
        sites.read("x", "partition: a\ntime: 20:00:00\nlimits: {time: 12h}\n", "x.yaml")
    assert sites.read("x", "limits: {time: 4h}\n", "x.yaml").time == "14400s"


def test_a_name_is_no_path() -> None:
    """`--site` names a profile: nothing outside the folders is read."""
    for name in ("../sites/generic", "/etc/passwd", "generic.yaml", ""):
        with pytest.raises(UsageError, match="no such site"):
            sites.load(name)


def test_an_installed_ckptrun_has_the_templates(tmp_path: Path) -> None:
    """Installed from a wheel, with no clone beside it, `template new` finds its files where the wheel puts them."""
    text = (ROOT / "pyproject.toml").read_text()
    (inside,) = re.findall(r'^"slurm-templates" = "(\S+)"$', text, re.MULTILINE)
    shutil.copytree(ROOT / "ckptrun", tmp_path / "ckptrun")
    shutil.copytree(ROOT / "slurm-templates", tmp_path / inside)
    work = tmp_path / "work"
    work.mkdir()
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from ckptrun.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", program, "template", "new", "keras"], cwd=work, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (work / "train.py").read_text() == (ROOT / "slurm-templates" / "keras" / "train.py").read_text()
    assert shipped_in(tmp_path) == str(tmp_path / inside)


def shipped_in(folder: Path) -> str:
    """Return where a ckptrun in this folder finds its templates."""
    program = f"import sys; sys.path.insert(0, {str(folder)!r}); from ckptrun import sites; print(sites.shipped())"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()
