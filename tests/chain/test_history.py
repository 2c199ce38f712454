"""The history: one line a write, and reading that survives what files go through."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from ckptrun.chain.history import History, read_events
from ckptrun.chain.model import LastStart, so_far
from ckptrun.show.building import build
from ckptrun.show.seen import Known
from ckptrun.words import Save


def test_lines_are_whole_short_and_private(tmp_path: Path) -> None:
    """Each event is one line of at most 4 KiB with version, time, link and attempt; the file is 0600."""
    path = tmp_path / "events.jsonl"
    history = History(str(path), print)
    history.record("child_started", 1, 1, argv=["x" * 10000] * 100, pid=7)
    lines = path.read_bytes().splitlines()
    assert len(lines[0]) < 4096
    entry = json.loads(lines[0])
    assert (entry["v"], entry["link"], entry["attempt"], entry["pid"], entry["shortened"]) == (1, 1, 1, 7, True)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_history_that_cannot_be_written_is_said_once_and_goes_on_in_memory(tmp_path: Path) -> None:
    """A vanished folder: one sentence, no exception, and the bounds still count."""
    said: list[str] = []
    history = History(str(tmp_path / "gone" / "events.jsonl"), said.append)
    for number in range(3):
        history.record("started", number, 1)
    assert len(said) == 1
    assert so_far(history.events).starts == 3


def test_torn_repeated_foreign_and_newer_lines(tmp_path: Path) -> None:
    """Passed over and said once each; what is written next does not stick to a torn line."""
    path = tmp_path / "events.jsonl"
    good = b'{"v":1,"link":1,"attempt":1,"event":"started"}\n'
    path.write_bytes(good + good + b'\xff\xfe{"v\n[1]\n{"v":2,"link":1,"event":"future"}\n{"v":1,"li')
    said: list[str] = []
    history = History(str(path), said.append)
    assert [event["event"] for event in history.events] == ["started"]
    assert len(said) == 4
    history.record("ended", 1, 1)
    assert [event["event"] for event in read_events(str(path))[0]] == ["started", "ended"]
    assert path.read_bytes().startswith(good + good), "nothing is rewritten"


def test_a_line_that_is_being_written_is_waited_for(tmp_path: Path) -> None:
    """It shows in the file piece by piece: read until it has its end, however many looks that takes, and nothing is odd."""
    path = tmp_path / "events.jsonl"
    line = b'{"v":1,"link":1,"attempt":1,"event":"started"}\n'
    path.write_bytes(line + line.replace(b"started", b"ended")[:9])
    rest = [line.replace(b"started", b"ended")[9:20], line.replace(b"started", b"ended")[20:]]

    def write_on(_seconds: float) -> None:
        with path.open("ab") as file:
            file.write(rest.pop(0))

    events, oddities = read_events(str(path), pause=write_on)
    assert ([event["event"] for event in events], oddities, rest) == (["started", "ended"], [], [])


def test_a_line_that_stays_as_it_is_is_torn(tmp_path: Path) -> None:
    """One that is fresh is looked at twice, an old one once; whole but for its end, it is taken all the same."""
    path = tmp_path / "events.jsonl"
    looks: list[float] = []
    for text, events in ((b'{"v":1,"li', 0), (b'{"v":1,"link":1,"attempt":1,"event":"started"}', 1)):
        path.write_bytes(text)
        found, oddities = read_events(str(path), pause=looks.append)
        assert (len(found), [one.rpartition(" ")[2] for one in oddities]) == (events, ["torn"])
    assert len(looks) == 2
    os.utime(path, (1e9, 1e9))
    assert len(read_events(str(path), pause=looks.append)[1]) == 1 and len(looks) == 2


@given(st.binary(max_size=400), st.integers(0, 400))
def test_any_bytes_can_be_read(noise: bytes, cut: int) -> None:
    """Reading never fails, whatever stands in the file."""
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        line = b'{"v":1,"link":1,"attempt":1,"event":"started"}\n'
        file.write((line + noise + b"\n" + line)[: cut + len(line)])
        file.flush()
        events, _ = read_events(file.name, pause=lambda _: None)
        assert events[0]["event"] == "started"
        build(Known({"id": "x"}, events), 1e9)


WRITER = """
import sys
from ckptrun.chain.history import History
history = History(sys.argv[1], print)
for number in range(300): history.record("saved", int(sys.argv[2]), 1, path="p" * 500)
"""


def test_two_writers_do_not_tear_each_others_lines(tmp_path: Path) -> None:
    """Two processes append at once: all six hundred lines are whole."""
    path = str(tmp_path / "events.jsonl")
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, str(link)]) for link in (1, 2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(Path(path).read_text().splitlines()) == 600
    assert all(json.loads(line)["event"] == "saved" for line in Path(path).read_text().splitlines())


def event(kind: str, **facts: object) -> dict[str, object]:
    """Return one event of link 1."""
    return {"v": 1, "at": "2026-01-01T00:00:00.000Z", "link": 1, "attempt": 1, "event": kind, **facts}


def test_the_last_start_and_its_end() -> None:
    """When the last start ended; not known where it died without a word, nor by the end of another."""
    assert so_far([]).last is None
    first = [event("started"), event("ended", ended_at=90.5)]
    assert so_far(first).last == LastStart(1, 1, 90.5)
    again = {**event("started"), "attempt": 2}
    assert so_far([*first, again]).last == LastStart(1, 2, None)
    assert so_far([*first, again, event("ended", ended_at=99.0)]).last == LastStart(1, 2, None)


def test_one_whole_checkpoint_is_enough_to_have_seen_one() -> None:
    """Also of a link that died without a word, and measured no save."""
    assert not so_far([event("started")]).seen_whole
    assert so_far([event("started"), event("appeared", path="/a", step=3)]).seen_whole


def test_what_the_bounds_count() -> None:
    """Starts, time, stalled, short and unsaved links in a row; anew after a person went on; steps and saves stay."""
    history = [event("started"), event("saved", path="/a", step=5, seconds=2.0, asked=True)]
    history += [event("ended", seconds=10.0, reached_ask=True, progress=False, short=True, unsaved=True, retried=True)] * 2
    found = so_far(history)
    assert (found.starts, found.running_s, found.stalled, found.short, found.unsaved, found.retries) == (1, 20.0, 2, 2, 2, 2)
    anew = so_far([*history, event("joined")])
    assert (anew.starts, anew.running_s, anew.stalled, anew.short, anew.unsaved, anew.retries) == (0, 0.0, 0, 0, 0, 0)
    assert (anew.best_step, anew.seen_whole, anew.saves, anew.starts_in_all) == (5, True, (Save(2.0, True),), 1)


def test_what_the_cluster_took_away_is_counted_apart() -> None:
    """A preempted start is neither one of the links nor the end of a row of short ones; its running time is spent all the same."""
    short = {"v": 1, "event": "ended", "link": 1, "seconds": 5.0, "short": True}
    taken = {"v": 1, "event": "ended", "link": 2, "seconds": 7.0, "taken_away": True}
    started = [{"v": 1, "event": "started", "link": link} for link in (1, 2, 3)]
    found = so_far([started[0], short, started[1], taken, started[2]])
    assert (found.starts, found.taken_away, found.short, found.running_s, found.starts_in_all) == (2, 1, 1, 12.0, 3)
