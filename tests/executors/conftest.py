"""Attempts to run, and somebody who listens to them."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from dagmaster.contract.messages import Key, Task
from dagmaster.executors.base import Listener

_numbers = itertools.count()


def task_of(handler: str, *, saved: dict[str, Any] | None = None, job_id: str | None = None, **params: Any) -> Task:
    """One attempt of a job of its own."""
    return Task(
        job_id=job_id or str(uuid.UUID(int=next(_numbers))),
        key=Key(1),
        attempt=1,
        shard=0,
        node_id="node",
        handler=handler,
        queue="light",
        priority=0,
        params=params,
        timeout_seconds=60,
        queued_at=datetime.now(UTC),
        checkpoint=saved,
    )


class Heard:
    """Remembers what attempts say; `on_checkpoint` decides how long saving takes and how it ends."""

    def __init__(self) -> None:
        self.progressed: list[tuple[float, str]] = []
        self.logged: list[tuple[str, dict[str, Any]]] = []
        self.saved: list[tuple[int, dict[str, Any]]] = []
        self.on_checkpoint: Callable[[], Awaitable[None]] | None = None
        self.begun: list[Task] = []
        self.listener = Listener(self.begun.append, self._progress, self._checkpoint, self._log)

    @property
    def lines(self) -> list[str]:
        return [message for message, _ in self.logged]

    def pids(self) -> set[int]:
        """The processes that a handler said it consists of."""
        return {pid for _, fields in self.logged for pid in fields.get("pids", [])}

    def _progress(self, task: Task, percent: float, message: str) -> None:
        self.progressed.append((percent, message))

    async def _checkpoint(self, task: Task, phase: int, data: dict[str, Any]) -> None:
        if self.on_checkpoint is not None:
            await self.on_checkpoint()
        self.saved.append((phase, data))

    def _log(self, task: Task, message: str, fields: dict[str, Any]) -> None:
        self.logged.append((message, fields))
