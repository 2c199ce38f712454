"""`ckptrun doctor` as a person runs it: what it prints, as JSON too, what it writes, its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.harness import Ckptrun

WRONG = "#!/bin/bash\n#SBATCH --time=5\nckptrun --checkpoint ck python train.py\n"


@pytest.fixture
def alone(ckptrun: Ckptrun) -> Ckptrun:
    """A machine without Slurm's commands."""
    ckptrun.environment["PATH"] = str(ckptrun.folder)
    return ckptrun


def data(ckptrun: Ckptrun, *words: str, code: int) -> dict[str, Any]:
    """Return what `doctor --json` says."""
    said = json.loads(ckptrun.run("doctor", "--json", *words, code=code).stdout)
    assert said["schema"] == "ckptrun/1"
    found: dict[str, Any] = said["data"]
    return found


def test_a_wrong_script(alone: Ckptrun) -> None:
    """Exit code 1, the line and its correction, for people and for programs."""
    (alone.folder / "job.sh").write_text(WRONG)
    said = alone.run("doctor", "job.sh", code=1).stdout
    assert said.startswith("job.sh:3: error: no exec: ")
    assert "    write: exec ckptrun --checkpoint ck python train.py\n" in said
    (row,) = data(alone, "job.sh", code=1)["findings"]
    assert (row["rule"], row["line"], row["severity"]) == ("no-exec", 3, "error")
    assert row["corrected"] == ["exec ckptrun --checkpoint ck python train.py"]


def test_a_training_program(alone: Ckptrun) -> None:
    """Its findings are warnings; `--rehearse` is the proof."""
    (alone.folder / "train.py").write_text("import torch\ntorch.save(1, 'last.pt')\n")
    said = alone.run("doctor", "train.py", code=0).stdout
    assert said.startswith("train.py:2: warning: torch.save writes over the only copy") and "do: with ckptrun.atomic_path" in said
    assert "`ckptrun --rehearse 30s python train.py` is the proof" in said
    assert data(alone, "train.py", code=0)["findings"][0]["rule"] == "save-in-place"
    (alone.folder / "job.py").write_text("#!/usr/bin/env python3\n#SBATCH --time=5\nprint(1)\n")
    assert "a chain will work" in alone.run("doctor", "job.py", code=0).stdout


def test_a_warning_alone_is_no_failure(alone: Ckptrun) -> None:
    """A chain works without `--time`; it is said, and the exit code is 0."""
    (alone.folder / "job.sh").write_text("#!/bin/bash\nexec ckptrun --checkpoint ck python train.py\n")
    said = alone.run("doctor", "job.sh", code=0).stdout
    assert "job.sh:1: warning: no --time" in said and "a chain will work as it is. Submit it: sbatch job.sh" in said


def test_nothing_is_overwritten(alone: Ckptrun) -> None:
    """The script stays as it is, byte for byte, and so does what stands under the name of the corrected one; its mode is kept."""
    path = alone.folder / "a job;.sh"
    content = WRONG.encode() + b"# \xff\r\n"
    path.write_bytes(content)
    path.chmod(0o750)
    (alone.folder / "a job;.fixed.sh").write_text("mine")
    told = data(alone, "--fix", "a job;.sh", code=1)
    assert told["fixed"] == "a job;.fixed2.sh" and told["submit"] == "sbatch 'a job;.fixed2.sh'"
    assert path.read_bytes() == content and (alone.folder / "a job;.fixed.sh").read_text() == "mine"
    written = alone.folder / told["fixed"]
    assert b"exec ckptrun" in written.read_bytes() and b"\xff\n" in written.read_bytes()
    assert written.stat().st_mode & 0o777 == 0o750 & ~_umask()
    assert data(alone, "--fix", "a job;.fixed2.sh", code=0)["fixed"] is None


def _umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def test_what_fix_cannot_correct_is_named(alone: Ckptrun) -> None:
    """A mistake that has no corrected line stands in the copy, too: nobody is told to submit it as it is."""
    for options, said in (
        ("--checkpoint 'ck/*.pt' ", "but for what only you can correct (line 2 of job.sh). Then: sbatch"),
        ("", "script. Submit it: sbatch"),
    ):
        (alone.folder / "job.sh").write_text(f"#!/bin/bash\nckptrun {options}python train.py\n")
        assert said in alone.run("doctor", "--fix", "job.sh", code=1).stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["missing.sh"], "missing.sh: No such file or directory: name the job script"),
        (["."], "Is a directory"),
        (["/dev/zero"], "/dev/zero is larger than 4 MiB"),
        (["--fix", "/proc/self/environ.sh"], "No such file"),
        (["--fix"], "--fix is about a script"),
        (["--site", "ai-lab"], "--site NAME is about a script"),
        (["--site", "ai-lap", "job.sh"], "did you mean ai-lab"),
        (["--nothing"], "--nothing"),
    ],
)
def test_bad_input(alone: Ckptrun, words: list[str], sentence: str) -> None:
    """One sentence, exit code 2."""
    (alone.folder / "job.sh").write_text(WRONG)
    done = alone.run("doctor", *words, code=2)
    assert sentence in done.stderr and "Traceback" not in done.stderr


def test_a_script_whose_name_begins_with_a_dash(alone: Ckptrun) -> None:
    """What is said to be typed next must not be read as an option."""
    (alone.folder / "-job.sh").write_text(WRONG)
    assert data(alone, "--fix", "--", "-job.sh", code=1)["submit"] == "sbatch ./-job.fixed.sh"


