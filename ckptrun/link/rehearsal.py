"""PURE. What a rehearsal showed: was the training heard, was it saved, was it resumed; and what to do about each that was not.

Two kinds of evidence tell whether the second start resumed. It opened the checkpoint: one that never did has begun anew, whatever
its files are called. And, where names have steps, its next checkpoint is a later one: a program that opens the file and begins anew
falls back. A number that falls within one start, or in the name of a file that is overwritten, is no step.
"""

from __future__ import annotations

from typing import NamedTuple

from ckptrun import durations
from ckptrun.link.outcome import describe
from ckptrun.words import Hearing, Status

HEAR = "docs/how-to/hear-the-ask.md has the lines that make it save when it is asked"
LOAD = "at its start it must load the file that CKPTRUN_CHECKPOINT names: docs/how-to/rehearse.md has the lines"
SEE = "name where it saves: --checkpoint PATH"
LONGER = "rehearse for longer"
_MOST_NAMED = 3


class Told(NamedTuple):
    """A signal that reached a process, and why it was chosen."""

    pid: int
    signal: str
    why: str


class Kept(NamedTuple):
    """A checkpoint: its name, what is shown of it (with verdict and size), and its step where the name has one."""

    name: str
    shown: str
    step: int | None = None


class First(NamedTuple):
    """What the first start showed.

    `asked`: it did not end by itself before. `by_file`: it looks for asks in its mailbox, or its relays do.
    `ended_s`: how long after the ask it ended. `stopped`: our TERM or KILL ended it.
    `grace_s`: how long it had for its save. `kept`: the newest whole checkpoint that it wrote; `on_ask`: after the ask.
    `truncated`: name and fault of one that is newer. `begun`: the temporary of a save that was not over. `save_s` was measured;
    `margin_s` is what follows from it for a real link. `lost_s`: how long before the end the last save was. `from_step`: the step
    of what it resumed from. `steps`: those that were seen in names, in order; `saves`: how many became whole.
    `slots`: a number fell. `fixed`: each save overwrites the same file.
    """

    status: Status
    seconds: float
    grace_s: float
    sees: bool = True
    asked: bool = True
    told: tuple[Told, ...] = ()
    by_file: bool = False
    hearing: Hearing | None = None
    ended_s: float | None = None
    stopped: bool = False
    kept: Kept | None = None
    on_ask: bool = False
    truncated: tuple[str, str] | None = None
    begun: str | None = None
    lost_s: float | None = None
    save_s: float | None = None
    margin_s: float | None = None
    from_step: int | None = None
    steps: tuple[int, ...] = ()
    saves: int = 0
    slots: bool = False
    fixed: bool = False


class Second(NamedTuple):
    """What the second start showed: the checkpoint it was `given`, those it `opened` (None: not to be seen here), its steps."""

    given: Kept
    status: Status
    seconds: float
    asked: bool
    opened: tuple[str, ...] | None
    steps: tuple[int, ...] = ()
    saves: int = 0
    slots: bool = False


class Line(NamedTuple):
    """One answer: the question and the answer in a word each, whether it is good, what was seen, what to do where it is not."""

    question: str
    answer: str
    good: bool
    text: str
    advice: str = ""

    @property
    def sentence(self) -> str:
        """Return the line as it is printed."""
        text = f"{self.question}: {self.answer}, {self.text}"
        return f"{text}. Next: {self.advice}" if self.advice else text


def _yes(question: str, text: str) -> Line:
    return Line(question, "yes", True, text)


def _no(question: str, text: str, advice: str) -> Line:
    return Line(question, "no", False, text, advice)


def judge(first: First, second: Second | None = None) -> tuple[Line, ...]:
    """Return the three answers; one alone where the training ended before anybody asked. `second` is None where none was tried."""
    if not first.asked:
        return (_too_early(first),)
    return _heard(first), saved(first), _resumed(first, second)


def _too_early(first: First) -> Line:
    text = f"it ended by itself after {durations.show(first.seconds)} with {describe(first.status)}, before the ask"
    failed = "what it printed stands above: mend that first"
    return _no("heard", text, "rehearse for less than it runs" if first.status.code == 0 else failed)


# --- saved


def saved(first: First) -> Line:
    """Return whether what the first start has learned stands on disk, whole. Only then is there something to resume from."""
    if not first.sees:
        return Line("saved", "unknown", False, "without --checkpoint nobody can see it", SEE)
    if first.truncated is not None or (first.begun is not None and not first.on_ask):
        return _cut(first)
    if first.kept is None:
        return _no("saved", "no new checkpoint stands", _why_nothing(first))
    if first.hearing is Hearing.HEARS and not first.on_ask:
        return _no("saved", f"nothing after the ask: {first.kept.shown} is older, and what came after it is lost", HEAR)
    return _yes("saved", f"{first.kept.shown}, {_how(first)}")


def _cut(first: First) -> Line:
    text = f"{first.truncated[0]} is truncated ({first.truncated[1]})" if first.truncated else f"{first.begun} is only begun"
    if not first.stopped:
        return _no("saved", text, "write to a temporary beside it, then os.replace: docs/how-to/rehearse.md has the lines")
    longer = f"give it more time: --margin {2 * first.grace_s:.0f}s, or more"
    return _no("saved", f"{text}: its save was not over when its {durations.show(first.grace_s)} were", longer)


