"""The command line that accounting keeps without its quotes: read as it was typed, or refused, never wrong."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckptrun.slurm import parse
from ckptrun.slurm.parse import JobId
from ckptrun.slurm.read_back import Shown
from ckptrun.slurm.sbatch_options import BY_NAME, Given, effective, exported_names, read, script_options, variable_options
from ckptrun.slurm.submit_line import Job, Refusal, read_line

# Lines as `sacct -o SubmitLine` printed them, with what the job showed of itself. Slurm 22.05.8.
HOME = "/tmp/lab/home/exp"
RECORDED = [
    (
        "sbatch --parsable -J a  b --comment=x  y show.sh a  b  c \"d\" 'e'   ",
        f"{HOME}/show.sh a  b  c \"d\" 'e'   ",
        {"Comment": "x  y"},
        {"SLURM_JOB_NAME": "a  b"},
        {"parsable": "", "job-name": "a  b", "comment": "x  y"},
    ),
    ("sbatch --parsable ./show.sh x", "./show.sh x", {}, {}, {"parsable": ""}),
    ("sbatch --parsable sub dir/job x.sh 1", f"{HOME}/sub dir/job x.sh 1", {}, {}, {"parsable": ""}),
    ("sbatch --parsable --chdir=/tmp show.sh tab\there", "show.sh tab\there", {}, {}, {"parsable": "", "chdir": "/tmp"}),
    (
        "sbatch --parsable --export=ALL,S=a b show.sh",
        f"{HOME}/show.sh",
        {},
        {"SLURM_EXPORT_ENV": "ALL,S=a b"},
        {"parsable": "", "export": "ALL,S=a b"},
    ),
    (
        "sbatch --parsable -J q;w -- show.sh --foo",
        f"{HOME}/show.sh --foo",
        {},
        {"SLURM_JOB_NAME": "q;w"},
        {"parsable": "", "job-name": "q;w"},
    ),
    ("sbatch --parsable", "(null)", {}, {}, {"parsable": ""}),
]


def job(command: str, fields: dict[str, str], environment: dict[str, str], script: str = "") -> Job:
    """Return what a job shows."""
    directory = fields.pop("WorkDir", HOME)
    return Job(command, script, Shown(fields, environment, ("", "", ""), "", directory))


@pytest.mark.parametrize(("line", "command", "fields", "environment", "options"), RECORDED, ids=[case[0][:40] for case in RECORDED])
def test_lines_as_slurm_recorded_them(
    line: str, command: str, fields: dict[str, str], environment: dict[str, str], options: dict[str, str]
) -> None:
    """Blanks in values, in arguments, in paths; no script at all; a script behind `--`."""
    found = read_line(line, job(command, dict(fields) | ({"WorkDir": "/tmp"} if "chdir" in options else {}), environment))
    assert not isinstance(found, Refusal), found
    assert effective(found) == options


def test_a_wrapped_command() -> None:
    """What `--wrap` was given stands in the script that sbatch made of it, lines and all."""
    text = 'echo a\necho "b  --nice=3"'
    script = f"#!/bin/sh\n# This script was created by sbatch --wrap.\n\n{text}\n"
    found = read_line(f"sbatch -N1 --wrap {text} -t 3", job("(null)", {"NumNodes": "1", "TimeLimit": "00:03:00"}, {}, script))
    assert not isinstance(found, Refusal)
    assert effective(found) == {"nodes": "1", "wrap": text, "time": "3"}
    assert isinstance(read_line("sbatch --wrap other", job("(null)", {}, {}, script)), Refusal)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("srun -n1 job.sh", "is not sbatch's"),
        ("sbatch -t 9 job.sh", "does not fit"),
        ("sbatch --nice=5 job.sh", "does not fit"),
        ("sbatch --no-such=1 job.sh", "does not fit"),
        ("sbatch --export-file a --signal=USR1 job.sh", "more than one way"),
        ("sbatch other.sh", "does not fit"),
        ("sbatch --extra -s x y job.sh", "does not show"),
    ],
)
def test_what_is_refused(line: str, why: str) -> None:
    """Another program's line, a job that was changed since, unknown options, and what can be cut in two ways that both fit."""
    found = read_line(line, job(f"{HOME}/job.sh", {"TimeLimit": "00:05:00", "Nice": "0"}, {}))
    assert isinstance(found, Refusal)
    assert why in found.why


