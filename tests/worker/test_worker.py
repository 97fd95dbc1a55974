"""The worker's loop against real Postgres: what it claims, what it says, what it gives back."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from conftest import uri_of
from dagmaster.db.connect import Pool, open_pool
from dagmaster.db.embedded import EmbeddedPostgres
from dagmaster.executors.base import Outcome
from dagmaster.executors.inline import InlineExecutor
from dagmaster.handlers.manifest import bundled_specs
from dagmaster.storages import open_storage
from dagmaster.worker import lease
from dagmaster.worker.sweep import Sweeper
from dagmaster.worker.worker import Worker
from waiting import eventually_async

INLINE = {
    name: spec.model_copy(update={"isolation": "inline"})
    for name, spec in bundled_specs().items()
    if name in ("echo", "fail", "sleep")
}
JOB = "00000000-0000-7000-8000-000000000001"
_numbers = itertools.count(1)


class Bench:
    """A queue to fill and an inbox to read; nobody decides."""

    def __init__(self, uri: str, pool: Pool, folder: Path) -> None:
        self.uri = uri
        self.pool = pool
        self.folder = folder

    def worker(self, *, slots: int = 4, queues: tuple[str, ...] = ("light",)) -> Worker:
        storage = f"file:{self.folder / 'storage'}"
        executor = InlineExecutor(self.folder / "scratch", storage)
        sweeper = Sweeper(self.pool, self.folder / "scratch", open_storage(storage))
        name = f"worker-{next(_numbers)}"
        return Worker(name, self.uri, self.pool, INLINE, {"inline": executor}, {"inline": slots}, list(queues), sweeper)

    @asynccontextmanager
    async def working(self, **how: Any) -> AsyncIterator[Worker]:
        """A worker that runs meanwhile."""
        made = self.worker(**how)
        running = asyncio.create_task(made.run())
        try:
            yield made
        finally:
            made.stop()
            await asyncio.wait_for(running, 25)

    async def add(self, handler: str, *, queue: str = "light", claimed_by: str | None = None, **params: Any) -> int:
        """One more task; returns its ordinal."""
        ordinal = next(_numbers)
        await self.execute(
            "INSERT INTO dagmaster.task (job_id, ordinal, item, attempt, shard, queue, handler, node_id, params,"
            " timeout_seconds, queued_at, claimed_by, claimed_at, lease_until)"
            " VALUES (%s, %s, -1, 1, 7, %s, %s, 'node', %s, 60, now(), %s, %s, %s)",
            JOB, ordinal, queue, handler, psycopg.types.json.Jsonb(params),
            claimed_by, *(["2026-01-01", "2026-01-01"] if claimed_by else [None, None]),
        )  # fmt: skip
        return ordinal

    async def add_job(self) -> None:
        """The row that tells a job's shard."""
        await self.execute("INSERT INTO dagmaster.definition VALUES (repeat('0', 64), 'w', 1, '{}', now())")
        await self.execute(
            "INSERT INTO dagmaster.job (job_id, shard, digest, workflow_id, workflow_version, inputs, created_at)"
            " VALUES (%s, 7, repeat('0', 64), 'w', 1, '{}', now())",
            JOB,
        )

    async def execute(self, text: str, *given: Any) -> None:
        async with self.pool.connection() as conn:
            await conn.execute(text.encode(), given)

    async def query(self, text: str, *given: Any) -> list[Any]:
        """Once more when a test has cut the connection."""
        while True:
            try:
                async with self.pool.connection() as conn:
                    return list(await (await conn.execute(text.encode(), given)).fetchall())
            except psycopg.errors.AdminShutdown:
                continue

    async def said(self, kind: str) -> list[dict[str, Any]]:
        rows = await self.query("SELECT body FROM dagmaster.message WHERE kind = %s ORDER BY id", kind)
        return [row.body for row in rows]

    async def until_said(self, kind: str, count: int = 1, timeout: float = 15) -> list[dict[str, Any]]:  # noqa: ASYNC109  # one deadline word everywhere
        async def enough() -> list[dict[str, Any]]:
            found = await self.said(kind)
            return found if len(found) >= count else []

        return await eventually_async(enough, timeout)


@pytest.fixture
async def bench(database_uri: str, tmp_path: Path) -> AsyncIterator[Bench]:
    pool = await open_pool(database_uri)
    yield Bench(database_uri, pool, tmp_path)
    await pool.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases are renewed all the time."""
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.2)


async def test_task_is_claimed_run_and_reported(bench: Bench) -> None:
    ordinal = await bench.add("echo", message="hello")
    async with bench.working() as worker:
        (report,) = await bench.until_said("report")
    (started,) = await bench.said("started")
    assert (started["ordinal"], started["attempt"], started["worker"]) == (ordinal, 1, worker.worker_id)
    assert (report["ordinal"], report["outcome"], report["worker"]) == (ordinal, "COMPLETED", worker.worker_id)
    assert report["output"]["echoed_params"] == {"message": "hello"}


async def test_failure_is_reported_with_its_error(bench: Bench) -> None:
    await bench.add("fail", error_message="too wet", code="TOO_WET")
    async with bench.working():
        (report,) = await bench.until_said("report")
    assert (report["outcome"], report["error"]["code"]) == ("FAILED", "TOO_WET")


async def test_report_that_postgres_refuses_becomes_a_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be sent for ever otherwise."""

    async def unstorable(*_: Any) -> Outcome:
        return Outcome(True, {"text": "a\x00b"})

    monkeypatch.setattr(InlineExecutor, "run", unstorable)
    await bench.add("echo")
    async with bench.working():
        (report,) = await bench.until_said("report")
    assert (report["outcome"], report["error"]["code"]) == ("FAILED", "HANDLER_OUTPUT_INVALID")


