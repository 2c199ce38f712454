"""`ckptrun sbatch`: submit a batch script as it is, and it becomes a chain."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import signal
import subprocess
import sys
from typing import IO, NamedTuple

from ckptrun.chain import submissions
from ckptrun.chain.home import state_home
from ckptrun.chain.ready import own_program
from ckptrun.chain.submissions import Submission, Typed
from ckptrun.cli import options
from ckptrun.cli.settings import Setting
from ckptrun.cli.sources import resolve
from ckptrun.errors import CkptrunError, CommandNotFound, UsageError
from ckptrun.slurm import answers, commands, job_script, sbatch_options
from ckptrun.slurm.answers import Answer
from ckptrun.slurm.sbatch_options import Given, Line

HELP = """\
Usage: ckptrun sbatch [SBATCH OPTIONS] SCRIPT [ARGS]...

  Submit an existing, unmodified batch script as a chain.

  The whole script runs under ckptrun; options of sbatch are sbatch's own and
  go to it as they are. Options of ckptrun stand in the script, in lines like

      #CKPTRUN --checkpoint checkpoints/

  or in the variable CKPTRUN_OPTIONS. `ckptrun run --help` lists them. It
  prints what sbatch prints, and ends with sbatch's exit code.
"""

_MOST_BYTES = 64 << 20  # far above what sbatch takes (max_script_size, 4 MiB): a device has no end


class Body(NamedTuple):
    """What is to run: its text, the name that Slurm gives the job for it, how it is called in messages, its file if it is one."""

    text: str
    name: str
    called: str
    path: str | None = None


def main(words: list[str]) -> int:
    """Submit; return sbatch's exit code. Raises UsageError where the words, the script or its options have no meaning."""
    line = sbatch_options.read(words)
    if line is None:
        raise UsageError(_misfit(sbatch_options.misfit(words) or words[0]))
    named = sbatch_options.effective(line.options)
    if "help" in named:
        print(HELP, end="")
        return 0
    if named.keys() & {"usage", "version"}:
        return _run(commands.submit_as_typed(tuple(words)), subprocess.DEVNULL)[0]
    body = _body(line, named)
    called_at = job_script.calls_ckptrun(body.text)
    own = () if called_at else _own_options(body, _is_array(body.text, named))
    try:
        submission = submissions.create(state_home(), _typed(line, body), body.text)
        call = _as_it_is(words, submission) if called_at else _as_chain(words, line, body, own, submission)
    except OSError as error:
        raise CkptrunError(f"the script cannot be kept in {error.filename} ({error.strerror}): set CKPTRUN_HOME") from None
    if called_at and "quiet" not in named:
        print(f"ckptrun: {body.called} calls ckptrun itself (line {called_at}): submitted as it is", file=sys.stderr)
    return _submit(call, submission, tested="test-only" in named)


def _misfit(word: str) -> str:
    name = word.partition("=")[0]
    close = difflib.get_close_matches(name, [f"--{option.name}" for option in sbatch_options.OPTIONS], n=1)
    hint = f", did you mean {close[0]}?" if close and close[0] != name else ""
    return (
        f"{word}: ckptrun knows no such option of sbatch, or its value is missing or one too many{hint}. A plugin's option goes "
        "into the script, as a line `#SBATCH --name=value`"
    )


# --- what is to run


def _body(line: Line, named: dict[str, str]) -> Body:
    if line.rest[:1] == (":",):
        raise UsageError("`:` makes a job of several parts, which cannot be submitted again as it was: make it one job")
    if "wrap" in named:
        if line.rest:
            raise UsageError(f"--wrap is the whole script: {line.rest[0]!r} behind it has no meaning")
        if not named["wrap"].strip():
            raise UsageError("--wrap is empty: there is nothing to submit")
        body = Body(job_script.wrapped(named["wrap"]), "wrap", "--wrap")
    elif line.rest:
        body = _of_file(line.rest[0])
    elif sys.stdin is None or sys.stdin.isatty():
        raise UsageError("no script: write its name behind the options, as in `ckptrun sbatch --time=60 job.sh`")
    else:
        body = Body(_text(sys.stdin.buffer.read(_MOST_BYTES)), "sbatch", "standard input")
    large = len(body.text) >= _MOST_BYTES
    why = "is larger than any script that sbatch takes: name another one" if large else job_script.unfit(body.text)
    if why is not None:
        raise UsageError(f"{body.called} {why}")
    return body


def _of_file(word: str) -> Body:
    """Read a script where sbatch would find it: here, else on PATH."""
    folders = ["", *([] if "/" in word else os.environ.get("PATH", "").split(":"))]
    path = next((path for path in (os.path.join(folder, word) for folder in folders) if os.path.lexists(path)), None)
    if path is None:
        raise UsageError(f"{word!r}: there is no such script, neither here nor on PATH")
    if os.path.isdir(path):
        raise UsageError(f"{word!r} is a folder: name the script in it")
    try:
        with open(path, "rb") as file:
            text = _text(file.read(_MOST_BYTES))
    except OSError as error:
        raise UsageError(f"{word!r} cannot be read: {error.strerror}") from None
    return Body(text, os.path.basename(word), shlex.quote(word), os.path.abspath(path))


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


