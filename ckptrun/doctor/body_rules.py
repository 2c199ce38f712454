"""PURE. Mistakes in what the script runs: traps, submissions of its own, what keeps signals from the training."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from ckptrun.doctor.findings import Edit, Finding, Severity
from ckptrun.doctor.script import Script, ckptrun_place, ckptrun_start, own_words, program
from ckptrun.doctor.shell import Command, Word, commands, unquote

_ERROR, _WARNING = Severity.ERROR, Severity.WARNING
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh"})
_OF_THE_SHELL = frozenset({"EXIT", "0", "ERR", "DEBUG", "RETURN"})
_OWN_JOB = r"SLURM_(?:ARRAY_)?JOB_?ID"
_SELF = r"\$0(?!\d)|\$\{0\}|\$\{?BASH_SOURCE|\$\{?SLURM_JOB_SCRIPT"
_INSTEAD = "ckptrun asks the training, and submits the next job"
_TRIVIAL = frozenset({"echo", "printf", "exit", "wait", "date", "true", ":"})


def no_exec(script: Script) -> Iterator[Finding]:
    """ckptrun without `exec`: Slurm's signals reach the shell alone."""
    one = script.ckptrun
    if one is None or one.function or one.inner or one.words[0].plain == "exec" or one.piped or one.after == "&":
        return
    what = "no exec: Slurm tells only the shell of a cancel or a preemption; it dies, and the training with it before it can save"
    later = script.after(one)
    if not later:
        edits: tuple[Edit, ...] = (Edit(one.words[0].start, one.words[0].start, "exec "),)
    else:
        what += f". With exec, what stands below (line {later[0].line}) would not run: leave the whole script to `ckptrun sbatch`"
        edits = _whole_script(script, one)
    yield Finding("no-exec", one.line, _ERROR, what, edits, "" if edits else "let ckptrun's command be the last")


def _whole_script(script: Script, one: Command) -> tuple[Edit, ...]:
    """Return the edits that move ckptrun's options into a `#CKPTRUN` line and leave the training where it is."""
    split = _training_at(one)
    if split is None or any("$" in word.raw or "`" in word.raw for word in split[0]):
        return ()
    options, training = split
    told = " ".join(shlex.quote(word.plain) for word in options)
    edits = (Edit(one.words[ckptrun_start(one)].start, training.start, ""),)
    return (*edits, script.add_line(f"#CKPTRUN {told}")) if told else edits


def _training_at(one: Command) -> tuple[list[Word], Word] | None:
    """Return ckptrun's own options and the first word of the training, None where they cannot be told apart."""
    words, options = list(own_words(one)), []
    flags = ("--fresh", "--dry-run", "--verbose", "-v")
    while words and words[0].plain.startswith("-"):
        word = words.pop(0)
        if word.plain == "--":
            break
        options.append(word)
        if word.plain not in flags and "=" not in word.plain and words:
            options.append(words.pop(0))
    return (options, words[0]) if words else None


def traps(script: Script) -> Iterator[Finding]:
    """Traps: for a requeue, with a program in the foreground, or lost to `exec`."""
    for one in script.main():
        if one.name == "trap" and len(one.words) > 2 and one.words[1].plain not in ("", "-", "-p", "-l"):
            signals = {re.sub(r"^SIG", "", word.plain.upper()) for word in one.words[2:]} - _OF_THE_SHELL
            yield from _trap(script, one, signals)


def _trap(script: Script, one: Command, signals: set[str]) -> Iterator[Finding]:
    edits = (script.without_command(one, _INSTEAD),)
    if signals and any(_submits(script, inner) for inner in _handler(script, one)):
        why = "scancel sends TERM, too, so that a cancelled job comes back" if "TERM" in signals else "ckptrun submits the next job"
        what = f"this trap on {', '.join(sorted(signals))} submits or requeues: {why}"
        yield Finding("trap-resubmits", one.line, _ERROR, what, edits)
        return
    later = [other for other in script.main() if other.start > one.start and script.trains(other)]
    if later and later[0].words and later[0].words[0].plain == "exec":
        what = f"exec (line {later[0].line}) puts the training in the shell's place: this trap would never run"
        yield Finding("trap-exec", one.line, _WARNING, what, edits)
    elif signals and later and later[0].after != "&":
        what = (
            f"bash runs a trap only when its foreground program ({later[0].name}, line {later[0].line}) has ended: near the limit "
        )
        what += "nothing happens until the kill"
        yield Finding("trap-foreground", one.line, _ERROR, what, edits)


