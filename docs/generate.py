"""Write the pages that are made from the code: `python docs/generate.py`. A test says when one of them is out of date."""

from __future__ import annotations

from pathlib import Path

from ckptrun.cli.options import OPTIONS
from ckptrun.link.events import Phase
from ckptrun.link.handover import NEVER
from ckptrun.link.supervision import TABLE as STEPS
from ckptrun.slurm.answers import TABLE, Answer

DOCS = Path(__file__).parent


def options_page() -> str:
    """Return the reference of `ckptrun run`'s options."""
    lines = ["# Options of `ckptrun run`", "", "    ckptrun [OPTIONS] [--] COMMAND...", ""]
    lines += ["| option | meaning | default |", "|---|---|---|"]
    for option in OPTIONS:
        name = f"{option.short}, {option.name}" if option.short else option.name
        value = f" {option.value}".replace("|", "\\|") if option.value else ""
        lines.append(f"| `{name}{value}` | {option.help} | {option.default} |")
    lines += ["", "Durations are `30s`, `5m`, `1.5h`, `2d`, or Slurm's forms with a colon or a day: `1:30` (minutes and seconds),"]
    lines += ["`12:00:00`, `1-06` (a day and six hours). A bare number is refused: Slurm would read minutes, most people seconds."]
    lines += [
        "",
        "Options come from the command line, else from the variable `CKPTRUN_OPTIONS`. `--` ends the options; without it the first",
    ]
    lines += [
        "word that is no option is a subcommand (`run`, `sbatch`, `chain`, `verify`, `demo`) if it is one, else the training",
        "command. A script that `ckptrun sbatch` submits has its options in `#CKPTRUN` lines: how-to/submit-a-script.md.",
    ]
    return "\n".join(lines) + "\n"


def diagram_page() -> str:
    """Return the page of one link's states, with the diagram and the table that the machine runs on."""
    arrows: dict[tuple[Phase, Phase], list[str]] = {}
    for (phase, event), row in STEPS.items():
        for target in row.to:
            if target is not phase:
                arrows.setdefault((phase, target), []).append(event.__name__)
    lines = ["# One link, state by state", "", "Made from the table in `ckptrun/link/supervision.py`, which is what runs.", ""]
    lines += ["```mermaid", "stateDiagram-v2", "    [*] --> start"]
    for (phase, target), names in arrows.items():
        lines.append(f"    {phase.value} --> {target.value}: {', '.join(sorted(names))}")
    lines += ["    ended --> [*]", "```", "", "| phase | event | may lead to |", "|---|---|---|"]
    for (phase, event), row in STEPS.items():
        told = (event.__doc__ or "").splitlines()[0]
        lines.append(f"| {phase.value} | {event.__name__}: {told} | {', '.join(to.value for to in row.to)} |")
    return "\n".join(lines) + "\n"


_MEANINGS = {
    "accepted": "the job exists; it is looked at again, before and after this job's end",
    "later": "nobody has looked at it, so there is no job: tried again, 1 s to 30 s apart, as long as there is time",
    "unknown": "there may be a job: it is looked for by its script's path, twice, before anything is tried again",
    "limited": "no job, there is no room now: tried again until the training has ended; then this job is requeued, else stranded",
    "refused": "no job, and the same would be refused again: this job is requeued when it ends, else the chain is stranded",
}


def answers_page() -> str:
    """Return the reference of sbatch's answers: the table by which a submission is read."""
    lines = ["# What sbatch answers, and what follows", "", "Made from the table in `ckptrun/slurm/answers.py`.", ""]
    lines += ["| answer | what follows |", "|---|---|"]
    lines += [f"| {one.value} | {_MEANINGS[one.value]} |" for one in Answer]
    lines += [
        "",
        "An sbatch that was killed, ran out of time or said nothing is unknown. What is not in this table is refused.",
        "",
    ]
    lines += ["| sbatch's last line holds | answer |", "|---|---|"]
    lines += [f"| {text} | {answer.value} |" for answer, texts in TABLE for text in texts]
    lines += [
        "",
        "Where a policy was violated, the line before names the limit. One that this very job is above, whatever else runs",
        "(`...PerJob...`, `...MaxWall...`), is refused. A refusal of the reservation is followed by one submission without it.",
        "",
        "An accepted job whose pending reason no waiting ends is cancelled, and the chain is stranded. Such reasons are",
        ", ".join(f"`{reason}`" for reason in sorted(NEVER)) + ".",
        "A partition that is down or inactive is none of them: the job waits until it is opened.",
    ]
    return "\n".join(lines) + "\n"


PAGES = {"reference/sbatch-answers.md": answers_page, "reference/options.md": options_page, "explanation/one-link.md": diagram_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())
