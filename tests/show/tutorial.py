"""A ledger written by hand: a training of three days that went through everything that happens to one.

Its links end by the time limit, a node failure, a service window, the limit again after a truncated checkpoint was set aside, and a
failed training that was tried again. `python -m tests.show.tutorial` writes the golden texts anew; read the difference.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ckptrun.chain.home import ChainFolder
from ckptrun.show import listing, look, pages

GOLDEN = Path(__file__).parent / "golden"
HOUR = 3600.0
BEGAN = 1_795_510_800.0  # 2026-11-24T09:00:00Z
NOW = BEGAN + 80 * HOUR
CHAIN = "mnist-4711"
FOLDER = "/home/ada/mnist"


def stamp(at: float) -> str:
    """Return a time as events have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + ".000Z"


def checkpoint(step: int) -> str:
    """Return a checkpoint's path."""
    return f"{FOLDER}/ck/step-{step:06}.pt"


class Writer:
    """Writes one chain's ledger, event by event."""

    def __init__(self, home: Path, chain: str = CHAIN, job: int | None = 4711, *, enters: bool = False, **plan: Any) -> None:
        self.enters = enters
        self.folder = home / "chains" / chain
        (self.folder / "turns").mkdir(parents=True)
        (self.folder / "mailbox").mkdir()
        self.turn_number = 0
        command = ["python", "train.py", "--data", "/ceph/mnist"]
        known: dict[str, Any] = {"command": command, "checkpoints": [f"{FOLDER}/ck"], "max_links": None, "max_time_s": None, **plan}
        facts: dict[str, Any] = {
            "v": 1,
            "id": chain,
            "version": "0.1.0",
            "created": BEGAN,
            "directory": FOLDER,
            "node": "n1",
            "plan": known,
        }
        if job is not None:
            facts["slurm"] = {"cluster": "lab", "job": str(job), "same": {}, "array": {}, "settings": {}}
        (self.folder / "chain.json").write_text(json.dumps(facts))

    def event(self, at: float, link: int, event: str, attempt: int = 1, **facts: Any) -> None:
        """Append one event."""
        entry = {"v": 1, "at": stamp(at), "link": link, "attempt": attempt, "event": event, **facts}
        with (self.folder / "events.jsonl").open("a") as file:
            file.write(json.dumps(entry, separators=(",", ":")) + "\n")

    def turn(self, at: float, kind: str, link: int, **facts: Any) -> None:
        """Publish the next turn."""
        self.turn_number += 1
        text = json.dumps({"v": 1, "kind": kind, "at": at, "link": link, "attempt": 1, **facts})
        (self.folder / "turns" / str(self.turn_number)).write_text(text)

    def start(self, at: float, link: int, job: int, node: str, step: int | None, saved_at: float | None = None) -> None:
        """Write what a link of twelve hours says at its start."""
        place = {"job": str(job), "node": node}
        self._enter(job, link, at)
        process = {"boot_id": "b", "pid": 100, "pid_started": 1}
        self.turn(at, "start", link, restart=0, batch_shell=True, **place, **process)
        path = checkpoint(step) if step is not None else None
        times = {"limit_s": 12 * HOUR, "end_at": at + 12 * HOUR, "ask_at": at + 12 * HOUR - 600, "margin_s": 600.0}
        origin = {"resumed": step is not None, "checkpoint": path, "checkpoint_at": saved_at, "from_step": step}
        log = {"log": f"{FOLDER}/mnist_{job}.out", "error_log": f"{FOLDER}/mnist_{job}.out"}
        why = "nothing measured yet" if link == 1 else "twice the slowest of the last saves, 42 s, and 30 s"
        self.event(at, link, "started", **origin, **times, why=why, **place, **log, kill_wait_s=30.0)
        argv = ["python", "train.py", "--data", "/ceph/mnist"]
        self.event(at + 1, link, "child_started", pid=101, pid_started=2, boot_id="b", node=node, argv=argv)

    def _enter(self, job: int, link: int, at: float) -> None:
        if self.enters:
            entry = {
                "chain": self.folder.name,
                "link": link,
                "submitted_at": at - 60,
                "restart": 0,
                "command": "",
                "directory": FOLDER,
            }
            place = self.folder.parents[1] / "jobs" / "lab" / str(job)
            place.mkdir(parents=True)
            (place / "1").write_text(json.dumps({"v": 1, "kind": "job", "at": at, **entry}))

    def save(self, at: float, link: int, step: int, seconds: float, *, asked: bool = False) -> None:
        """Write that a checkpoint became whole."""
        self.event(
            at,
            link,
            "saved",
            path=checkpoint(step),
            size=48_200_000,
            step=step,
            seconds=seconds,
            asked=asked,
            cut=False,
            verdict="whole",
        )

    def end(self, at: float, link: int, seconds: float, outcome: str, reason: str, step: int | None, **facts: Any) -> None:
        """Write how a link ended."""
        path = checkpoint(step) if step is not None else None
        known: dict[str, Any] = {"exit_code": 0, "exits": 0, "asked": None, "reached_ask": False, "progress": True, "short": False}
        known |= {"unsaved": False, "retried": False, "taken_away": False, "checkpoint": path, "step": step, "size": 48_200_000}
        self.event(at, link, "ended", outcome=outcome, reason=reason, seconds=seconds, **(known | facts))
        self.turn(at, "end", link, outcome=outcome)