# --- any command line

WORD = st.text("abz09=:,.%/'\"", min_size=1, max_size=6)
TEXT = st.lists(
    st.one_of(WORD, st.sampled_from(["--nice=3", "-s", "-N1", "--time", "--signal=USR1", "", "job.sh", "-J", "--"])), max_size=4
)


@st.composite
def option(draw: st.DrawFn) -> tuple[list[str], dict[str, str], dict[str, str], dict[str, str]]:
    """Return an option's words, and what a job shows of it: the option's name and value, fields, variables."""
    name = draw(
        st.sampled_from(
            ["job-name", "comment", "time", "nice", "nodes", "signal", "oversubscribe", "gres", "export-file", "export"]
        )
    )
    known = BY_NAME[name]
    text = " ".join(draw(TEXT)).strip()
    value = {"time": "7", "nice": "3", "nodes": "2", "signal": "B:USR1@60", "gres": "gpu:2"}.get(name, text or "x")
    fields = {
        "time": ("TimeLimit", "00:07:00"),
        "nice": ("Nice", "3"),
        "nodes": ("NumNodes", "2"),
        "gres": ("TresPerNode", "gres:gpu:2"),
    }
    fields |= {"oversubscribe": ("OverSubscribe", "YES"), "comment": ("Comment", value)}
    variables = {"job-name": {"SLURM_JOB_NAME": value}, "export": {"SLURM_EXPORT_ENV": value}}
    shown = dict([fields[name]]) if name in fields else {}
    if name == "oversubscribe":
        return [draw(st.sampled_from(["-s", "--oversubscribe", "--oversub"]))], {name: ""}, shown, {}
    shortened = next((name[:length] for length in range(2, len(name)) if _is_clear(name[:length])), name)
    spelled = draw(st.sampled_from([name, shortened]))
    forms = [[f"--{spelled}={value}"]]
    if name != "nice":
        forms.append([f"--{spelled}", value])
    if known.short:
        forms += [[f"-{known.short}{value}"], [f"-{known.short}", value]]
    return draw(st.sampled_from(forms)), {name: value}, shown, variables.get(name, {})


def _is_clear(text: str) -> bool:
    return len([other for other in BY_NAME if other.startswith(text)]) == 1


@settings(max_examples=250, deadline=None)
@given(st.lists(option(), max_size=6), TEXT, st.sampled_from(["job.sh", "a b/job.sh", f"{HOME}/job.sh"]))
def test_any_line_is_read_as_typed_or_refused(
    options: list[tuple[list[str], dict[str, str], dict[str, str], dict[str, str]]], arguments: list[str], script: str
) -> None:
    """Values with blanks, quotes, equals signs, values that look like options; long, shortened and short names."""
    words, typed = [], {}
    fields: dict[str, str] = {"TimeLimit": "00:30:00", "Nice": "0", "NumNodes": "1", "OverSubscribe": "OK"}
    environment = {"SLURM_JOB_NAME": "job.sh"}
    for spelled, values, shown, variables in options:
        words += spelled
        typed |= values
        fields |= shown
        environment |= variables
    command = " ".join([script if script.startswith("/") else f"{HOME}/{script}", *arguments])
    line = " ".join(["sbatch", *words, script, *arguments])
    found = read_line(line, job(command, fields, environment))
    assert isinstance(found, Refusal) or effective(found) == typed


@settings(max_examples=100, deadline=None)
@given(st.lists(option(), max_size=6))
def test_most_plain_lines_are_read(options: list[tuple[list[str], dict[str, str], dict[str, str], dict[str, str]]]) -> None:
    """Where no value holds a blank and each option is given once, no line is refused."""
    plain = [one for one in options if not any(" " in word or not word for word in one[0])]
    plain = list({next(iter(one[1])): one for one in plain}.values())
    fields: dict[str, str] = {"TimeLimit": "00:30:00", "Nice": "0", "NumNodes": "1", "OverSubscribe": "OK"}
    environment: dict[str, str] = {}
    for _, _, shown, variables in plain:
        fields |= shown
        environment |= variables
    plain = [one for one in plain if "export-file" not in one[1]]
    words = [word for one in plain for word in one[0]]
    found = read_line(" ".join(["sbatch", *words, "job.sh"]), job(f"{HOME}/job.sh", fields, environment))
    assert not isinstance(found, Refusal), found


