"""What a decision is made of: the records that go from the pure core into tables, and back at a reload."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from dagmaster.contract.messages import Key
from dagmaster.contract.states import NODE_TERMINAL

UPSTREAM_FAILED = "UPSTREAM_FAILED"


class NodeState(NamedTuple):
    """Where one node stands."""

    status: str = "PENDING"
    attempt: int = 0
    """Number of the current or last attempt; the first is 1."""
    spent: int = 0
    """Attempts that count against the retry budget."""
    not_before: datetime | None = None
    """READY only: when the next attempt may be dispatched."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: dict[str, Any] | None = None
    """Why it FAILED, or why it was SKIPPED if not by a plain skip."""

    @property
    def terminal(self) -> bool:
        return self.status in NODE_TERMINAL

    @property
    def failed(self) -> bool:
        """Counts as a failure for the nodes behind it."""
        return self.status in ("FAILED", "CANCELLED") or (
            self.status == "SKIPPED" and self.error is not None and self.error["code"] == UPSTREAM_FAILED
        )


PENDING = NodeState()


class FanState(NamedTuple):
    """The children of one fan-out, in numbers: neither the engine's work nor its memory grows with the width."""

    width: int
    cursor: int = 0
    """Children below this index exist."""
    completed: int = 0
    failed: int = 0

    @property
    def live(self) -> int:
        return self.cursor - self.completed - self.failed


class NodeChange(NamedTuple):
    """A node's net move in one decision."""

    before: NodeState
    state: NodeState


class AttemptRecord(NamedTuple):
    """How an attempt ended; becomes one row for ever."""

    key: Key
    attempt: int
    outcome: str
    worker: str | None
    started_at: datetime | None
    finished_at: datetime
    output: Any = None
    error: dict[str, Any] | None = None


class NewTask(NamedTuple):
    """An attempt to hand out; `queue` and `timeout_seconds` may be None = the handler's own."""

    key: Key
    attempt: int
    node_id: str
    handler: str
    queue: str | None
    params: Any
    timeout_seconds: float | None
    queue_timeout_seconds: float | None


class Event(NamedTuple):
    """One line of the job's history."""

    kind: str
    key: Key | None = None
    attempt: int | None = None
    before: str | None = None
    to: str | None = None
    data: dict[str, Any] | None = None


class Timer(NamedTuple):
    """Wake this job at `at` with `Due(key, attempt, kind)`."""

    key: Key
    attempt: int
    kind: str
    at: datetime


@dataclass(slots=True)
class Decision:
    """Everything one decision changes; the engine writes it in one transaction."""

    job_id: str
    shard: int
    status: str
    status_before: str
    error: dict[str, Any] | None = None
    """Why the job FAILED."""
    nodes: dict[Key, NodeChange] = field(default_factory=dict)
    outputs: dict[Key, Any] = field(default_factory=dict)
    fans: dict[int, FanState] = field(default_factory=dict)
    attempts: list[AttemptRecord] = field(default_factory=list)
    tasks: list[NewTask] = field(default_factory=list)
    dropped: list[Key] = field(default_factory=list)
    """Nodes whose live task must go."""
    revoked: list[Key] = field(default_factory=list)
    """Nodes whose publications must not be applied any more."""
    effects: list[tuple[Key, int, tuple[dict[str, Any], ...]]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    timers: list[Timer] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return self.status in ("COMPLETED", "FAILED", "CANCELLED")


@dataclass(frozen=True, slots=True)
class LiveTask:
    """An attempt that is queued or runs, as a reload finds it."""

    key: Key
    attempt: int
    timeout_seconds: float
    queued_at: datetime
    claimed_by: str | None
    claimed_at: datetime | None
    lease_until: datetime | None


@dataclass(slots=True)
class JobSnapshot:
    """A job as its tables hold it."""

    job_id: str
    shard: int
    digest: str
    status: str
    priority: int
    inputs: dict[str, Any]
    seq: int
    nodes: dict[Key, NodeState] = field(default_factory=dict)
    """Static nodes that have moved, and children that still live."""
    children: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    """Of each fan-out: children created, completed, failed."""
    outputs: dict[Key, Any] = field(default_factory=dict)
    tasks: list[LiveTask] = field(default_factory=list)
