"""`ckptrun template` as people type it: what is printed, what is written, and what is never overwritten."""

from __future__ import annotations

import json
import os
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
    if not (TEMPLATE_FOLDER / name / "train.py").exists() and TEMPLATES[name].program:
        pytest.fail(f"slurm-templates/{name} has no program")
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
        (["new"], "Missing argument"),
        (["shwo"], "shwo"),
    ],
)
def test_mistakes_end_with_2(ckptrun: Ckptrun, words: list[str], why: str) -> None:
    """A sentence that names the mistake, exit code 2, no traceback, and nothing is written."""
    done = ckptrun.run("template", *words, code=2)
    assert why in done.stderr and "Traceback" not in done.stderr
    assert files(ckptrun.folder) == {}
