"""What the docs claim: generated pages are up to date, links are alive, options are documented, examples run."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ckptrun.cli.chain import chain
from ckptrun.cli.options import OPTIONS, SUBCOMMANDS
from ckptrun.plan import Plan
from ckptrun.slurm import sbatch_options
from tests.end_to_end.harness import Ckptrun
from tests.end_to_end.jobs import Jobs

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "slurm-templates" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def generator():  # type: ignore[no-untyped-def]
    """Return docs/generate.py as a module."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", list(generator().PAGES))
def test_generated_pages_are_up_to_date(name: str) -> None:
    """The page in the repository is what the code says; else run `python docs/generate.py`."""
    assert (ROOT / "docs" / name).read_text() == generator().PAGES[name](), "run python docs/generate.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_are_alive(page: Path) -> None:
    """Every relative link leads to a file."""
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_linked_from_the_first_one() -> None:
    """Who reads the README finds each."""
    readme = (ROOT / "README.md").read_text()
    assert [page.name for page in (ROOT / "docs").rglob("*.md") if f"]({page.relative_to(ROOT)})" not in readme] == []


def test_every_option_and_subcommand_is_documented() -> None:
    """Each option has a line in the reference, each subcommand a word in the docs, each field of the plan an option."""
    reference = (ROOT / "docs" / "reference" / "options.md").read_text()
    assert all(f"`{option.name}" in reference or f", {option.name}" in reference for option in OPTIONS)
    everything = "".join(page.read_text() for page in PAGES)
    assert all(f"ckptrun {name}" in everything or name == "run" for name in SUBCOMMANDS)
    assert len(Plan._fields) > 10


def test_readme_options_exist() -> None:
    """No page names an option that there is not."""
    known = {option.name for option in OPTIONS} | {
        "--version",
        "--json",
        "--quiet",
        "--editable",
        "--write",
        "--full",
        "--nproc-per-node",
        "--fix",
    }
    known |= {option for command in chain.commands.values() for param in command.params for option in param.opts}
    known |= {
        "--site",
        "--set",
        "--force",
        "--steps",
        "--nv",
        "--container-image",
        "--resume",
        "--system-site-packages",
        "--user",
        "--data",
    }
    sbatch = {f"--{option.name}" for option in sbatch_options.OPTIONS}
    for page in PAGES:
        for name in re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", page.read_text()):
            assert name in known | sbatch, f"{page.name}: {name}"


def test_the_tutorial_runs(ckptrun: Ckptrun) -> None:
    """The tutorial's files and commands, as they stand there, in order."""
    text = (ROOT / "docs" / "tutorial" / "first-chain.md").read_text()
    for name, body in re.findall(r"```python file=(\S+)\n(.*?)```", text, re.DOTALL):
        (ckptrun.folder / name).write_text(body)
    outputs = []
    for line in re.findall(r"```bash run\n(.*?)\n```", text, re.DOTALL):
        words = [sys.executable if word == "python" else word for word in shlex.split(line)]
        assert words[0] == "ckptrun"
        done = ckptrun.run(*words[1:], code=0)
        outputs.append(done.stdout + done.stderr)
    assert re.findall(r"^step (\d+)$", outputs[0], re.MULTILINE)[-1] == "20"
    assert "complete" in outputs[1]


def answers(text: str) -> list[str]:
    """Return the answers of a rehearsal without what differs from run to run: times, numbers, names."""
    found = re.findall(r"^ *ckptrun: ((?:heard|saved|resumed): .*)$", text, re.MULTILINE)
    plain = [re.sub(r"python[\d.]* catches", "python catches", line).replace("checkpoints", "ck") for line in found]
    return [re.sub(r"\d+", "N", re.sub(r"[\d.]+ (ms|s)\b", "N s", line)) for line in plain]


def test_the_rehearsal_runs(ckptrun: Ckptrun) -> None:
    """The training and the command of the how-to: its answers are those that it shows, and those of the README."""
    text = (ROOT / "docs" / "how-to" / "rehearse.md").read_text()
    for name, body in re.findall(r"```python file=(\S+)\n(.*?)```", text, re.DOTALL):
        (ckptrun.folder / name).write_text(body)
    (line,) = re.findall(r"```bash run\n(.*?)\n```", text, re.DOTALL)
    words = [sys.executable if word == "python" else word for word in shlex.split(line)]
    found = answers(ckptrun.run(*words[1:], code=0).stderr)
    assert found == answers(text) == answers((ROOT / "README.md").read_text())[:3]


def comparable(log: str) -> str:
    """Return a log without what differs from run to run: numbers, and what a busy machine says in other words."""
    log = re.sub(r", saved [^)]*\)", ", saved)", log).replace(
        "no further save fits before the time limit", "the time limit is near"
    )
    return re.sub(r"\d[\d.]*", "N", log)


def test_the_tutorial_on_a_cluster_runs(jobs: Jobs) -> None:
    """The second tutorial's files and commands on a real Slurm, to the second link and to the end."""
    text = (ROOT / "docs" / "tutorial" / "first-job-chain.md").read_text()
    for name, body in re.findall(r"```(?:python|bash) file=(\S+)\n(.*?)```", text, re.DOTALL):
        jobs.run("tee", jobs.folder / name, input=body)
    submit, show = re.findall(r"```bash run\n(.*?)\n```", text, re.DOTALL)
    jobs.run(*shlex.split(submit))
    jobs.until_event("started", 2)
    outcomes = jobs.until_over()
    assert outcomes == ["continued"] * (len(outcomes) - 1) + ["complete"] and len(outcomes) >= 2
    steps = jobs.steps()
    # Ended right after a save, it may not come to the line that says so.
    assert steps == sorted(set(steps)) and steps[-1] == 80 and len(steps) > 80 - len(outcomes), steps
    shown = jobs.run(*shlex.split(show))
    assert "The chain is complete" in shown and jobs.jobs()[1] in shown
    log, quoted = comparable(jobs.log()), re.findall(r"^    (ckptrun: .*?)(?: \.\.\.)?$", text, re.MULTILINE)
    assert len(quoted) == 4 and all(comparable(line) in log for line in quoted), log


