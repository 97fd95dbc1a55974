"""The short cut between an orchestrator and a worker that live in one process: no table, no broker, one commit."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, Protocol

from dagmaster.contract.messages import Key, Message, Task

Place = Literal["now", "soon", "no"]
"""Room for an attempt: a free slot; a place in a line that moves fast; or none."""


class LocalWorker(Protocol):
    """A worker in this process, as the engine sees it."""

    worker_id: str

    def reserve(self, handler: str, queue: str) -> Place:
        """Keep room for one attempt, if there is any and the handler is offered."""

    def unreserve(self, handler: str, place: Place) -> None:
        """Give the room back: the deciding transaction did not commit."""

    def start(self, task: Task, place: Place) -> None:
        """Run an attempt in the room that was reserved for it; one that waits says itself when it begins."""

    def revoke(self, job_id: str, key: Key) -> None:
        """Stop the node's attempt, if it runs here; its report would not be accepted."""

    def tasks_waiting(self) -> None:
        """There are tasks in the queue to claim."""


class LocalEngine(Protocol):
    """An orchestrator in this process, as a worker sees it."""

    def deliver(self, job_id: str, shard: int, message: Message) -> bool:
        """Take a message without the inbox; False when another orchestrator owns the shard."""

    def now(self) -> datetime:
        """The database's time."""