def _why_nothing(first: First) -> str:
    place = "look whether --checkpoint is where it saves"
    if first.hearing is not Hearing.HEARS:
        return f"{place}; where it saves by itself every now and then, {LONGER} than that takes"
    return f"{place}; a save that takes longer than {durations.show(first.grace_s)} needs --margin" if first.stopped else place


def _how(first: First) -> str:
    if not first.on_ask:
        return "its last save" + ("" if first.lost_s is None else f", {durations.show(first.lost_s)} before it was stopped")
    text = f"{durations.show(first.save_s)} after the ask" if first.save_s is not None else "after the ask"
    return text if first.margin_s is None else f"{text}; a margin of {durations.show(first.margin_s)} follows from that"


# --- heard


def _heard(first: First) -> Line:
    if first.hearing is Hearing.HEARS:
        return _hears(first)
    only_int = first.hearing is Hearing.ONLY_INT
    if only_int and first.on_ask:
        return _yes("heard", f"{_told(first)}; it catches no other, and a save followed{_ended(first)}")
    deaf = "it catches only SIGINT and does not save on it" if only_int else "it cannot be told, it catches none of the signals"
    if first.kept is not None:
        return Line("heard", "not needed", True, f"{deaf}: it was stopped after a save instead")
    if only_int and not first.sees:
        text = f"{_told(first)}, as every Python program does; whether it saves on it cannot be seen"
        return Line("heard", "unknown", False, text, SEE)
    return _no("heard", f"{deaf}, and nothing that it saved stands", f"where it was still starting, {LONGER}; else {HEAR}")


def _hears(first: First) -> Line:
    told = _told(first)
    if not first.stopped:
        return _yes("heard", f"{told}{_ended(first)}")
    if first.on_ask:
        return _yes("heard", f"{told}; it saved and went on, and was stopped")
    if first.truncated is not None or first.begun is not None:
        return _yes("heard", f"{told}; it was still saving when it was stopped")
    text = f"{told}, and within {durations.show(first.grace_s)} it neither ended nor had saved"
    return _no("heard", text, f"{HEAR}; if that signal is for something else, --signal names another")


def _told(first: First) -> str:
    named = [f"{one.signal} to {one.pid} ({one.why})" for one in first.told[:_MOST_NAMED]]
    more = len(first.told) - len(named)
    named += ["the file that it looks for"] if first.by_file else []
    return ", ".join(named) + (f" and {more} more" if more else "")


def _ended(first: First) -> str:
    return "" if first.ended_s is None else f"; it ended {durations.show(first.ended_s)} after the ask ({describe(first.status)})"


# --- resumed


def _resumed(first: First, second: Second | None) -> Line:
    if second is None:
        return Line("resumed", "not tried", False, "there is nothing to resume from")
    given = second.given
    if not second.asked and second.status.exit_code != 0:
        text = f"its second start failed by itself after {durations.show(second.seconds)} with {describe(second.status)}"
        return _no("resumed", text, "what it printed stands above; look whether --resume-flag is right")
    if second.opened == ():
        return _no("resumed", f"its second start never opened {given.name}", LOAD)
    fault = _fault_of_steps(first, second)
    if fault is not None:
        return _no("resumed", f"its second start {_opened(second)}{fault[0]}", fault[1])
    steps = _steps(first, second)
    if second.opened is None and not steps:
        text = f"whether its second start opened {given.name} cannot be seen here"
        return Line("resumed", "unknown", False, text, "the limit is fs.inotify.max_user_watches; its own output may tell")
    then = f" and went on to step {steps[-1]}" if steps else "; how far it was then, only its own output tells"
    return _yes("resumed", f"its second start {_opened(second)}{then}")


def _opened(second: Second) -> str:
    given = second.given
    if second.opened is None or given.name in second.opened:
        return f"{'opened' if second.opened else 'was given'} {given.name}"
    return f"opened {', '.join(second.opened[:_MOST_NAMED])} (the newest is {given.name})"


def _steps(first: First, second: Second) -> tuple[int, ...]:
    """Return the steps of the second start where the numbers in the names are steps, else none."""
    if second.given.step is None or first.slots or second.slots or first.fixed:
        return ()
    return second.steps


def _fault_of_steps(first: First, second: Second) -> tuple[str, str] | None:
    """Return in words why the steps show no resumption, and what to do; None where they do, or where there are none."""
    known, steps = second.given.step, _steps(first, second)
    if not steps or known is None:
        return None
    if steps[0] < known:
        return f", but its next checkpoint is step {steps[0]}, after step {known}: it began anew", LOAD
    as_from_the_beginning = f"as a start from the beginning may have: {LONGER}, so that it saves more steps"
    if steps[0] == known:
        began_lower = first.from_step is not None or first.steps[:1] < (known,)
        return None if began_lower else (f", but saved step {known} again", as_from_the_beginning)
    # One save a start, at the same time after it: a start from the beginning comes about as far.
    alone = first.from_step is None and first.saves <= 1 and second.saves <= 1
    if alone and steps[0] - known < known / 4:
        return f", but came from step {known} to step {steps[0]} only", as_from_the_beginning
    return None
