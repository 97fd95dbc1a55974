"""Messages that make no sense: from broken programs, former attempts, and versions that nobody knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dagmaster.contract.messages import Task
from simulation.watch import NOBODY
from simulation.world import World

BEYOND = 50
"""An attempt so far ahead that the node never comes to it."""

Body = dict[str, Any]


def nonsense(world: World, task: Task) -> None:
    """Now and then a message comes that the job must not act on."""
    if not world.happens(world.swarm.garbage, "garbage"):
        return
    kind, body = world.fate.choice(KINDS)(task)
    if kind == "stray":
        world.later(world.fate.random(), lambda: world.tables.send_astray(task.shard, "no-such-job", "report", body))
    else:
        world.later(5 * world.fate.random(), lambda: world.tables.send(task.job_id, kind, body))


def report(task: Task, **changes: Any) -> Body:
    body = {
        "ordinal": task.key.ordinal,
        "item": task.key.item,
        "attempt": task.attempt,
        "worker": NOBODY,
        "outcome": "COMPLETED",
        "output": {"value": "nonsense", "pick": 9},
        "at": "2026-01-01T00:00:00+00:00",
        "timeout_seconds": 1.0,
    }
    return body | changes


KINDS: tuple[Callable[[Task], tuple[str, Body]], ...] = (
    lambda task: ("gossip", {}),
    lambda task: ("report", {"worker": NOBODY}),
    lambda task: ("report", report(task, outcome="EXPLODED")),
    lambda task: ("report", report(task, ordinal="x")),
    lambda task: ("report", report(task, ordinal=999)),
    lambda task: ("report", report(task, item=999)),
    lambda task: ("report", report(task, attempt=task.attempt - 1)),
    lambda task: ("report", report(task, attempt=task.attempt + BEYOND)),
    lambda task: ("report", report(task, attempt=task.attempt - 1, outcome="FAILED", error={"code": "OLD"})),
    lambda task: ("report", report(task, attempt=task.attempt - 1, outcome="RELEASED")),
    lambda task: ("report", report(task, item=-1, attempt=0)),
    lambda task: ("report", report(task, item=-1, attempt=0, outcome="FAILED", error={"code": "OLD"})),
    lambda task: ("started", report(task, attempt=task.attempt - 1)),
    lambda task: ("started", report(task, attempt=task.attempt + BEYOND)),
    lambda task: ("started", report(task, at="yesterday")),
    lambda task: ("published", report(task, attempt=task.attempt - 1)),
    lambda task: ("published", report(task, attempt=task.attempt + BEYOND)),
    lambda task: ("stray", report(task)),
)