def test_words_as_getopt_reads_them() -> None:
    """Values in the same word or the next, flags together, an optional value only in the same word, `--` before the script."""
    line = read(
        ["-HsN2", "-J", "-x", "--exclusive", "--nice=5", "-k", "-koff", "--tasks-per-node=2", "--time", "3", "job.sh", "-J", "y"]
    )
    assert line is not None
    given_options = [
        ("hold", None),
        ("oversubscribe", None),
        ("nodes", "2"),
        ("job-name", "-x"),
        ("exclusive", None),
        ("nice", "5"),
    ]
    given_options += [("no-kill", None), ("no-kill", "off"), ("ntasks-per-node", "2"), ("time", "3")]
    assert line.options == tuple(Given(*pair) for pair in given_options)
    assert line.rest == ("job.sh", "-J", "y")
    assert read(["--mem"]) is read(["--ntasks-per=1"]) is read(["--hold=1"]) is read(["-Z"]) is None


@pytest.mark.parametrize(
    ("lines", "options"),
    [
        ("#SBATCH --job-name='a # b' --comment=\"c  d\"e # -t 3", {"job-name": "a # b", "comment": "c  de"}),
        ("#SBATCH --mem 5G# -t 3\n#SBATCH\n# -t 4\n  #SBATCH -t 4", {"mem": "5G"}),
        ("#SBATCH -o a\\ b", {"output": "a"}),
        ("#SBATCH -J \"a\\\"b\" --comment='it\\'s \\\\'", {"job-name": 'a"b', "comment": "it's \\"}),
        ("#SBATCH --comment # nothing\n#SBATCH -J name", {"comment": "-J"}),
        ("#SBATCH -n2 -- -J x\n#SBATCH -J y", {"ntasks": "2"}),
        ("#SLURM -J old\n#SBATCH\t-n2", {"job-name": "old", "ntasks": "2"}),
        ("\u00a0\n#SBATCH -J x", {}),
        ("true\n#SBATCH -J x", {}),
    ],
)
def test_script_lines_as_sbatch_reads_them(lines: str, options: dict[str, str]) -> None:
    """Quotes, backslashes, comments; the words of all lines are one command line, up to the first command."""
    assert script_options(f"#!/bin/sh\n{lines}\n") == options


def test_variables_of_sbatch() -> None:
    """Flags count whatever they are set to, empty values do not; two variables are one --switches; none for the first job only."""
    environment = {
        "SBATCH_TIMELIMIT": "5",
        "SBATCH_PARTITION": "",
        "SBATCH_OVERCOMMIT": "1",
        "SBATCH_ARRAY_INX": "1-3",
        "SBATCH_WAIT": "1",
    }
    environment |= {"SBATCH_REQ_SWITCH": "2", "SBATCH_WAIT4SWITCH": "5"}
    found = {name: value for name, (_, value) in variable_options(environment).items()}
    assert found == {"time": "5", "overcommit": "", "switches": "2@5"}


@pytest.mark.parametrize(
    ("value", "names"),
    [("NONE", "NONE"), ("ALL,KEY=s3cr,et", "ALL,KEY,et"), ("A,B='x,y=z',C=1", "A,B,C"), ("KEY=a=b", "KEY"), ("", "")],
)
def test_no_value_of_export_is_kept(value: str, names: str) -> None:
    """The names alone are given again; sbatch takes the values from the environment that it is run in."""
    assert exported_names(value) == names


def test_what_accounting_prints() -> None:
    """The line of one job, whatever its words hold; nothing yet, another job, or no accounting are no line."""
    assert parse.submit_line("7|sbatch --wrap=a|b\nc\n", JobId(7)) == "sbatch --wrap=a|b\nc"
    assert parse.submit_line("7_2|sbatch -a 1-3 x\n", JobId(7, 2)) == "sbatch -a 1-3 x"
    assert [parse.submit_line(text, JobId(7)) for text in ("", "7|\n", "70|sbatch x\n")] == [None, None, None]
