"""The rules of the protocol as the model plays them: the code's own decisions, and which steps are left out in a mutation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ckptrun.job import protocol, reason, revival


class Rules(NamedTuple):
    """The decisions, taken from the code; `without` names the steps that a mutation leaves out."""

    judge: Callable[..., Any] = protocol.judge
    is_ours: Callable[..., bool] = protocol.is_ours
    may_go_on: Callable[..., bool] = protocol.may_go_on
    successor_in: Callable[..., protocol.Result] = protocol.successor_in
    may_repeat: Callable[..., bool] = protocol.may_repeat
    after_submission: Callable[..., protocol.Next] = protocol.after_submission
    with_siblings: Callable[..., protocol.Result] = protocol.with_siblings
    seen_again: Callable[..., protocol.Result] = protocol.seen_again
    conclusion: Callable[..., protocol.Conclusion] = protocol.conclusion
    duty: Callable[..., protocol.Duty] = protocol.duty
    takes_end_turn: Callable[..., bool] = protocol.takes_end_turn
    of_term: Callable[..., Any] = reason.of_term
    revive: Callable[..., Any] = revival.revive
    without: frozenset[str] = frozenset()
