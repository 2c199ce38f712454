"""`ckptrun --rehearse`: the right answer for each kind of training, and nothing left behind but what the training saved."""

from __future__ import annotations

import re
import shutil
import sys

import pytest

from tests.end_to_end.harness import CHILDREN, PROGRAMS, Ckptrun
from tests.end_to_end.jobs import Jobs
from tests.end_to_end.limits import TRIES, Seconds

SHORT = ("--rehearse", "4s", "--margin", "4s")
COUNTER = (sys.executable, str(CHILDREN / "counter.py"), "ck")
EITHER = ("not needed, it catches only SIGINT and does not save on it", "yes, SIGINT to ")
REHEARSED = (sys.executable, str(CHILDREN / "rehearsed.py"), "ck")


def answers(text: str) -> dict[str, str]:
    """Return the lines of the verdict: what follows `heard`, `saved` and `resumed`."""
    return dict(re.findall(r"^ckptrun: (heard|saved|resumed): (.*)$", text, re.MULTILINE))


def rehearse(ckptrun: Ckptrun, code: int, *words: str, margin: str = "10s") -> dict[str, str]:
    """Rehearse shortly, with `--checkpoint ck`; the exit code must be that. Return the answers.

    How fast a program starts here is not known: one that was asked before it was ready is rehearsed again, for longer.
    """
    for seconds in ("2s", "6s", "18s"):
        shutil.rmtree(ckptrun.folder / "ck", ignore_errors=True)
        done = ckptrun.run("--rehearse", seconds, "--margin", margin, "--checkpoint", "ck", *words)
        if done.stdout.count("ready") == 1 + done.stderr.count("start 2 of 2"):
            break
    assert done.returncode == code, done.stderr
    return answers(done.stderr)


def rehearse_guide(ckptrun: Ckptrun, program: str, checkpoint: str, seconds: float, margin: str) -> dict[str, str]:
    """Rehearse a program of the guide; return the answers, all good.

    The time grows where the program did not come to a save, and shrinks where it was over before.
    """
    shutil.copy(PROGRAMS / program, ckptrun.folder / "train.py")
    found: dict[str, str] = {}
    time = Seconds(seconds)
    for _ in range(TRIES):
        shutil.rmtree(ckptrun.folder / "checkpoints", ignore_errors=True)
        options = ("--rehearse", f"{time.now:.1f}s", "--margin", margin, "--checkpoint", checkpoint)
        done = ckptrun.run(*options, sys.executable, "train.py")
        found = answers(done.stderr)
        if "before the ask" in found["heard"]:
            time.was_too_long()
        elif found["saved"].startswith("no, no new checkpoint") or is_too_short(found["resumed"], checkpoint):
            time.was_too_short()
        else:
            assert done.returncode == 0, done.stderr
            return found
    raise AssertionError(f"no time fits: {found} at last, and next would be {time.now} s")


def is_too_short(resumed: str, checkpoint: str) -> bool:
    """Return whether the second start did not come to open what was saved, or to a save of its own, where saves have steps."""
    if "its second start never opened" in resumed:
        return True
    return checkpoint == "checkpoints" and resumed.startswith("yes, its second start opened") and "went on to step" not in resumed


def test_the_guides_pickle_program(ckptrun: Ckptrun) -> None:
    """It catches only SIGINT and saves on it: heard, saved in place, opened again; no copy and no chain stays."""
    found = rehearse_guide(ckptrun, "guide_pickle.py", "checkpoint.pkl", 3.0, "3s")
    assert re.match(r"yes, SIGINT to \d+ \(python\S* \S+ catches it\); it catches no other, and a save followed", found["heard"])
    assert re.match(r"yes, checkpoint.pkl \(whole, \d+ B\), .* after the ask; a margin of 3\d s follows", found["saved"])
    assert found["resumed"].startswith("yes, its second start opened checkpoint.pkl")
    assert sorted(path.name for path in ckptrun.folder.iterdir()) == ["checkpoint.pkl", "train.py"]


