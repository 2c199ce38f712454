"""Where options come from: the files, what counts, what is wrong with them, and the limits of a site."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ckptrun.cli import config_file, options, settings
from ckptrun.cli.settings import Setting
from ckptrun.errors import UsageError
from tests.end_to_end.harness import Ckptrun

ROOT = Path(__file__).parents[2]


def own_file(ckptrun: Ckptrun, text: str) -> Path:
    """Write the user's own file."""
    path = Path(ckptrun.environment["XDG_CONFIG_HOME"]) / "ckptrun" / "config.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def bound(ckptrun: Ckptrun, *words: str) -> int:
    """Return the bound that a dry run tells."""
    found = re.search(r"--max-links (\d+)", ckptrun.run(*words, "--dry-run", "true", code=0).stdout)
    assert found is not None
    return int(found[1])


def test_what_stands_further_up_counts(ckptrun: Ckptrun) -> None:
    """The command line, the variable, the named file, the user's file, the default."""
    assert bound(ckptrun) == 5
    own_file(ckptrun, "max-links: 11\n")
    assert bound(ckptrun) == 11
    (ckptrun.folder / "named.yaml").write_text("max-links: 12\n")
    assert bound(ckptrun, "--config", "named.yaml") == 12
    ckptrun.environment["CKPTRUN_OPTIONS"] = "--max-links 13"
    assert bound(ckptrun, "--config", "named.yaml") == 13
    assert bound(ckptrun, "--config", "named.yaml", "--max-links", "14") == 14
    ckptrun.environment["CKPTRUN_OPTIONS"] = "--config named.yaml"
    assert bound(ckptrun) == 12


MISTAKES = {
    "max-linkss: 3": ("line 1", "did you mean max-links?"),
    "max_links: 3": ("line 1", "did you mean max-links?"),
    "\n\ntime-limit: 300": ("line 3", "write 300s or 5m"),
    "fresh: no": ("line 1", "'no' is neither true nor false"),
    "fresh: 'true'": ("line 1", "neither true nor false"),
    "margin:": ("line 1", "margin has no value: write `margin: DURATION|auto`, or leave the key out"),
    "margin: [5m]": ("line 1", "one value is wanted"),
    "checkpoint: []": ("line 1", "the list is empty"),
    "checkpoint:\n - ck\n - {a: b}": ("line 3", "one value is wanted"),
    "checkpoint: ~/ck": ("line 1", "no shell reads this"),
    "retries: 1\nretries: 2": ("line 2", "stands here twice, first in line 1"),
    "- max-links": ("line 1", "write one option a line"),
    "max-links: 3\n  x: [": ("line 2", "this is no YAML"),
    "a: " + "[" * 20_000: ("line 1", "this is no YAML"),
    "a: \x01": ("line 1", "this is no YAML"),
    "limits: {retries: 1}": ("line 1", "only /etc/ckptrun/config.yaml can set limits"),
    "config: other.yaml": ("line 1", "belongs on a command line"),
    "? [a]\n: b": ("line 1", "no such option"),
    "chain: ../x": ("line 1", "no chain name"),
}


@pytest.mark.parametrize("text", MISTAKES, ids=lambda text: text[:20])
def test_a_mistake_is_told_with_its_place(text: str) -> None:
    """File, line, and the nearest key or what to write; nothing raised."""
    (told,) = config_file.parse(text, "/c.yaml").mistakes
    line, why = MISTAKES[text]
    assert told.startswith(f"/c.yaml, {line}: ") and why in told


def test_all_mistakes_of_all_places_at_once(ckptrun: Ckptrun) -> None:
    """The command line, the variable and two files: one line each, exit code 2, nothing is started."""
    path = own_file(ckptrun, "max-link: 3\nmargin: 5\n")
    (ckptrun.folder / "named.yaml").write_bytes(b"# \xff\n")
    ckptrun.environment["CKPTRUN_OPTIONS"] = "--nothing"
    done = ckptrun.run("--time-limit", "5", "--config", "named.yaml", "true", code=2)
    places = ["--time-limit 5", "CKPTRUN_OPTIONS", f"{ckptrun.folder}/named.yaml, line 1", f"{path}, line 1", f"{path}, line 2"]
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == places
    assert not ckptrun.home.exists()


@pytest.mark.parametrize(
    ("name", "why"), [("missing.yaml", "No such file"), (".", "Is a directory"), ("/dev/zero", "larger than 1 MiB")]
)
def test_a_named_file_that_cannot_be_read(ckptrun: Ckptrun, name: str, why: str) -> None:
    """It was asked for, so that it is a mistake."""
    assert why in ckptrun.run("--config", name, "true", code=2).stderr


def test_a_submitted_script_is_told_of_a_broken_file(ckptrun: Ckptrun) -> None:
    """At submission, not twelve hours later in the queue's log; a task's number is known in the job alone."""
    (ckptrun.folder / "job.sh").write_text("#!/bin/sh\n#SBATCH --array=1-2\n#CKPTRUN --margin 5\ntrue\n")
    path = own_file(ckptrun, "checkpoint: ck-%a\nretries: many\n")
    done = ckptrun.run("sbatch", "job.sh", code=2)
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["job.sh, line 3", f"{path}, line 2"]


