"""What the end-to-end tests share: run ckptrun as a user does, wait for its lines, read its ledger."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from tests.cluster import watch

PROGRAMS = Path(__file__).parent.parent / "programs"
CHILDREN = Path(__file__).parent.parent / "children"


def whole_lines(text: str) -> list[str]:
    """Return the lines that end: of a line that is just being written a reader may see a part."""
    return text[: text.rfind("\n") + 1].splitlines()


class Ckptrun:
    """ckptrun in a folder of its own, with a ledger of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self.home = folder / "home"
        self.folder.mkdir(exist_ok=True)
        ours = ("CKPTRUN", "SLURM", "COLUMNS")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.environment |= {"CKPTRUN_HOME": str(self.home), "XDG_CONFIG_HOME": str(folder / "config")}

    def argv(self, *words: str | bytes) -> list[str | bytes]:
        """Return a command line of ckptrun."""
        return [sys.executable, "-m", "ckptrun", *words]

    def run(self, *words: str | bytes, code: int | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run ckptrun to its end; with `code` its exit code must be that."""
        settings: dict[str, Any] = {
            "cwd": self.folder,
            "env": self.environment,
            "text": True,
            "errors": "surrogateescape",
        }
        settings |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": 600} | options
        done = subprocess.run(self.argv(*words), **settings)
        if code is not None:
            assert done.returncode == code, f"exit code {done.returncode}\n{done.stderr}\n{done.stdout}"
        return done

    def start(self, *words: str) -> Running:
        """Start ckptrun; its stderr and stdout arrive on one pipe, line by line."""
        process = subprocess.Popen(
            self.argv(*words),
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        return Running(process)

    def show(self, chain: str = "") -> dict[str, Any]:
        """Return what `chain show --json` says of a chain, by default the newest of this folder."""
        done = self.run("chain", "show", *([chain] if chain else []), "--json", code=0)
        found: dict[str, Any] = json.loads(done.stdout)["data"]
        return found

    def events(self, kind: str | None = None, chain: str = "*") -> list[dict[str, Any]]:
        """Return the events of the only chain, or of the one that is named, in order."""
        (path,) = (self.home / "chains").glob(f"{chain}/events.jsonl")
        found = [json.loads(line) for line in whole_lines(path.read_text())]
        return [event for event in found if kind is None or event["event"] == kind]

    def until_event(self, kind: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait for so many events of a kind, and return them: what a training prints may be seen before it is written down."""

        def enough() -> list[dict[str, Any]] | None:
            found = self.events(kind)
            return found if len(found) >= count else None

        return watch.until(self.home, enough)

    def outcomes(self) -> list[str]:
        """Return the outcomes of the links, in order."""
        return [event["outcome"] for event in self.events("ended")]


class Running:
    """A ckptrun that runs: `until` blocks until it, or its training, has printed a line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    @property
    def pid(self) -> int:
        """Return the pid of ckptrun."""
        return self.process.pid

    def until(self, pattern: str) -> re.Match[str]:
        """Read lines until one matches; fail when the output ends before."""
        output: IO[str] = self.process.stdout  # type: ignore[assignment]
        for line in output:
            self.lines.append(line.rstrip("\n"))
            if (found := re.search(pattern, line)) is not None:
                return found
        raise AssertionError(f"no line matched {pattern!r}:\n" + "\n".join(self.lines))

    def end(self, code: int | None = None) -> str:
        """Wait for its end and return all that was printed; with `code` its exit code must be that."""
        output: IO[str] = self.process.stdout  # type: ignore[assignment]
        self.lines += [line.rstrip("\n") for line in output]
        output.close()
        found = self.process.wait(timeout=600)
        text = "\n".join(self.lines)
        assert code is None or found == code, f"exit code {found}\n{text}"
        return text

    def send(self, number: int) -> None:
        """Send ckptrun a signal."""
        os.kill(self.process.pid, number)
