"""The workloads on dagmaster: the local profile as people run it, timed by the one clock of its database."""

from __future__ import annotations

import asyncio
import os
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import psycopg

from bench import machine
from bench.workflows import chain, fan
from dagmaster.contract.handlers import HandlerSpec
from dagmaster.dag.definition import Definition
from dagmaster.db.connect import Pool, open_pool
from dagmaster.db.notify import INBOX, notify
from dagmaster.engine.submit import Submission, submit
from dagmaster.executors.limits import child_environment
from dagmaster.handlers import outside
from dagmaster.handlers.manifest import bundled_specs
from dagmaster.run.local import local_profile

INLINE = "hello_world"
"""A bundled handler that does nothing worth mentioning, in a thread of the worker."""
APART = "bench_nothing"
"""The same in a sandboxed child process."""
HANDLER = f'''
from dagmaster.handlers.base import Context, Output, Params, handler


class Nothing(Params):
    pass


class Done(Output):
    message: str


@handler("{APART}")
def run(params: Nothing, ctx: Context) -> Done:
    """Does nothing."""
    return Done(message="done")
'''
STEPS = 20
SHORT = 5
JOBS = 500
POLL_SECONDS = 0.01
END_SECONDS_MAX = 1_200
SETTLE_SECONDS = 15


class Ours:
    """One dagmaster, with what a submission needs."""

    def __init__(self, uri: str, pool: Pool, specs: dict[str, HandlerSpec], pids: list[int]) -> None:
        self.uri = uri
        self.pool = pool
        self.specs = specs
        self.pids = pids

    async def submit(self, definition: Definition, inputs: dict[str, Any] | None = None) -> str:
        made = await submit(self.pool, Submission(definition, inputs or {}), self.specs)
        async with self.pool.connection() as conn:
            await notify(conn, [INBOX])
        return made.job_id

    async def ended(self, job_ids: Sequence[str]) -> None:
        """Wait; the figures are taken from the rows, so how often one looks does not matter."""
        began = perf_counter()
        while perf_counter() - began < END_SECONDS_MAX:
            (row,) = await self.query(
                "SELECT count(*) FILTER (WHERE finished_at IS NULL) AS live, count(*) FILTER (WHERE status = 'FAILED')"
                " AS failed FROM dagmaster.job WHERE job_id = ANY (%s::uuid[])",
                list(job_ids),
            )
            if row.failed:
                raise RuntimeError("a job of the benchmark has failed")
            if not row.live:
                return
            await asyncio.sleep(POLL_SECONDS)
        raise TimeoutError(f"not ended within {END_SECONDS_MAX} s")

    async def query(self, text: str, *given: Any) -> list[Any]:
        async with self.pool.connection() as conn:
            return list(await (await conn.execute(text.encode(), given)).fetchall())

    async def span(self, job_ids: Sequence[str]) -> float:
        """Seconds from the first submission to the last end, by the database's clock."""
        (row,) = await self.query(
            "SELECT extract(epoch FROM max(finished_at) - min(created_at)) AS s FROM dagmaster.job"
            " WHERE job_id = ANY (%s::uuid[])",
            list(job_ids),
        )
        return float(row.s)

    # --- the workloads ---------------------------------------------------------------------------------

    async def chain(self, repetitions: int, handler: str = INLINE) -> list[float]:
        """A: milliseconds per step of a chain on an idle system, one figure for each repetition."""
        definition = chain(f"bench_chain_{handler}", STEPS, handler)
        found = []
        for number in range(repetitions + 3):
            job_id = await self.submit(definition)
            await self.ended([job_id])
            if number >= 3:  # the first ones fill caches
                found.append(await self.span([job_id]) / STEPS * 1000)
        return found

    async def fan(self, width: int) -> float:
        """B: seconds from the submission of a fan-out to the end of its fan-in."""
        job_id = await self.submit(fan(INLINE), {"items": list(range(width))})
        await self.ended([job_id])
        return await self.span([job_id])

    async def throughput(self, handler: str = INLINE) -> float:
        """C: steps per second of 500 jobs of five steps, each submitted on its own."""
        definition = chain(f"bench_short_{handler}", SHORT, handler)
        job_ids = await asyncio.gather(*(self.submit(definition) for _ in range(JOBS)))
        await self.ended(job_ids)
        return JOBS * SHORT / await self.span(job_ids)

    async def start(self, jobs: int) -> list[float]:
        """D: milliseconds from a submission to the start of its first step, one job every 100 ms."""
        definition = chain("bench_one", 1, INLINE)
        asked: dict[str, datetime] = {}
        for _ in range(jobs):
            at = datetime.now(UTC)
            asked[await self.submit(definition)] = at
            await asyncio.sleep(0.1)
        await self.ended(list(asked))
        rows = await self.query(
            "SELECT job_id::text, started_at FROM dagmaster.attempt WHERE job_id = ANY (%s::uuid[]) AND attempt = 1",
            list(asked),
        )
        return [(row.started_at - asked[row.job_id]).total_seconds() * 1000 for row in rows]

    async def idle(self, seconds: float) -> tuple[float, float]:
        """Percent of a core, and transactions per second, of a system without any work."""
        with psycopg.connect(self.uri, dbname="postgres", autocommit=True) as connection:
            await asyncio.sleep(SETTLE_SECONDS)
            pids = machine.family(os.getpid())  # children come and go with the work that was before
            before, cpu = _transactions(connection), machine.cpu_seconds(pids)
            await asyncio.sleep(seconds)
            after = _transactions(connection)
        return (machine.cpu_seconds(pids) - cpu) / seconds * 100, (after - before) / seconds


