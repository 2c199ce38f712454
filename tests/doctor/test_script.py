"""The checks of job scripts: each mistake at its line, no false alarm, and a corrected script that has nothing left to correct."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckptrun.cli.doctor import of_site, world_of
from ckptrun.doctor.findings import Finding
from ckptrun.doctor.judge import ABOUT, fixed, judge, works
from ckptrun.doctor.script import Limits
from ckptrun.templates.render import job_script
from tests.doctor.corpus import RIGHT, WRONG
from tests.templates.variants import variants

ROOT = Path(__file__).parents[2]
AI_LAB = of_site("ai-lab", Limits())


def judged(text: str, folder: Path, limits: Limits = AI_LAB) -> tuple[Finding, ...]:
    """Return what is found in a script called job.sh that would be submitted from this folder."""
    return judge(text, world_of(text, "job.sh", str(folder), limits))


def corrected(text: str, folder: Path) -> str:
    """Return the corrected script."""
    return fixed(text, lambda now: world_of(now, "job.sh", str(folder), AI_LAB))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder to submit from."""
    (tmp_path / "logs").mkdir()
    return tmp_path


def test_the_corpus_is_large_enough() -> None:
    """At least forty mistakes and twenty right scripts, and every rule has a script."""
    assert len(WRONG) >= 40 and len(RIGHT) >= 20
    assert {wrong.rule for wrong in WRONG.values()} | {"two-chains"} == set(ABOUT)


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_found_at_its_line(name: str, here: Path) -> None:
    """By its rule, in the line where it stands, once; a line that corrects it is told."""
    wrong = WRONG[name]
    found = judged(wrong.text, here)
    line = next(number for number, text in enumerate(wrong.text.split("\n"), 1) if wrong.at in text)
    assert [(one.rule, one.line) for one in found if one.rule == wrong.rule] == [(wrong.rule, line)], found
    assert all(one.edits or one.advice for one in found)
    # Beside it only what belongs to it: the body of a trap's handler.
    assert {one.rule for one in found} <= {wrong.rule, "own-submission"}, found


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_script_has_no_mistake(name: str, here: Path) -> None:
    """No error and no warning."""
    assert judged(RIGHT[name], here) == ()


@pytest.mark.parametrize("name", WRONG)
def test_a_corrected_script_has_none(name: str, here: Path) -> None:
    """Nothing is left to be found, bash can read it, and what was right stays as it was."""
    before = WRONG[name].text
    after = corrected(before, here)
    assert judged(after, here) == (), after
    assert subprocess.run(["bash", "-n"], input=after, text=True, capture_output=True).stderr == ""
    assert corrected(after, here) == after
    kept = [line for line in before.replace("\r", "").split("\n") if line.startswith("#SBATCH --job-name")]
    assert all(line.split(" --output")[0] in after for line in kept)


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_script_is_left_alone(name: str, here: Path) -> None:
    """Byte for byte."""
    assert corrected(RIGHT[name], here) == RIGHT[name]


def scripts_of_this_project() -> dict[str, str]:
    """Return the job scripts that stand in the documentation and among the templates."""
    found: dict[str, str] = {}
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = page.read_text()
        blocks = re.findall(r"```(?:bash)?[^\n]*\n(.*?)```", text, re.DOTALL)
        blocks += [re.sub("^    ", "", block, flags=re.MULTILINE) for block in re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)]
        for number, block in enumerate(block for block in blocks if block.startswith("#!") and "#SBATCH" in block):
            if "<!-- wrong -->" not in text:
                found[f"{page.name} {number}"] = block
    templates = sorted((ROOT / "slurm-templates").rglob("*.sh"))
    return found | {path.name: path.read_text() for path in templates}


@pytest.mark.parametrize("name", scripts_of_this_project())
def test_what_this_project_recommends_is_right(name: str, here: Path) -> None:
    """The job scripts of the documentation have no mistake."""
    assert [one for one in judged(scripts_of_this_project()[name], here, Limits()) if one.rule not in ("log-folder",)] == []


def test_every_variant_of_a_template_is_right(here: Path) -> None:
    """Each template, on each site, in each container, environment and array: no mistake by the site's own limits."""
    limits = {name: of_site(name, Limits()) for name in ("generic", "ai-lab")}
    for name, job in variants():
        assert judged(job_script(job), here, limits[job.site.name]) == (), name


