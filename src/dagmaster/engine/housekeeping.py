"""Keeps the database in order beside the decisions: partitions ahead of time, and letting go of what is old."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg
import structlog

from dagmaster.db import retention
from dagmaster.db.connect import Pool
from dagmaster.errors import DatabaseUnreachable

EVERY_SECONDS = 3600.0

log = structlog.get_logger("dagmaster.housekeeping")


class Housekeeper:
    """Runs in every orchestrator process; one of them at a time does the work.

    `keep` is how long finished jobs and their events are kept; None keeps them for ever.
    """

    def __init__(self, pool: Pool, keep: timedelta | None) -> None:
        self.pool = pool
        self.keep = keep

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.once()
            except (psycopg.Error, DatabaseUnreachable) as problem:
                log.warning("house not kept", problem=str(problem))
            await asyncio.sleep(EVERY_SECONDS)

    async def once(self) -> int:
        """One round; returns the number of jobs let go."""
        async with self.pool.connection() as conn, conn.transaction():
            if not await retention.take_turn(conn):
                return 0
            await retention.make_event_partitions(conn)
            await retention.tidy_progress(conn)
        return await self.let_go(self.keep) if self.keep is not None else 0

    async def let_go(self, keep: timedelta) -> int:
        """In small transactions, so that nothing else waits."""
        pruned = 0
        while True:
            async with self.pool.connection() as conn, conn.transaction():
                some = await retention.prune_jobs(conn, keep)
            pruned += some
            if some < retention.JOBS_AT_A_TIME:
                break
        async with self.pool.connection() as conn, conn.transaction():
            dropped = await retention.drop_event_partitions(conn, keep)
            await retention.prune_quarantine(conn, keep)
        if pruned or dropped:
            log.info("old jobs let go", jobs=pruned, days=len(dropped))
        return pruned
