"""A command behind ckptrun is the command as it would be without: status, arguments, streams, descriptors, signals, terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pexpect
import pytest

from tests.end_to_end.harness import CHILDREN, Ckptrun

FACTS = str(CHILDREN / "facts.py")
COUNTER = str(CHILDREN / "counter.py")
TERMINATING = [
    number
    for number in range(1, 65)
    if number not in (signal.SIGCHLD, signal.SIGCONT, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
    and number not in (signal.SIGURG, signal.SIGWINCH, 32, 33)
]


def status_of(ckptrun: Ckptrun, script: str) -> int:
    """Return ckptrun's exit code for a shell script as the training command."""
    return ckptrun.run("--", "sh", "-c", script).returncode


def test_all_exit_codes_pass_through(ckptrun: Ckptrun) -> None:
    """Each of the 256 exit codes of the training is ckptrun's own."""
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda code: status_of(ckptrun, f"exit {code}"), range(256)))
    assert found == list(range(256))


def test_every_terminating_signal_passes_through(ckptrun: Ckptrun) -> None:
    """A training that dies of signal n makes ckptrun exit with 128+n."""
    program = "import os, sys, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); import signal; n = int(sys.argv[1])\n"
    program += "n in (9,) or n > 31 or signal.signal(n, signal.SIG_DFL); os.kill(os.getpid(), n); signal.pause()"

    def killed_by(number: int) -> int:
        return ckptrun.run("--", sys.executable, "-c", program, str(number)).returncode

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(killed_by, TERMINATING))
    assert found == [128 + number for number in TERMINATING]


WORDS = ["a b", "", "quote'\"", "new\nline", "ünï 𝄞", "$HOME `x` *", "--checkpoint", "-", "--", b"\xff\xfe not utf-8"]


def test_arguments_and_stdin_arrive_unchanged(ckptrun: Ckptrun) -> None:
    """Blanks, quotes, newlines, unicode and bytes that are not UTF-8 reach the child as they are; so does its input."""
    done = ckptrun.run("--", sys.executable, FACTS, *WORDS, "--stdin", input="line one\nline two", code=0)
    facts = json.loads(done.stdout)
    assert facts["argv"] == [os.fsencode(word).hex() for word in [*WORDS, "--stdin"]]
    assert facts["stdin"] == "line one\nline two"


def test_nothing_of_ours_leaks_into_the_child(ckptrun: Ckptrun) -> None:
    """The same descriptors, blocked and ignored signals as without ckptrun; a descriptor of the caller's own passes on."""
    reader, writer = os.pipe()
    options = {"pass_fds": (reader,), "stdin": subprocess.DEVNULL}
    bare = subprocess.run([sys.executable, FACTS], capture_output=True, text=True, check=True, **options)
    behind = ckptrun.run("--", sys.executable, FACTS, code=0, **options)
    os.close(reader), os.close(writer)
    without, with_us = json.loads(bare.stdout), json.loads(behind.stdout)
    assert with_us["descriptors"] == without["descriptors"]
    assert with_us["masks"] == without["masks"]
    assert with_us["group"]


def test_ignored_signals_of_the_caller(ckptrun: Ckptrun) -> None:
    """HUP and INT that the caller ignores stay ignored (nohup, &); USR1 and TERM, ignored by a script, are default in the child."""
    script = f"trap '' HUP INT USR1 TERM; exec {sys.executable} -m ckptrun -- {sys.executable} {FACTS}"
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, env=ckptrun.environment, cwd=ckptrun.folder, check=True
    )
    ignored = int(json.loads(done.stdout)["masks"]["SigIgn"], 16)
    assert {n for n in (1, 2, 10, 15) if ignored >> (n - 1) & 1} == {1, 2}


def test_much_output_passes_unchanged(ckptrun: Ckptrun) -> None:
    """Tens of megabytes of output come through byte for byte: they do not pass through us at all."""
    program = "import sys\nfor n in range(200): sys.stdout.write(('%07d ' % n) * 16384)"
    done = ckptrun.run("--", sys.executable, "-c", program, code=0)
    assert done.stdout == "".join(f"{n:07d} " * 16384 for n in range(200))


