"""The shelf's promise: run one attempt somewhere, tell how it goes, and stop it when asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from dagmaster.contract.messages import Task


class Outcome(NamedTuple):
    """How an attempt ended. Exactly one of output and error is meaningful, by `completed`."""

    completed: bool
    output: Any = None
    error: dict[str, Any] | None = None
    effects: tuple[dict[str, Any], ...] = ()
    seconds: float | None = None
    """How long the handler took, where that is known better than by whoever waits for it."""


@dataclass(frozen=True, slots=True)
class Listener:
    """What an attempt says while it runs."""

    begun: Callable[[Task], None]
    """The attempt waits no longer; called from the thread that runs it, or from the event loop."""
    progress: Callable[[Task, float, str], None]
    checkpoint: Callable[[Task, int, dict[str, Any]], Awaitable[None]]
    """Returns once it is durable; raises Cancelled when the attempt is no longer this worker's."""
    log: Callable[[Task, str, dict[str, Any]], None]


class Executor(Protocol):
    """A place where attempts run."""

    async def start(self) -> None:
        """Get ready; raises when the place cannot be used."""

    async def run(self, task: Task, listener: Listener) -> Outcome:
        """Run one attempt to its end. Cancelling the awaiting task stops the attempt for real."""

    async def stop(self) -> None:
        """End everything that still runs here."""