def _transactions(connection: psycopg.Connection[Any]) -> int:
    connection.execute("SELECT pg_stat_clear_snapshot()")
    row = connection.execute(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = 'dagmaster'"
    ).fetchone()
    assert row is not None
    return int(row[0])


@asynccontextmanager
async def profile(folder: Path) -> AsyncIterator[Ours]:
    """The local profile in this process, with a handler of its own that runs in child processes."""
    handlers = folder / "handlers"
    handlers.mkdir(parents=True)
    (handlers / "bench_nothing.py").write_text(HANDLER, "utf-8")
    found = outside.read((handlers,), child_environment({})).refuse_faults()
    async with local_profile(folder / "data", port=None, processes=2, memory_mib=1024, outside=found) as running:
        pool = await open_pool(running.database, size_max=4)
        async with pool:
            pids = machine.family(os.getpid())
            yield Ours(running.database, pool, {**bundled_specs(), **found.specs}, pids)


FINISHED = """
WITH d AS (SELECT digest, workflow_id FROM dagmaster.definition LIMIT 1),
made AS (
    INSERT INTO dagmaster.job (job_id, shard, digest, workflow_id, workflow_version, status, inputs, created_at,
                               started_at, finished_at)
    SELECT gen_random_uuid(), n %% 64, d.digest, d.workflow_id, 1, 'COMPLETED', '{}', at, at, at
    FROM generate_series(1, %s) AS n, d, LATERAL (SELECT now() - n * interval '1 second' AS at) t
    RETURNING job_id, finished_at),
nodes AS (
    INSERT INTO dagmaster.node (job_id, ordinal, item, status, attempt, started_at, finished_at)
    SELECT job_id, o, -1, 'COMPLETED', 1, finished_at, finished_at FROM made, generate_series(0, 2) AS o),
attempts AS (
    INSERT INTO dagmaster.attempt (job_id, ordinal, item, attempt, outcome, worker, started_at, finished_at, output)
    SELECT job_id, 1, -1, 1, 'COMPLETED', 'before', finished_at, finished_at, '{"message": "done"}' FROM made)
INSERT INTO dagmaster.event (job_id, seq, at, kind, ordinal, item, from_status, to_status)
SELECT job_id, s, finished_at, 'node', 1, -1, 'PENDING', 'COMPLETED' FROM made, generate_series(1, 3) AS s
"""


def fill(uri: str, jobs: int) -> None:
    """Finished jobs as the engine leaves them: three nodes, one attempt and three events each."""
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # the triggers of states are for moves
        for first in range(0, jobs, 50_000):
            connection.execute(FINISHED.encode(), (min(50_000, jobs - first),))
        connection.execute("VACUUM ANALYZE")


def percentile(values: list[float], share: float) -> float:
    """By the nearest rank."""
    return sorted(values)[min(len(values) - 1, round(share * (len(values) - 1)))]


def middle(values: list[float]) -> tuple[float, str]:
    """The median, and how far the others are from it."""
    return statistics.median(values), f"{min(values):.3g} to {max(values):.3g}"