def _handler(script: Script, one: Command) -> tuple[Command, ...]:
    """Return the commands that a trap runs: its own text, and the bodies of the functions that it names."""
    found = list(commands(one.words[1].plain))
    called = {command.name for command in found}
    for _ in range(3):  # functions that functions call
        called |= {command.name for command in script.commands if command.function in called}
    return (*found, *(command for command in script.commands if command.function in called))


def _submits(script: Script, one: Command) -> bool:
    words = program(one)
    if one.name == "scontrol":
        return len(words) > 1 and words[1].plain.startswith("requeue")
    return bool(words) and words[0].plain.rpartition("/")[2] == "sbatch"


def own_submission(script: Script) -> Iterator[Finding]:
    """`sbatch` of itself, `scontrol requeue` of its own job."""
    handlers = {
        other.start for one in script.main() if one.name == "trap" and len(one.words) > 2 for other in _handler(script, one)
    }
    for one in script.commands:
        if not _submits(script, one) or not (one.start in handlers or _is_own(script, one)):
            continue
        what = f"{one.name} beside ckptrun: two jobs would go on with the same training" if one.name == "sbatch" else ""
        what = what or "a requeue beside ckptrun: this job would come back while its successor is in the queue"
        yield Finding("own-submission", one.line, _ERROR, what, (script.without_command(one, _INSTEAD),))


def _is_own(script: Script, one: Command) -> bool:
    text = " ".join(piece.raw for word in one.words[1:] for piece in script.pieces(word))
    if one.name == "scontrol":
        return re.search(_OWN_JOB, text) is not None
    if re.search(r"(?:-d|--dependency)\b.*" + _OWN_JOB, text):
        return True
    named = [word for word in one.words[1:] if not word.plain.startswith("-")]
    return any(
        re.search(_SELF, piece.raw) or piece.plain.rpartition("/")[2] == script.world.name
        for word in named
        for piece in script.pieces(word)
    )


def tee(script: Script) -> Iterator[Finding]:
    """`| tee`: the shell stays, and the exit code is tee's."""
    line = [one for one in script.commands if not one.inner]
    for place, one in enumerate(line):
        if one.name != "tee" or one.before not in ("|", "|&") or one.after in ("|", "|&") or not place:
            continue
        begins = place - 1
        while begins and line[begins].before in ("|", "|&"):
            begins -= 1
        if not any(script.trains(other) for other in line[begins:place]):
            continue
        appends = any(re.fullmatch(r"-\w*a\w*|--append", word.plain) for word in one.words)
        pipefail = any(other.name == "set" and "pipefail" in other.words[-1].plain for other in line)
        if appends and pipefail and script.ckptrun is None:
            continue
        what = "| tee: the pipeline keeps the shell between Slurm and the training, its exit code is tee's: a failure counts as "
        what += (
            "finished"
            + ("" if appends else ", and tee truncates its file in every link")
            + "; the job's log has the output already"
        )
        yield Finding("tee", one.line, _ERROR, what, (Edit(line[place - 1].end, one.end, ""),))


def background(script: Script) -> Iterator[Finding]:
    """The training in the background, and nobody who waits: the job ends at once."""
    for one in script.main():
        if one.after == "&" and script.trains(one) and one.depth == 0:
            if any(other.name == "wait" and other.start > one.start for other in script.main()) or script.after(one):
                continue
            amp = script.text.find("&", one.end)
            what = "& sends the training into the background, and nobody waits: the script ends, and Slurm kills what is left"
            yield Finding("background", one.line, _ERROR, what, (Edit(one.end, amp + 1, ""),))


def shell_text(script: Script) -> Iterator[Finding]:
    """`bash -c "...; python train.py"` without `exec`: the shell stays between."""
    for one in script.commands:
        for place, word in enumerate(one.words[:-1]):
            if word.plain.rpartition("/")[2] not in _SHELLS:
                continue
            follows = one.words[place + 1 :]
            if len(follows) > 1 and re.fullmatch(r"-[a-z]*c[a-z]*", follows[0].plain):
                yield from _shell_text(script, follows[1])
            break


def _shell_text(script: Script, word: Word) -> Iterator[Finding]:
    text, places = unquote(word.raw)
    inside = [one for one in commands(text) if not one.inner and not one.function]
    training = next((one for one in inside if script.trains(one)), None)
    if training is None or len(inside) < 2 or training.piped or training.words[0].plain == "exec":
        return
    name = training.words[0].plain
    line = word.line + word.raw.count("\n", 0, places[training.words[0].start])
    what = f"without exec, the shell of `-c` stays above {name}: a signal that a container hands on ends it, and {name} is orphaned"
    place = word.start + places[training.words[0].start]
    rest = [one for one in inside if one.start > training.start and one.name not in _TRIVIAL]
    edits = (Edit(place, place, "exec "),) if not rest and training.after != "&" else ()
    yield Finding("shell-text", line, _WARNING, what, edits, "" if edits else f"exec {name} ..., and what follows it elsewhere")


