"""Replays every job of a database, as `dagmaster replay` does."""

from __future__ import annotations

import asyncio

import psycopg

from dagmaster.db.connect import open_pool
from dagmaster.engine.replay import replay
from dagmaster.engine.status import JobReader


def replay_all(uri: str) -> int:
    """Errors: AssertionError for a job whose events do not lead to its rows. Returns how many jobs there are."""
    with psycopg.connect(uri) as connection:
        jobs = [row[0] for row in connection.execute("SELECT job_id::text FROM dagmaster.job")]
    if jobs:
        asyncio.run(_replay(uri, jobs))
    return len(jobs)


async def _replay(uri: str, jobs: list[str]) -> None:
    pool = await open_pool(uri, size_max=2)
    async with pool:
        reader = JobReader(pool)
        for job_id in jobs:
            found = await replay(pool, reader, job_id)
            assert found.equal, f"the events of {job_id} do not lead to its rows: {found.differences}"