def test_a_later_link_reads_no_file(ckptrun: Ckptrun) -> None:
    """Options hold for the chain: a file that was broken meanwhile does not stop it."""
    own_file(ckptrun, "[")
    ckptrun.environment["SLURM_CKPTRUN_BASE"] = "3"
    ckptrun.run("--", "true", code=0)


def test_the_margin_of_a_signal_is_not_undone_from_below() -> None:
    """`--signal USR1@120` on the command line and a margin in a file: 120 s."""
    above, below = Setting("signal", "USR1@120", ("USR1", 120.0), "a"), Setting("margin", "5m", 300.0, "b")
    found = settings.values(settings.layered([[above], [below]]), options.REPEATABLE)
    assert options.to_plan(found, ("true",)).margin_s == 120.0
    assert options.to_plan(settings.values(settings.layered([[below], [above]]), options.REPEATABLE), ("true",)).margin_s == 300.0


def in_a_world_with(folder: Path, text: str, *words: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run ckptrun where /etc/ckptrun/config.yaml says this: in a mount namespace whose /etc is a copy."""
    etc = folder / "etc"
    (etc / "ckptrun").mkdir(parents=True)
    (etc / "ckptrun" / "config.yaml").write_text(text)
    for name in ("passwd", "group", "hosts", "localtime", "ld.so.cache"):
        if Path("/etc", name).exists():
            (etc / name).write_bytes(Path("/etc", name).read_bytes())
    script = f'mount --bind {etc} /etc && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    return subprocess.run(
        [*command, sys.executable, "-m", "ckptrun", *words],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_nobody_exceeds_the_limits_of_a_site(ckptrun: Ckptrun) -> None:
    """A larger value is cut and that is said with the place; a smaller one stands; the default for no progress stays."""
    text = "margin: 7s\nlimits:\n  max-links: 9\n  retries: 2\n  max-time: 1h\n"
    done = in_a_world_with(
        *(ckptrun.folder, text, "--max-links", "30", "--retries", "1", "--time-limit", "1m", "--dry-run", "true"),
        environment=ckptrun.environment,
    )
    assert (
        "--max-links 30 (the command line) is above this site's limit: 9 counts (/etc/ckptrun/config.yaml, line 3)" in done.stderr
    )
    assert "--max-links 9" in done.stdout and "60 min in all" in done.stdout.replace("1 h in all", "60 min in all")
    assert "retries" not in done.stderr and "7 s" in done.stdout


@pytest.mark.parametrize(
    ("wanted", "most", "sees", "bound"), [(None, 9, True, 9), (None, 9, False, 5), (30, 9, True, 9), (3, 9, True, 3)]
)
def test_the_bound_under_a_limit(wanted: int | None, most: int, sees: bool, bound: int) -> None:
    """The default is the least of its own and the site's."""
    assert options.to_plan({"max_links": wanted, "most_links": most}, ("true",)).bound(sees_progress=sees) == bound


# --- the schema says what the reader says

SCHEMA = json.loads((ROOT / "docs/reference/configuration.schema.json").read_text())
_WORDS = [option.word for option in options.CONFIGURABLE]
_SCALARS = st.one_of(
    st.booleans(),
    st.integers(-2, 300),
    st.sampled_from(
        ["auto", "resubmit", "start", "5m", "0s", "1h30m", "12:00:00", "1-06", "0:00", "5", ".5h", "USR1", "USR1@120", "KILL"]
    ),
    st.sampled_from(["ck", "~/ck", "$HOME/ck", "a b", ".", "a/b", "", "x" * 65, "-", "5 m", "1:2:3:4", "1-2:3:4:5", "m", "é"]),
)


@given(st.sampled_from(_WORDS), st.one_of(_SCALARS, st.lists(_SCALARS, max_size=2), st.none()))
def test_the_schema_and_the_reader_agree(word: str, value: Any) -> None:
    """What an editor marks is what ckptrun refuses; what needs a signal's name or a task's number is ckptrun's alone."""
    told = config_file.parse(yaml.safe_dump({word: value}), "/c.yaml").mistakes
    valid = jsonschema.Draft202012Validator(SCHEMA).is_valid({word: value})
    if word == "signal" and valid:
        return
    assert valid == (not told), told


def test_the_schema_knows_every_key() -> None:
    """No more and no fewer than the reader."""
    assert set(SCHEMA["properties"]) == {*_WORDS, "limits"}
    assert set(SCHEMA["properties"]["limits"]["properties"]) == {option.word for option in options.LIMITED}


def test_every_option_can_stand_in_a_file(tmp_path: Path) -> None:
    """Read from a file, an option has the value that it has on the command line."""
    examples = {"PATH": "ck", "TEXT": "--resume", "NAME|auto": "USR1@90", "DURATION|auto": "5m", "DURATION": "12:00:00", "N": "3"}
    examples |= {"CODE": "85", "NAME": "a-chain"}
    for option in options.CONFIGURABLE:
        text = "true" if option.value is None else examples.get(option.value, option.value.split("|")[0])
        found = config_file.parse(f"{option.word}: {text}", "/c.yaml")
        words = [option.name] if option.value is None else [option.name, text]
        assert found.mistakes == () and found.settings[0].value == options.read(words).given[0].value


def test_reading_words_raises_every_mistake() -> None:
    """Without a list to add them to."""
    with pytest.raises(UsageError) as raised:
        options.read(["--margin", "5", "--nothing"])
    assert len(raised.value.mistakes) == 2
