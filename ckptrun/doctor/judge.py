"""PURE. A job script -> what is wrong with it, and the script as it should be.

A correction may uncover another mistake (`exec` is missed only when `| tee` is gone), so that a script is corrected until nothing
changes any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ckptrun.doctor import body_rules, option_rules, path_rules
from ckptrun.doctor.findings import Finding, Severity, corrected
from ckptrun.doctor.script import Script, World

RULES: tuple[Callable[[Script], Iterator[Finding]], ...] = (*option_rules.RULES, *body_rules.RULES, *path_rules.RULES)
_ROUNDS = 12
# What each rule is about, for the reference; the names are those that findings carry.
ABOUT = {
    "crlf": "Line ends of DOS: sbatch refuses the script.",
    "shebang": "The first line does not say what runs the script: sbatch refuses it.",
    "late-option": "A `#SBATCH` or `#CKPTRUN` line below the first command is a comment.",
    "sbatch-option": "An option that sbatch does not have.",
    "own-option": "An option of ckptrun that does not exist, or whose value has no meaning.",
    "no-time": "No `--time`: every link gets the partition's default, which may be an hour.",
    "over-time": "A `--time` above the partition's limit: the job is accepted and never starts.",
    "over-gpus": "More GPUs than the site gives one job.",
    "not-allowed": "With `--site`: an option that the site refuses or has no use for.",
    "over-advice": "With `--site`: more CPUs or memory for each GPU than the site asks for.",
    "fixed-log": "A log name without `%j` and without `--open-mode=append`: every link truncates the log of the one before.",
    "log-folder": "The folder of the log does not exist: the job fails at its start and leaves no log.",
    "chdir": "`--chdir` names a folder that does not exist: the job runs in `/tmp`.",
    "singleton": "`--dependency=singleton`: jobs of one name wait for each other.",
    "deadline": "`--deadline` lets Slurm cancel what waits; it is no time limit.",
    "no-exec": "`ckptrun` without `exec`: a cancel or a preemption ends the shell, and the training with it.",
    "trap-foreground": "A trap, and the training in the foreground: bash runs the trap when it is too late.",
    "trap-resubmits": "A trap that submits or requeues; one on TERM brings back a job that was cancelled.",
    "trap-exec": "A trap above `exec`: it never runs.",
    "own-submission": "`sbatch` of itself or `scontrol requeue` of its own job: two jobs would go on with one training.",
    "tee": "`| tee` behind the training: the shell stays between, and the exit code is tee's.",
    "background": "The training in the background, and nobody who waits.",
    "shell-text": '`bash -c "...; python train.py"` without `exec`: a signal ends the shell and orphans the training.',
    "comparison": "`[ $n -gt ]`: nothing to compare with; the test fails in every link.",
    "restart-count": "`SLURM_RESTART_COUNT` decides whether to resume: a resubmitted job does not have it.",
    "two-chains": "Two trainings under ckptrun in one job: the second is refused.",
    "random-folder": "`$RANDOM`, `mktemp` or `date` in the name of a run's folder: every link has another one.",
    "job-id-folder": "The job's number in the name of a run's folder: every link has another one.",
    "local-disk": "Checkpoints on a disk that only one node sees.",
    "shared-by-tasks": "All tasks of an array have one checkpoint folder.",
}


def judge(text: str, world: World) -> tuple[Finding, ...]:
    """Return the findings in the order of their lines."""
    script = Script(text, world)
    found = [finding for rule in RULES for finding in rule(script)]
    return tuple(sorted(found, key=lambda one: (one.line, one.rule)))


def works(findings: tuple[Finding, ...]) -> bool:
    """Return whether a chain would work."""
    return all(finding.severity is not Severity.ERROR for finding in findings)


def fixed(text: str, look: Callable[[str], World]) -> str:
    """Return the script with everything corrected that can be; `look` says what its judgement needs of the world."""
    text = text.replace("\r\n", "\n")
    for _ in range(_ROUNDS):
        edits = [edit for finding in judge(text, look(text)) for edit in finding.edits]
        if not edits:
            break
        text = corrected(text, edits)
    return text
