"""Reads across jobs: nodes, tasks, queues, logs, children."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dagmaster.contract.messages import Key
from dagmaster.db.connect import Connection, dumps_or_none
from dagmaster.db.jobs import EventRow
from dagmaster.db.statements import SQL


@dataclass(frozen=True, slots=True)
class NodeLine:
    """A node of some job."""

    job_id: str
    workflow_id: str
    digest: str
    ordinal: int
    item: int
    status: str
    attempt: int
    started_at: datetime | None
    finished_at: datetime | None
    error: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class TaskLine:
    """A live task. `now` is the database's time at the reading."""

    job_id: str
    node_id: str
    attempt: int
    handler: str
    queue: str
    priority: int
    queued_at: datetime
    claimed_by: str | None
    claimed_at: datetime | None
    lease_until: datetime | None
    now: datetime


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """How much waits and runs in one queue; the age of the oldest waiting task in seconds."""

    queue: str
    waiting: int
    running: int
    oldest_seconds: float | None


@dataclass(frozen=True, slots=True)
class LogRow:
    """One line that an attempt said."""

    id: int
    ordinal: int
    item: int
    attempt: int
    at: datetime
    message: str
    fields: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class NewLog:
    """A line to be kept; `at` by the worker's clock."""

    job_id: str
    key: Key
    attempt: int
    at: datetime
    message: str
    fields: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class ChildRow:
    """One child of a fan-out."""

    ordinal: int
    item: int
    status: str
    attempt: int
    started_at: datetime | None
    finished_at: datetime | None
    error: dict[str, Any] | None


async def list_nodes(conn: Connection, status: str, limit: int) -> list[NodeLine]:
    return [NodeLine(*row) for row in await _all(conn, "list_nodes", {"status": status, "limit": limit})]


async def list_tasks(conn: Connection, queue: str | None, limit: int) -> list[TaskLine]:
    return [TaskLine(*row) for row in await _all(conn, "list_tasks", {"queue": queue, "limit": limit})]


async def queue_depths(conn: Connection) -> list[QueueDepth]:
    return [QueueDepth(*row) for row in await _all(conn, "queue_depths", {})]


async def save_logs(conn: Connection, rows: Sequence[NewLog]) -> None:
    given = {
        "job_ids": [row.job_id for row in rows],
        "ordinals": [row.key.ordinal for row in rows],
        "items": [row.key.item for row in rows],
        "attempts": [row.attempt for row in rows],
        "ats": [row.at for row in rows],
        "messages": [row.message for row in rows],
        "fields": [dumps_or_none(row.fields or None) for row in rows],
    }
    await conn.execute(SQL["save_logs"], given)


async def get_logs(conn: Connection, job_id: str, key: Key | None, after: int, limit: int) -> list[LogRow]:
    """Lines after an id, of one node or of all."""
    given = {
        "job_id": job_id,
        "ordinal": key.ordinal if key else None,
        "item": key.item if key else None,
        "after": after,
        "limit": limit,
    }
    return [LogRow(*row) for row in await _all(conn, "get_logs", given)]


async def node_events(conn: Connection, job_id: str, key: Key, limit: int) -> list[EventRow]:
    given = {"job_id": job_id, "ordinal": key.ordinal, "item": key.item, "limit": limit}
    return [EventRow(*row) for row in await _all(conn, "node_events", given)]


async def get_children(
    conn: Connection, job_id: str, ordinal: int, after: int, status: str | None, limit: int
) -> list[ChildRow]:
    """Children after an index."""
    given = {"job_id": job_id, "ordinal": ordinal, "after": after, "status": status, "limit": limit}
    return [ChildRow(*row) for row in await _all(conn, "get_children", given)]


async def _all(conn: Connection, name: str, given: dict[str, Any]) -> list[Any]:
    return list(await (await conn.execute(SQL[name], given)).fetchall())
