"""Jobs and definitions as people and the API see them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dagmaster.db.connect import Connection, dumps
from dagmaster.db.statements import SQL


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job. `now` is the database's time at the reading."""

    job_id: str
    shard: int
    digest: str
    workflow_id: str
    workflow_version: int
    status: str
    priority: int
    inputs: dict[str, Any]
    error: dict[str, Any] | None
    correlation_id: str | None
    rerun_of: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    now: datetime


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One node that has moved, with the output of its effective attempt and the progress of a running one."""

    ordinal: int
    item: int
    status: str
    attempt: int
    spent: int
    not_before: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    error: dict[str, Any] | None
    output: Any
    percent: float | None
    message: str | None
    queued_at: datetime | None
    claimed_by: str | None


@dataclass(frozen=True, slots=True)
class EventRow:
    """One line of a job's history."""

    seq: int
    at: datetime
    kind: str
    ordinal: int | None
    item: int | None
    attempt: int | None
    before: str | None
    to: str | None
    data: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class JobSummary:
    """One line of a list of jobs."""

    job_id: str
    workflow_id: str
    workflow_version: int
    status: str
    error: dict[str, Any] | None
    correlation_id: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a submission stores."""

    job_id: str
    shard: int
    digest: str
    workflow_id: str
    version: int
    document: dict[str, Any]
    """The definition, normalised."""
    inputs: dict[str, Any]
    priority: int = 0
    idempotency_key: str | None = None
    request_digest: str | None = None
    correlation_id: str | None = None
    rerun_of: str | None = None


async def load_definitions(conn: Connection, digests: Iterable[str]) -> dict[str, dict[str, Any]]:
    cursor = await conn.execute(SQL["load_definitions"], {"digests": list(digests)})
    return {row.digest: row.document for row in await cursor.fetchall()}


async def definition_versions(conn: Connection, workflow_id: str) -> list[tuple[str, int, datetime]]:
    """Digest, version and time of every stored definition of a workflow, newest first."""
    cursor = await conn.execute(SQL["definition_versions"], {"workflow_id": workflow_id})
    return [(row.digest, row.version, row.created_at) for row in await cursor.fetchall()]


async def insert_job(conn: Connection, job: NewJob) -> bool:
    """Create the job and tell its orchestrator; False when its id or idempotency key exists already."""
    given = {name: getattr(job, name) for name in job.__slots__}
    given |= {"inputs": dumps(job.inputs), "document": dumps(job.document)}
    return await (await conn.execute(SQL["insert_job"], given)).fetchone() is not None


async def find_job_by_key(conn: Connection, idempotency_key: str) -> tuple[str, str | None] | None:
    """Job id and request digest of the job that a key made."""
    row = await (await conn.execute(SQL["find_job_by_key"], {"idempotency_key": idempotency_key})).fetchone()
    return (row.job_id, row.request_digest) if row is not None else None


async def get_job(conn: Connection, job_id: str) -> JobRow | None:
    row = await (await conn.execute(SQL["get_job"], {"job_id": job_id})).fetchone()
    return JobRow(*row) if row is not None else None


async def get_nodes(conn: Connection, job_id: str, *, children: bool) -> list[NodeRow]:
    cursor = await conn.execute(SQL["get_nodes"], {"job_id": job_id, "children": children})
    return [NodeRow(*row) for row in await cursor.fetchall()]


async def count_children(conn: Connection, job_id: str) -> dict[int, dict[str, int]]:
    """For each fan-out, how many children have which status."""
    counts: dict[int, dict[str, int]] = {}
    for row in await (await conn.execute(SQL["count_children"], {"job_id": job_id})).fetchall():
        counts.setdefault(row.ordinal, {})[row.status] = row[2]
    return counts


async def get_events(conn: Connection, job_id: str, *, after: int = 0, limit: int = 1000) -> list[EventRow]:
    cursor = await conn.execute(SQL["get_events"], {"job_id": job_id, "after": after, "limit": limit})
    return [EventRow(*row) for row in await cursor.fetchall()]


async def list_jobs(
    conn: Connection,
    *,
    status: str | None = None,
    workflow_id: str | None = None,
    before: tuple[datetime, str] | None = None,
    limit: int = 50,
) -> list[JobSummary]:
    """Newest first; `before` is the (created_at, job_id) of the last one seen."""
    given = {
        "status": status,
        "workflow_id": workflow_id,
        "before": before[0] if before else None,
        "before_id": before[1] if before else None,
        "limit": limit,
    }
    return [JobSummary(*row) for row in await (await conn.execute(SQL["list_jobs"], given)).fetchall()]


@dataclass(frozen=True, slots=True)
class Health:
    """How many processes live, and the server's version."""

    orchestrators: int
    workers: int
    postgres: str


async def health(conn: Connection) -> Health:
    row = await (await conn.execute(SQL["health"])).fetchone()
    assert row is not None
    return Health(*row)