def test_the_guides_pytorch_program(ckptrun: Ckptrun) -> None:
    """It catches only SIGINT and does not save on it: stopped after a save instead, opened, and a later epoch follows.

    A save that was over just after the SIGINT cannot be told from one that was made for it: either answer is good.
    """
    ckptrun.environment |= {"PYTHONPATH": str(PROGRAMS / "stand_in"), "STAND_IN_SECONDS_AN_ITEM": "0.0005"}
    found = rehearse_guide(ckptrun, "guide_pytorch.py", "checkpoints", 8.0, "2s")
    assert found["heard"].startswith(EITHER)
    name, step = re.match(r"yes, (checkpoints/(\d+)\.pt) \(whole", found["saved"]).groups()
    later = re.match(rf"yes, its second start opened {name} and went on to step (\d+)", found["resumed"])[1]
    assert int(later) > int(step)


def test_the_guides_tensorflow_program(ckptrun: Ckptrun) -> None:
    """A checkpoint of several files, found through TensorFlow's own `checkpoint` file: opened, and a later epoch follows."""
    ckptrun.environment |= {"PYTHONPATH": str(PROGRAMS / "stand_in"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    found = rehearse_guide(ckptrun, "guide_tensorflow.py", "checkpoints", 7.0, "2s")
    assert found["heard"].startswith(EITHER)
    name, step = re.match(r"yes, (checkpoints/(\d+)\.ckpt) \(whole", found["saved"]).groups()
    later = re.match(rf"yes, its second start opened {name} and went on to step (\d+)", found["resumed"])[1]
    assert int(later) > int(step)


def test_one_that_hears_saves_and_resumes(ckptrun: Ckptrun) -> None:
    """All three good: 0, which process and which signal, which file; and nothing stays but what the training wrote."""
    found = rehearse(ckptrun, 0, *COUNTER, "1000", "0.1", "--hear", "USR1")
    assert re.match(r"yes, SIGUSR1 to \d+ \(python\S* \S+ catches it\); it ended .* after the ask \(exit code 0\)$", found["heard"])
    step = int(re.match(r"yes, ck/step-(\d+)\.json \(whole", found["saved"])[1])
    assert int(re.match(r"yes, its second start opened ck/step-\d+\.json and went on to step (\d+)$", found["resumed"])[1]) > step
    assert "no chain yet" in ckptrun.run("chain", "list", code=0).stdout
    assert list((ckptrun.home / "rehearsals").iterdir()) == []
    assert sorted(path.name for path in ckptrun.folder.iterdir()) == ["ck", "ck.lock"]


def test_it_resumes_as_a_later_link_does(ckptrun: Ckptrun) -> None:
    """The second start has the variables and the resume flag of a link that resumes, the first one those of a first link."""
    (ckptrun.folder / "show.sh").write_text('echo "$CKPTRUN_RESUME <${CKPTRUN_CHECKPOINT##*/}> [$4 $5]"; exec "$1" "$2" "$3" none')
    words = ("--resume-flag", "--from {link}", "sh", "show.sh", *REHEARSED)
    for seconds in ("4s", "12s", "36s"):  # how fast a program starts here is not known
        shutil.rmtree(ckptrun.folder / "ck", ignore_errors=True)
        done = ckptrun.run("--rehearse", seconds, "--margin", "10s", "--checkpoint", "ck", *words)
        if done.stdout.count("ready") == 2:
            break
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"0 <> \[ \]\nready\n1 <step-\d{6}\.json> \[--from 2\]\nready\n", done.stdout)


def test_one_that_never_hears_and_never_saves(ckptrun: Ckptrun) -> None:
    """Neither heard nor saved: 1, and the page that has the lines to add."""
    found = rehearse(ckptrun, 1, sys.executable, "-c", "print('ready', flush=True)\nwhile True: pass")
    assert found["heard"].startswith("no, it catches only SIGINT and does not save on it")
    assert "docs/how-to/hear-the-ask.md" in found["heard"]
    assert found["saved"].startswith("no, no new checkpoint stands. Next: look whether --checkpoint is where it saves")
    assert found["resumed"] == "not tried, there is nothing to resume from"


def test_one_that_cannot_be_told(ckptrun: Ckptrun) -> None:
    """It ignores every signal and saves by itself: stopped after a save, which is as good."""
    found = rehearse(ckptrun, 0, *COUNTER, "1000", "0.4", "--ignore", margin="6s")
    assert found["heard"].startswith("not needed, it cannot be told")
    assert re.match(r"yes, ck/step-\d+\.json \(whole, \d+ B\), its last save, .* before it was stopped$", found["saved"])


def test_one_that_saves_and_never_opens(ckptrun: Ckptrun) -> None:
    """Saved, but did not resume: 1, and the lines that load."""
    found = rehearse(ckptrun, 1, *REHEARSED, "unopened")
    assert found["heard"].startswith("yes") and found["saved"].startswith("yes")
    assert re.match(r"no, its second start never opened ck/step-\d+\.json\. Next: at its start it must load", found["resumed"])
    assert "docs/how-to/rehearse.md" in found["resumed"]


def test_one_that_opens_and_begins_anew(ckptrun: Ckptrun) -> None:
    """It loads the file and counts from zero: the step that falls back tells."""
    found = rehearse(ckptrun, 1, *REHEARSED, "anew")
    assert found["saved"].startswith("yes")
    assert re.match(r"no, its second start opened ck/step-\d+\.json, but its next checkpoint is step \d, after", found["resumed"])


def test_one_whose_save_is_truncated(ckptrun: Ckptrun) -> None:
    """The checkpoint that it was asked for is half a file: not saved, and nothing is started on it, or moved."""
    found = rehearse(ckptrun, 1, *REHEARSED, "cut")
    name = re.match(r"no, (ck/step-\d+\.json) is truncated .* Next: write to a temporary beside it", found["saved"])[1]
    assert found["resumed"].startswith("not tried")
    assert (ckptrun.folder / name).exists() and not (ckptrun.folder / "ck.set-aside").exists()


def test_one_whose_save_takes_longer(ckptrun: Ckptrun) -> None:
    """Heard, and still saving when its time was over: the margin that would do is named."""
    found = rehearse(ckptrun, 1, *COUNTER, "1000", "0.1", "--hear", "USR1", "--only-asked", "--save", "60", margin="2s")
    assert "still saving when it was stopped" in found["heard"]
    assert re.match(r"no, ck/step-\d+\.json\.tmp is only begun.*Next: give it more time: --margin 4s", found["saved"])


def test_one_that_fails_at_its_second_start(ckptrun: Ckptrun) -> None:
    """A training that cannot stand its own checkpoint: not resumed, with its exit code."""
    found = rehearse(ckptrun, 1, *REHEARSED, "refuses")
    assert re.match(r"no, its second start failed by itself after .* with exit code 1\. Next: what it printed", found["resumed"])


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("raise SystemExit(3)", r"no, it ended by itself after .* with exit code 3, before the ask\. Next: what it printed"),
        ("pass", r"no, it ended by itself after .* with exit code 0, before the ask\. Next: rehearse for less than it runs"),
    ],
    ids=["it failed", "it was over"],
)
def test_one_that_ends_before_the_time(ckptrun: Ckptrun, program: str, sentence: str) -> None:
    """It failed, or the time was too long: one line says which, and 1, not the training's own code."""
    found = answers(ckptrun.run("--rehearse", "1m", sys.executable, "-c", program, code=1).stderr)
    assert list(found) == ["heard"] and re.match(sentence, found["heard"])


