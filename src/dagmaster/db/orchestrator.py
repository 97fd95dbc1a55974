"""All that the loop of an orchestrator asks of Postgres, behind its one connection."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from dagmaster.contract.store import Survey
from dagmaster.db import inbox, shards
from dagmaster.db.engine import PostgresStore, live_jobs
from dagmaster.db.retention import make_event_partitions


class PostgresOrchestratorStore(PostgresStore):
    """The `OrchestratorStore` behind one connection."""

    async def renew(self, owner: str, liveness_key: int, lease: timedelta) -> tuple[dict[int, int], Survey]:
        return await shards.renew(self.conn, owner, liveness_key, lease)

    async def take(self, owner: str, wanted: Sequence[int], lease: timedelta) -> dict[int, int]:
        return await shards.take(self.conn, owner, wanted, lease)

    async def release(self, owner: str, held: Sequence[int]) -> None:
        await shards.release(self.conn, owner, held)

    async def leave(self, owner: str) -> None:
        await shards.leave(self.conn, owner)

    async def live_jobs(self, held: Sequence[int]) -> list[str]:
        return await live_jobs(self.conn, held)

    async def send(self, job_id: str, kind: str, body: dict[str, Any]) -> bool:
        return await inbox.send(self.conn, job_id, kind, body)

    async def make_event_partitions(self) -> None:
        await make_event_partitions(self.conn)
