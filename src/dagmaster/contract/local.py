"""The short cut between an orchestrator and a worker that live in one process: no table, no broker, one commit."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from dagmaster.contract.messages import Key, Message, Task


class LocalWorker(Protocol):
    """A worker in this process, as the engine sees it."""

    worker_id: str

    def reserve(self, handler: str, queue: str) -> bool:
        """Keep room for one attempt; False when there is none or the handler is not offered."""

    def unreserve(self, handler: str) -> None:
        """Give the room back: the deciding transaction did not commit."""

    def start(self, task: Task) -> None:
        """Run an attempt in the room that was reserved for it.

        When it began is said with its end, or before that by a message of its own if it lasts.
        """

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
