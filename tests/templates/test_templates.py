"""Job scripts as values become text: every variant is a right script, and no value means anything but itself."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ckptrun import sites
from ckptrun.errors import UsageError
from ckptrun.slurm.sbatch_options import script_options
from ckptrun.templates.catalogue import KEYS, TEMPLATES, keys_of
from ckptrun.templates.render import job_script
from ckptrun.templates.settings import job, warnings
from tests.end_to_end.programs import path_of
from tests.templates.variants import variants

ROOT = Path(__file__).parents[2]
GENERIC, AI_LAB = sites.load("generic"), sites.load("ai-lab")
SHOW_WORDS = "#!/bin/bash\nprintf '%s\\0' \"$@\"\n"
HOSTILE = (
    *(
        "two words",
        'a "quoted" name',
        "it's",
        "a;b",
        "$(touch canary)",
        "`touch canary`",
        "$HOME",
        "a\\b",
        "\\",
        "'",
        '"',
        "#no comment",
    ),
    *(
        "a # b",
        "*",
        "?[x]",
        "~",
        "a~b",
        "~nobody/x",
        "&& true",
        "| tee x",
        "> y",
        "!history!",
        "%x",
        "%j%%",
        "é-ü-漢",
        "--",
        "a=b",
        "{a,b}",
    ),
    *("trailing ", "\\'", '\\"', "''", "a'b\"c\\d$e`f", ":", "a:b", "@", "\u00a0", "-", "$'x'", "\\$(touch canary)"),
)


def test_every_variant_is_a_right_script(tmp_path: Path) -> None:
    """shellcheck has nothing to say, sbatch's options are those of the job, the last command begins with exec, LF ends lines."""
    paths = []
    for name, one in variants():
        text = job_script(one)
        assert text.startswith("#!/bin/bash\n#SBATCH --job-name=") and "\r" not in text and "\t" not in text, name
        assert text.rpartition("\n\n")[2].count("\nexec ") == 1 and text.endswith("\n"), text
        found = script_options(text)
        assert (found["job-name"], found["time"], found.get("array")) == (one.name, one.time, one.array), name
        assert ("%j" in found["output"]) is not ("%A" in found["output"]), name
        paths.append(tmp_path / f"{name}.sh")
        paths[-1].write_text(text)
    assert len(paths) > 250
    done = subprocess.run([path_of("shellcheck"), *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_plain_ones_are_short() -> None:
    """What stands in slurm-templates is about twelve lines long, a comment above each line that is not obvious."""
    for name in TEMPLATES:
        assert len((ROOT / "slurm-templates" / name / "job.sh").read_text().splitlines()) <= 15, name


def run_script(text: str, folder: Path) -> list[str]:
    """Run a job script with programs that only print their words; return the words that ckptrun got."""
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / "bin" / "ckptrun"
    if not program.exists():
        program.write_text(SHOW_WORDS)
        program.chmod(0o755)
    environment = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "HOME": "/home/someone", "SLURM_ARRAY_TASK_ID": "7"}
    done = subprocess.run(["bash", "-s"], input=text, env=environment, cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), f"{done.stderr}\n{text}"
    return done.stdout.split("\0")[:-1]


texts = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(name=texts, partition=texts, log=texts, checkpoint=texts, program=texts, args=st.lists(texts, min_size=1, max_size=3))
@example(
    name="a'b\"c", partition="$(touch canary)", log="%x;%j", checkpoint="a;b c", program="it's.py", args=["`touch canary`", "~"]
)
def test_hostile_values_arrive_or_are_refused(
    tmp_path: Path, name: str, partition: str, log: str, checkpoint: str, program: str, args: list[str]
) -> None:
    """sbatch and ckptrun get each value as it was set, or it is refused by its name; nothing in it is carried out."""
    given = {"job-name": name, "partition": partition, "output": log, "checkpoint": checkpoint, "program": program}
    given["args"] = shlex.join(args)
    template = TEMPLATES["pickle"]
    refused = set()
    for key, value in list(given.items()):
        try:
            job(template, GENERIC, {key: value})
        except UsageError as error:
            assert all(key in mistake for mistake in error.mistakes)
            refused.add(key)
            del given[key]
    one = job(template, GENERIC, given)
    text = job_script(one)
    found = script_options(text)
    assert found["job-name"] == given.get("job-name", "pickle")
    assert found.get("partition") == given.get("partition")
    assert found["output"] == given.get("output", "%x_%j.out")
    words = run_script(text, tmp_path)

    def at_home(path: str) -> str:
        return f"/home/someone/{path[2:]}" if path.startswith("~/") and path[2:] else path

    folder = at_home(given.get("checkpoint", "checkpoints"))
    own = [at_home(given["program"])] if "program" in given else ["train.py", folder]
    assert words == ["--checkpoint", folder, "python3", *own, *(shlex.split(given["args"]) if "args" in given else [])]
    assert not (tmp_path / "canary").exists()
    # What is refused is what no line can hold, or would be read as something else.
    for key in refused & {"job-name", "partition", "output"}:
        value = {"job-name": name, "partition": partition, "output": log}[key]
        assert not value.isprintable() or not value.strip() or "/" in value


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_words_of_a_command_arrive(tmp_path: Path, value: str) -> None:
    """A word of `command` is the same word in the job, in a container too, and shellcheck takes what it is written as."""
    given = {
        "command": shlex.join(["./program", value]),
        "container": "singularity",
        "image": "an image.sif",
        "resume-flag": "--from x",
    }
    text = job_script(job(TEMPLATES["command"], GENERIC, given))
    words = run_script(text, tmp_path)
    container = ["singularity", "exec", "an image.sif"]
    assert words == ["--checkpoint", "checkpoints", "--resume-flag", "--from x", *container, "./program", value]
    path = tmp_path / "job.sh"
    path.write_text(text)
    assert subprocess.run([path_of("shellcheck"), path], capture_output=True).returncode == 0, text


def test_arrays_and_homes(tmp_path: Path) -> None:
    """ckptrun gets %a, the training its task; `~/` is the home of who runs the job."""
    given = {"array": "0-9", "checkpoint": "~/runs/%a/ck", "venv": "~/env", "args": "--lr 0.1"}
    one = job(TEMPLATES["pytorch"], GENERIC, given)
    home = "/home/someone"
    expected = ["--checkpoint", f"{home}/runs/%a/ck", f"{home}/env/bin/python", "train.py", f"{home}/runs/7/ck", "--lr", "0.1"]
    assert run_script(job_script(one), tmp_path) == expected
    assert script_options(job_script(one))["output"] == "%x_%A_%a.out"


@pytest.mark.parametrize(
    ("template", "site", "given", "why"),
    [
        ("pytorch", GENERIC, {"gpu": "1"}, "did you mean gpus?"),
        ("pytorch", GENERIC, {"nodes": "2"}, "only pytorch-ddp has it"),
        ("command", GENERIC, {"program": "x.py"}, "no such key"),
        ("pytorch", GENERIC, {"container": "singularty"}, "did you mean singularity?"),
        ("pytorch", GENERIC, {"container": "apptainer"}, "needs an image"),
        ("pytorch", GENERIC, {"time": "300"}, "write 300s or 5m"),
        ("pytorch", GENERIC, {"mem": "16GB"}, "16G"),
        ("pytorch", GENERIC, {"checkpoint": "ck/%a"}, "set array as well"),
        ("pytorch", GENERIC, {"checkpoint": "ck/*.pt"}, "name the folder"),
        ("pytorch", GENERIC, {"job-name": "a/b"}, "would be a folder"),
        ("pytorch", GENERIC, {"job-name": "a\nb"}, "control characters"),
        ("pytorch", GENERIC, {"venv": "a", "conda": "b"}, "exclude each other"),
        ("pytorch", GENERIC, {"image": "i.sif", "venv": "a:b"}, "cannot be mounted"),
        ("pytorch", GENERIC, {"image": "i.sif", "conda": "b"}, "give the folder"),
        ("pytorch", GENERIC, {"args": "it's"}, "quotation"),
        ("pytorch", GENERIC, {"args": "--lr 1 | tee log"}, "no shell reads it, |"),
        ("pytorch", GENERIC, {"resume-flag": "--from '{checkpoint}"}, "quotation"),
        ("pytorch", GENERIC, {"cpus": "9999999"}, "to 999999"),
        ("pytorch", GENERIC, {"array": "8-1"}, "8-1 has no tasks"),
        ("pytorch", GENERIC, {"array": "1-4,1-8:0"}, "1-8:0 has no tasks"),
        ("pytorch", GENERIC, {"checkpoint": "ck_%j"}, "needs the same folder"),
        ("pytorch", GENERIC, {"job-name": "x" * 250}, "255 bytes"),
        ("pytorch", GENERIC, {"job-name": "\u6f22" * 80}, "255 bytes"),
        ("command", GENERIC, {"command": "./a > b"}, "no shell reads it, >"),
        ("command", GENERIC, {"command": "./a 2>/dev/null"}, "no shell reads it, 2>"),
        ("command", GENERIC, {"command": "./a; ./b"}, "no shell reads it, ;"),
        ("command", GENERIC, {"command": "A=1 ./a"}, "env A=1 ./a"),
        ("pytorch-ddp", GENERIC, {"gpus": "0"}, "at least 1"),
        ("pytorch", AI_LAB, {"gpus": "8"}, "ai-lab allows a job 4 GPUs"),
        ("pytorch", AI_LAB, {"time": "1d"}, "ai-lab allows a job 12 h"),
        ("pytorch", AI_LAB, {"account": "me"}, "AI-LAB has no accounts"),
        ("pytorch", AI_LAB, {"container": "pyxis", "image": "x"}, "ai-lab has singularity, none"),
    ],
)
def test_mistakes_are_named(template: str, site: sites.Site, given: dict[str, str], why: str) -> None:
    """What has no meaning is refused by its name, with what to do."""
    with pytest.raises(UsageError) as error:
        job(TEMPLATES[template], site, given)
    assert why in str(error.value) and any(name in str(error.value) for name in given)


@pytest.mark.parametrize("command", ["./a 'x | y'", './a "b;"', r"./a \;", "./a x=1", "./a b&c", "env A=1 ./a", r'./a "\" | "'])
def test_quoted_signs_are_words(command: str) -> None:
    """What is quoted, or stands inside a word, is no pipe and no redirection."""
    assert job(TEMPLATES["command"], GENERIC, {"command": command}).words == tuple(shlex.split(command))


def test_what_a_site_forbids_must_be_something() -> None:
    """A name that is neither a setting nor an option of sbatch would forbid nothing."""
    site = GENERIC._replace(not_allowed={"acount": "none here", "reservation": "none here", "gpus": "none here"})
    with pytest.raises(UsageError) as error:
        job(TEMPLATES["pytorch"], site, {})
    assert error.value.mistakes == (
        "site generic: not-allowed: acount: no such setting or option of sbatch, did you mean account?",
    )


def test_all_mistakes_at_once() -> None:
    """Three mistakes are three sentences."""
    with pytest.raises(UsageError) as error:
        job(TEMPLATES["pytorch"], GENERIC, {"tme": "1h", "gpus": "x", "mem": "y"})
    assert len(error.value.mistakes) == 3


def test_advice_is_a_warning() -> None:
    """More CPUs or memory than a site asks for is said, and not refused."""
    assert len(warnings(job(TEMPLATES["pytorch"], AI_LAB, {"cpus": "16", "mem": "25G"}))) == 2
    assert not warnings(job(TEMPLATES["pytorch"], AI_LAB, {"cpus": "30", "mem": "48G", "gpus": "2"}))


@pytest.mark.parametrize(
    ("array", "gpus", "told"),
    [("1-8", 1, 0), ("1-9", 1, 1), ("0-30:4", 1, 0), ("1-4,9-12", 2, 1), ("1-20%8", 1, 0), ("1-20%5", 2, 1), ("3", 4, 0)],
)
def test_an_array_of_which_a_part_must_wait(array: str, gpus: int, told: int) -> None:
    """AI-LAB runs eight jobs, and jobs with eight GPUs, of one user: more tasks at a time are said to wait."""
    job_ = job(TEMPLATES["pytorch"], AI_LAB, {"array": array, "gpus": str(gpus)})
    assert [("the others wait" in why) for why in warnings(job_)] == [True] * told


def test_more_gpus_than_a_user_may_have() -> None:
    """Such a job would never start."""
    site = GENERIC._replace(limits=sites.Limits(gpus_running=2))
    with pytest.raises(UsageError, match="allows a user 2 GPUs at a time"):
        job(TEMPLATES["pytorch"], site, {"gpus": "3"})


def test_every_key_changes_the_script() -> None:
    """A key that changes nothing would be a promise that is not kept."""
    values = {
        "job-name": "other",
        "time": "1h",
        "gpus": "3",
        "nodes": "2",
        "cpus": "9",
        "mem": "1G",
        "partition": "p",
        "account": "a",
        "qos": "q",
        "exclude": "n1",
        "array": "1-2",
        "output": "o.%j",
        "container": "apptainer",
        "image": "i.sif",
        "venv": "v",
        "conda": "c",
        "checkpoint": "k",
        "program": "p.py",
        "args": "--x",
        "command": "./y",
        "resume-flag": "-r",
        "ckptrun": "/c",
    }
    assert values.keys() == KEYS.keys()
    for template in TEMPLATES.values():
        plain = job_script(job(template, GENERIC, {}))
        for key in keys_of(template):
            given = {key.name: values[key.name]} | ({"image": "i.sif"} if key.name == "container" else {})
            assert job_script(job(template, GENERIC, given)) != plain, (template.name, key.name)


def test_programs_do_not_need_ckptrun() -> None:
    """A training program runs where no ckptrun is, in containers too, or its template says that it needs one."""
    for template in TEMPLATES.values():
        path = ROOT / "slurm-templates" / template.name / "train.py"
        imports = path.exists() and re.search(r"^(import|from) ckptrun", path.read_text(), re.MULTILINE)
        assert bool(imports) == ("ckptrun" in template.needs.split()), template.name


def test_a_program_goes_on_without_ckptrun(tmp_path: Path) -> None:
    """Told to stop at any moment, and started again by hand, the plain program has the same result; it keeps two checkpoints."""
    words = [sys.executable, "-u", str(ROOT / "slurm-templates" / "pickle" / "train.py")]
    starts, saved = [], 0
    for _ in range(3):
        with subprocess.Popen([*words, "ck", "--steps", "100000000"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            starts.append(int(process.stdout.readline().split()[-1]))
            process.send_signal(10)
            saved = int(process.stdout.read().splitlines()[-1].removeprefix("saved step "))
        assert process.returncode == 0
    # How far it had come when it heard depends on the machine.
    end = ("--steps", str(saved + 20))
    last, alone = (
        subprocess.run([*words, folder, *end], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.splitlines()
        for folder in ("ck", "alone")
    )
    assert last[0] == f"from step {saved}" and last[-1] == alone[-1]
    assert all(before < after for before, after in itertools.pairwise(starts)) and starts[0] == 0
    assert len(list((tmp_path / "ck").iterdir())) == 2
