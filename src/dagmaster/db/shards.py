"""Leases on shards: who decides for which jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import AsyncCursor

from dagmaster.contract.store import Survey
from dagmaster.db.connect import Connection
from dagmaster.db.statements import SQL


async def renew(conn: Connection, owner: str, liveness_key: int, lease: timedelta) -> tuple[dict[int, int], Survey]:
    """Prolong all leases of `owner`; returns the epochs of the shards it still holds, and who else is there."""
    async with conn.pipeline():
        held = await conn.execute(SQL["renew"], {"owner": owner, "liveness_key": liveness_key, "lease": lease})
        seen = await conn.execute(SQL["survey"])
    return {row.shard: row.epoch for row in await held.fetchall()}, await _survey_of(seen)


async def survey(conn: Connection) -> Survey:
    return await _survey_of(await conn.execute(SQL["survey"]))


async def _survey_of(cursor: AsyncCursor[Any]) -> Survey:
    row = await cursor.fetchone()
    assert row is not None
    return Survey(row.live, list(row.free))


async def take(conn: Connection, owner: str, shards: Sequence[int], lease: timedelta) -> dict[int, int]:
    """Take free shards over, after any running tick of their former owner; returns the new epochs.

    What is free is looked up again under the lock: two takers never both get a shard.
    """
    async with conn.transaction():
        await conn.execute(SQL["lock_shards"], {"shards": list(shards)})
        free = set((await survey(conn)).free)
        wanted = [shard for shard in shards if shard in free]
        cursor = await conn.execute(SQL["take"], {"owner": owner, "shards": wanted, "lease": lease})
        return {row.shard: row.epoch for row in await cursor.fetchall()}


async def release(conn: Connection, owner: str, shards: Sequence[int]) -> None:
    await conn.execute(SQL["release"], {"owner": owner, "shards": list(shards)})


async def leave(conn: Connection, owner: str) -> None:
    """Forget this orchestrator."""
    await conn.execute(SQL["leave"], {"owner": owner})


@dataclass(frozen=True, slots=True)
class OrchestratorRow:
    """A registered orchestrator and the number of its shards."""

    orchestrator_id: str
    started_at: datetime
    lease_until: datetime
    shards: int


async def orchestrators(conn: Connection) -> list[OrchestratorRow]:
    return [OrchestratorRow(*row) for row in await (await conn.execute(SQL["orchestrators"])).fetchall()]


async def hold_liveness(conn: Connection, liveness_key: int) -> None:
    """Hold the session lock that says this process lives; only for a connection of one's own."""
    await conn.execute(SQL["hold_liveness"], {"liveness_key": liveness_key})
