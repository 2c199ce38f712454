"""`ckptrun template` as people type it: what is printed, what is written, and what is never overwritten."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from ckptrun import sites
from ckptrun.templates.catalogue import TEMPLATES
from tests.end_to_end.harness import Ckptrun

TEMPLATE_FOLDER = Path(__file__).parents[2] / "slurm-templates"


def files(folder: Path) -> dict[str, str]:
    """Return what stands in a folder, hidden files too."""
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_list(ckptrun: Ckptrun) -> None:
    """One line for each template and each site; the same as JSON."""
    lines = ckptrun.run("template", "list", code=0).stdout.splitlines()
    assert [line.split()[0] for line in lines if line and not line.startswith("Sites")] == [*TEMPLATES, *sites.names()]
    found = json.loads(ckptrun.run("template", "list", "--json", code=0).stdout)
    assert found["schema"] == "ckptrun/1" and [one["name"] for one in found["data"]["templates"]] == list(TEMPLATES)


@pytest.mark.parametrize("name", TEMPLATES)
def test_new_writes_what_stands_in_the_folder(ckptrun: Ckptrun, name: str) -> None:
    """Without settings `new` writes the very files of slurm-templates; `show` shows the script and documents every setting."""
    assert (TEMPLATE_FOLDER / name / "train.py").exists() == TEMPLATES[name].program
    done = ckptrun.run("template", "new", name, code=0)
    assert done.stdout.splitlines()[-1] == "ckptrun: next: sbatch job.sh"
    assert files(ckptrun.folder) == files(TEMPLATE_FOLDER / name)
    assert os.access(ckptrun.folder / "job.sh", os.X_OK)
    shown = ckptrun.run("template", "show", name, code=0).stdout
    assert (TEMPLATE_FOLDER / name / "job.sh").read_text() in shown


def test_new_for_a_site(ckptrun: Ckptrun) -> None:
    """The example of the reference: partition, container and image are those of the site, the number of GPUs is set."""
    words = ("template", "new", "pytorch", "--site", "ai-lab", "--set", "gpus=2", "-o", "job.sh")
    assert "service windows" in ckptrun.run(*words, code=0).stdout
    script = (ckptrun.folder / "job.sh").read_text()
    assert "#SBATCH --partition=l4\n" in script and "#SBATCH --gres=gpu:2\n" in script
    assert "    singularity exec --nv /ceph/container/pytorch/pytorch_24.09.sif \\\n" in script


def test_nothing_is_overwritten(ckptrun: Ckptrun) -> None:
    """Where one of the two files stands, neither is written; --force replaces both; a program of one's own is never touched."""
    (ckptrun.folder / "train.py").write_text("mine\n")
    refused = ckptrun.run("template", "new", "pickle", code=2)
    assert "train.py stands there already: --force" in refused.stderr and files(ckptrun.folder) == {"train.py": "mine\n"}
    ckptrun.run("template", "new", "pickle", "--set", "program=train.py", code=0)
    assert files(ckptrun.folder)["train.py"] == "mine\n"
    ckptrun.run("template", "new", "pickle", "--force", code=0)
    assert "mine\n" not in files(ckptrun.folder).values()


def test_next_command_fits_the_name(ckptrun: Ckptrun) -> None:
    """A folder, blanks and a dash in the name: what is said to be typed next is quoted, and is the way to the script."""
    (ckptrun.folder / "a b").mkdir()
    done = ckptrun.run("template", "new", "command", "-o", "a b/-job;x.sh", code=0)
    assert done.stdout.splitlines()[-1] == "ckptrun: next: cd 'a b' && sbatch './-job;x.sh'"
    assert (ckptrun.folder / "a b" / "-job;x.sh").exists()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["new", "pytroch"], "did you mean pytorch?"),
        (["new", "pytorch", "--site", "ai-lap"], "did you mean ai-lab?"),
        (["new", "pytorch", "--set", "gpu=1"], "did you mean gpus?"),
        (["new", "pytorch", "--set", "gpus"], "write KEY=VALUE"),
        (["new", "pytorch", "--set", "gpus=1", "--set", "gpus=2"], "stands there twice"),
        (["new", "pytorch", "-o", "missing/job.sh"], "no such folder"),
        (["new", "pytorch", "-o", "."], "is a folder"),
        (["new", "pytorch", "-o", "train.py"], "both the job script and the program"),
        (["new", "pytorch", "--set", "job-name=a\nb"], "--set job-name:"),
        (["new", "pytorch", "-o", ""], "name a file"),
        (["new", "pytorch", "-o", "-"], "`template show` prints the script"),
        (["new", "pytorch", "-o", "a\nb.sh"], "-o 'a\\nb.sh': a line end"),
        (["new", "pytorch", "-o", "/dev/null", "--force"], "/dev/null is no file"),
        (["new", "pytorch", "-o", "/proc/job.sh"], "/proc/job.sh cannot be written"),
        (["new", "pytorch", "-o", "x" * 300], "File name too long"),
        (["new"], "Missing argument"),
        (["shwo"], "shwo"),
    ],
)
def test_mistakes_end_with_2(ckptrun: Ckptrun, words: list[str], why: str) -> None:
    """One sentence that names the mistake, exit code 2, no traceback, and nothing is written."""
    done = ckptrun.run("template", *words, code=2)
    assert why in done.stderr and "Traceback" not in done.stderr and done.stderr.count("\n") == 1
    assert files(ckptrun.folder) == {}


def test_a_folder_that_cannot_be_written_to(ckptrun: Ckptrun) -> None:
    """A read-only file system: one sentence with the path and the reason, exit code 2."""
    script = 'mount --bind . . && mount -o remount,bind,ro . && cd "$PWD" && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    words = [*command, *map(str, ckptrun.argv("template", "new", "pickle"))]
    done = subprocess.run(words, cwd=ckptrun.folder, env=ckptrun.environment, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (2, "ckptrun: job.sh cannot be written: Read-only file system\n")


def test_a_broken_profile_keeps_no_other_from_being_listed(ckptrun: Ckptrun) -> None:
    """The list is printed, what is wrong is told with file and line, exit code 2."""
    folder = Path(ckptrun.environment["XDG_CONFIG_HOME"]) / "ckptrun" / "sites"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("# mine\ngpu: [")
    done = ckptrun.run("template", "list", "--json", code=2)
    assert [one["name"] for one in json.loads(done.stdout)["data"]["sites"]] == ["ai-lab", "generic"]
    assert done.stderr.startswith(f"ckptrun: {folder}/mine.yaml:2: this is no YAML")


def test_what_is_not_there_yet_is_said(ckptrun: Ckptrun) -> None:
    """The folder of the logs, without which a job fails and says nothing, and a program of one's own: warnings, exit code 0."""
    given = ("--set", "output=my logs/%x_%j.out", "--set", "program=mine.py")
    said = ckptrun.run("template", "new", "pickle", *given, code=0).stderr.splitlines()
    assert ["'my logs', the folder of the logs, is not there" in said[0], "mine.py, the program, is not there yet" in said[1]] == [
        True,
        True,
    ]
    (ckptrun.folder / "my logs").mkdir()
    (ckptrun.folder / "mine.py").touch()
    assert ckptrun.run("template", "new", "pickle", *given, "--force", code=0).stderr == ""
