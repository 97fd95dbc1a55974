"""A job's events and its rows side by side, read in one snapshot and never held as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from dagmaster.contract.decisions import NodeState
from dagmaster.contract.history import JobEnd, Move
from dagmaster.contract.messages import Key
from dagmaster.db.connect import Connection
from dagmaster.db.statements import SQL

PAGE = 5_000
JOB = Key(-1)
"""Stands in for the job itself among the nodes."""


@dataclass(frozen=True, slots=True)
class Numbering:
    """How many events a job has, and their first and last number."""

    count: int
    first: int
    last: int

    @property
    def gapless(self) -> bool:
        return self.first == 1 and self.count == self.last


@dataclass(frozen=True, slots=True)
class History:
    """What there is of a job."""

    end: JobEnd
    numbering: Numbering
    moves: AsyncIterator[tuple[Key, Move]]
    rows: AsyncIterator[tuple[Key, NodeState]]


@asynccontextmanager
async def history(conn: Connection, job_id: str) -> AsyncIterator[History | None]:
    """The job as one snapshot of the database has it; None when there is no such job."""
    given = {"job_id": job_id}
    async with conn.transaction():
        await conn.execute(b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        found = await (await conn.execute(SQL["replay_job"], given)).fetchone()
        if found is None:
            yield None
            return
        end, numbering = JobEnd(*found[:3]), Numbering(*found[3:])
        yield History(end, numbering, _moves(conn, given), _rows(conn, given))


async def _moves(conn: Connection, given: dict[str, Any]) -> AsyncIterator[tuple[Key, Move]]:
    async with conn.cursor("moves") as cursor:
        cursor.itersize = PAGE
        await cursor.execute(SQL["replay_moves"], given)
        async for row in cursor:
            move = Move(row.seq, row.at, row.attempt, row.from_status, row.to_status, row.data or {})
            yield Key(row.ordinal, row.item), move


async def _rows(conn: Connection, given: dict[str, Any]) -> AsyncIterator[tuple[Key, NodeState]]:
    async with conn.cursor("nodes") as cursor:
        cursor.itersize = PAGE
        await cursor.execute(SQL["replay_rows"], given)
        async for row in cursor:
            yield (
                Key(row.ordinal, row.item),
                NodeState(row.status, row.attempt, row.spent, row.not_before, None, row.finished_at, row.error),
            )