def write(home: Path) -> None:
    """Write the tutorial's chain below a state folder."""
    chain = Writer(home, enters=True, max_time_s=72 * HOUR, retries=1)
    near = "the time limit is near"
    delivered = [[101, 10, "python train.py catches it"]]

    def hand_over(at: float, link: int, step: int, job: int, reason: str) -> None:
        chain.event(at, link, "asked", course="go on", reason=reason, delivered=delivered, by_file=False)
        chain.event(at + 2, link, "submitted", job=str(job + 1), successor=link + 1)
        chain.save(at + 42, link, step, 42.0, asked=True)
        chain.event(at + 44, link, "child_exited", code=0, signal=None, peak_bytes=9_100_000_000)

    # 1: the time limit
    at = BEGAN
    chain.start(at, 1, 4711, "n1", None)
    chain.save(at + 6 * HOUR, 1, 6000, 38.0)
    hand_over(at + 12 * HOUR - 600, 1, 11_800, 4711, near)
    chain.end(
        at + 12 * HOUR - 550, 1, 12 * HOUR - 550, "continued", near, 11_800, reached_ask=True, checkpoint_at=at + 12 * HOUR - 558
    )
    # 2: the node fails after seven hours; link 3 finds out
    at2 = at + 13 * HOUR
    chain.start(at2, 2, 4712, "n2", 11_800, at + 12 * HOUR - 558)
    chain.save(at2 + 5 * HOUR + 1200, 2, 17_100, 41.0)
    at3 = at2 + 8 * HOUR
    found = "accounting says that it ended as NODE_FAIL"
    chain.event(at3, 2, "ended", outcome="lost", reason=found, taken_away=True)
    # 3: a service window
    chain.start(at3, 3, 4713, "n1", 17_100, at2 + 5 * HOUR + 1200)
    window = "a service window begins on Wed 25 Nov at 11:10"
    begins_at = at3 + 5 * HOUR + 600
    chain.event(at3 + 2, 3, "window_ahead", name="maint", begins_at=begins_at, ends_at=begins_at + 7 * HOUR, end_at=begins_at)
    hand_over(at3 + 5 * HOUR, 3, 22_000, 4713, window)
    chain.end(
        at3 + 5 * HOUR + 60, 3, 5 * HOUR + 60, "continued", window, 22_000, reached_ask=True, checkpoint_at=at3 + 5 * HOUR + 42
    )
    # 4: the newest checkpoint is truncated
    at4 = at3 + 13 * HOUR
    chain.event(at4 - 1, 4, "set_aside", path=checkpoint(22_000), to=f"{FOLDER}/ck.set-aside/link-4")
    chain.start(at4, 4, 4714, "n3", 17_100, at2 + 5 * HOUR + 1200)
    hand_over(at4 + 12 * HOUR - 600, 4, 28_900, 4714, near)
    chain.end(
        at4 + 12 * HOUR - 550, 4, 12 * HOUR - 550, "continued", near, 28_900, reached_ask=True, checkpoint_at=at4 + 12 * HOUR - 558
    )
    # 5: the training fails and is tried again
    at5 = at4 + 12 * HOUR
    chain.start(at5, 5, 4715, "n1", 28_900, at4 + 12 * HOUR - 558)
    chain.event(at5 + 1800, 5, "child_exited", code=1, signal=None, peak_bytes=9_100_000_000)
    failed = "the training failed (exit code 1): retry 1 of 1"
    chain.end(
        at5 + 1802,
        5,
        1802.0,
        "continued",
        failed,
        28_900,
        exit_code=1,
        retried=True,
        progress=False,
        checkpoint_at=at4 + 12 * HOUR - 558,
    )
    # 6: and gets to its end
    at6 = at5 + 1830
    chain.start(at6, 6, 4716, "n1", 28_900, at4 + 12 * HOUR - 558)
    chain.save(at6 + 1.1 * HOUR, 6, 30_000, 40.0)
    chain.event(at6 + 1.2 * HOUR, 6, "child_exited", code=0, signal=None, peak_bytes=9_100_000_000)
    done = "the training ended by itself with exit code 0"
    chain.end(at6 + 1.2 * HOUR, 6, 1.2 * HOUR, "complete", done, 30_000, checkpoint_at=at6 + 1.1 * HOUR)
    _second(home)
    for path in home.glob("chains/*/chain.json"):
        os.utime(path, (BEGAN, BEGAN + len(path.parent.name)))


