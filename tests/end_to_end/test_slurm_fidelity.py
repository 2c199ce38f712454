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
from tests.end_to_end.jobs import CLOSED, Jobs


def endless(jobs: Jobs, name: str, *words: str) -> str:
    """Return the line that runs a training for three links, each of which ends by saying "run me again" after 1.5 s."""
    own = f"ckptrun --checkpoint {jobs.folder}/ck-{name} --max-links 3 --again-exit 85 --time-limit 14s --margin 2s"
    counter = f"python {jobs.lab.home}/counter.py {jobs.folder}/ck-{name} 3 0.5 --only-asked --exit 85 --hear USR1"
    return f"{own} {counter} {' '.join(words)}".strip()


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
        show = f"{jobs.folder}/{word}.$SLURM_JOB_ID"
        lines = [
            "#!/bin/bash",
            *([f"#SBATCH {pack.script}"] if pack.script else []),
            f"scontrol -o -d show job $SLURM_JOB_ID > {show}.record",
            f"squeue -h -j $SLURM_JOB_ID -O STDOUT:900,STDERR:900,STDIN:900,wckey:90 > {show}.names",
            f"env | grep ^SLURM > {show}.variables",
            f"exec {endless(jobs, word)}",
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
    jobs.until(lambda: jobs.outcomes().count("stopped") == len(PACKS) or None, 400.0)
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
    chain = next(path for path in jobs.state.glob("chains/*/chain.json") if f'ck-{name}"' in path.read_text())
    (log,) = [text for text in chain_logs(jobs) if f"link 1 of {chain.parent.name}," in text]
    same = json.loads(chain.read_text())["slurm"]["same"]
    given = {option.partition("=")[0] for option in same["options"]}
    if accounting:
        assert same["source"] == "accounting", (name, same["doubts"])
        assert typed <= given
        assert "write it into the script" not in log
    else:
        assert same["source"] == "the job's record"
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


@pytest.mark.parametrize("execute", ["exec ", ""], ids=["exec", "child"])
def test_the_environment_of_the_third_link_is_the_first_ones(jobs: Jobs, execute: str) -> None:
    """All but Slurm's own and ours, PATH that the script extends included; no value stands anywhere below the state folder."""
    secret = "s3cr3t-" + "value"
    jobs.environment |= {"API_KEY": secret, "WORDS": "two  words = 'x'", "MY_PATH": "/a:/b", "SBATCH_ACCOUNT": "other"}
    before = "export PATH=$PWD/bin:$PATH MY_PATH=/c:$MY_PATH\n"
    show = 'env -0 > env.$CKPTRUN_LINK; exec "$@"'
    line = endless(jobs, "it").replace("python", f"sh -c '{show}' sh python")
    jobs.submit(jobs.script(f"{execute}{line}", before=before))
    jobs.until(lambda: jobs.outcomes() == ["continued", "continued", "stopped"] or None)
    first, second, third = (environment_of(jobs, link) for link in (1, 2, 3))
    assert first == second == third
    assert first["PATH"] == f"{jobs.folder}/bin:{jobs.environment['PATH']}"
    assert (first["API_KEY"], first["MY_PATH"], first["SBATCH_ACCOUNT"]) == (secret, "/c:/a:/b", "other")
    assert [path for path in jobs.state.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()] == []
    assert [path for path in jobs.state.rglob("*") if path.is_file() and b"two  words" in path.read_bytes()] == []


def environment_of(jobs: Jobs, link: int) -> dict[str, str]:
    """Return the environment that a link's training saw, without Slurm's own, ours, and the node's name."""
    variables = (jobs.folder / f"env.{link}").read_text().rstrip("\0").split("\0")
    found = dict(variable.split("=", 1) for variable in variables)
    return {name: value for name, value in found.items() if not name.startswith(("SLURM", "CKPTRUN")) and name != "HOSTNAME"}


def test_each_task_of_an_array_is_itself(jobs: Jobs) -> None:
    """Six tasks, three links each: every child sees the array as link 1 saw it, and its own number."""
    knows = "$SLURM_ARRAY_TASK_ID $SLURM_ARRAY_TASK_COUNT $SLURM_ARRAY_TASK_MIN $SLURM_ARRAY_TASK_MAX $SLURM_ARRAY_TASK_STEP"
    line = endless(jobs, "%a").replace(f"counter.py {jobs.folder}/ck-%a", f"counter.py {jobs.folder}/ck-$SLURM_ARRAY_TASK_ID")
    line = line.replace("python", f"sh -c 'echo knows {knows}; exec \"$@\"' sh python")
    array = jobs.submit("--array=0-10:2", "--output=%x_%A_%a.out", jobs.script(f"exec {line}"))
    jobs.until(lambda: jobs.outcomes().count("stopped") == 6 or None, 400.0)
    known = re.findall(r"^knows (.*)$", jobs.log(), re.MULTILINE)
    assert sorted(known) == sorted(f"{task} 6 0 10 2" for task in range(0, 12, 2) for _ in range(3))
    assert sorted(path.name for path in (jobs.state / "chains").iterdir()) == sorted(f"count-{array}_{t}" for t in range(0, 12, 2))


def test_the_throttle_of_an_array_holds(jobs: Jobs) -> None:
    """With `%2` auto means requeue: of four tasks, each started twice, never more than two run at once."""
    line = endless(jobs, "%a").replace(f"counter.py {jobs.folder}/ck-%a", f"counter.py {jobs.folder}/ck-$SLURM_ARRAY_TASK_ID")
    script = jobs.script(f"exec {line.replace('--max-links 3', '--max-links 2')}")
    array = jobs.submit("--array=1-4%2", "--output=%x_%A_%a.out", script)
    told = set()
    while len(jobs.outcomes()) < 8:
        for task in jobs.run("squeue", "-h", "-r", "-j", array, "-o", "%i|%T|%r").splitlines():
            job, _, state = task.partition("|")
            if state == "PENDING|BeginTime" and job not in told:
                # As in Jobs.start_requeued: not within the second in which the task was taken away.
                jobs.run("scontrol", "update", f"JobId={job}", "StartTime=now+2")
                told.add(job)
        jobs.run("srun", "-Q", "-p", "batch", "true")
    assert sorted(jobs.outcomes()) == ["requeued"] * 4 + ["stopped"] * 4
    changes = sorted((event["at"], 1 if event["event"] == "started" else -1) for event in jobs.events() if event["event"] in WITHIN)
    running = [sum(change for _, change in changes[: place + 1]) for place in range(len(changes))]
    assert max(running) == 2


WITHIN = ("started", "ended")


def test_every_way_to_submit(jobs: Jobs) -> None:
    """A wrapped command, standard input, Python, arguments as they were typed, scripts that are gone, folders, all of --export,
    options behind the first command, no end of the last line, what was meant for the queue, 20 kB of arguments."""
    run = jobs.folder
    jobs.run("mkdir", "a folder")
    for file in ("variables", "kept"):
        jobs.run("tee", run / file, input=f"PATH={jobs.environment['PATH']}\0CKPTRUN_HOME={jobs.state}\0WORD=file\0")
    say = 'echo "here $PWD word=$WORD export=$SLURM_EXPORT_ENV"\n'
    home = f"export PATH={jobs.environment['PATH']} CKPTRUN_HOME={jobs.state}\n"
    words = shlex.split(endless(jobs, "python"))
    python = "#!/usr/bin/env python3\nimport os, sys\nprint('here', os.getcwd(), flush=True)\n"
    python += f"os.execvp('ckptrun', {words} + sys.argv[1:])\n"
    ways: dict[str, tuple[str, list[str], list[str]]] = {
        "wrap": ("", ["--wrap", f"{say}exec {endless(jobs, 'wrap', 'a', chr(39) + 'b  c' + chr(39))}"], []),
        "stdin": (f"#!/bin/bash\n{say}exec {endless(jobs, 'stdin', 'x')}\n", [], []),
        "quoted": (
            f'#!/bin/bash\n{say}exec {endless(jobs, "quoted")} "$@"\n',
            [],
            ["two  words", "", 'c "d"', "--x=1 $HOME", "-J y"],
        ),
        "child": (f'#!/bin/bash\nX="$2"\n{say}{endless(jobs, "child")} "$X" "$1"\n', [], ["two words", "", "a"]),
        "python": (python, [], ["one", "two"]),
        "gone": (f"#!/bin/bash\n{say}exec {endless(jobs, 'gone', 'old')}\n", [], []),
        "folder": (f"#!/bin/bash\n{say}exec {endless(jobs, 'folder')}\n", ["-D", "a folder"], []),
        "none": (f"#!/bin/bash\n{home}{say}exec {endless(jobs, 'none')}\n", ["--export=NONE"], []),
        "list": (f"#!/bin/bash\n{home}{say}exec {endless(jobs, 'list')}\n", ["--export", "WORD,OTHER='a,b'"], []),
        "all": (f"#!/bin/bash\n{say}exec {endless(jobs, 'all')}\n", ["--export=ALL,WORD=two words"], []),
        "inside": (f"#!/bin/bash\n#SBATCH --export-file={run}/kept\n{say}exec {endless(jobs, 'inside')}\n", [], []),
        "file": (f"#!/bin/bash\n{say}exec {endless(jobs, 'file')}\n", ["--export-file=variables"], []),
        "lines": (f"#!/bin/bash\n{say}exec {endless(jobs, 'lines')}\n", ["--export=ALL,WORD=a\nb c,OTHER='x,y'"], []),
        "late": (f'#!/bin/bash\n#SBATCH --comment="a # b" # -t 9\n{say}#SBATCH --nice=9\nexec {endless(jobs, "late")}', [], []),
        "queued": (
            f"#!/bin/bash\n{say}exec {endless(jobs, 'queued')}\n",
            ["--begin=now+1", "-d", "singleton", "-J", "one only"],
            [],
        ),
        "long": (f'#!/bin/bash\n{say}exec {endless(jobs, "long")} "$@"\n', [], [f"{number:0100}" for number in range(200)]),
    }
    ids = {}
    for name, (text, options, arguments) in ways.items():
        jobs.run("tee", run / f"{name}.sh", input=text)
        common = ("sbatch", "--parsable", "-H", f"-o{run}/{name}.%j.log", "--get-user-env" if name == "folder" else "--nice=1")
        environment = {"env": jobs.environment | {"WORD": "environment"}}
        if name == "stdin":
            ids[name] = jobs.run(*common, input=text, **environment).strip()
        else:
            script = [] if name == "wrap" else [f"{name}.sh"]
            ids[name] = jobs.run(*common, *options, *script, *arguments, **environment).strip()
    for job in ids.values():
        jobs.until_line_is_known(job)
    jobs.run("tee", run / "gone.sh", input="#!/bin/bash\necho edited\n")
    jobs.run("scontrol", "release", *ids.values())
    jobs.until(lambda: sum(event["link"] == 1 for event in jobs.events("started")) == len(ways) or None)
    jobs.run("rm", *(run / f"{name}.sh" for name in ways), run / "variables")
    jobs.until(lambda: jobs.outcomes().count("stopped") == len(ways) or None, 400.0)
    told = {name: [shown_in(path.read_text()) for path in sorted(run.glob(f"{name}.*.log"))] for name in ways}
    assert {name: len(found) for name, found in told.items()} == dict.fromkeys(ways, 3)
    for name, (first, *later) in told.items():
        wanted = first.replace("WORD=two words", "WORD").replace("OTHER='a,b'", "OTHER")
        assert [text.replace("OTHER='a,b'", "OTHER") for text in later] == [wanted] * 2, name
    assert "with ['two  words', '', 'c \"d\"', '--x=1 $HOME', '-J y']" in told["quoted"][2]
    assert "with ['', 'two words']" in told["child"][2]
    assert "with ['one', 'two']" in told["python"][2]
    assert "with ['a', 'b  c']" in told["wrap"][2]
    assert "with ['old']" in told["gone"][2]
    assert f"here {run}/a folder " in told["folder"][2]
    assert "export=NONE" in told["none"][2]
    assert "word=two words export=ALL,WORD" in told["all"][2]
    assert "word=environment" in told["list"][2]
    assert "word=file" in told["file"][2] and "word=file" in told["inside"][2]
    assert "word=a" in told["lines"][2] and f"'{199:0100}']" in told["long"][2]


def shown_in(log: str) -> str:
    """Return what a job said of its folder, its environment and its arguments."""
    found = re.search(r"^here .*$", log, re.MULTILINE), re.search(r"with \[.*\]$", log, re.MULTILINE)
    return " ".join(part[0] for part in found if part is not None)


def test_a_heterogeneous_job_is_refused_at_once(jobs: Jobs) -> None:
    """125, with the reason and what to do; with --max-links 1 it runs."""
    script = jobs.script("ckptrun touch ran\necho rc=$?\nckptrun --max-links 1 touch once\necho rc=$?")
    jobs.submit("-n1", ":", "-n1", script)
    jobs.until_line(r"rc=125\n(?:.*\n)*rc=0$")
    assert "is heterogeneous" in jobs.log()
    assert not (jobs.folder / "ran").exists()
    assert (jobs.folder / "once").exists()


@pytest.mark.parametrize("successor", ["checkpoint", "start"])
def test_a_job_that_started_at_once_is_asked_about_later(jobs: Jobs, successor: str) -> None:
    """Accounting knew nothing yet at the start: asked again while the training runs, and what no job shows is known after all."""
    command = jobs.counter(5000, 0.2, "--hear USR1", options=f"--time-limit 4m --successor {successor}")
    jobs.submit("--signal=B:USR1@70", "--propagate=CORE", jobs.script(command))
    (chain,) = jobs.until(lambda: list(jobs.state.glob("chains/*/chain.json")) or None)
    jobs.until(lambda: '"accounting"' in chain.read_text() or None)
    options = json.loads(chain.read_text())["slurm"]["same"]["options"]
    assert {"--signal=B:USR1@70", "--propagate=CORE"} <= set(options)
    assert successor == "start" or "write it into the script" not in jobs.log()
    jobs.run("ckptrun", "chain", "stop")
    assert jobs.until_over() == ["stopped"]


def test_a_reservation_that_is_over_is_left(jobs: Jobs) -> None:
    """Its end is seen at each hand-over, whatever sbatch says of it: the chain goes on outside, and says so."""
    where = ("Nodes=n2", "CoreCnt=2", "Flags=IGNORE_JOBS", "Duration=10", "Users=ckptrunlab", "StartTime=now")
    jobs.lab.admin("scontrol", "create", "reservation", "ReservationName=course", *where)
    jobs.submit("--reservation=course", jobs.script(f"exec {endless(jobs, 'it')}", before=f"touch began\n{CLOSED}"))
    jobs.until(lambda: (jobs.folder / "began").exists() or None)
    jobs.lab.admin("scontrol", "update", "reservation=course", "EndTime=now+1")
    jobs.open()
    jobs.until(lambda: jobs.outcomes() == ["continued", "continued", "stopped"] or None)
    assert jobs.log().count("reservation course is over before the next job could start") == 2