def test_the_script_of_a_users_life(here: Path) -> None:
    """Every mistake of one script at once, each at its line; corrected, it is right."""
    text = "\n".join(  # noqa: FLY002
        [
            "#!/bin/bash",
            "#SBATCH --job-name=myjob",
            "#SBATCH --output=my_job.out",
            "#SBATCH --gres=gpu:8",
            "#SBATCH --dependency=singleton",
            "restarts=$(scontrol show job $SLURM_JOB_ID | grep -o 'Restarts=[0-9]*' | cut -d= -f2)",
            "if [ $restarts -gt ]; then",
            "    RESUME=--resume",
            "fi",
            "trap 'touch checkpoint_now' USR1",
            "trap 'scontrol requeue $SLURM_JOB_ID' TERM",
            'srun singularity exec --nv image.sif bash -lc "source venv/bin/activate; python train.py $RESUME" | tee train.log',
            "",
        ]
    )
    found = [(one.line, one.rule) for one in judged(text, here)]
    assert found == [
        (3, "fixed-log"),
        (4, "over-gpus"),
        (5, "no-time"),
        (5, "singleton"),
        (6, "restart-count"),
        (7, "comparison"),
        (10, "trap-foreground"),
        (11, "trap-resubmits"),
        (12, "shell-text"),
        (12, "tee"),
    ]
    typed_elsewhere = text.replace("\n", "\r\n")
    assert [(one.line, one.rule) for one in judged(typed_elsewhere, here)] == [(1, "crlf"), *found]
    assert corrected(typed_elsewhere, here) == corrected(text, here)
    after = corrected(text, here)
    assert judged(after, here) == ()
    assert "#SBATCH --time=12:00:00" in after and "exec python train.py $RESUME" in after and "tee" not in after


RESTARTS = {
    '[ "$SLURM_RESTART_COUNT" != "" ]': '[ "$(ls -A ck 2>/dev/null)" != "" ]',
    "[[ -n $SLURM_RESTART_COUNT ]]": "[[ -n $(ls -A ck 2>/dev/null) ]]",
    "[ ${SLURM_RESTART_COUNT:-0} -ge 1 ]": "[ $(ls -A ck 2>/dev/null | wc -l) -ge 1 ]",
    "[ ${SLURM_RESTART_COUNT:-0} -gt 5 ]": None,
    "((SLURM_RESTART_COUNT > 0))": None,
}


@pytest.mark.parametrize("test", RESTARTS)
def test_what_stands_in_place_of_the_restart_count(test: str, here: Path) -> None:
    """A text for a test of a text, a number for a number; a bound is no sign of a later link, and stays."""
    text = f"#!/bin/bash\n#SBATCH --time=5\nif {test}; then echo again; fi\nexec ckptrun --checkpoint ck python t.py\n"
    (one,) = judged(text, here)
    assert (one.rule, one.line) == ("restart-count", 3)
    after = corrected(text, here)
    assert after == (text if RESTARTS[test] is None else text.replace(test, RESTARTS[test]))
    without = text.replace("exec ckptrun --checkpoint ck ", "")
    assert RESTARTS[test] is None or "CKPTRUN_RESUME" in corrected(without, here)


def test_what_has_no_correction_is_said(here: Path) -> None:
    """Two trainings under ckptrun, a program between that cannot be moved: the finding says what to do."""
    text = "#!/bin/bash\n#SBATCH --time=5\nckptrun --checkpoint a python a.py\nckptrun --checkpoint b python b.py\n"
    found = judged(text, here)
    assert [(one.rule, one.line) for one in found] == [("no-exec", 3), ("no-exec", 4), ("two-chains", 4)] or (
        ("two-chains", 4) in [(one.rule, one.line) for one in found]
    )
    assert not works(found)


@given(st.text(max_size=400))
def test_any_text_is_judged(text: str) -> None:
    """Whatever a file holds, nothing is raised."""
    judge(text, world_of(text, "job.sh", "/", AI_LAB))


_PIECES = st.lists(
    st.sampled_from(
        [
            *(
                "#!/bin/bash\n",
                "#SBATCH ",
                "--output=x",
                "\n",
                " ",
                "'",
                '"',
                "$(",
                ")",
                "`",
                "${",
                "}",
                "((",
                "))",
                "[[",
                "]]",
                "<<EOF\n",
            ),
            *(
                "EOF\n",
                "trap ",
                "USR1",
                "exec ",
                "ckptrun ",
                "--checkpoint ",
                "$RANDOM",
                "/tmp/x",
                "|",
                " tee ",
                "&",
                ";",
                "\\",
                "\\\n",
            ),
            *(
                "sbatch $0",
                "if ",
                "then ",
                "fi\n",
                "case x in a) ",
                ";; esac\n",
                "f() {",
                "}\n",
                "python t.py",
                "#",
                "bash -c ",
                "é",
            ),
        ]
    ),
    max_size=40,
).map("".join)


@given(_PIECES)
def test_any_script_is_judged_and_corrected(text: str) -> None:
    """Pieces of shell in any order: nothing is raised, and correcting comes to an end."""
    after = corrected(text, Path("/"))
    assert isinstance(after, str)
