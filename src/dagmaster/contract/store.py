"""What the engine asks of the place where its state lives: Postgres in production, a model of it in the simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from dagmaster.contract.decisions import Decision, JobSnapshot
from dagmaster.contract.messages import Key, Task

SHARD_COUNT = 64
"""Jobs are spread over so many shards, each owned by one orchestrator at a time."""


@dataclass(frozen=True, slots=True)
class JobHead:
    """A job that has not begun: all there is to know of it."""

    digest: str
    priority: int
    inputs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class InboxRow:
    """A message as it lies in the inbox, not yet read."""

    shard: int
    id: int
    job_id: str
    kind: str
    body: dict[str, Any]
    head: JobHead | None = None
    """With a submission: the job, while nothing has happened to it yet."""


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A new task with what the definition left to the handler, and the worker it was given to."""

    task: Task
    claimed_by: str | None


@dataclass(frozen=True, slots=True)
class Fence:
    """The right to write: who I am, and the epochs of the shards I hold."""

    owner: str
    epochs: dict[int, int]


@dataclass(slots=True)
class Batch:
    """What one tick writes, all of it or nothing."""

    now: datetime
    lease: timedelta
    decisions: list[Decision] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    """Each job's last event number before its decision."""
    tasks: list[TaskRow] = field(default_factory=list)
    consumed: list[InboxRow] = field(default_factory=list)
    quarantined: list[tuple[InboxRow, str]] = field(default_factory=list)
    """Consumed messages that nobody could act on, with the reason."""

    @property
    def shards(self) -> list[int]:
        return sorted({d.shard for d in self.decisions} | {row.shard for row in self.consumed})


@dataclass(frozen=True, slots=True)
class Turn:
    """What a look at the inbox brought, and the time of the store."""

    now: datetime
    messages: list[InboxRow]
    publications: bool = False
    """There are publications to apply, whoever asked for them."""


class EngineStore(Protocol):
    """The store as one tick uses it."""

    async def turn(self, fence: Fence, batch: Batch | None, look: Sequence[int], limit: int) -> Turn:
        """Write the batch in one transaction, then read up to `limit` waiting messages of the shards in `look`.

        Errors: OwnershipLost, StaleState; DecisionUnwritable when the batch itself cannot be stored. After any
        other error the outcome is unknown, and the caller forgets what it holds of these jobs.
        """

    async def load(self, job_ids: Sequence[str]) -> list[JobSnapshot]:
        """Jobs as the store holds them, all at one moment; ids that there are none of are missing."""

    async def task_leases(self, keys: Sequence[tuple[str, Key]]) -> dict[tuple[str, Key], tuple[int, datetime]]:
        """Attempt and lease end of each claimed task among `keys`."""

    async def definitions(self, digests: Sequence[str]) -> dict[str, Any]:
        """The stored documents of definitions."""


@dataclass(frozen=True, slots=True)
class Survey:
    """How many orchestrators live, and which shards nobody alive holds."""

    live: int
    free: list[int]


class ShardStore(Protocol):
    """The store as the leases on shards use it."""

    async def renew(self, owner: str, liveness_key: int, lease: timedelta) -> tuple[dict[int, int], Survey]:
        """Prolong all leases of `owner`; returns the epochs of the shards it still holds, and who else is there."""

    async def take(self, owner: str, wanted: Sequence[int], lease: timedelta) -> dict[int, int]:
        """Take free shards over, after any running tick of their former owner; returns the new epochs.

        What is free is looked up again under the lock: two takers never both get a shard.
        """

    async def release(self, owner: str, held: Sequence[int]) -> None:
        """Give shards back at once."""

    async def leave(self, owner: str) -> None:
        """Forget this orchestrator."""


class OrchestratorStore(EngineStore, ShardStore, Protocol):
    """The store as the loop of one orchestrator uses it."""

    async def live_jobs(self, held: Sequence[int]) -> list[str]:
        """Ids of the jobs of these shards that have not ended."""

    async def send(self, job_id: str, kind: str, body: dict[str, Any]) -> bool:
        """Put a message into a job's inbox; False when there is no such job."""

    async def make_event_partitions(self) -> None:
        """Have room for the events of the coming days."""
