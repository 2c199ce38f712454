"""The successor is the same job: options wherever they came from, arguments, script, environment, arrays, on a real Slurm."""

from __future__ import annotations

import json
import re
import shlex
from typing import NamedTuple

import pytest

from ckptrun.slurm.parse import job_record
from ckptrun.slurm.read_back import HIDDEN
from ckptrun.slurm.sbatch_options import read, script_options
from tests.end_to_end.jobs import Jobs

SHORT = "--time-limit 6s --margin 2s"


class Pack(NamedTuple):
    """Options of one job: on the command line, in the script, as variables."""

    typed: str = ""
    script: str = ""
    variables: str = ""


# Each option that a user of this Slurm may give and that the lab's nodes let start, at least once.
PACKS = {
    "tasks": Pack("-J 'two  words' -t 7 -n 2 -c 3 --mem=300 --comment 'a  b' --nice=17 --signal=B:USR1@70 --propagate=CORE"),
    "logs": Pack("-o '{}/log %x-%j.txt' -e{}/e.%j.err --mail-type=FAIL,END --mail-user x@y --tasks-per-node=2"),
    "nodes": Pack("-N1-2 --ntasks-per-node=2 --mem-per-c 100 -m cyclic --no-kill --wait-all-nodes=1 --use-min-nodes"),
    "frequencies": Pack("--cpu-freq=performance --acctg-freq=task=7 --profile=task --mem-bind=local --open-mode=append"),
    "gpus": Pack("-G1 --cpus-per-gpu=2 --mem-per-gpu=100 --gpu-bind=none --gpu-freq=low --ntasks-per-gpu=1"),
    "gres": Pack("--gres=gpu:2 --gres-flags=enforce-binding --hint=nomultithread -x n3 --contiguous -L lic:1 -C l4"),
    "per-node": Pack("--gpus-per-node=1 --mincpus=2 -w n1 -s --network=foo --switches=1@5 --delay-boot=5 --power=level"),
    "per-task": Pack("--gpus-per-task=1 -n1 -O --threads-per-core=1 --kill-on-invalid-dep=yes --mcs-label=x --bb=x"),
    "least": Pack("--partition=batch,prio --cores-per-socket=1 --spread-job --priority=5 --wckey=wk -A other"),
    "cores": Pack("-B 1:1:1 --container=/x --ignore-pbs --requeue --no-requeue -i /etc/hostname --clusters lab"),
    "chosen by Slurm": Pack("-t5 -n 2 --ntasks-per-core=1 --ntasks-per-socket=1 --prefer=l4 --time-min=1"),
    "files": Pack("-F {}/nodes --export=ALL,WORD=1 --qos=normal --exclusive=user"),
    "whole": Pack("--exclusive -p prio --mem=0"),
    "variables": Pack(
        script="--mem=500 --time=3",
        variables="SBATCH_TIMELIMIT=9 SBATCH_ACCOUNT=other SBATCH_GRES=gpu:1 SBATCH_SIGNAL=USR1@60 SBATCH_OUTPUT={}/v-%j.txt "
        "SBATCH_MEM_PER_CPU=150 SBATCH_OVERCOMMIT=1 SBATCH_WCKEY=wk SBATCH_SPREAD_JOB=1 SBATCH_EXPORT=ALL,WORD=1",
    ),
    "script": Pack(script="--gpus-per-socket=1 --sockets-per-node=1 --comment='in the script' -t 6 --cpus-per-task=2 --no-requeue"),
    "all three": Pack(
        "-t 4 --mem=2G --gres=gpu:2 --distribution=block:cyclic",
        "--time=9 --mem=1G --nodes=1 --gres=gpu:1 --cpus-per-task=2 -m plane=2",
        "SBATCH_TIMELIMIT=20 SBATCH_JOB_NAME=variable SBATCH_QOS=normal SBATCH_CONSTRAINT=l4",
    ),
}
# What is another job's by nature: ids, times, who scheduled and submitted it, and where it happened to run.
_OWN = re.compile(
    r"JobId|.*Time|LastSchedEval|Priority|Scheduler|AllocNode:Sid|.*NodeList|BatchHost|Nodes|CPU_IDs|GRES|JOB_GRES|Command|SLURM_.*(?:NODELIST|"
    r"NODENAME|JOB_?ID|_PID|GTIDS|TOPOLOGY_ADDR|HOST|GPUS_ON_NODE|DEPENDENCY|CKPTRUN_BASE|WORKING_CLUSTER|SUBMIT_DIR)|SLURMD_NODENAME"
)
_CHOSEN = {"Partition", "SLURM_JOB_PARTITION", "TimeLimit"}  # with a list of partitions, or --time-min, by the scheduler
_ASKED_FOR = ("ReqNodeList", "ExcNodeList", "DelayBoot", "Deadline")


def submit_all(jobs: Jobs) -> None:
    """Submit each pack, held; let them go when accounting knows how they were submitted, as after some time in a queue."""
    jobs.run("tee", jobs.folder / "nodes", input="n1\n")
    ids = []
    for name, pack in PACKS.items():
        word = name.replace(" ", "-")
        own = f"exec ckptrun --checkpoint {jobs.folder}/ck-{word} --max-links 3 --time-limit 5s --margin 2s"
        training = f"python {jobs.lab.home}/counter.py {jobs.folder}/ck-{word} 1000 0.4 --hear USR1"
        show = f"{jobs.folder}/{word}.$SLURM_JOB_ID"
        lines = [
            "#!/bin/bash",
            *([f"#SBATCH {pack.script}"] if pack.script else []),
            f"scontrol -o -d show job $SLURM_JOB_ID > {show}.record",
            f"squeue -h -j $SLURM_JOB_ID -O STDOUT:900,STDERR:900,STDIN:900,wckey:90 > {show}.names",
            f"env | grep ^SLURM > {show}.variables",
            f"{own} {training}",
        ]
        jobs.run("tee", jobs.folder / f"{word}.sh", input="\n".join(lines) + "\n")
        typed, variables = (shlex.split(text.replace("{}", str(jobs.folder))) for text in (pack.typed, pack.variables))
        environment = jobs.environment | dict(part.split("=", 1) for part in variables)
        words = ("sbatch", "--parsable", "-H", *typed, f"{word}.sh")
        ids.append(jobs.run(*words, env=environment).strip().split(";")[0])
    for job in ids:
        jobs.until_line_is_known(job)
    jobs.run("scontrol", "release", *ids)


