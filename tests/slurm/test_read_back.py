"""What a running job shows of the options that it was given: one job an option, as Slurm 22.05.8 showed them."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from ckptrun.slurm.fidelity import RECORD, Evidence, Same, same_job
from ckptrun.slurm.parse import job_record
from ckptrun.slurm.read_back import Shown, fits
from ckptrun.slurm.sbatch_options import BY_NAME, effective, read, variable_options

RECORDED = json.loads((Path(__file__).parent / "recorded_options.json").read_text())
# What no job shows; what is not for a successor; what this cluster ignores.
WITHOUT_EFFECT = {"priority", "core-spec", "thread-spec", "requeue"}
NOT_SHOWN = {"signal", "no-kill", "propagate", "wait-all-nodes", "use-min-nodes", *WITHOUT_EFFECT}
# Read back under the name of what it means.
OTHERWISE = {"extra-node-info": {"sockets-per-node", "cores-per-socket", "threads-per-core"}, "get-user-env": {"get-user-env"}}


def evidence(case: dict[str, Any], script: str) -> Evidence:
    """Return what the recorded job showed, with a script of its own."""
    record = job_record(RECORDED["record"])
    assert record is not None
    fields = {name: value.strip() for name, value in record.fields.items() if name not in case["gone"]} | case["fields"]
    fields = {name: value.strip() for name, value in fields.items()} | {"JobId": case["job"]}
    variables = dict(variable.split("=", 1) for variable in case["variables"]) | {"SLURM_SUBMIT_DIR": "/lab/home/exp"}
    variables.setdefault("SLURM_JOB_NAME", "show.sh")
    output, error, stdin, wckey = case["names"]
    shown = Shown(fields, variables, (output, error, stdin), wckey, record.directory)
    return Evidence(script, record._replace(fields=fields), shown)


def given_in(case: dict[str, Any]) -> dict[str, str]:
    """Return what the recorded job was given: options by name."""
    words = [word for word in shlex.split(case["given"]) if not word.startswith("SBATCH_")]
    line = read(words)
    assert line is not None
    return effective(line.options)


def options_of(same: Same) -> dict[str, str]:
    """Return a successor's options by name, those in variables included."""
    line = read(same.options)
    assert line is not None and not line.rest
    return {name: value for name, (_, value) in variable_options(dict(same.variables)).items()} | effective(line.options)


PLAIN = [case for case in RECORDED["cases"] if "SBATCH_" not in case["given"] and "--wrap" not in case["given"]]
USUAL = {"job-name", "time", "partition", "mem", "chdir"}


@pytest.mark.parametrize("case", PLAIN, ids=[case["given"] for case in PLAIN])
def test_an_option_is_read_back_and_nothing_else(case: dict[str, Any]) -> None:
    """From the record alone, with an empty script: the option with the same meaning, and the usual ones; else it is in doubt."""
    same = same_job(evidence(case, "#!/bin/sh\n"))
    assert same.source == RECORD
    found = options_of(same)
    given = given_in(case)
    for name, value in given.items():
        if not BY_NAME[name].goes_on or name in NOT_SHOWN or name in OTHERWISE:
            continue
        if name == "mail-user" and "mail-type" not in given:
            assert "--mail-user" in same.doubts[0]
            continue
        assert name in found or value.lower() in ("all", "normal") or (name == "qos" and not case["fields"].get("QOS")), found
        assert fits(name, value, evidence(case, "").shown) is not False
    allowed = USUAL | set(given) | OTHERWISE.get(next(iter(given)), set()) | {"ntasks", "nodes", "mail-user", "time-min"}
    assert set(found) <= allowed, set(found) - allowed
    named = set(re.findall(r"--[a-z-]+", same.doubts[0]))
    assert {f"--{name}" for name in set(given) & NOT_SHOWN - WITHOUT_EFFECT} <= named


@pytest.mark.parametrize("case", PLAIN, ids=[case["given"] for case in PLAIN])
def test_what_the_script_says_is_not_said_again(case: dict[str, Any]) -> None:
    """The same option in the script: nothing is given but what every successor is given, or the same in the record's own form."""
    found = options_of(same_job(evidence(case, f"#!/bin/sh\n#SBATCH {case['given']}\n")))
    for name, value in given_in(case).items():
        if name in found and name not in USUAL:
            assert fits(name, value, evidence(case, "").shown) is not True


@pytest.mark.parametrize("case", PLAIN, ids=[case["given"] for case in PLAIN])
def test_the_line_of_accounting_is_given_again(case: dict[str, Any]) -> None:
    """Accounting's line fits what the job shows, and comes back as it was typed."""
    typed = " ".join(["sbatch", *shlex.split(case["given"]), "show.sh"])
    same = same_job(evidence(case, "#!/bin/sh\n")._replace(line=typed))
    assert same.source == "accounting", same.doubts
    wanted = {name: value for name, value in given_in(case).items() if BY_NAME[name].goes_on and name != "chdir"}
    wanted |= {"export": re.sub("=1", "", wanted["export"])} if "export" in wanted else {}
    assert {name: options_of(same)[name] for name in wanted} == wanted
    assert same.doubts == ()


def test_variables_go_on_as_variables() -> None:
    """SBATCH_* that agree with the job win over the script again; one that the script has set since does not go on."""
    (case,) = [case for case in RECORDED["cases"] if "SBATCH_" in case["given"]]
    same = same_job(evidence(case, "#!/bin/sh\n#SBATCH -t 20 -p batch\n"))
    assert dict(same.variables) == {
        "SBATCH_TIMELIMIT": "4",
        "SBATCH_PARTITION": "prio",
        "SBATCH_SIGNAL": "USR1@60",
        "SBATCH_GRES": "gpu:1",
        "SBATCH_EXPORT": "ALL,Q",
    }
    changed = {**case, "variables": [*case["variables"], "SBATCH_TIMELIMIT=1"]}
    assert "SBATCH_TIMELIMIT" not in dict(same_job(evidence(changed, "#!/bin/sh\n")).variables)


def test_memory_that_the_script_names_otherwise_is_given_as_a_variable() -> None:
    """On the command line sbatch refuses it beside the script's own; as a variable it wins."""
    case = next(case for case in PLAIN if case["given"] == "--mem-per-cpu=100")
    same = same_job(evidence(case, "#!/bin/sh\n#SBATCH --mem=500\n"))
    assert dict(same.variables) == {"SBATCH_MEM_PER_CPU": "100M"}
    assert not any(option.startswith("--mem") for option in same.options)


def test_the_words_of_whoever_submitted_come_first() -> None:
    """Where the command line was written down, it is known: options and arguments, word for word."""
    case = PLAIN[0]
    typed = ("-A", "other", "-H", "--export=ALL,K=v", "show.sh", "two  words", "")
    same = same_job(evidence(case, "#!/bin/sh\n")._replace(typed=typed, line="sbatch nonsense"))
    assert same.source == "the command line as typed"
    assert same.arguments == ("two  words", "")
    assert options_of(same) == {"account": "other", "export": "ALL,K", "job-name": "show.sh", "chdir": "/lab/home/exp"}
