"""An engine against real Postgres, and a worker driven by hand."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dagmaster.catalog.embedded import EmbeddedCatalog
from dagmaster.contract.api import JobBody
from dagmaster.contract.handlers import HandlerSpec
from dagmaster.contract.messages import Key, Report, Task
from dagmaster.dag.definition import load
from dagmaster.db import worker as store
from dagmaster.db.connect import Pool, connect, open_pool
from dagmaster.db.inbox import report_body
from dagmaster.db.notify import INBOX, notify
from dagmaster.engine.orchestrator import Orchestrator
from dagmaster.engine.publish import Publisher
from dagmaster.engine.status import JobReader
from dagmaster.engine.submit import Submission, submit
from dagmaster.storages import open_storage
from waiting import eventually_async

ANYTHING: dict[str, Any] = {"type": "object", "additionalProperties": True}
SPECS = {
    name: HandlerSpec(name=name, params_schema=ANYTHING, output_schema=ANYTHING, isolation="inline")
    for name in ("echo", "other")
}
CHAIN = """
workflow_id: chain
name: Chain
version: 1
nodes:
  start: {type: start, next: a}
  a: {handler: echo, params: {said: "{{ inputs.message }}"}, retry: {max_attempts: 1, backoff: fixed, initial_delay_seconds: 1}, next: b}
  b: {handler: echo, params: {said: "{{ nodes.a.output.said }}"}, next: end}
  end: {type: end}
inputs:
  message: {type: string, default: hello}
"""


class HandWorker:
    """Claims and reports one attempt at a time, exactly when told."""

    def __init__(self, pool: Pool, name: str = "hand-worker") -> None:
        self.pool = pool
        self.name = name

    async def claim(self, limit: int = 1) -> list[Task]:
        async def some() -> list[Task]:
            async with self.pool.connection() as conn:
                tasks = await store.claim(conn, self.name, ["light"], list(SPECS), limit)
                if tasks:
                    await notify(conn, [INBOX])
                return tasks

        return await eventually_async(some)

    async def report(self, task: Task, **more: Any) -> None:
        given: dict[str, Any] = {"outcome": "COMPLETED", "output": task.params} | more
        report = Report(task.key, given.pop("attempt", task.attempt), self.name, **given)
        async with self.pool.connection() as conn:
            await store.report(conn, [store.ReportRow(task.job_id, task.shard, report_body(report))])
            await notify(conn, [INBOX])

    async def work(self, *, until: Callable[[], bool]) -> int:
        """Complete whatever comes until told to stop; returns the number of attempts."""
        done = 0
        while not until():
            async with self.pool.connection() as conn:
                tasks = await store.claim(conn, self.name, ["light"], list(SPECS), 50)
                for task in tasks:
                    report = Report(task.key, task.attempt, self.name, "COMPLETED", output=task.params)
                    await store.report(conn, [store.ReportRow(task.job_id, task.shard, report_body(report))])
                    done += 1
                if tasks:
                    await notify(conn, [INBOX])
            if not tasks:
                await asyncio.sleep(0.01)
        return done


class Bench:
    """A database with a pool, engines to start and jobs to look at."""

    def __init__(self, uri: str, pool: Pool, folder: Path) -> None:
        self.uri = uri
        self.pool = pool
        self.folder = folder
        self.reader = JobReader(pool)
        self.worker = HandWorker(pool)

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[Orchestrator]:
        """A running orchestrator with its publisher, stopped gracefully at the end."""
        made = Orchestrator(self.uri, self.pool, SPECS)
        publisher = Publisher(self.pool, open_storage(f"file:{self.folder}"), EmbeddedCatalog(self.pool))
        publisher.on_applied = made.ring
        made.on_published = publisher.bell.ring
        running = [asyncio.create_task(made.run()), asyncio.create_task(publisher.run())]
        try:
            await asyncio.wait_for(made.ready.wait(), 15)
            yield made
        finally:
            publisher.stop()
            made.stop()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*running)

    async def submit(self, text: str = CHAIN, inputs: dict[str, Any] | None = None, **more: Any) -> str:
        made = await submit(self.pool, Submission(load(text, "test.yaml"), inputs or {}, **more), SPECS)
        async with self.pool.connection() as conn:
            await notify(conn, [INBOX])
        return made.job_id

    async def job(self, job_id: str) -> JobBody:
        return await self.reader.job(job_id)

    async def until(self, job_id: str, *statuses: str, timeout: float = 15) -> JobBody:  # noqa: ASYNC109  # one deadline word everywhere
        async def there() -> JobBody | None:
            job = await self.job(job_id)
            return job if job.status in statuses else None

        found = await eventually_async(there, timeout)
        assert found is not None
        return found

    async def query(self, text: str, *given: Any) -> list[Any]:
        async with self.pool.connection() as conn:
            return list(await (await conn.execute(text.encode(), given)).fetchall())


@pytest.fixture
async def bench(database_uri: str, tmp_path: Path) -> AsyncIterator[Bench]:
    pool = await open_pool(database_uri, size_max=12)
    yield Bench(database_uri, pool, tmp_path / "storage")
    await pool.close()


__all__ = ["CHAIN", "SPECS", "Bench", "HandWorker", "Key", "connect"]