def _second(home: Path) -> None:
    """Write a chain that a bound has stopped: something is left to do."""
    chain = Writer(home, "resnet-4800", 4800, enters=True, max_links=1)
    at = NOW - 20 * HOUR
    chain.start(at, 1, 4800, "n2", None)
    chain.save(at + 11 * HOUR, 1, 900, 42.0)
    bound = "--max-links is 1, and so many were run"
    chain.end(
        at + 12 * HOUR - 550, 1, 12 * HOUR - 550, "stopped", bound, 900, exits=75, reached_ask=True, checkpoint_at=at + 11 * HOUR
    )


def write_readme(home: Path) -> None:
    """Write the chain of the README's first screen: two limits, a node failure between them, and the end."""
    chain = Writer(home, enters=True)
    near, step, saved_at = "the time limit is near", 0, BEGAN
    for link, (begins_h, gets_to) in enumerate([(0.0, 11_800), (12.2, 17_100), (21.5, 28_700), (33.7, 30_000)], 1):
        at = BEGAN + begins_h * HOUR
        chain.start(at, link, 4710 + link, f"n{link % 3 + 1}", step or None, saved_at if step else None)
        if link == 2:
            saved_at, step = at + 5.9 * HOUR, gets_to
            chain.save(saved_at, link, step, 41.0)
            found = "accounting says that it ended as NODE_FAIL"
            chain.event(at + 9.3 * HOUR, link, "ended", outcome="lost", reason=found, taken_away=True)
            continue
        last = gets_to == 30_000
        ends = at + (1.4 * HOUR if last else 12 * HOUR - 550)
        saved_at, step = ends - 8, gets_to
        chain.save(saved_at, link, step, 42.0, asked=not last)
        outcome, why = ("complete", "the training ended by itself with exit code 0") if last else ("continued", near)
        chain.end(ends, link, ends - at, outcome, why, step, reached_ask=not last, checkpoint_at=saved_at)


def readme(home: Path) -> str:
    """Return what `chain show` says of the README's chain."""
    _, seen = look.closely(ChainFolder(str(home / "chains" / CHAIN)), look.Looker(NOW))
    return "\n".join(pages.show_lines(seen, NOW, 100, plain)) + "\n"


def plain(text: str, _state: str) -> str:
    """Paint nothing."""
    return text


def drawn(home: Path, width: int) -> dict[str, list[str]]:
    """Return every page of the tutorial's ledger at a width, by the name of its golden text."""
    looker = look.Looker(NOW)
    listed = listing.listing(str(home), listing.Wanted(everything=True), looker)
    pages_of = {"list": pages.list_lines(listed.chains, NOW, width, plain)}
    for name in (CHAIN, "resnet-4800"):
        one, seen = look.closely(ChainFolder(str(home / "chains" / name)), looker)
        pages_of[f"show-{name}"] = pages.show_lines(seen, NOW, width, plain)
        for link in seen.links if name == CHAIN else ():
            events, turns = look.record_of(one, link)
            pages_of[f"link-{link.number}"] = pages.link_lines(seen, link, events, turns, NOW, width)
    return pages_of


def main() -> None:
    """Write the golden texts."""
    import tempfile

    os.environ["TZ"] = "UTC"
    time.tzset()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        for width in (80, 140):
            for name, lines in drawn(Path(folder), width).items():
                (GOLDEN / f"{name}-{width}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