async def test_more_is_not_claimed_than_there_are_slots(bench: Bench) -> None:
    for _ in range(5):
        await bench.add("sleep", duration_seconds=30)
    async with bench.working(slots=2) as worker:
        await bench.until_said("started", 2)
        worker.tasks_waiting()
        await eventually_async(_async(lambda: not worker.bell.is_set()))
        assert len(worker.running) == 2
        assert worker.free == {"inline": 0}
        claimed = await bench.query("SELECT count(*)::int AS n FROM dagmaster.task WHERE claimed_by IS NOT NULL")
        assert claimed[0].n == 2


async def test_freed_slot_takes_the_next_task(bench: Bench) -> None:
    for number in range(5):
        await bench.add("echo", number=number)
    async with bench.working(slots=1) as worker:
        reports = await bench.until_said("report", 5)
        await eventually_async(_async(lambda: worker.free == {"inline": 1}))
    assert sorted(each["output"]["echoed_params"]["number"] for each in reports) == [0, 1, 2, 3, 4]


async def test_queue_that_is_not_served_and_handler_that_is_not_known_are_left_alone(bench: Bench) -> None:
    elsewhere = await bench.add("echo", queue="heavy")
    unknown = await bench.add("raster.validate")
    mine = await bench.add("echo")
    async with bench.working():
        await bench.until_said("report")
    left = await bench.query("SELECT ordinal FROM dagmaster.task WHERE claimed_by IS NULL ORDER BY 1")
    assert [row.ordinal for row in left] == [elsewhere, unknown]
    assert [each["ordinal"] for each in await bench.said("report")] == [mine]


async def test_attempt_whose_task_is_gone_is_stopped_without_a_report(bench: Bench, impatient: None) -> None:
    gone = await bench.add("sleep", duration_seconds=60)
    stays = await bench.add("sleep", duration_seconds=60)
    async with bench.working() as worker:
        await bench.until_said("started", 2)
        await bench.execute("DELETE FROM dagmaster.task WHERE ordinal = %s", gone)
        await eventually_async(_async(lambda: len(worker.running) == 1))
        assert [key.ordinal for _, key in worker.running] == [stays]
        assert not await bench.said("report")


async def test_attempt_claimed_by_another_is_stopped(bench: Bench, impatient: None) -> None:
    await bench.add("sleep", duration_seconds=60)
    async with bench.working() as worker:
        await bench.until_said("started")
        await bench.execute("UPDATE dagmaster.task SET attempt = 2, claimed_by = 'another'")
        await eventually_async(_async(lambda: not worker.running))
        await eventually_async(_async(lambda: worker.free == {"inline": 4}))


async def test_leases_are_renewed(bench: Bench, impatient: None) -> None:
    await bench.add("sleep", duration_seconds=60)
    leases = "SELECT lease_until FROM dagmaster.task UNION ALL SELECT lease_until FROM dagmaster.worker"
    async with bench.working():
        await bench.until_said("started")
        before = await bench.query(leases)

        async def later() -> bool:
            now = await bench.query(leases)
            return len(now) == 2 and all(after > first for after, first in zip(now, before, strict=True))

        await eventually_async(later)


async def test_claim_that_the_worker_never_heard_of_is_given_back(bench: Bench, impatient: None) -> None:
    """The connection was cut between the claim's commit and its answer: nobody runs the attempt, its lease goes on."""
    await bench.add_job()
    async with bench.working() as worker:
        stray = await bench.add("echo", claimed_by=worker.worker_id)
        (report,) = await bench.until_said("report")
        assert (report["ordinal"], report["outcome"]) == (stray, "RELEASED")
        ours = await bench.add("sleep", duration_seconds=60)
        worker.tasks_waiting()
        await bench.until_said("started")
        renewed = await bench.query("SELECT lease_until FROM dagmaster.worker")
        for _ in range(3):
            renewed = await eventually_async(lambda: _changed(bench, renewed))  # noqa: B023  # awaited within the turn
        assert [key.ordinal for _, key in worker.running] == [ours]
        assert len(await bench.said("report")) == 1


async def test_stopping_gives_running_attempts_back_unspent_and_leaves(bench: Bench) -> None:
    ordinals = {await bench.add("sleep", duration_seconds=60) for _ in range(3)}
    async with bench.working():
        await bench.until_said("started", 3)
    reports = await bench.said("report")
    assert {each["ordinal"] for each in reports} == ordinals
    assert [each["outcome"] for each in reports] == ["RELEASED"] * 3
    assert not await bench.query("SELECT 1 FROM dagmaster.worker")