def test_the_tutorial_from_a_template_runs(jobs: Jobs) -> None:
    """The third tutorial is a transcript: on a real Slurm its commands say what it shows, but for numbers; the chain completes."""
    text = (ROOT / "docs" / "tutorial" / "from-a-template.md").read_text()
    exports = ""
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for command, shown in re.findall(r"^\$ (.*)\n((?:[^$].*\n|\n)*)", block, re.MULTILINE):
            said = jobs.run("bash", "-c", f"{exports}{command}")
            assert re.sub(r"\d+", "N", said) == re.sub(r"\d+", "N", shown)
            exports += f"{command}\n" if command.startswith("export ") else ""
    assert set(jobs.until_over(limit_s=400)[:-1]) <= {"continued"} and jobs.outcomes()[-1] == "complete", jobs.story()
    for line in re.findall(r"^    (ckptrun: link|done:|from step)", text, re.MULTILINE):
        assert re.search(f"^{line}", jobs.log(), re.MULTILINE)
    assert re.findall(r"^done: .*$", text.replace("    ", ""), re.MULTILINE)[0] in jobs.log()
    (show,) = re.findall(r"```console last\n\$ (.*)\n```", text)
    assert "complete" in jobs.run(*shlex.split(show))


def test_the_demo_shows_at_least_three_links(ckptrun: Ckptrun) -> None:
    """`ckptrun demo` chains a real training over three links and ends with `chain show`."""
    done = ckptrun.run("demo", code=0)
    assert "The chain is complete" in done.stdout
    *before, last = ckptrun.outcomes()
    assert (len(before) >= 2, set(before), last) == (True, {"continued"}, "complete")


def test_the_training_of_the_demo_may_find_nothing_left_to_do(tmp_path: Path) -> None:
    """Stopped after its last save, on its way out, it is started again behind its last step: it is done, and says so."""
    (tmp_path / "step-0240.json").write_text(json.dumps({"step": 240, "weights": [0.5] * 13, "loss": 0.25}))
    command = [sys.executable, str(ROOT / "ckptrun" / "demo" / "training.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split("training: ")[1:] == ["from step 240\n    ", "done, XOR is learned (loss 0.2500)\n"]


def test_chain_list_and_show(ckptrun: Ckptrun) -> None:
    """For people in plain text, for programs as JSON with a schema; the newest chain of this directory without a name."""
    assert "no chain yet" in ckptrun.run("chain", "list", code=0).stdout
    ckptrun.run("--chain", "first", "--", "false", code=1)
    ckptrun.run("--chain", "second", "--", "true", code=0)
    listed = ckptrun.run("chain", "list", code=0).stdout.splitlines()
    assert [line.split()[:2] for line in listed] == [["CHAIN", "STATE"], ["second", "complete"], ["first", "failed"]]
    shown = ckptrun.run("chain", "show", "fir", code=0).stdout
    assert "failed" in shown and "the same command again" in shown
    assert max(len(line) for line in shown.splitlines() if str(ckptrun.folder) not in line) <= 100
    assert ckptrun.show()["id"] == "second"
    assert ckptrun.show("first")["links"][0]["exit_code"] == 1


def test_the_house_names_every_module() -> None:
    """Who reads the plan of the house finds each module on it, `formats/` as one."""
    plan = (ROOT / "docs" / "explanation" / "house.md").read_text()
    modules = [
        path
        for path in (ROOT / "ckptrun").rglob("*.py")
        if path.parent.name != "formats" and path.stem not in ("__init__", "training")
    ]
    missing = [path.name for path in modules if path.name not in plan and path.parent.name != "cli"]
    assert not missing, f"docs/explanation/house.md does not name {missing}"


def test_the_check_of_a_script_runs(ckptrun: Ckptrun) -> None:
    """The script and the command of the how-to say what stands there, but for the time limit of this machine's Slurm."""
    text = (ROOT / "docs" / "how-to" / "check-a-script.md").read_text()
    ((name, body),) = re.findall(r"```bash file=(\S+)\n(.*?)```", text, re.DOTALL)
    (ckptrun.folder / name).write_text(body)
    (line,) = re.findall(r"```bash run\n(.*?)\n```", text, re.DOTALL)
    (said,) = re.findall(r"```text said\n(.*?)```", text, re.DOTALL)
    ckptrun.environment["PATH"] = str(ckptrun.folder)
    assert ckptrun.run(*shlex.split(line)[1:], code=1).stdout == said
    assert "Submit it: ckptrun sbatch job.fixed.sh" in ckptrun.run("doctor", "--fix", name, code=1).stdout
    assert "a chain will work. Submit it" in ckptrun.run("doctor", "job.fixed.sh", code=0).stdout


def test_the_manual_page_is_one(tmp_path: Path) -> None:
    """It names every subcommand and every option of `run`, as `--help` does; what would be a request of roff is none."""
    lines = (ROOT / "docs" / "man" / "ckptrun.1").read_text().splitlines()
    requests = {line.split()[0] for line in lines if line.startswith((".", "'"))}
    assert requests <= {".TH", ".SH", ".SS", ".PP", ".TP", ".nf", ".fi"}
    text = "\n".join(lines).replace("\\-", "-")
    assert all(f".SH {name.upper()}" in text for name in SUBCOMMANDS)
    assert all(option.name in text for option in OPTIONS if option.name != "--help")
