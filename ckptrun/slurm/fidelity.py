"""PURE. What the successor is submitted with, so that it is the same job: options, script arguments, and what cannot be known.

The script's own `#SBATCH` lines go with the script. What was given elsewhere is learned from the best source there is:

1. the words of the command line, where whoever submitted wrote them down;
2. the command line as accounting has it (`submit_line`): the same line again is the same job by construction;
3. the job's record, compared with the script: what differs is given again on the command line, which wins over the script.

SBATCH_* variables that agree with the job go on as variables, so that they win over the script and lose to the command line as they
did at the first submission. What was meant for the first job's way through the queue (--begin, --dependency, --hold ...) does not
go on. No value of an environment variable is kept: of `--export` only the names are.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from ckptrun.slurm import read_back, sbatch_options
from ckptrun.slurm.parse import JobRecord
from ckptrun.slurm.read_back import HIDDEN, PROVIDERS, READABLE, Shown, fits, is_default_log
from ckptrun.slurm.sbatch_options import MEMORY, Given, Takes, effective, exported_names
from ckptrun.slurm.submit_line import Job, Refusal, read_line

TYPED, LINE, RECORD = "the command line as typed", "accounting", "the job's record"
_LINE_WHERE = "sbatch's command line, from accounting"


class Evidence(NamedTuple):
    """All that is known of how a job was submitted. None: nobody could say.

    `shown` holds the record's fields, the batch shell's environment, the logs; `argv` are the words of our own command,
    `shell_words` the script's arguments as the batch shell has them, `script_paths` those beginnings of the record's command that
    are files, `typed` the words after `sbatch`, `line` the command line from accounting, `silence` why there is none.
    """

    script: str
    record: JobRecord
    shown: Shown
    argv: tuple[str, ...] = ()
    shell_words: tuple[str, ...] | None = None
    script_paths: tuple[str, ...] = ()
    typed: tuple[str, ...] | None = None
    line: str | None = None
    silence: str = "accounting does not tell how this job was submitted"


class Same(NamedTuple):
    """How the same job is submitted again: options, script arguments, SBATCH_* variables, and the folder to do it from.

    `learned` says for each option where it was learned; `doubts` are for the user; `source` is the best source that there was.
    """

    options: tuple[str, ...]
    arguments: tuple[str, ...]
    directory: str
    variables: tuple[tuple[str, str], ...] = ()
    learned: tuple[tuple[str, str], ...] = ()
    doubts: tuple[str, ...] = ()
    source: str = RECORD


def from_json(data: Mapping[str, Any], directory: str) -> Same:
    """Return what `chain.json` keeps of a Same."""
    options, arguments, doubts = (tuple(map(str, data.get(name, ()))) for name in ("options", "arguments", "doubts"))
    variables, learned = (tuple((str(left), str(right)) for left, right in data.get(name, ())) for name in ("variables", "learned"))
    place, source = str(data.get("directory", directory)), str(data.get("source", RECORD))
    return Same(options, arguments, place, variables, learned, doubts, source)


def same_job(evidence: Evidence) -> Same:
    """Return how the job that runs now is submitted again."""
    arguments, doubt = _arguments(evidence)
    doubts = [doubt] if doubt else []
    if evidence.typed is not None and (typed := sbatch_options.read(evidence.typed)) is not None:
        words = typed.rest[1:]
        return _again(evidence, typed.options, "sbatch's command line", words, [], TYPED)
    if evidence.line is not None:
        elsewhere = frozenset({*sbatch_options.script_options(evidence.script), *_variables(evidence, ())})
        read = read_line(evidence.line, Job(evidence.record.command, evidence.script, evidence.shown, elsewhere))
        if not isinstance(read, Refusal):
            return _again(evidence, read, _LINE_WHERE, arguments, doubts, LINE)
        evidence = evidence._replace(silence=f"the line that accounting has of this job's submission {read.why}")
    return _from_record(evidence, arguments, doubts)


def reservation_of(same: Same) -> str | None:
    """Return the reservation that the job is submitted into, None for none, and for a list, of which Slurm takes what there is."""
    name = next((option.partition("=")[2] for option in same.options if option.startswith("--reservation=")), "")
    return name if name and "," not in name else None


def without_reservation(same: Same) -> Same:
    """Return how the job is submitted outside its reservation: an empty name takes back the one that the script gives."""
    kept = tuple(option for option in same.options if not option.startswith("--reservation="))
    return same._replace(options=(*kept, "--reservation="))


# --- from a command line


def _again(
    evidence: Evidence, options: tuple[Given, ...], where: str, arguments: tuple[str, ...], doubts: list[str], source: str
) -> Same:
    """Return the same command line again, without what was for the first job only."""
    wanted = [(one, where) for one in options if sbatch_options.BY_NAME[one.name].goes_on and one.name not in _REPLACED]
    named = effective(options)
    if "nodefile" in named and (nodes := evidence.shown.fields.get("ReqNodeList", "(null)")) != "(null)":
        wanted.append((Given("nodelist", nodes), "the job's record"))
    if "export" in named:
        wanted.append((Given("export", exported_names(named["export"])), where))
    variables = _variables(evidence, tuple(named))
    said = {*named, *sbatch_options.script_options(evidence.script), *variables}
    name = read_back.BY_NAME["job-name"].read(evidence.shown)
    if "job-name" not in said and name is not None:  # else it would be called after our copy of the script
        wanted.append((Given("job-name", name), "the job's record"))
    return _finish(evidence, wanted, variables, arguments, doubts, source)


# Given again in a form of our own: files may be gone by then, values are not written down, relative folders mean another place.
_REPLACED = frozenset({"nodefile", "export", "export-file", "chdir"})


def _variables(evidence: Evidence, named: tuple[str, ...]) -> dict[str, str]:
    """Return the SBATCH_* variables, by option, that can have had a part in the submission: none that the job contradicts.

    A script may have set some for other jobs since; ours must not get those.
    """
    found = {}
    for name, (_, value) in sbatch_options.variable_options(evidence.shown.environment).items():
        if name in named or fits(name, value, evidence.shown) is not False:
            found[name] = exported_names(value) if name == "export" else value
    return found


# --- from the record


def _from_record(evidence: Evidence, arguments: tuple[str, ...], doubts: list[str]) -> Same:
    shown = evidence.shown
    script = sbatch_options.script_options(evidence.script)
    variables = _variables(evidence, ())
    wanted: list[tuple[Given, str]] = []
    for one in READABLE:
        seen = one.read(shown)
        said = variables.get(one.name, script.get(one.name))
        if seen is None or one.name == "chdir" or _is_left(one.name, seen, said, script, evidence):
            continue
        if said is not None and one.same(said, seen) is True:
            continue
        value = exported_names(seen) if one.name == "export" else seen
        wanted.append((_in_form(one.name, value), one.where))
    conflicts = {name for name in MEMORY if name in script}
    for given, where in list(wanted):
        if given.name in MEMORY and conflicts - {given.name}:
            wanted.remove((given, where))
            variables[given.name] = given.value or ""
    return _finish(evidence, wanted, variables, arguments, [*doubts, *_unknown(evidence, script)], RECORD)


def _in_form(name: str, value: str) -> Given:
    takes = sbatch_options.BY_NAME[name].takes
    return Given(name, None if takes is Takes.NOTHING or (takes is Takes.MAYBE and not value) else value)


def _is_left(name: str, seen: str, said: str | None, script: Mapping[str, str], evidence: Evidence) -> bool:
    """Return whether what the job shows needs no saying: others imply it, or it is what nobody asks for."""
    if any(provider in script for provider in PROVIDERS.get(name, ())):
        return True
    if name == "nodes" and said is None:
        return seen == "1"
    if name == "mem" and said is None and seen == "0":
        return "mem=" not in evidence.shown.fields.get("TRES", "")
    if name == "export" and "export" in script and "SLURM_EXPORT_ENV" in evidence.script:
        return True  # the script has changed the variable since
    return name == "mail-user" and "MailType" not in evidence.shown.fields


def _unknown(evidence: Evidence, script: Mapping[str, str]) -> list[str]:
    general = (
        f"{evidence.silence}, and a job's record does not show everything. If sbatch's command line had one of "
        f"{', '.join(HIDDEN)}, write it into the script as `#SBATCH {HIDDEN[0]}`, or the next jobs will not have it"
    )
    doubts = [general]
    fields = evidence.shown.fields
    if fields.get("TimeMin", "N/A") != "N/A" and "time" not in script:
        limit = fields.get("TimeLimit")
        doubts.append(
            f"with --time-min the time that was asked for is not known: the next jobs ask for the {limit} that this one got. Write "
            "the time into the script, as `#SBATCH --time=12:00:00`"
        )
    features = fields.get("Features", "(null)")
    if features != "(null)" and not {"constraint", "prefer"} & set(script):
        doubts.append(
            f"whether {features} was a --constraint or only a --prefer is not known: the next jobs require it. If it was a wish, "
            f"write it into the script, as `#SBATCH --prefer={features}`"
        )
    return doubts


# --- what both have in common


def _finish(
    evidence: Evidence,
    wanted: list[tuple[Given, str]],
    variables: dict[str, str],
    arguments: tuple[str, ...],
    doubts: list[str],
    source: str,
) -> Same:
    fields = evidence.shown.fields
    if source == RECORD and fields.get("TimeMin", "N/A") != "N/A" and "time" not in sbatch_options.script_options(evidence.script):
        wanted.append((Given("time", fields.get("TimeLimit")), "the job's record"))
    if _log_is_fixed(evidence):
        wanted = [(one, where) for one, where in wanted if one.name != "open-mode"]
        wanted.append((Given("open-mode", "append"), "its log has a fixed name"))
    # Named even where the script does: whoever finds out that it is over can leave it out.
    if (reservation := fields.get("Reservation", "(null)")) != "(null)" and all(one.name != "reservation" for one, _ in wanted):
        wanted.append((Given("reservation", reservation), "the job's record"))
    wanted.append((Given("chdir", evidence.record.directory), "the job's record"))
    kept = _kept_variables(evidence, variables)
    learned = [(one.word, where) for one, where in wanted]
    learned += [(_in_form(name, value).word, sbatch_options.BY_NAME[name].variable) for name, value in variables.items()]
    directory = evidence.shown.environment.get("SLURM_SUBMIT_DIR") or evidence.record.directory
    options = tuple(one.word for one, _ in wanted)
    return Same(options, arguments, directory, tuple(kept.items()), tuple(learned), tuple(doubts), source)


def _kept_variables(evidence: Evidence, variables: Mapping[str, str]) -> dict[str, str]:
    kept: dict[str, str] = {}
    for name, value in variables.items():
        kept |= sbatch_options.variables_of(name, evidence.shown.environment) or {sbatch_options.BY_NAME[name].variable: value}
    return kept | ({"SBATCH_EXPORT": variables["export"]} if "export" in variables else {})


def _log_is_fixed(evidence: Evidence) -> bool:
    """Return whether a successor would write into this job's log: its name holds no job id, and is not Slurm's own."""
    names = [name for name in evidence.shown.logs[:2] if name and not name.startswith("/dev/")]
    return any(not is_default_log(name, evidence.shown.fields) and not re.search(r"%\d*[jJA]", name) for name in names)


# --- the script's arguments

_USES_ARGUMENTS = re.compile(r"\$(?:[@*#1-9]|\{[@*#1-9!])|\bgetopts?\b|\bshift\b")
_MOVES_ARGUMENTS = re.compile(r"\bshift\b|\bset\s+(?:--|-\s)")
_SHELL = re.compile(r"#!.*\b(?:ba|da|z|k|a)?sh\b")


def _arguments(evidence: Evidence) -> tuple[tuple[str, ...], str | None]:
    """Return the script's arguments, and a doubt where they are not certain: the controller shows them without quotes."""
    command, script = evidence.record.command, evidence.script
    if command in ("(null)", ""):
        return (), None
    words = evidence.shell_words
    if words is not None and (not words or command.endswith(" " + " ".join(words))):
        return words, None
    rest = command[len(_script_path(evidence)) :]
    if not rest:
        return (), None
    text = rest[1:]
    in_shell = not script.startswith("#!") or _SHELL.match(script) is not None
    if in_shell and '"$@"' in script and not _MOVES_ARGUMENTS.search(script):
        for place in range(len(evidence.argv)):
            if text == " ".join(evidence.argv[place:]):
                return evidence.argv[place:], None
    read = tuple(text.split(" "))
    if len(read) == 1 or (in_shell and not _USES_ARGUMENTS.search(script)):
        return read, None
    return read, (
        f"the script's arguments were read as {len(read)} words ({shlex.join(read)}), because Slurm shows them without quotes; "
        "if one of them holds a blank, put it into the script"
    )


def _script_path(evidence: Evidence) -> str:
    """Return where the script's path ends and its arguments begin: it may hold blanks itself."""
    command = evidence.record.command
    if len(evidence.script_paths) == 1:
        return evidence.script_paths[0]
    for folder in (evidence.shown.environment.get("SLURM_SUBMIT_DIR"), evidence.record.directory):
        if folder and command.startswith(f"{folder}/"):
            return folder + command[len(folder) :].partition(" ")[0]
    return command.partition(" ")[0]


def script_beginnings(command: str) -> tuple[str, ...]:
    """Return the beginnings of a record's command that can be the script's path: up to each blank, and the whole."""
    if command in ("(null)", ""):
        return ()
    return tuple(command[: found.start()] for found in re.finditer(r" |$", command) if found.start())
