"""The engine's store in Postgres: snapshots, and whole ticks as one call each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson
import psycopg

from dagmaster.contract.decisions import Decision, JobSnapshot, LiveTask, NodeState
from dagmaster.contract.messages import Key
from dagmaster.contract.store import Batch, Fence, InboxRow, JobHead, Turn
from dagmaster.db.connect import Connection
from dagmaster.db.jobs import load_definitions
from dagmaster.db.statements import SQL
from dagmaster.errors import DecisionUnwritable, OwnershipLost, StaleState

NOT_OWNER = "DM002"
ILLEGAL_MOVE = "DM001"
UNWRITABLE = (psycopg.DataError, psycopg.IntegrityError, psycopg.ProgrammingError, TypeError, ValueError, KeyError)
"""Faults of what is to be written, not of the database: writing it again would fail again."""

Rows = list[dict[str, Any]]


class PostgresStore:
    """The `EngineStore` behind one connection."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn

    async def turn(self, fence: Fence, batch: Batch | None, look: Sequence[int], limit: int) -> Turn:
        """One call of `dagmaster.tick`."""
        shards = batch.shards if batch is not None else []
        try:
            given = _given(fence, batch, shards) | {"looked": list(look) or None, "look_limit": limit}
            found = await (await self.conn.execute(SQL["tick"], given)).fetchone()
        except psycopg.Error as problem:
            if problem.sqlstate == NOT_OWNER:
                raise OwnershipLost(shard=shards) from problem
            if problem.sqlstate == ILLEGAL_MOVE:
                raise StaleState(noun="job", id=_ids(batch), why=str(problem)) from problem
            if isinstance(problem, UNWRITABLE):
                raise DecisionUnwritable(id=_ids(batch), why=str(problem)) from problem
            raise
        except UNWRITABLE as problem:
            raise DecisionUnwritable(id=_ids(batch), why=f"{type(problem).__name__}: {problem}") from problem
        assert found is not None
        return Turn(found[0], [_message(row) for row in found[1] or ()], bool(found[2]))

    async def load(self, job_ids: Sequence[str]) -> list[JobSnapshot]:
        """In one snapshot of the database; ended children of fan-outs come as numbers only."""
        given = {"job_ids": list(job_ids)}
        async with self.conn.pipeline(), self.conn.transaction():
            await self.conn.execute(b"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            jobs = await self.conn.execute(SQL["load_jobs"], given)
            nodes = await self.conn.execute(SQL["load_nodes"], given)
            fans = await self.conn.execute(SQL["load_fans"], given)
            outputs = await self.conn.execute(SQL["load_outputs"], given)
            tasks = await self.conn.execute(SQL["load_tasks"], given)
        found = {row.job_id: JobSnapshot(*row) for row in await jobs.fetchall()}
        for row in await nodes.fetchall():
            found[row.job_id].nodes[Key(row.ordinal, row.item)] = NodeState(*row[3:])
        for row in await fans.fetchall():
            found[row.job_id].children[row.ordinal] = (row.created, row.completed, row.failed)
        for row in await outputs.fetchall():
            found[row.job_id].outputs[Key(row.ordinal, row.item)] = row.output
        for row in await tasks.fetchall():
            found[row.job_id].tasks.append(LiveTask(Key(row.ordinal, row.item), *row[3:]))
        return list(found.values())

    async def task_leases(self, keys: Sequence[tuple[str, Key]]) -> dict[tuple[str, Key], tuple[int, datetime]]:
        given = {
            "job_ids": [job_id for job_id, _ in keys],
            "ordinals": [key.ordinal for _, key in keys],
            "items": [key.item for _, key in keys],
        }
        rows = await (await self.conn.execute(SQL["task_leases"], given)).fetchall()
        return {(r.job_id, Key(r.ordinal, r.item)): (r.attempt, r.lease_until) for r in rows if r.lease_until}

    async def definitions(self, digests: Sequence[str]) -> dict[str, Any]:
        return await load_definitions(self.conn, digests)


async def read_clock(conn: Connection) -> datetime:
    row = await (await conn.execute(SQL["clock"])).fetchone()
    assert row is not None
    return row[0]  # type: ignore[no-any-return]


async def live_jobs(conn: Connection, shards: Sequence[int]) -> list[str]:
    """Ids of the jobs of these shards that have not ended."""
    rows = await (await conn.execute(SQL["live_jobs"], {"shards": list(shards)})).fetchall()
    return [row[0] for row in rows]


# --- a batch as the arguments of the call ----------------------------------------------------------------
# Rows go as JSON with one-letter names: the call's signature in the migration says what they mean.


def _ids(batch: Batch | None) -> list[str]:
    return [decision.job_id for decision in batch.decisions] if batch is not None else []


def _message(row: list[Any]) -> InboxRow:
    head = JobHead(*row[5]) if row[5] is not None else None
    return InboxRow(row[0], row[1], row[2], row[3], row[4], head)


def _given(fence: Fence, batch: Batch | None, shards: list[int]) -> dict[str, Any]:
    if batch is None:
        return dict.fromkeys(ARGUMENTS)
    decisions = batch.decisions
    rows = {
        "dropped": [_key(d.job_id, key) for d in decisions for key in d.dropped],
        "revoked": [_key(d.job_id, key) for d in decisions for key in d.revoked],
        "nodes": _nodes(decisions),
        "effects": _effects(decisions),
        "tasks": _tasks(batch),
        "attempts": _attempts(decisions),
        "events": _events(batch),
        "jobs": [
            {"j": d.job_id, "s": d.status, "e": d.error, "f": d.finished}
            for d in decisions
            if d.status != d.status_before
        ],
        "quarantined": [{"j": row.job_id, "k": row.kind, "b": row.body, "r": why} for row, why in batch.quarantined],
        "used": [{"s": row.shard, "n": row.id} for row in batch.consumed],
    }
    return {
        "owner": fence.owner,
        "touched": shards,
        "epochs": [fence.epochs[shard] for shard in shards],
        "at": batch.now,
        "lease": batch.lease,
        **{name: orjson.dumps(each).decode() if each else None for name, each in rows.items()},
    }


ARGUMENTS = (
    *("owner", "touched", "epochs", "at", "lease", "dropped", "revoked", "nodes", "effects", "tasks", "attempts"),
    *("events", "jobs", "quarantined", "used"),
)


def _key(job_id: str, key: Key) -> dict[str, Any]:
    return {"j": job_id, "o": key.ordinal, "i": key.item}


def _nodes(decisions: Iterable[Decision]) -> Rows:
    return [
        {
            "j": d.job_id,
            "o": key.ordinal,
            "i": key.item,
            "s": state.status,
            "a": state.attempt,
            "p": state.spent,
            "nb": state.not_before,
            "sa": state.started_at,
            "fa": state.finished_at,
            "e": state.error,
        }
        for d in decisions
        for key, change in d.nodes.items()
        for state in (change.state,)
    ]


def _effects(decisions: Iterable[Decision]) -> Rows:
    return [
        _key(d.job_id, key) | {"sh": d.shard, "a": attempt, "n": position, "k": effect["kind"], "b": effect["body"]}
        for d in decisions
        for key, attempt, wanted in d.effects
        for position, effect in enumerate(wanted)
    ]


def _tasks(batch: Batch) -> Rows:
    return [
        {
            "j": task.job_id,
            "o": task.key.ordinal,
            "i": task.key.item,
            "a": task.attempt,
            "sh": task.shard,
            "q": task.queue,
            "pr": task.priority,
            "h": task.handler,
            "n": task.node_id,
            "p": task.params,
            "t": task.timeout_seconds,
            "w": row.claimed_by,
        }
        for row in batch.tasks
        for task in (row.task,)
    ]


def _attempts(decisions: Iterable[Decision]) -> Rows:
    return [
        {
            "j": d.job_id,
            "o": record.key.ordinal,
            "i": record.key.item,
            "a": record.attempt,
            "s": record.outcome,
            "w": record.worker,
            "sa": record.started_at,
            "fa": record.finished_at,
            "r": record.output if record.outcome == "COMPLETED" else None,
            "e": record.error,
        }
        for d in decisions
        for record in d.attempts
    ]


def _events(batch: Batch) -> Rows:
    return [
        {
            "j": d.job_id,
            "n": number,
            "k": event.kind,
            "o": event.key.ordinal if event.key else None,
            "i": event.key.item if event.key else None,
            "a": event.attempt,
            "f": event.before,
            "t": event.to,
            "d": event.data,
        }
        for d, seq in zip(batch.decisions, batch.seqs, strict=True)
        for number, event in enumerate(d.events, start=seq + 1)
    ]
