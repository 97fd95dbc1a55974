"""What is let go: finished jobs, days of events, leftovers of display."""

from __future__ import annotations

from datetime import UTC, timedelta

from dagmaster.db.connect import Connection
from dagmaster.db.engine import read_clock
from dagmaster.db.statements import SQL

JOBS_AT_A_TIME = 500
PARTITIONS_AHEAD_DAYS = 3


async def take_turn(conn: Connection) -> bool:
    """Whether this transaction may keep house; False when another process does."""
    row = await (await conn.execute(SQL["housekeeping_lock"])).fetchone()
    assert row is not None
    return bool(row.mine)


async def prune_jobs(conn: Connection, keep: timedelta) -> int:
    """Delete some of the jobs that ended longer ago than `keep`; returns how many."""
    row = await (await conn.execute(SQL["prune_jobs"], {"keep": keep, "most": JOBS_AT_A_TIME})).fetchone()
    assert row is not None
    return int(row.pruned)


async def drop_event_partitions(conn: Connection, keep: timedelta) -> list[str]:
    """Drop the days of events older than `keep` that no live job has events in; returns their tables' names."""
    rows = await (await conn.execute(SQL["drop_event_partitions"], {"keep": keep})).fetchall()
    return [row.dropped for row in rows]


async def prune_quarantine(conn: Connection, keep: timedelta) -> None:
    await conn.execute(SQL["prune_quarantine"], {"keep": keep})


async def make_event_partitions(conn: Connection) -> None:
    """The days of events from today on, so that no event comes before its partition."""
    today = (await read_clock(conn)).astimezone(UTC).date()
    for ahead in range(PARTITIONS_AHEAD_DAYS):
        await conn.execute(SQL["ensure_event_partition"], {"day": today + timedelta(days=ahead)})


async def tidy_progress(conn: Connection) -> None:
    await conn.execute(SQL["tidy_progress"])
