"""How links end, and what the chain does then: the table of ends and the bounds, with real trainings."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from ckptrun.chain.liveness import process_started
from tests.end_to_end.harness import CHILDREN, Ckptrun

COUNTER = str(CHILDREN / "counter.py")
PYTHON = sys.executable


def counter(steps: int | str, seconds: float, *words: str, folder: str = "ck") -> list[str]:
    """Return the command line of a counting training."""
    return [PYTHON, COUNTER, folder, str(steps), str(seconds), *words]


def goal(ckptrun: Ckptrun, steps: int) -> int:
    """Say where a training of `@goal` steps counts to that starts after this; return that."""
    (ckptrun.folder / "goal.new").write_text(str(steps))
    (ckptrun.folder / "goal.new").replace(ckptrun.folder / "goal")
    return steps


def steps_of(text: str) -> list[int]:
    """Return the steps that a training printed."""
    return [int(line.split()[1]) for line in text.splitlines() if line.startswith("step ")]


def test_a_training_that_hears_goes_on_where_it_stopped(ckptrun: Ckptrun) -> None:
    """Asked by USR1 near the limit, saved, started again: every step once, and the resume flag only from the second link on."""
    limit = ("--time-limit", "24s", "--margin", "20s")  # asked after four seconds, and the rest is for the save
    options = (*limit, "--checkpoint", "ck", "--resume-flag", "--resume {checkpoint} --link={link}")
    # Two steps, each of which lasts until it is asked: the third link finds nothing left to do.
    done = ckptrun.run(*options, "--", *counter(2, 1000, "--hear", "USR1", "--only-asked"), code=0)
    assert steps_of(done.stdout) == [1, 2]
    starts = [line for line in done.stdout.splitlines() if line.startswith("from ")]
    assert starts[0] == "from 0 with []"
    assert len(starts) >= 3 and all("--resume" in line and "--link=" in line for line in starts[1:])
    outcomes = ckptrun.outcomes()
    assert outcomes == ["continued"] * (len(outcomes) - 1) + ["complete"]
    # One that was asked before it had begun to hear is started once more, and hears then.
    assert [event["delivered"][0][1] for event in ckptrun.events("asked")].count(signal.SIGUSR1) == 2


def test_one_that_only_saves_now_and_then_is_stopped_after_a_save(ckptrun: Ckptrun) -> None:
    """No handler at all, a save with each step: each link goes on behind the last save, no step that was saved is run again."""
    done = ckptrun.run("--time-limit", "8s", "--checkpoint", "ck", "--", *counter(32, 0.5), code=0)
    starts = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("from ")]
    assert len(starts) >= 3
    assert {*starts} <= {0} | {end["step"] for end in ckptrun.events("ended")[:-1]}
    assert starts == sorted(starts)
    steps = steps_of(done.stdout)
    assert sorted(set(steps)) == list(range(1, 33))
    begun_again = len(steps) - 32
    assert begun_again <= len(starts) - 1, "at most the step that was under way at each stop"


def test_one_that_ignores_everything_is_ended_before_its_end_time(ckptrun: Ckptrun) -> None:
    """It ignores INT, TERM, USR1, USR2: TERM is sent and then KILL, all before the limit; without progress twice: stopped, 75."""
    command = counter(1000, 0.2, "--ignore", "--only-asked")
    ckptrun.run("--time-limit", "8s", "--checkpoint", "ck", "--", *command, code=75)
    ends = ckptrun.events("ended")
    assert [end["outcome"] for end in ends] == ["continued", "stopped"]
    assert "without progress" in ends[-1]["reason"]
    assert all(end["seconds"] < 60.0 for end in ends), "of itself it takes 200 s"
    assert len(ckptrun.events("killed")) == 2


def test_done_file(ckptrun: Ckptrun) -> None:
    """With --done-file exit 0 is not the end: the file is; and when it stands at the start nothing runs."""
    script = "n=$(cat n 2>/dev/null || echo 0); n=$((n+1)); echo $n > n; [ $n -lt 3 ] || touch finished"
    options = ("--done-file", "finished", "--time-limit", "10s", "--max-links", "9")
    # A link of a few milliseconds is short, and short links wait for a minute: this one lasts as long as is not short.
    done = ckptrun.run(*options, "--", "sh", "-c", f"sleep 1.1; {script}", code=0)
    assert ckptrun.outcomes() == ["continued", "continued", "complete"], done.stderr
    again = ckptrun.run(*options, "--", "sh", "-c", "echo ran", code=0)
    assert again.stdout == ""
    assert "nothing is left to do" in again.stderr


def test_again_exit_and_retries(ckptrun: Ckptrun) -> None:
    """An exit code that means `again`, and failures that are tried again, each in the next link."""
    script = (
        "sleep 1.1; n=$(cat n 2>/dev/null || echo 0); n=$((n+1)); echo $n > n; case $n in 1) exit 85;; 2) exit 3;; 3) exit 4;; esac"
    )
    options = ("--again-exit", "85", "--retries", "2", "--time-limit", "10s")
    ckptrun.run(*options, "--", "sh", "-c", script, code=0)
    ends = ckptrun.events("ended")
    assert [end["outcome"] for end in ends] == ["continued", "continued", "continued", "complete"]
    assert [end["retried"] for end in ends] == [False, True, True, False]


def test_a_failure_is_the_end_of_the_chain_and_the_same_command_goes_on(ckptrun: Ckptrun) -> None:
    """Unasked exit 3: failed with 3, nothing is started again; the same command later is the next link of the same chain."""
    script = "[ -e fixed ] || exit 3"
    first = ckptrun.run("--", "sh", "-c", script, code=3)
    assert "failed" in first.stderr
    (ckptrun.folder / "fixed").touch()
    assert "this is its link 2" in ckptrun.run("--", "sh", "-c", script, code=0).stderr
    assert ckptrun.outcomes() == ["failed", "complete"]
    assert "link 1" in ckptrun.run("--", "sh", "-c", script, code=0).stderr, "after a complete chain a new one begins"
    assert len(list((ckptrun.home / "chains").iterdir())) == 2


def test_max_links_and_stop_file(ckptrun: Ckptrun) -> None:
    """At --max-links the chain is stopped with 75; with the stop file there nothing is started."""
    options = ("--time-limit", "2s", "--stop-file", "stop", "--chain", "bounded")
    ckptrun.run(*options, "--max-links", "2", "--", *counter(99, 0.2), code=75)
    assert ckptrun.outcomes() == ["continued", "stopped"]
    (ckptrun.folder / "stop").touch()
    done = ckptrun.run(*options, "--", *counter(99, 0.2), code=75)
    assert done.stdout == ""
    assert "stop file" in done.stderr


def test_a_named_chain(ckptrun: Ckptrun) -> None:
    """--chain: an ended unfinished one is joined, a complete one is said and left alone."""
    ckptrun.run("--chain", "mine", "--", "sh", "-c", "exit 1", code=1)
    ckptrun.run("--chain", "mine", "--", "true", code=0)
    assert ckptrun.outcomes() == ["failed", "complete"]
    done = ckptrun.run("--chain", "mine", "--", "sh", "-c", "echo ran", code=0)
    assert done.stdout == ""
    assert "mine is complete" in done.stderr


def test_fresh_sets_older_checkpoints_aside(ckptrun: Ckptrun) -> None:
    """Without --fresh link 1 resumes from what stands there and says so; with it, what stands there is moved, not deleted."""
    ckptrun.run("--checkpoint", "ck", "--", *counter(3, 0.01), code=0)
    older = ckptrun.run("--checkpoint", "ck", "--", *counter(5, 0.01), code=0)
    assert "older than this chain" in older.stderr
    assert steps_of(older.stdout) == [4, 5]
    fresh = ckptrun.run("--checkpoint", "ck", "--fresh", "--", *counter(2, 0.01), code=0)
    assert steps_of(fresh.stdout) == [1, 2]
    assert len(list(ckptrun.folder.glob("ck.set-aside/before-*/ck/step-*.json"))) == 5


@pytest.mark.parametrize(
    ("number", "code", "outcome"),
    [(signal.SIGTERM, 75, "stopped"), (signal.SIGHUP, 75, "cancelled"), (signal.SIGINT, 75, "cancelled")],
    ids=["TERM", "HUP", "INT"],
)
def test_signals_that_end_the_chain(ckptrun: Ckptrun, number: int, code: int, outcome: str) -> None:
    """TERM outside Slurm stops, HUP and INT cancel: the training is asked first, and the next command goes on behind it."""
    goal(ckptrun, 100_000)
    command = counter("@goal", 0.1, "--hear", "USR1,INT", "--only-asked")
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # a run behind nohup would hand on that it is ignored
    running = ckptrun.start("--checkpoint", "ck", "--", *command)
    signal.signal(signal.SIGHUP, hangup)
    running.until("step 3")
    running.send(number)
    text = running.end(code)
    assert "heard" in text
    assert ckptrun.outcomes() == [outcome]
    further = goal(ckptrun, steps_of(text)[-1] + 10)
    done = ckptrun.run("--checkpoint", "ck", "--", *command, code=0)
    assert steps_of(text) + steps_of(done.stdout) == list(range(1, further + 1))


def test_usr1_means_save_and_go_on(ckptrun: Ckptrun) -> None:
    """USR1 to ckptrun: the training is asked now, and the next link starts."""
    goal(ckptrun, 100_000)
    running = ckptrun.start(
        "--time-limit", "30s", "--checkpoint", "ck", "--", *counter("@goal", 0.1, "--hear", "USR1", "--only-asked")
    )
    running.until("step 35")  # a link of less than a tenth of its limit would be followed by a pause
    further = goal(ckptrun, 45)
    running.send(signal.SIGUSR1)
    steps = steps_of(running.end(0))
    assert steps == list(range(1, steps[-1] + 1)) and steps[-1] >= further
    assert ckptrun.outcomes() == ["continued", "complete"]


def test_what_outlives_the_training_is_stopped_before_the_next_link(ckptrun: Ckptrun) -> None:
    """A double-forked process stays in the tree and is gone before the next link starts."""
    script = "(setsid sleep 1000 & echo $! >> pids); exec sleep 100"
    ckptrun.run("--time-limit", "5s", "--max-links", "2", "--", "sh", "-c", script, code=75)
    pids = (ckptrun.folder / "pids").read_text().split()
    assert len(pids) == 2
    assert not [pid for pid in pids if process_started(int(pid)) is not None]


def test_one_that_is_complete_leaves_its_background_processes_alone(ckptrun: Ckptrun) -> None:
    """As without ckptrun: what a finished command left in the background goes on."""
    done = ckptrun.run("--", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!", code=0)
    pid = int(done.stdout)
    assert os.path.exists(f"/proc/{pid}")
    os.kill(pid, signal.SIGKILL)


def test_a_checkpoint_that_was_seen_and_is_gone(ckptrun: Ckptrun) -> None:
    """A start that finds no checkpoint although the chain has seen one does not train: 125, loudly."""
    command = ("--checkpoint", "ck", "--", *counter(5, 0.05, "--exit", "3"))
    ckptrun.run(*command, code=3)
    subprocess.run(["mv", "ck", "elsewhere"], cwd=ckptrun.folder, check=True)
    done = ckptrun.run(*command, code=125)
    assert "does not train from the beginning" in done.stderr
    assert done.stdout == ""
    subprocess.run(["mv", "elsewhere", "ck"], cwd=ckptrun.folder, check=True)
    assert "resuming from ck/step-000005.json" in ckptrun.run(*command, code=3).stderr


def test_a_checkpoint_that_was_seen_by_a_link_that_died_without_a_word(ckptrun: Ckptrun) -> None:
    """kill -9 of all, and the folder is gone: seeing one whole checkpoint was enough. It is back: the line says who died."""
    options = ("--time-limit", "60s", "--checkpoint", "ck", "--chain", "one", "--")
    running = ckptrun.start(*options, *counter(1000, 0.2))
    running.until("^ready")
    while not ckptrun.events("appeared"):
        running.until("^step")
    running.send(signal.SIGKILL)
    os.kill(ckptrun.events("child_started")[0]["pid"], signal.SIGKILL)
    running.end(-signal.SIGKILL)
    subprocess.run(["mv", "ck", "elsewhere"], cwd=ckptrun.folder, check=True)
    assert "would not train" in ckptrun.run("--dry-run", *options, *counter(1000, 0.2), code=0).stdout
    assert "does not train from the beginning" in ckptrun.run(*options, *counter(1000, 0.2), code=125).stderr
    subprocess.run(["mv", "elsewhere", "ck"], cwd=ckptrun.folder, check=True)
    again = ckptrun.run(*options, *counter(1, 0.1), code=0)
    assert re.search(
        r"link 3 of one, resuming from ck/step-\d+.json \(whole, .* B, saved .* ago, link 1 died without a word\)", again.stderr
    )


def test_the_line_at_every_start(ckptrun: Ckptrun) -> None:
    """Nothing yet; then what it resumes from, how large, and when that was saved before, at or after the end of the link before."""
    command = ("--checkpoint", "ck", "--chain", "one", "--", *counter(5, 0.05, "--exit", "3"))
    first = ckptrun.run(*command, code=3).stderr
    assert "ckptrun: link 1 of one, nothing to resume from yet, starting fresh; no time limit\n" in first
    (path,) = ckptrun.folder.glob("ck/step-000005.json")
    for shift_s, said in (
        (-38.0, r"saved 3[78] s before link \d ended"),
        (0.0, r"saved as link \d ended"),
        (75.0, r"saved 7\d s after link \d ended"),
    ):
        ended_at = ckptrun.events("ended")[-1]["ended_at"]
        os.utime(path, (ended_at + shift_s,) * 2)
        again = ckptrun.run(*command, code=3).stderr
        assert re.search(
            rf"^ckptrun: link \d of one, resuming from ck/step-000005.json \(whole, \d+ B, {said}\); ", again, re.MULTILINE
        ), again


def test_what_a_dead_writer_left_does_not_reach_the_training(ckptrun: Ckptrun) -> None:
    """A temporary that a link left is moved before the next one lists its folder, and it is said; a fresh one of others stays."""
    command = ("--checkpoint", "ck", "--chain", "one", "--", *counter(3, 0.05, "--exit", "3"))
    (ckptrun.folder / "ck").mkdir()
    (ckptrun.folder / "ck" / "step-000009.json.tmp").write_text('{"st')
    assert "left behind" not in ckptrun.run(*command, code=3).stderr, "who knows who writes it"
    done = ckptrun.run(*command, code=3)
    assert "left behind by a save that never ended: step-000009.json.tmp, set aside to ck.set-aside/link-2" in done.stderr
    assert (ckptrun.folder / "ck.set-aside" / "link-2" / "step-000009.json.tmp").exists()
    assert ckptrun.show("one")["links"][1]["set_aside"] == []


def test_a_truncated_checkpoint_is_set_aside_and_the_one_before_is_used(ckptrun: Ckptrun) -> None:
    """The newest file is cut: it is moved out of the folder, and the training goes on from the one before."""
    command = ("--checkpoint", "ck", "--", *counter(5, 0.05, "--exit", "3"))
    ckptrun.run(*command, code=3)
    (ckptrun.folder / "ck" / "step-000005.json").write_text('{"st')
    done = ckptrun.run(*command, code=3)
    assert "truncated" in done.stderr
    assert steps_of(done.stdout) == [5]
    assert (ckptrun.folder / "ck.set-aside" / "link-2" / "step-000005.json").read_text() == '{"st'


def test_saves_are_learned_after_one_that_was_cut(ckptrun: Ckptrun) -> None:
    """A save that needs a third of the limit: cut at most once, then it is given the time that it needs."""
    command = counter(1000, 0.1, "--hear", "USR1", "--only-asked", "--save", "2.4")
    ckptrun.run("--time-limit", "7s", "--checkpoint", "ck", "--max-links", "4", "--", *command, code=75)
    cut = [save["cut"] for save in ckptrun.events("saved")]
    assert cut.count(False) >= 1
    # Half of the limit is the most there is, and it is given as soon as one save has been seen, cut or not.
    margins = [start["margin_s"] for start in ckptrun.events("started")]
    assert margins[0] < 2.4 and margins == sorted(margins) and margins[-1] == 3.5


def test_a_save_that_needs_more_than_half_of_the_limit(ckptrun: Ckptrun) -> None:
    """It is said once, with the limit that would do, and the chain stops at its bound instead of going on for ever."""
    command = counter(1000, 0.1, "--hear", "USR1", "--only-asked", "--save", "20")
    done = ckptrun.run("--time-limit", "6s", "--checkpoint", "ck", "--", *command, code=75)
    assert done.stderr.count("would do") <= 1
    assert "without progress" in done.stderr


def test_dry_run_says_what_would_happen_and_does_nothing(ckptrun: Ckptrun) -> None:
    """Times, who is asked, what would be resumed from; no state folder, no training."""
    done = ckptrun.run("--dry-run", "--time-limit", "10m", "--checkpoint", "ck", "sh", "-c", "echo ran", code=0)
    for word in ("chain: a new one", "end time", "checkpoint time", "TERM", "SIGUSR1", "--max-links 20"):
        assert word in done.stdout
    assert "ran" not in done.stdout.replace("echo ran", "")
    assert not ckptrun.home.exists()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_save_of_20_s_under_a_limit_of_60_s(ckptrun: Ckptrun) -> None:
    """Learned after one cut at most."""
    command = counter(100000, 0.1, "--hear", "USR1", "--only-asked", "--save", "20")
    ckptrun.run("--time-limit", "60s", "--checkpoint", "ck", "--max-links", "4", "--", *command, code=75, timeout=600)
    cut = [save["cut"] for save in ckptrun.events("saved")]
    assert cut.count(True) <= 1
    assert cut[-2:] == [False, False]


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_save_of_40_s_under_a_limit_of_60_s(ckptrun: Ckptrun) -> None:
    """Said once, with the limit that would do; the chain stops at its bound."""
    command = counter(100000, 0.1, "--hear", "USR1", "--only-asked", "--save", "40")
    done = ckptrun.run("--time-limit", "60s", "--checkpoint", "ck", "--", *command, code=75, timeout=600)
    assert done.stderr.count("would do") <= 1
    assert "without progress" in done.stderr


def remove_state(ckptrun: Ckptrun) -> None:
    """Let the ledger vanish, all at once: it is written to in this moment."""
    gone = ckptrun.home.with_name("gone")
    ckptrun.home.rename(gone)
    shutil.rmtree(gone)


def test_a_state_folder_that_vanishes_stops_no_training(ckptrun: Ckptrun) -> None:
    """The ledger is removed while the training runs: said once, the training goes on to its own end and status."""
    running = ckptrun.start("--checkpoint", "ck", "--time-limit", "1h", "--", *counter(60, 0.1, "--exit", "5"))
    running.until("step 3")
    remove_state(ckptrun)
    text = running.end(5)
    assert "step 60" in text
    assert text.count("cannot be written") == 1


def test_the_next_link_does_not_train_without_a_turn(ckptrun: Ckptrun) -> None:
    """The ledger is gone at the hand-over: the next link cannot take its turn, so it does not train: 75."""
    options = ("--checkpoint", "ck", "--time-limit", "30s")
    running = ckptrun.start(*options, "--", *counter(1000, 0.1, "--hear", "USR1"))
    running.until("step 3")
    ckptrun.home.rename(ckptrun.home.with_name("gone"))  # at once: `rm -r` would meet what is just being written
    running.until("step 35")  # a link of less than a tenth of its limit would be followed by a pause
    running.send(signal.SIGUSR1)
    text = running.end(75)
    assert "cannot take its turn" in text
    assert text.count("ready (pid") == 1


def test_one_that_is_replaced_stops_its_training_and_writes_nothing(ckptrun: Ckptrun) -> None:
    """Another start takes the next turn: within ten seconds the training is stopped, 75, and no end is recorded."""
    running = ckptrun.start("--checkpoint", "ck", "--chain", "one", "--", *counter(10000, 0.1))
    running.until("step 3")
    turns = ckptrun.home / "chains" / "one" / "turns"
    (turns / ".2").write_text('{"v": 1, "kind": "resume", "link": 2}')
    (turns / ".2").rename(turns / "2")
    text = running.end(75)
    assert "taken over" in text
    assert ckptrun.events("ended") == []
    assert sorted(path.name for path in turns.iterdir() if path.name.isdigit()) == ["1", "2"]


def test_two_who_join_at_once(ckptrun: Ckptrun) -> None:
    """An unfinished chain and two who type its command at the same moment: one trains, the other says why it does not."""
    command = ("--checkpoint", "ck", "--chain", "one", "--", *counter(15, 0.1, "--exit", "3"))
    ckptrun.run("--checkpoint", "ck", "--chain", "one", "--", "false", code=1)
    both = [ckptrun.start(*command), ckptrun.start(*command)]
    texts = [one.end() for one in both]
    assert sorted(one.process.returncode for one in both)[0] == 3
    assert {one.process.returncode for one in both} <= {3, 75, 125}
    assert sum(text.count("ready (pid") for text in texts) == 1
    assert not any("TWO AT ONCE" in text or "Traceback" in text for text in texts)


def test_a_training_that_was_sent_into_the_background_is_told(ckptrun: Ckptrun) -> None:
    """The command is over at once and the chain complete, as without ckptrun; that something still runs is said, with its pid."""
    done = ckptrun.run("sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!", code=0)
    pid = int(done.stdout)
    os.kill(pid, 9)
    assert f"sleep 60 (process {pid}), which it started, still runs" in done.stderr
    assert "still runs" not in ckptrun.run("true", code=0).stderr