def test_without_checkpoint_only_the_first_question_has_an_answer(ckptrun: Ckptrun) -> None:
    """What cannot be known is not called good: 1, and the option that is missing. Options may come from the variable."""
    for seconds in ("4s", "12s", "36s"):  # how fast a program starts here is not known
        ckptrun.environment["CKPTRUN_OPTIONS"] = f"--rehearse {seconds} --margin 10s"
        done = ckptrun.run(*COUNTER, "1000", "0.1", "--hear", "USR1", code=1)
        if "ready" in done.stdout:
            break
    found = answers(done.stderr)
    assert found["heard"].startswith("yes, SIGUSR1")
    assert found["saved"] == "unknown, without --checkpoint nobody can see it. Next: name where it saves: --checkpoint PATH"


def test_a_living_chain_and_a_rehearsal_keep_apart(ckptrun: Ckptrun) -> None:
    """Two trainings never write to one checkpoint path: whoever comes second is refused, and the path is free afterwards."""
    counter = ("--", *COUNTER, "1000", "0.1", "--hear", "TERM,USR1")
    chain = ckptrun.start("--checkpoint", "ck", "--chain", "first", *counter)
    chain.until("step 1")
    assert "belongs to chain first, which lives" in ckptrun.run(*SHORT, "--checkpoint", "ck", *counter, code=125).stderr
    chain.send(15)
    chain.end(75)
    rehearsal = ckptrun.start("--rehearse", "1m", "--checkpoint", "ck", *counter)
    rehearsal.until("step")
    refused = ckptrun.run("--checkpoint", "ck", "--chain", "second", *counter, code=125).stderr
    assert "a rehearsal is at work on" in refused
    rehearsal.send(15)
    assert "was interrupted in start 1 of 2: nothing is known" in rehearsal.end(75)
    assert list((ckptrun.home / "rehearsals").iterdir()) == []
    again = ckptrun.run("--checkpoint", "ck", "--chain", "first", "true", code=0).stderr
    assert "going on with chain first" in again and "taken over" not in again


