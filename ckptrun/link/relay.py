"""A ckptrun below the leader of its job: it asks on its own branch and hands the status back. It decides nothing."""

from __future__ import annotations

import os
import time

from ckptrun.early import Handlers
from ckptrun.link import child, messages
from ckptrun.link import supervision as core
from ckptrun.link.supervisor import Supervisor
from ckptrun.plan import Plan
from ckptrun.words import Status


def run_relay(plan: Plan, handlers: Handlers) -> int:
    """Run the command under the leader's chain; return its exit code."""
    ignored = [name for name, value in (("--checkpoint", plan.checkpoints), ("--time-limit", plan.limit_s)) if value]
    if ignored:
        messages.say(
            f"this is a relay: the leader of chain {os.environ.get('CKPTRUN_CHAIN')} decides; ignored: {', '.join(ignored)}"
        )

    def record(_event: str, **_facts: object) -> None:
        return

    def start() -> int:
        child.become_subreaper()
        return child.start(plan.command, dict(os.environ), handlers.mask)

    policy = core.Policy(None, start_at=time.monotonic())
    supervisor = Supervisor(policy, handlers, None, (), None, record, lambda: False, lambda: None)
    ended = supervisor.run(start)
    return (ended.state.status or Status(0, None)).exit_code
