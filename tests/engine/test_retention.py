"""Letting go of finished jobs and old days, and of nothing that still lives."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dagmaster.engine.housekeeping import Housekeeper
from engine.conftest import Bench

pytestmark = pytest.mark.rows_altered  # jobs are moved into the past

JOB_TABLES = ("job", "node", "attempt", "log")


async def finished(bench: Bench) -> str:
    job_id = await bench.submit()
    for _ in "ab":
        (task,) = await bench.worker.claim()
        await bench.worker.report(task)
    await bench.until(job_id, "COMPLETED")
    await bench.query(
        "INSERT INTO dagmaster.log (job_id, ordinal, item, attempt, at, message) VALUES (%s, 1, -1, 1, now(), 'x') RETURNING 1",
        job_id,
    )
    return job_id


async def age(bench: Bench, job_id: str, days: int) -> None:
    """Move a job into the past."""
    await bench.query(
        "UPDATE dagmaster.job SET created_at = created_at - make_interval(days => %s),"
        " finished_at = finished_at - make_interval(days => %s) WHERE job_id = %s RETURNING 1",
        days, days, job_id,
    )  # fmt: skip


async def jobs_in(bench: Bench, table: str) -> set[str]:
    return {row.id for row in await bench.query(f"SELECT DISTINCT job_id::text AS id FROM dagmaster.{table}")}


async def test_old_finished_jobs_go_and_all_others_stay(bench: Bench) -> None:
    async with bench.engine():
        old, young = await finished(bench), await finished(bench)
        live = await bench.submit()
        await bench.worker.claim()
        for job_id in (old, live):
            await age(bench, job_id, 40)
        assert await Housekeeper(bench.pool, timedelta(days=30)).once() == 1
        for table in JOB_TABLES:
            assert await jobs_in(bench, table) - {live} == {young}, table
        assert live in await jobs_in(bench, "node")


async def test_job_with_something_left_to_publish_stays(bench: Bench) -> None:
    async with bench.engine():
        old = await finished(bench)
    await age(bench, old, 40)
    await bench.query(
        "INSERT INTO dagmaster.effect (shard, job_id, ordinal, item, attempt, position, kind, body, due_at)"
        " VALUES (1, %s, 1, -1, 1, 0, 'artifact', '{}', 'infinity') RETURNING 1",
        old,
    )
    assert await Housekeeper(bench.pool, timedelta(days=30)).once() == 0


async def test_everything_is_kept_by_default(bench: Bench) -> None:
    async with bench.engine():
        old = await finished(bench)
    await age(bench, old, 4000)
    assert await Housekeeper(bench.pool, None).once() == 0
    assert await jobs_in(bench, "job") == {old}


@pytest.mark.parametrize(("lives", "stays"), [(False, False), (True, True)])
async def test_days_of_events_go_unless_a_live_job_has_events_there(bench: Bench, lives: bool, stays: bool) -> None:
    await bench.query(
        "SELECT 1 FROM (SELECT dagmaster.ensure_event_partition((now() - interval '40 days')::date)) AS made"
    )
    if lives:
        await age(bench, await bench.submit(), 41)
    await Housekeeper(bench.pool, timedelta(days=30)).once()
    names = [
        row.name
        for row in await bench.query(
            "SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = 'dagmaster.event'::regclass AND c.relname ~ '[0-9]{8}$' ORDER BY 1"
        )
    ]
    assert len(names) == 3 + stays, names


async def test_only_one_process_keeps_house(bench: Bench) -> None:
    async with bench.engine():
        old = await finished(bench)
    await age(bench, old, 40)
    async with bench.pool.connection() as conn, conn.transaction():
        await conn.execute("SELECT pg_advisory_xact_lock(hashtext('dagmaster.housekeeping'))")
        assert await Housekeeper(bench.pool, timedelta(days=30)).once() == 0
    assert await Housekeeper(bench.pool, timedelta(days=30)).once() == 1
