"""Whether anything came of an ask, by what processes have written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ckptrun.link import process_tree
from ckptrun.link.silence import A_LOGS_BYTES, Written, nothing_came

LOG = frozenset({"/work/log"})
BEFORE = {1: Written(1000, LOG), 2: Written(0, frozenset())}


def test_a_doubt_counts_as_a_save() -> None:
    """A new file, much written, somebody who came or went, or who cannot be seen: none of it is silence. A log that grows is."""
    assert nothing_came(BEFORE, BEFORE | {1: Written(50_000, LOG)})
    assert not nothing_came(BEFORE, BEFORE | {2: Written(10, frozenset({"/work/ck.tmp"}))})
    assert not nothing_came(BEFORE, BEFORE | {1: Written(1000 + A_LOGS_BYTES, LOG)})
    assert not nothing_came(BEFORE, {1: BEFORE[1]})
    assert not nothing_came(BEFORE, BEFORE | {3: Written(0, frozenset())})
    assert not nothing_came(None, BEFORE) and not nothing_came(BEFORE, None)


WRITER = """
import sys
print("ready", flush=True)
sys.stdin.readline()
file = open(sys.argv[1], "wb", buffering=0)
print("open", flush=True)
sys.stdin.readline()
file.write(b"x" * 5000)
file.close()
print("closed", flush=True)
sys.stdin.readline()
"""


def test_what_a_process_has_written(tmp_path: Path) -> None:
    """The file that it has open for writing, no file that it reads, no pipe; and how much it wrote in all."""
    path = str(tmp_path / "ck.pt")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True, "bufsize": 1}
    with subprocess.Popen([sys.executable, "-c", WRITER, path], **pipes) as writer:  # type: ignore[call-overload]
        assert writer.stdout.readline() == "ready\n"
        before = process_tree.written([writer.pid])
        assert before is not None and before[writer.pid].files == frozenset()
        print(file=writer.stdin, flush=True)
        assert writer.stdout.readline() == "open\n"
        opened = process_tree.written([writer.pid])
        assert opened is not None and opened[writer.pid].files == {os.path.realpath(path)}
        print(file=writer.stdin, flush=True)
        assert writer.stdout.readline() == "closed\n"
        closed = process_tree.written([writer.pid])
        assert closed is not None and closed[writer.pid].files == frozenset()
        assert closed[writer.pid].size - before[writer.pid].size >= 5000
        writer.stdin.close()
    assert process_tree.written([writer.pid]) is None