_BINARY = frozenset({"-gt", "-lt", "-ge", "-le", "-eq", "-ne", "=", "==", "!=", "-nt", "-ot"})


def comparisons(script: Script) -> Iterator[Finding]:
    """`[ $n -gt ]`: nothing to compare with, so that the test fails in every link."""
    for one in script.commands:
        words = [word for word in one.words if word.plain not in ("]", "]]")]
        if one.name not in ("[", "[[", "test") or len(words) < 2:
            continue
        if words[-1].raw in _BINARY and len(words) > 2:
            other, place = ("right", words[-1].end)
        elif words[1].raw in _BINARY - {"=", "==", "!="} and len(words) > 2:
            other, place = ("left", words[0].end)
        else:
            continue
        operator = words[-1 if other == "right" else 1].plain
        value = " 0" if operator.startswith("-") else ' ""'
        what = f"there is nothing on the {other} of {operator}: the test is an error in every link, and counts as false"
        yield Finding("comparison", one.line, _ERROR, what, (Edit(place, place, value),))


_COUNT = r"\$\{?SLURM_RESTART_COUNT(?::?-[^}]*\}|\})?"
_ASKED = r"\$\(\s*scontrol\s+[^)]*show\s+job[^)]*Restarts[^)]*\)"


def restart_count(script: Script) -> Iterator[Finding]:
    """SLURM_RESTART_COUNT as a sign of a later link: it counts requeues of one job only."""
    what = (
        "SLURM_RESTART_COUNT counts requeues of this job id: the next link is another job, where it is unset: it would start afresh"
    )
    seen: set[int] = set()
    for one in script.commands:
        for word in _deciding(one):
            for piece in script.pieces(word):
                found = re.search(f"{_COUNT}|{_ASKED}|SLURM_RESTART_COUNT", piece.raw)
                if found is None or piece.start in seen:
                    continue
                seen.add(piece.start)
                instead = _count_instead(script, one)
                whole = found[0].startswith("$") and instead
                edits = (Edit(piece.start + found.start(), piece.start + found.end(), instead),) if whole else ()
                line = piece.line + piece.raw.count("\n", 0, found.start())
                yield Finding(
                    "restart-count",
                    line,
                    _ERROR,
                    what,
                    edits,
                    "" if edits else "--resume-flag, CKPTRUN_RESUME in the training; --max-links for a bound",
                )


def _deciding(one: Command) -> tuple[Word, ...]:
    """Return the words of a command on which something depends."""
    if one.name in ("[", "[[", "test", "case", "let") or (one.words and one.words[0].raw.startswith("((")):
        return one.words
    return tuple(word for word in one.words if re.search(r"\$\{SLURM_RESTART_COUNT:?\+", word.raw))


def _count_instead(script: Script, one: Command) -> str:
    """Return what a test may look at instead: what stands under `--checkpoint`; else what ckptrun says to a script that it runs.

    Empty where the test is a bound ("more than 5 restarts"), which is `--max-links`, or where the script knows nothing yet.
    """
    plain = [word.plain for word in one.words]
    if any(int(number) > 1 for number in re.findall(r"(?<![\w-])\d+", " ".join(plain))):
        return ""
    as_text = bool({"-n", "-z"} & set(plain)) or ("" in plain and bool({"=", "==", "!="} & set(plain)))
    known = script.checkpoints()
    if known:
        path = known[0].raw.replace("%a", "${SLURM_ARRAY_TASK_ID}")
        return f"$(ls -A {path} 2>/dev/null)" if as_text else f"$(ls -A {path} 2>/dev/null | wc -l)"
    if script.ckptrun is not None:
        return ""
    return "${CKPTRUN_RESUME#0}" if as_text else "${CKPTRUN_RESUME:-0}"


def second_leader(script: Script) -> Iterator[Finding]:
    """Two commands under ckptrun in one job: the second is refused."""
    found = [one for one in script.main() if script.runs_ckptrun(one) and one.depth == 0 and one.after != "||"]
    if len(found) > 1 and ckptrun_place(found[0]) is not None and found[0].words[0].plain != "exec":
        what = f"a second training under ckptrun (the first: line {found[0].line}): one job is one link of one chain; it is refused"
        yield Finding("two-chains", found[1].line, _ERROR, what, advice="one job script for each training")


RULES = (no_exec, traps, own_submission, tee, background, shell_text, comparisons, restart_count, second_leader)