# --- ckptrun's options


def _is_array(script: str, named: dict[str, str]) -> bool:
    return "array" in named or "array" in sbatch_options.script_options(script) or bool(os.environ.get("SBATCH_ARRAY_INX"))


def _own_options(body: Body, array: bool) -> tuple[str, ...]:
    """Return the words of the `#CKPTRUN` lines. Raises UsageError with every mistake in them and wherever options come from."""
    mistakes: list[str] = []
    words: list[str] = []
    given: list[Setting] = []
    for number, text in job_script.own_lines(body.text):
        source = f"{body.called}, line {number}"
        try:
            found = shlex.split(text, comments=True)
        except ValueError as error:
            mistakes.append(f"{source}: {error} in {text.strip()!r}")
            continue
        before = len(mistakes)
        # The number of the task is known in the job alone.
        known = options.read([word.replace("%a", "0") if array else word for word in found], source, mistakes)
        if len(mistakes) == before:  # what stands behind an option that there is not may be its value
            mistakes += [f"{source}: {why}" for why in _misplaced(found, known)]
        given += known.given
        words += found
    sources = resolve(tuple(given), mistakes, array=array)
    options.to_plan(sources.values, (*job_script.interpreter(body.text), body.name))
    for line in sources.told:
        print(f"ckptrun: {line}", file=sys.stderr)
    return tuple(words)


def _misplaced(words: list[str], known: options.Read) -> list[str]:
    why = [
        f"{word!r}: no shell reads this, write the path out" for word in words if re.match(r"(?:--[a-z-]+=)?(?:~/|\$\w|\$\{)", word)
    ]
    if known.settled or known.rest:
        why.append(f"{known.rest[0] if known.rest else '--'!r} is no option; the command is the script itself")
    if "help" in known.values:
        why.append("--help belongs on a command line: `ckptrun run --help`")
    return why


# --- what is submitted


def _typed(line: Line, body: Body) -> Typed:
    """Return what is kept of the words: no value of a variable is."""
    kept = [
        Given(one.name, sbatch_options.exported_names(one.value)) if one.name == "export" and one.value else one
        for one in line.options
    ]
    return Typed((*(one.word for one in kept), *(("--", *line.rest) if line.rest else ())), body.path)


def _as_it_is(words: list[str], submission: Submission) -> commands.Call:
    return commands.submit_as_typed(tuple(words), dict(os.environ) | {submissions.VARIABLE: submission.id})


def _as_chain(words: list[str], line: Line, body: Body, own: tuple[str, ...], submission: Submission) -> commands.Call:
    home = os.path.dirname(os.path.dirname(submission.path))
    wanted = job_script.Wanted(body.text, submission.script, own_program(), own, home)
    path = submission.write_job_script(body.name, job_script.job_script(wanted))
    given = words[: len(words) - len(line.rest)]
    if body.path is None and line.options:
        given = [one.word for one in line.options if one.name != "wrap"]
    return commands.submit_as_typed((*given, path, *line.rest[1:]))


def _submit(call: commands.Call, submission: Submission, *, tested: bool) -> int:
    try:
        with open(submission.script, "rb") as script:  # read by sbatch where no script is named: then it is what we were given
            code, out, err = _run(call, script)
    except CommandNotFound:
        submission.remove()
        raise
    found = re.search(r"^(?:Submitted batch job )?(\d+)(?:;\S+| on cluster \S+)?$", out, re.MULTILINE)
    if found:
        submission.note_job(found[1])
    elif tested or answers.submission(code, out, err).answer in (Answer.REFUSED, Answer.LATER, Answer.LIMITED):
        submission.remove()
    return code


def _run(call: commands.Call, stdin: IO[bytes] | int) -> tuple[int, str, str]:
    """Run sbatch and pass on what it says, as it says it; return its exit code and what it said."""
    import selectors

    try:
        process = subprocess.Popen(
            call.argv, env=call.environment, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
    except FileNotFoundError:
        raise CommandNotFound("sbatch is not on PATH: submit where Slurm's commands are") from None
    # Ctrl-C reaches sbatch, too, and its answer is ours.
    signal.signal(signal.SIGINT, lambda _number, _frame: None)
    said = {1: b"", 2: b""}
    with process, selectors.DefaultSelector() as pipes:
        for number, pipe in ((1, process.stdout), (2, process.stderr)):
            assert pipe is not None
            pipes.register(pipe, selectors.EVENT_READ, number)
        while pipes.get_map():
            for key, _ in pipes.select():
                part = os.read(key.fd, 65536)
                said[key.data] += part
                if part:
                    _pass_on(key.data, part)
                else:
                    pipes.unregister(key.fileobj)
    code = process.returncode
    return (code if code >= 0 else 128 - code), _text(said[1]), _text(said[2])


def _pass_on(number: int, part: bytes) -> None:
    try:
        os.write(number, part)
    except OSError:
        return