BAD = [
    ("bare number", ["--rehearse", "30", "true"], 2, "30: write 30s or 30m"),
    ("no command", ["--rehearse", "30s"], 2, "no command"),
    ("no value", ["--rehearse"], 2, "--rehearse needs a value: --rehearse DURATION"),
    ("with a dry run", ["--rehearse", "30s", "--dry-run", "true"], 2, "--rehearse runs the training and --dry-run runs nothing"),
    ("no such program", ["--rehearse", "30s", "./missing"], 127, "./missing: no such program"),
    ("done already", ["--rehearse", "30s", "--done-file", "/", "true"], 125, "nothing can be rehearsed: / exists"),
]


@pytest.mark.parametrize(("words", "code", "sentence"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_bad_input(ckptrun: Ckptrun, words: list[str], code: int, sentence: str) -> None:
    """What, which, what to do; the exit code of the documentation; nothing of it stays."""
    done = ckptrun.run(*words, code=code)
    assert sentence in done.stderr and "Traceback" not in done.stderr
    assert not (ckptrun.home / "rehearsals").exists() or not list((ckptrun.home / "rehearsals").iterdir())


def test_no_room_for_a_rehearsal(ckptrun: Ckptrun) -> None:
    """A state folder in which nothing can be made: 125, and the variable to set."""
    ckptrun.home.mkdir()
    (ckptrun.home / "rehearsals").write_text("")
    assert "Set CKPTRUN_HOME to a folder" in ckptrun.run(*SHORT, "true", code=125).stderr


def test_in_a_job(jobs: Jobs) -> None:
    """The same answers inside a job; nothing is submitted and no chain begun; one that needs more than the job has is refused."""
    counter = f"python {jobs.lab.home}/counter.py ck 1000 0.1 --hear USR1"
    before = f"ckptrun --rehearse 10m --checkpoint ck {counter}\necho refused with $?\n"
    job = jobs.submit(jobs.script(f"exec ckptrun --rehearse 8s --margin 12s --checkpoint ck {counter}", before=before))
    jobs.after(job)
    log = jobs.log()
    assert re.search(r"a rehearsal of 10 min takes up to 40 min: .* This job has .* left", log)
    assert "refused with 125" in log
    found = answers(log)
    assert found["heard"].startswith("yes, SIGUSR1") and found["resumed"].startswith("yes"), log
    assert re.search(r"a margin of (1[5-9]|2\d) s follows", found["saved"]), "5% of the job's 5 minutes, and twice the save"
    assert jobs.state_of(job) == "COMPLETED"
    assert (jobs.queue(), jobs.events()) == ([], [])


def test_a_script_is_rehearsed_unchanged(jobs: Jobs) -> None:
    """The variable makes a rehearsal of a job whose script stays as it is; a ckptrun below it relays, and rehearses nothing."""
    inner = f"ckptrun python {jobs.lab.home}/counter.py ck 1000 0.1 --hear USR1"
    script = jobs.script(f"exec ckptrun --checkpoint ck bash -c '{inner}; exit $?'")
    jobs.environment["CKPTRUN_OPTIONS"] = "--rehearse 8s --margin 12s"
    job = jobs.submit(script)
    jobs.after(job)
    found = answers(jobs.log())
    assert re.match(r"yes, SIGUSR1 to \d+ \(ckptrun catches it, behind bash\)", found["heard"]), jobs.log()
    assert found["resumed"].startswith("yes")
    assert (jobs.state_of(job), jobs.queue(), jobs.events()) == ("COMPLETED", [], [])