def test_a_folder_that_cannot_be_written_to(alone: Ckptrun) -> None:
    """The corrected script has no place there: one sentence, exit code 2."""
    (alone.folder / "job.sh").write_text(WRONG)
    script = '/usr/bin/mount --bind . . && /usr/bin/mount -o remount,bind,ro . && cd "$PWD" && exec "$@"'
    command = ["/usr/bin/unshare", "--user", "--map-root-user", "--mount", "/bin/sh", "-c", script, "sh"]
    words = [*command, *map(str, alone.argv("doctor", "--fix", "job.sh"))]
    done = subprocess.run(words, cwd=alone.folder, env=alone.environment, capture_output=True, text=True, timeout=240)
    told = "ckptrun: job.fixed.sh cannot be written: Read-only file system: copy the script to a folder of yours\n"
    assert (done.returncode, done.stderr) == (2, told)


def test_a_script_of_many_lines(alone: Ckptrun) -> None:
    """The line of a finding far down is the right one."""
    (alone.folder / "job.sh").write_text("#!/bin/bash\n#SBATCH --time=5\n" + "echo x\n" * 2_000 + "ckptrun true\n")
    assert data(alone, "job.sh", code=1)["findings"][0]["line"] == 2_003


def test_without_slurm(alone: Ckptrun) -> None:
    """That is said, and the rest is looked at: the state folder, the installation, the options."""
    said = alone.run("doctor", code=0).stdout
    assert "ok Slurm: no Slurm here" in said
    assert f"{alone.home} can be written" in said and "exclusive create, link(), rename() and fsync() work in it" in said
    assert "ok Python: " in said and "a start takes" in said
    assert "every option has its default" in said and said.endswith("a chain will work here\n")
    assert sorted(path.name for path in alone.home.iterdir()) == ["chains", "commands", "paths"]


def test_where_each_option_comes_from(alone: Ckptrun) -> None:
    """The value as it was written, its source with the line; what stands nowhere has its default."""
    path = Path(alone.environment["XDG_CONFIG_HOME"]) / "ckptrun" / "config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("# mine\nmargin: 5m\nmax-links: 7\n")
    alone.environment["CKPTRUN_OPTIONS"] = "--max-links 9 --checkpoint a --checkpoint b"
    rows = {(row["option"], row["text"]): row["source"] for row in data(alone, code=0)["options"]}
    assert rows[("margin", "5m")] == f"{path}, line 2"
    assert rows[("max-links", "9")] == rows[("checkpoint", "a")] == rows[("checkpoint", "b")] == "CKPTRUN_OPTIONS"
    assert rows[("retries", "0")] == "the default"
    said = alone.run("doctor", code=0).stdout
    assert f"--margin 5m  ({path}, line 2)" in said and "--retries" not in said


def test_mistakes_in_the_options_keep_a_chain_from_working(alone: Ckptrun) -> None:
    """All of them are told, and the exit code says so."""
    alone.environment["CKPTRUN_OPTIONS"] = "--margin 5 --nothing"
    said = alone.run("doctor", code=1).stdout
    assert said.count("no option: CKPTRUN_OPTIONS: ") == 2 and "a chain would not work here" in said
    alone.environment["CKPTRUN_OPTIONS"] = "--again-exit 0"
    assert "use --done-file" in alone.run("doctor", code=1).stdout


def test_a_state_folder_that_cannot_be_used(alone: Ckptrun) -> None:
    """What is wrong with it, and the variable to set."""
    alone.environment["CKPTRUN_HOME"] = "/proc/nowhere"
    said = alone.run("doctor", code=1).stdout
    assert "no place: " in said and "Set CKPTRUN_HOME" in said


@pytest.mark.parametrize(
    ("options", "exit_code", "said"),
    [
        ("size=2m", 0, "!! room: 2 MB are free"),
        ("nr_inodes=7", 1, "no room: no file can be made any more in"),
    ],
)
def test_a_state_folder_without_room(alone: Ckptrun, options: str, exit_code: int, said: str) -> None:
    """A file system with next to no room is a warning; one that takes no file any more keeps a chain from working."""
    alone.home.mkdir()
    fill = 'i=0; while true > "$CKPTRUN_HOME/file-$i"; do i=$((i + 1)); done 2>/dev/null' if "inodes" in options else "true"
    script = f'/usr/bin/mount -t tmpfs -o {options} none "$CKPTRUN_HOME" && {{ "$@" >/dev/null; {fill}; exec "$@"; }}'
    command = [
        "/usr/bin/unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "/bin/sh",
        "-c",
        script,
        "sh",
        *map(str, alone.argv("doctor")),
    ]
    done = subprocess.run(command, env=alone.environment, cwd=alone.folder, capture_output=True, text=True, timeout=240)
    assert (done.returncode, said in done.stdout) == (exit_code, True), done.stdout + done.stderr


def test_a_controller_that_does_not_answer(alone: Ckptrun) -> None:
    """Slurm's commands are there and fail: said, exit code 1."""
    for name in ("scontrol", "sbatch", "squeue", "scancel"):
        (alone.folder / name).write_text("#!/bin/sh\nexit 1\n")
        (alone.folder / name).chmod(0o755)
    assert "the controller does not answer" in alone.run("doctor", code=1).stdout