def test_environment_of_the_child(ckptrun: Ckptrun) -> None:
    """What spec and docs promise stands in the environment, and in a first link nothing says resume."""
    done = ckptrun.run("--time-limit", "1m", "--chain", "named", "--", sys.executable, FACTS, code=0)
    variables = json.loads(done.stdout)["variables"]
    assert variables.pop("CKPTRUN_END_TIME").isdigit()
    assert variables.pop("CKPTRUN_MAILBOX") == str(ckptrun.home / "chains" / "named" / "mailbox")
    assert variables == {
        "CKPTRUN": "1",
        "CKPTRUN_CHAIN": "named",
        "CKPTRUN_LINK": "1",
        "CKPTRUN_RESUME": "0",
        "CKPTRUN_CHECKPOINT": "",
        "CKPTRUN_ATTEMPT": "1",
    }


def test_a_script_without_an_interpreter_line_runs(ckptrun: Ckptrun) -> None:
    """As from a shell: a file without `#!` is given to sh."""
    script = ckptrun.folder / "plain"
    script.write_text("echo plain $1; exit 4\n")
    script.chmod(0o755)
    assert ckptrun.run("./plain", "word", code=4).stdout == "plain word\n"


# --- a real terminal


def terminal(ckptrun: Ckptrun, *words: str) -> pexpect.spawn:
    """Return ckptrun in a terminal of its own."""
    program, *rest = (str(word) for word in ckptrun.argv(*words))
    return pexpect.spawn(program, rest, cwd=str(ckptrun.folder), env=ckptrun.environment, encoding="utf-8", timeout=300)


def test_the_child_has_the_terminal(ckptrun: Ckptrun) -> None:
    """Behind ckptrun, in a terminal, the child's streams are that terminal, and it is in the foreground."""
    program = "import os; print('tty', [os.isatty(n) for n in (0, 1, 2)], os.tcgetpgrp(0) == os.getpgrp()); print('got', input())"
    screen = terminal(ckptrun, "--", sys.executable, "-c", program)
    screen.expect_exact("tty [True, True, True] True")
    screen.sendline("typed")
    screen.expect_exact("got typed")
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 0


def test_ctrl_c_reaches_the_training_once(ckptrun: Ckptrun) -> None:
    """One Ctrl-C is heard once, the training saves and ends, and the chain is cancelled: 75, because the training said 0."""
    screen = terminal(ckptrun, "--checkpoint", "ck", "--", sys.executable, COUNTER, "ck", "1000", "0.2", "--hear", "INT")
    screen.expect("step 2")
    screen.sendintr()
    screen.expect(pexpect.EOF)
    screen.close()
    assert (screen.before or "").count("heard 2") == 1
    assert screen.exitstatus == 75
    assert ckptrun.outcomes() == ["cancelled"]


def test_a_second_ctrl_c_ends_at_once(ckptrun: Ckptrun) -> None:
    """A training that does not end on the first Ctrl-C is ended by the second."""
    screen = terminal(ckptrun, "--", sys.executable, COUNTER, "ck", "1000", "0.2", "--hear", "INT", "--go-on")
    screen.expect("step 2")
    screen.sendintr()
    screen.expect("once more to end it at once")
    screen.expect("step")
    screen.sendintr()
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 137
    assert ckptrun.outcomes() == ["cancelled"]


def test_job_control(ckptrun: Ckptrun) -> None:
    """Ctrl-Z stops ckptrun and its training together; `fg` continues both."""
    shell = pexpect.spawn("bash", ["--norc", "-i"], cwd=str(ckptrun.folder), env=ckptrun.environment, encoding="utf-8", timeout=300)
    shell.sendline(f"PS1='prompt$ '; {sys.executable} -m ckptrun -- {sys.executable} {COUNTER} ck 40 0.2")
    shell.expect("step 2")
    shell.sendcontrol("z")
    shell.expect("Stopped")
    shell.expect_exact("prompt$ ")
    shell.sendline("fg")
    shell.expect("all steps done")
    shell.expect("complete")
    shell.sendline("exit")
    shell.expect(pexpect.EOF)
    shell.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_closed_stderr_is_no_reason_to_stop(ckptrun: Ckptrun, number: int) -> None:
    """With stderr closed nothing can be said, and everything else works."""
    script = f"exec {sys.executable} -m ckptrun -- sh -c 'exit {int(number)}' 2>&-"
    done = subprocess.run(["sh", "-c", script], env=ckptrun.environment, cwd=ckptrun.folder)
    assert done.returncode == number
