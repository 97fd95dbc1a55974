"""What workers read and write: announcements, claims, leases, reports, progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from dagmaster.contract.handlers import HandlerSpec
from dagmaster.contract.messages import Key, Task
from dagmaster.db.connect import CONNECT_TIMEOUT_SECONDS, Connection, dumps
from dagmaster.db.statements import SQL

LEASE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """A live worker and what it announced."""

    worker_id: str
    started_at: datetime
    lease_until: datetime
    slots: int
    queues: list[str]
    handlers: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ProgressRow:
    """How far one attempt is."""

    job_id: str
    key: Key
    attempt: int
    percent: float
    message: str


async def register(
    conn: Connection, worker_id: str, slots: int, queues: Sequence[str], handlers: Sequence[HandlerSpec]
) -> None:
    document = dumps({spec.name: spec.model_dump(mode="json") for spec in handlers})
    given = {"worker": worker_id, "slots": slots, "queues": list(queues), "handlers": document, "lease": LEASE}
    await conn.execute(SQL["register_worker"], given)


async def claim(
    conn: Connection, worker_id: str, queues: Sequence[str], handlers: Sequence[str], limit: int
) -> list[Task]:
    """Claim up to `limit` waiting tasks; their leases run from now."""
    given = {"worker": worker_id, "queues": list(queues), "handlers": list(handlers), "limit": limit, "lease": LEASE}
    rows = await (await conn.execute(SQL["claim_tasks"], given)).fetchall()
    return [
        Task(
            job_id=r.job_id,
            key=Key(r.ordinal, r.item),
            attempt=r.attempt,
            shard=r.shard,
            node_id=r.node_id,
            handler=r.handler,
            queue=r.queue,
            priority=r.priority,
            params=r.params,
            timeout_seconds=r.timeout_seconds,
            queued_at=r.queued_at,
            checkpoint=r.checkpoint,
        )
        for r in rows
    ]


async def waiting(conn: Connection, queues: Sequence[str]) -> bool:
    """Whether there is anything to claim in these queues."""
    row = await (await conn.execute(SQL["waiting_tasks"], {"queues": list(queues)})).fetchone()
    assert row is not None
    return bool(row[0])


def renew(uri: str, worker_id: str) -> set[tuple[str, Key, int]]:
    """Prolong all leases of the worker on a connection of this call's own; returns the attempts still held."""
    with psycopg.connect(uri, autocommit=True, connect_timeout=CONNECT_TIMEOUT_SECONDS) as conn:
        rows = conn.execute(SQL["renew_worker"], {"worker": worker_id, "lease": LEASE}).fetchall()
    return {(job_id, Key(ordinal, item), attempt) for job_id, ordinal, item, attempt in rows}


@dataclass(frozen=True, slots=True)
class ReportRow:
    """How an attempt ended, as its message; without a shard the job's row is asked for it."""

    job_id: str
    shard: int | None
    body: dict[str, Any]


async def report(conn: Connection, rows: Sequence[ReportRow]) -> None:
    """Put reports into the inbox, all or none."""
    given = [{"j": row.job_id, "s": row.shard, "b": row.body} for row in rows]
    await conn.execute(SQL["report"], {"reports": dumps(given)})


async def save_checkpoint(conn: Connection, worker_id: str, task: Task, phase: int, data: dict[str, Any]) -> bool:
    """False when the attempt is no longer this worker's."""
    given = {
        "worker": worker_id,
        "job_id": task.job_id,
        "ordinal": task.key.ordinal,
        "item": task.key.item,
        "attempt": task.attempt,
        "phase": phase,
        "data": dumps(data),
    }
    return await (await conn.execute(SQL["save_checkpoint"], given)).fetchone() is not None


async def save_progress(conn: Connection, rows: Sequence[ProgressRow]) -> None:
    given = {
        "job_ids": [row.job_id for row in rows],
        "ordinals": [row.key.ordinal for row in rows],
        "items": [row.key.item for row in rows],
        "attempts": [row.attempt for row in rows],
        "percents": [row.percent for row in rows],
        "messages": [row.message for row in rows],
    }
    await conn.execute(SQL["save_progress"], given)


async def expire_leases(conn: Connection, prefix: str) -> int:
    """End the leases of workers whose names begin so, because they are dead; returns the number of attempts freed."""
    cursor = await conn.execute(SQL["expire_leases"], {"pattern": prefix + "%"})
    return cursor.rowcount


async def ended_jobs(conn: Connection, job_ids: Sequence[str]) -> set[str]:
    """Those of the ids that no live job has."""
    rows = await (await conn.execute(SQL["ended_jobs"], {"job_ids": list(job_ids)})).fetchall()
    return {row[0] for row in rows}


async def leave(conn: Connection, worker_id: str) -> None:
    await conn.execute(SQL["leave_worker"], {"worker": worker_id})


async def live_workers(conn: Connection) -> list[WorkerRow]:
    return [WorkerRow(*row) for row in await (await conn.execute(SQL["live_workers"])).fetchall()]