@pytest.mark.parametrize("accounting", [True, False], ids=["accounting", "no-accounting"])
def test_the_third_job_is_the_first_one(jobs: Jobs, accounting: bool) -> None:
    """The records, log names and SLURM_ variables of three links differ in ids and times alone; without accounting, too.

    What no job shows of itself is on the successors' command lines where accounting has the first one's; else it was said.
    """
    if not accounting:
        jobs.run("mkdir", "bin")
        jobs.run("tee", jobs.folder / "bin/sacct", input="#!/bin/sh\nexit 1\n")
        jobs.run("chmod", "+x", jobs.folder / "bin/sacct")
        jobs.environment["PATH"] = f"{jobs.folder}/bin:{jobs.environment['PATH']}"
    submit_all(jobs)
    jobs.until(lambda: jobs.outcomes().count("stopped") == len(PACKS) or None, 200.0)
    differences = {name: compare(jobs, name.replace(" ", "-")) for name in PACKS}
    assert {name: found for name, found in differences.items() if found} == {}
    for name, pack in PACKS.items():
        assert_hidden_options_go_on_or_are_said(jobs, name.replace(" ", "-"), pack, accounting)
    secrets = [path for path in jobs.state.rglob("chain.json") if "WORD=1" in path.read_text()]
    assert secrets == []


def compare(jobs: Jobs, name: str) -> list[str]:
    """Return what differs between the first link of a pack and its later ones."""
    links = sorted({path.name.split(".")[1] for path in jobs.folder.glob(f"{name}.*.record")}, key=int)
    assert len(links) == 3, f"{name}: {links}"
    first, *others = (facts(jobs, name, job) for job in links)
    return [
        f"link {number}: {field}: {first.get(field)} -> {other.get(field)}"
        for number, other in enumerate(others, 2)
        for field in sorted({*first, *other})
        if first.get(field) != other.get(field) and (field not in _CHOSEN or name not in ("least", "chosen-by-Slurm"))
    ]


def facts(jobs: Jobs, name: str, job: str) -> dict[str, str]:
    """Return all that a link's job showed of itself at its start, but for what is its own."""
    record = job_record((jobs.folder / f"{name}.{job}.record").read_text())
    assert record is not None
    lines = (jobs.folder / f"{name}.{job}.variables").read_text().splitlines()
    found = (
        record.fields | dict(line.split("=", 1) for line in lines) | {"names": (jobs.folder / f"{name}.{job}.names").read_text()}
    )
    found = {field: value.replace(job, "JOB") for field, value in found.items()}
    # Values of --export are not written down: their names are given again, and the values come with the environment.
    found["SLURM_EXPORT_ENV"] = found.get("SLURM_EXPORT_ENV", "").replace("WORD=1", "WORD")
    return {field: value for field, value in found.items() if field in _ASKED_FOR or not _OWN.fullmatch(field)}


def assert_hidden_options_go_on_or_are_said(jobs: Jobs, name: str, pack: Pack, accounting: bool) -> None:
    """Check what no record shows: on the successors' command lines, in their variables, or said at the start."""
    hidden = {option.partition("=")[0] for option in HIDDEN}
    line = read(shlex.split(pack.typed))
    assert line is not None
    typed = {f"--{option.name}" for option in line.options} & hidden
    (log,) = [text for text in chain_logs(jobs) if f"ck-{name} " in text or f"ck-{name}/" in text]
    chain = next(path for path in jobs.state.glob("chains/*/chain.json") if f"ck-{name}" in path.read_text())
    same = json.loads(chain.read_text())["slurm"]["same"]
    given = {option.partition("=")[0] for option in same["options"]}
    if accounting:
        assert same["source"] == "accounting", (name, same["doubts"])
        assert typed <= given
        assert "write it into the script" not in log
    else:
        assert same["source"] == "job record"
        assert all(option in log for option in typed - given)
    if "SIGNAL" in pack.variables:
        assert dict(same["variables"])["SBATCH_SIGNAL"] == "USR1@60"


def chain_logs(jobs: Jobs) -> list[str]:
    """Return the logs of all first links."""
    texts = [path.read_text() for path in jobs.folder.iterdir() if path.suffix in (".out", ".txt", ".err")]
    return [text for text in texts if "link 1 of" in text]


def test_the_table_is_large_enough() -> None:
    """The packs hold at least 45 different options, from all three places."""
    lines = [read(shlex.split(pack.typed)) for pack in PACKS.values()]
    typed = {option.name for line in lines if line is not None for option in line.options}
    written = {name for pack in PACKS.values() for name in script_options(f"#!/bin/sh\n#SBATCH {pack.script}\n")}
    variables = {word.split("=")[0] for pack in PACKS.values() for word in pack.variables.split()}
    assert len(typed | written) >= 60
    assert len(written) >= 8 and len(variables) >= 12
