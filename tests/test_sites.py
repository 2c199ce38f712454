"""Site profiles: those that come with ckptrun, a person's own, and every mistake in one with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckptrun import sites
from ckptrun.errors import UsageError


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


def test_a_name_is_no_path() -> None:
    """`--site` names a profile: nothing outside the folders is read."""
    for name in ("../sites/generic", "/etc/passwd", "generic.yaml", ""):
        with pytest.raises(UsageError, match="no such site"):
            sites.load(name)
