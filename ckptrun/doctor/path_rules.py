"""PURE. Mistakes in where a training keeps its checkpoints: a folder that the next link does not find."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ckptrun.doctor.findings import Edit, Finding, Severity
from ckptrun.doctor.script import Script, assigned, ckptrun_place, program
from ckptrun.doctor.shell import Command, Word

_CHECKPOINT = r"(?i)(?:^|[-_])(?:ckpts?|checkpoints?|save|snapshots?)(?:[-_]?(?:dir|path|folder|root|file|to))?$"
_RUN = r"(?i)(?:^|[-_])(?:run|out|output|work|exp|experiment|results?)(?:[-_]?(?:dir|path|folder|root))?$"
_OWN_NUMBER = r"\$\{?SLURM_(?:ARRAY_)?JOB_?ID(?::?-[^}]*)?\}?|%[jA]"
_MKTEMP = r"\$\(\s*mktemp[^)]*\)|`\s*mktemp[^`]*`"
_BY_CHANCE = rf"\$\{{?RANDOM\}}?|\$\(\s*date[^)]*\)|`\s*date[^`]*`|\$\$|\$\(\s*uuidgen[^)]*\)|{_MKTEMP}"
_LOCAL = (
    r"/(?:var/)?tmp(?=/|$)|/dev/shm(?=/|$)|/run/user\b|/local(?:[-_]?(?:scratch|disk|ssd))?(?=/|$)|/(?:local)?scratch[-_]local(?=/|$)|"
    r"/localscratch(?=/|$)|/scratch/local(?=/|$)|/mnt/(?:local|nvme|ssd)\w*(?=/|$)|/nvme\w*(?=/|$)|/raid(?=/|$)|"
    r"\$\{?(?:TMPDIR|SLURM_TMPDIR|LOCAL_?SCRATCH|SCRATCH_LOCAL|LOCALDIR|JOB_TMP_DIR|TEMP|TMP)\b\}?"
)


class _Use(NamedTuple):
    """A word in which a folder is named, and whether it is one for checkpoints or for a whole run."""

    word: Word
    checkpoints: bool


def folders(script: Script) -> Iterator[Finding]:
    """A folder that has another name in every link, or lies where another node does not see it."""
    seen: set[tuple[str, int]] = set()
    for use in _uses(script):
        for piece in script.pieces(use.word):
            for rule, finding in _of_piece(script, piece, use):
                if (rule, piece.start) not in seen:
                    seen.add((rule, piece.start))
                    yield finding


def _uses(script: Script) -> Iterator[_Use]:
    yield from (_Use(word, True) for word in script.checkpoints())
    for one in script.main():
        for word in assigned(one):
            name = word.raw.partition("=")[0]
            if (one.name == "export" or one.words) and re.search(_CHECKPOINT, name):
                yield _Use(word, True)
        if one.name == "cd" and len(one.words) > 1 and one.depth == 0:
            yield _Use(one.words[1], False)
        if script.trains(one):
            yield from _arguments(one)


def _arguments(one: Command) -> Iterator[_Use]:
    words = program(one)
    for place, word in enumerate(words):
        name, equals, _ = word.raw.partition("=")
        if name.startswith("-"):
            value = Word(word.raw[len(name) + 1 :], word.start + len(name) + 1, word.line) if equals else None
            value = value or (words[place + 1] if place + 1 < len(words) else None)
            kind = re.search(_CHECKPOINT, name)
            if value is not None and (kind or re.search(_RUN, name)):
                yield _Use(value, bool(kind))
        elif place and "/" in word.raw and not words[place - 1].raw.startswith("-"):
            yield _Use(word, False)
        elif place and _names_a_folder(word.raw.strip('"${}')):
            yield _Use(word, True)


def _names_a_folder(variable: str) -> bool:
    return re.search(_CHECKPOINT, variable) is not None or re.search(_RUN, variable) is not None


def _of_piece(script: Script, piece: Word, use: _Use) -> Iterator[tuple[str, Finding]]:
    name = "${SLURM_JOB_NAME}_${SLURM_ARRAY_TASK_ID}" if script.is_array else "${SLURM_JOB_NAME}"
    found = re.search(_BY_CHANCE, piece.raw)
    if found is not None and (use.checkpoints or not re.search(r"mktemp", found[0]) or "cd" not in piece.raw):
        what = f"{found[0]} makes another folder in every link: the next one would not find the checkpoints"
        yield "random-folder", Finding("random-folder", piece.line, Severity.ERROR, what, _instead(script, piece, found, name))
    found = re.search(_OWN_NUMBER, piece.raw)
    if found is not None and not piece.raw.startswith("-"):
        what = f"{found[0]} is another number in every link: the next one would not find the checkpoints"
        yield "job-id-folder", Finding("job-id-folder", piece.line, Severity.ERROR, what, _instead(script, piece, found, name))
    value = piece.raw.partition("=")[2] if re.match(r"\w+=", piece.raw) else piece.raw
    found = re.match(rf"\"?({_LOCAL})", value)
    if found is not None and use.checkpoints:
        what = f"{found[1]} is a disk of this node alone: the next link may run on another, and would not find the checkpoints"
        yield "local-disk", Finding("local-disk", piece.line, Severity.ERROR, what, tuple(_to_shared(script, found[1], value)))


def _instead(script: Script, piece: Word, found: re.Match[str], name: str) -> tuple[Edit, ...]:
    start, end = piece.start + found.start(), piece.start + found.end()
    if not re.match(_MKTEMP, found[0]):
        return (Edit(start, end, name), *_same_elsewhere(script, piece, found[0], name))
    variable = piece.raw.partition("=")[0]
    if not re.fullmatch(r"\w+", variable):
        return (Edit(start, end, f"runs/{name}"),)
    return (
        Edit(start, end, f'"runs/{name}"'.replace('""', '"') if '"' not in piece.raw else f"runs/{name}"),
        *_made(piece, variable),
    )


def _same_elsewhere(script: Script, piece: Word, told: str, name: str) -> Iterator[Edit]:
    """Return the edits of other words in which the same folder is named: `mkdir` before `cd`."""
    folder = piece.raw.strip("\"'")
    if re.match(r"\w+=", folder) or folder == told:
        return
    for one in script.commands:
        for word in one.words:
            place = word.raw.find(folder)
            if place >= 0 and word.start != piece.start and not one.inner:
                place += word.start + folder.index(told)
                yield Edit(place, place + len(told), name)


def _made(piece: Word, variable: str) -> tuple[Edit, ...]:
    return (Edit(piece.end, piece.end, f'; mkdir -p "${variable}"'),)


def _to_shared(script: Script, prefix: str, value: str) -> Iterator[Edit]:
    """Return the edits that name a folder beside the job script in every place where the local one is named."""
    plain = value.strip("\"'")
    rest = plain[len(prefix) :].strip("/").partition("/")
    wanted = "/".join(part for part in (rest[0], rest[2]) if part) or "checkpoints"
    for found in re.finditer(rf"{re.escape(plain)}(?![\w.-])", script.text):
        line = script.text[script.text.rfind("\n", 0, found.start()) + 1 : found.start()]
        if not line.lstrip().startswith("#") or line.startswith("#CKPTRUN"):
            yield Edit(found.start(), found.end(), wanted)


def shared_by_tasks(script: Script) -> Iterator[Finding]:
    """One checkpoint folder for all tasks of an array: each task is a chain of its own."""
    if not script.is_array:
        return
    for word in script.checkpoints():
        pieces = list(script.pieces(word))
        if any(re.search(r"%a|SLURM_ARRAY_TASK_ID|SLURM_PROCID", piece.raw) for piece in pieces):
            continue
        what = f"all tasks of the array have the checkpoint path {word.raw}: each task is a chain, and only one may work on a path"
        edits = [Edit(word.end, word.end, "-%a")] if not word.raw.endswith(('"', "'")) and "$" not in word.raw else []
        plain = word.plain.rstrip("/")
        if edits and script.ckptrun is not None:
            edits = [Edit(word.start, word.end, f"{plain}-%a")]
        for one in script.main() if edits else ():
            if script.trains(one):
                edits += _own_task(one, plain)
        yield Finding("shared-by-tasks", word.line, Severity.ERROR, what, tuple(edits), "" if edits else "put %a into the path")


def _own_task(one: Command, path: str) -> Iterator[Edit]:
    """Return the edits that give the training of a task the task's folder."""
    place = ckptrun_place(one)
    for number, word in enumerate(one.words):
        before = one.words[number - 1].plain if number else ""
        if word.plain.rstrip("/") == path and not (place is not None and before == "--checkpoint" and number < place + 8):
            yield Edit(word.start, word.end, f'"{path}-$SLURM_ARRAY_TASK_ID"')


RULES = (folders, shared_by_tasks)
