"""What workers, publishers and people say to the engine, and what the engine hands out.

Plain frozen records: they are made by the thousand in a tick. A node of a job is named by a `Key`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

NO_ITEM = -1
ATTEMPT_LEASE = timedelta(seconds=30)
"""A worker that has not renewed its attempts for this long has lost them."""


class Key(NamedTuple):
    """A node within a job: the ordinal of its definition, and the index of its item (-1 for static nodes)."""

    ordinal: int
    item: int = NO_ITEM


@dataclass(frozen=True, slots=True)
class Submitted:
    """The job was created and wants its first decision."""


class Started(NamedTuple):
    """A worker began the attempt; its clocks start: so long it may run, and so long its worker may be silent."""

    key: Key
    attempt: int
    worker: str
    at: datetime
    timeout_seconds: float


class Report(NamedTuple):
    """How an attempt ended, said once by the worker that ran it."""

    key: Key
    attempt: int
    worker: str
    outcome: Literal["COMPLETED", "FAILED", "RELEASED"]
    """RELEASED: the worker gave it back unspent, because it is going away."""
    output: Any = None
    error: dict[str, Any] | None = None
    effects: tuple[dict[str, Any], ...] = ()
    started_at: datetime | None = None
    """When its clock started, for an attempt whose start was not said before its end."""


class Published(NamedTuple):
    """The publisher has applied the attempt's effects, or could not. `output` is what a fan-in gathered."""

    key: Key
    attempt: int
    error: dict[str, Any] | None = None
    output: Any = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Somebody asked the job to stop."""

    actor: str = ""
    reason: str = ""


class Due(NamedTuple):
    """A deadline of an attempt has passed, by the database's clock."""

    key: Key
    attempt: int
    kind: Literal["retry", "timeout", "lease", "queue"]


@dataclass(frozen=True, slots=True)
class Failed:
    """The engine gives the job up: its decision raised."""

    error: dict[str, Any]


Message = Submitted | Started | Report | Published | Cancel | Due | Failed


@dataclass(frozen=True, slots=True)
class Task:
    """One attempt, as a worker receives it."""

    job_id: str
    key: Key
    attempt: int
    shard: int
    node_id: str
    handler: str
    queue: str
    priority: int
    params: Any
    timeout_seconds: float
    queued_at: datetime
    checkpoint: dict[str, Any] | None = field(default=None)

    @property
    def token(self) -> str:
        """The name of this attempt, unique for ever; fit for file names."""
        return f"{self.job_id}-{self.key.ordinal}-{self.key.item + 1}-{self.attempt}"
