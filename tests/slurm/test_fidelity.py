"""The successor is the same job: what is given again, what is left to the script, what cannot be known."""

from __future__ import annotations

import pytest

from ckptrun.slurm.environment import successors
from ckptrun.slurm.fidelity import Evidence, Same, same_job
from ckptrun.slurm.parse import job_record
from ckptrun.slurm.read_back import Shown, minutes
from ckptrun.slurm.sbatch_options import script_options

PLAIN = {
    "JobName": "mnist",
    "Partition": "batch",
    "TimeLimit": "12:00:00",
    "TimeMin": "N/A",
    "NumNodes": "1",
    "QOS": "normal",
    "Account": "(null)",
    "MinMemoryNode": "0",
}


def same(
    script: str, command: str = "/home/a/job.sh", argv: tuple[str, ...] = (), logs: str = "/home/a/%x_%j.out", **fields: str
) -> Same:
    """Return how a job with these fields is submitted again."""
    text = " ".join(f"{name.replace('_', '/')}={value}" for name, value in {"JobId": "7", **PLAIN, **fields}.items())
    record = job_record(f"{text} Command={command} WorkDir=/home/a StdOut=x")
    assert record is not None
    environment = {name[4:]: value for name, value in fields.items() if name.startswith("ENV_")}
    shown = Shown(record.fields, environment, (logs, logs, ""), "", record.directory)
    return same_job(Evidence(script, record, shown, argv))


def test_script_options() -> None:
    """Long and short forms, several on a line, quotes, comments; they end at the first command."""
    first = '#!/bin/bash\n#SBATCH --job-name="two words" -t 1:00 # why\n#SBATCH -pbatch -N2\n\n'
    script = first + "#SBATCH --requeue\necho\n#SBATCH --mem=1\n"
    assert script_options(script) == {"job-name": "two words", "time": "1:00", "partition": "batch", "nodes": "2", "requeue": ""}


def test_what_the_script_says_is_left_to_the_script() -> None:
    """Nothing is given again that the script says with the same effect."""
    script = "#!/bin/bash\n#SBATCH -t 12:00:00 -p batch,prio --mem=2G --gres=gpu:1\n"
    options = same(script, MinMemoryNode="2G", TresPerNode="gres:gpu:1").options
    assert options == ("--job-name=mnist", "--output=/home/a/%x_%j.out", "--chdir=/home/a")


def test_what_the_command_line_said_is_given_again() -> None:
    """An option that the record has otherwise than the script wins, as it did at the first submission."""
    script = "#!/bin/bash\n#SBATCH -t 1:00:00 -p short --mem=1G --gres=gpu:1\n"
    options = same(script, MinMemoryNode="3G", TresPerNode="gres:gpu:2", Account="lab", QOS="long", NumNodes="2").options
    wanted = {"--time=12:00:00", "--partition=batch", "--mem=3G", "--gres=gpu:2", "--account=lab", "--qos=long", "--nodes=2"}
    assert wanted <= set(options)


@pytest.mark.parametrize(
    ("logs", "append"), [("/a/%x_%j.out", False), ("/a/%A_%a.out", False), ("/a/log.txt", True), ("/a/%x.out", True)]
)
def test_a_log_with_a_fixed_name_is_appended_to(logs: str, append: bool) -> None:
    """The successor must not empty its predecessor's log."""
    assert ("--open-mode=append" in same("#!/bin/bash\n", logs=logs).options) is append


def test_arguments_are_found_at_the_end_of_our_own_command() -> None:
    """Slurm shows them without quotes; `exec ckptrun python train.py "$@"` has them word for word."""
    found = same('exec ckptrun x "$@"', "/home/a/job.sh a two words", ("python", "x", "a", "two words"))
    assert found.arguments == ("a", "two words")
    assert "quotes" not in " ".join(found.doubts)


def test_arguments_that_cannot_be_known_are_said() -> None:
    """A script that uses its arguments, and a command that does not end with them: read at blanks, and said."""
    found = same('X="$1"; exec ckptrun x', "/home/a/job.sh a two words", ("python", "x"))
    assert found.arguments == ("a", "two", "words")
    assert "without quotes" in found.doubts[0]
    assert "quotes" not in " ".join(same("exec ckptrun x", "/home/a/job.sh a two", ("python", "x")).doubts)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("90", 90),
        ("1:30", 2),
        ("12:00:00", 720),
        ("1-06", 1800),
        ("1-06:30", 1830),
        ("1-00:00:01", 1441),
        ("UNLIMITED", 0),
        ("x", None),
    ],
)
def test_time_limits_in_all_of_slurms_forms(text: str, found: int | None) -> None:
    """Minutes, seconds rounded up."""
    assert minutes(text) == found


def test_what_goes_on_in_the_environment() -> None:
    """Slurm's own, ranks and devices stay behind; the user's go on, lists without repeats; the base is the submitter's turn."""
    own = {
        "PATH": "/a:/b:/a",
        "HOME": "/home/a",
        "MY_PATH": "x:x",
        "SLURM_CONF": "/etc/slurm.conf",
        "CKPTRUN_HOME": "/state",
        "WANDB_KEY": "secret",
    }
    leaks = (
        "SLURM_JOB_ID",
        "SLURM_RESTART_COUNT",
        "SBATCH_TIMELIMIT",
        "SRUN_X",
        "PMI_RANK",
        "PMIX_ID",
        "OMPI_X",
        "RANK",
        "WORLD_SIZE",
    )
    leaks += (
        "MASTER_ADDR",
        "LOCAL_RANK",
        "CUDA_VISIBLE_DEVICES",
        "ROCR_VISIBLE_DEVICES",
        "SHLVL",
        "CKPTRUN_LINK",
        "CKPTRUN",
        "CKPTRUN_BASE",
    )
    found = successors(own | dict.fromkeys(leaks, "1"), 7)
    assert found == own | {"PATH": "/a:/b", "MY_PATH": "x", "SLURM_CKPTRUN_BASE": "7"}