async def test_report_waits_for_the_database_and_arrives_once(
    bench: Bench, postgres_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = asyncio.Event()

    async def end_when_told(*_: Any) -> Outcome:
        await end.wait()
        return Outcome(True, {})

    monkeypatch.setattr(InlineExecutor, "run", end_when_told)
    for _ in range(2):
        await bench.add("echo")
    name = psycopg.conninfo.conninfo_to_dict(bench.uri)["dbname"]
    async with bench.working() as worker:
        await bench.until_said("started", 2)
        async with await psycopg.AsyncConnection.connect(uri_of(postgres_server, "postgres"), autocommit=True) as conn:
            await conn.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
            await conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
            end.set()
            await eventually_async(_async(lambda: not worker.running))
            assert len(worker.untold) == 2
            await conn.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())
        reports = await bench.until_said("report", 2, timeout=30)
        await eventually_async(_async(lambda: not worker.untold))
    assert [each["outcome"] for each in reports] == ["COMPLETED"] * 2
    assert len(await bench.said("report")) == 2


async def test_checkpoint_waits_for_the_database(bench: Bench, postgres_server: EmbeddedPostgres) -> None:
    await bench.add("echo", steps=12, step_delay=0.1)
    name = psycopg.conninfo.conninfo_to_dict(bench.uri)["dbname"]
    phase = "SELECT 1 FROM dagmaster.checkpoint WHERE phase >= 2"
    async with bench.working():
        await eventually_async(lambda: bench.query(phase))
        with psycopg.connect(uri_of(postgres_server, "postgres"), autocommit=True) as conn:
            conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        (report,) = await bench.until_said("report", timeout=30)
    assert report["outcome"] == "COMPLETED", report["error"]
    rows = await bench.query("SELECT phase FROM dagmaster.checkpoint")
    assert [row.phase for row in rows] == [12]


async def test_stop_does_not_wait_for_ever_for_a_database_that_is_gone(
    bench: Bench, postgres_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dagmaster.worker.worker.LEAVE_SECONDS", 1.0)
    await bench.add("sleep", duration_seconds=60)
    name = psycopg.conninfo.conninfo_to_dict(bench.uri)["dbname"]
    with psycopg.connect(uri_of(postgres_server, "postgres"), autocommit=True) as conn:
        try:
            async with bench.working():
                await bench.until_said("started")
                conn.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false".encode())
                conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        finally:
            conn.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true".encode())


async def test_worker_stops_though_its_sweeper_is_called_in_that_moment(bench: Bench) -> None:
    for _ in range(5):
        async with bench.working() as worker:
            await eventually_async(lambda: bench.query("SELECT 1 FROM dagmaster.worker"))
            worker.sweeper.bell.set()
            worker.stop()
            await eventually_async(_async(lambda: not worker.bell.is_set()))
            worker.sweeper.bell.set()


async def test_worker_announces_its_slots_queues_and_handlers_with_their_schemas(bench: Bench) -> None:
    async with bench.working(slots=3, queues=("light", "heavy")) as worker:
        (row,) = await eventually_async(lambda: bench.query("SELECT * FROM dagmaster.worker"))
    assert (row.worker_id, row.slots, row.queues) == (worker.worker_id, 3, ["light", "heavy"])
    assert row.lease_until > row.started_at
    assert set(row.handlers) == set(INLINE)
    assert row.handlers["sleep"]["params_schema"] == INLINE["sleep"].params_schema
    assert row.handlers["sleep"]["output_schema"] == INLINE["sleep"].output_schema
    assert "duration_seconds" in row.handlers["sleep"]["params_schema"]["properties"]


async def test_two_workers_share_a_backlog_and_every_task_is_claimed_once(bench: Bench) -> None:
    async with bench.pool.connection() as conn, conn.transaction():
        ordinals = [next(_numbers) for _ in range(100)]
        await conn.execute(
            b"INSERT INTO dagmaster.task (job_id, ordinal, item, attempt, shard, queue, handler, node_id, params,"
            b" timeout_seconds, queued_at) SELECT %s, unnest(%s::int[]), -1, 1, 7, 'light', 'echo', 'node',"
            b' \'{"steps": 2, "step_delay": 0.01}\', 60, now()',
            (JOB, ordinals),
        )
    async with bench.working(slots=4) as first, bench.working(slots=4) as second:
        reports = await bench.until_said("report", 100, timeout=30)
    started = await bench.said("started")
    assert sorted(each["ordinal"] for each in started) == ordinals
    assert sorted(each["ordinal"] for each in reports) == ordinals
    assert {each["worker"] for each in started} == {first.worker_id, second.worker_id}
    by_claim = {each["ordinal"]: each["worker"] for each in started}
    assert all(by_claim[each["ordinal"]] == each["worker"] for each in reports)


async def _changed(bench: Bench, before: list[Any]) -> list[Any]:
    now = await bench.query("SELECT lease_until FROM dagmaster.worker")
    return now if now != before else []


def _async(condition: Callable[[], Any]) -> Callable[[], Any]:
    async def ask() -> Any:
        return condition()

    return ask
