"""What the engine reads and writes: messages, snapshots, and whole decisions in set-based statements."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from dagmaster.contract.decisions import Decision, JobSnapshot, LiveTask, NodeState
from dagmaster.contract.messages import Key, Task
from dagmaster.db.connect import Connection, dumps, dumps_or_none
from dagmaster.db.statements import SQL
from dagmaster.errors import OwnershipLost, StaleState

NOT_OWNER = "DM002"
ILLEGAL_MOVE = "DM001"
CONSUMED_BATCH = 2_000
"""Messages read in one tick, at most."""


@dataclass(frozen=True, slots=True)
class InboxRow:
    """A message as it lies in the inbox, not yet read."""

    shard: int
    id: int
    job_id: str
    kind: str
    body: dict[str, Any]


async def read_clock(conn: Connection) -> datetime:
    row = await (await conn.execute(SQL["clock"])).fetchone()
    assert row is not None
    return row[0]  # type: ignore[no-any-return]


async def fetch(conn: Connection, shards: Sequence[int]) -> tuple[datetime, list[InboxRow]]:
    """The database's time and the waiting messages, in one round trip."""
    async with conn.pipeline():
        clock = await conn.execute(SQL["clock"])
        waiting = await conn.execute(SQL["fetch_messages"], {"shards": list(shards), "limit": CONSUMED_BATCH})
    now = await clock.fetchone()
    assert now is not None
    return now[0], [InboxRow(*row) for row in await waiting.fetchall()]


async def load(conn: Connection, job_ids: Sequence[str]) -> list[JobSnapshot]:
    """Jobs as their tables hold them, in one snapshot of the database."""
    given = {"job_ids": list(job_ids)}
    async with conn.pipeline(), conn.transaction():
        jobs = await conn.execute(SQL["load_jobs"], given)
        nodes = await conn.execute(SQL["load_nodes"], given)
        outputs = await conn.execute(SQL["load_outputs"], given)
        tasks = await conn.execute(SQL["load_tasks"], given)
    found = {row.job_id: JobSnapshot(*row) for row in await jobs.fetchall()}
    for row in await nodes.fetchall():
        found[row.job_id].nodes[Key(row.ordinal, row.item)] = NodeState(*row[3:])
    for row in await outputs.fetchall():
        found[row.job_id].outputs[Key(row.ordinal, row.item)] = row.output
    for row in await tasks.fetchall():
        found[row.job_id].tasks.append(LiveTask(Key(row.ordinal, row.item), *row[3:]))
    return list(found.values())


async def live_jobs(conn: Connection, shards: Sequence[int]) -> list[str]:
    """Ids of the jobs of these shards that have not ended."""
    rows = await (await conn.execute(SQL["live_jobs"], {"shards": list(shards)})).fetchall()
    return [row[0] for row in rows]


async def task_leases(conn: Connection, keys: Sequence[tuple[str, Key]]) -> dict[tuple[str, Key], tuple[int, datetime]]:
    """Attempt and lease end of each live task among `keys`."""
    rows = await (await conn.execute(SQL["task_leases"], _keys(keys))).fetchall()
    return {(row.job_id, Key(row.ordinal, row.item)): (row.attempt, row.lease_until) for row in rows if row.lease_until}


@dataclass(frozen=True, slots=True)
class Fence:
    """The right to write: who I am, and the epochs of the shards I hold."""

    owner: str
    epochs: dict[int, int]


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A new task with what the definition left to the handler, and the worker it was given to."""

    task: Task
    claimed_by: str | None


async def write(
    conn: Connection,
    fence: Fence,
    now: datetime,
    decisions: Sequence[Decision],
    seqs: Sequence[int],
    tasks: Sequence[TaskRow],
    consumed: Sequence[InboxRow],
    quarantined: Sequence[tuple[InboxRow, str]],
    lease: timedelta,
) -> None:
    """Write everything the decisions say, and delete the messages they used, in one transaction and one round trip.

    `seqs` holds each job's last event number before its decision. Errors: OwnershipLost, StaleState; any
    other database error leaves the outcome unknown, and the caller forgets what it holds of these jobs.
    """
    shards = sorted({decision.shard for decision in decisions} | {row.shard for row in consumed})
    try:
        async with conn.pipeline(), conn.transaction():
            await conn.execute(
                SQL["hold_shards"],
                {"owner": fence.owner, "shards": shards, "epochs": [fence.epochs[s] for s in shards]},
            )
            await _write_nodes(conn, decisions)
            await _write_tasks(conn, decisions, tasks, now, lease)
            await _write_history(conn, decisions, seqs, now)
            await _write_jobs(conn, decisions, now)
            await _consume(conn, consumed, quarantined)
    except psycopg.Error as problem:
        if problem.sqlstate == NOT_OWNER:
            raise OwnershipLost(shard=shards) from problem
        if problem.sqlstate == ILLEGAL_MOVE:
            raise StaleState(noun="job", id=[d.job_id for d in decisions], why=str(problem)) from problem
        raise


async def _write_nodes(conn: Connection, decisions: Iterable[Decision]) -> None:
    rows = [(d.job_id, key, change.state) for d in decisions for key, change in d.nodes.items()]
    if not rows:
        return
    states = [state for _, _, state in rows]
    await conn.execute(
        SQL["write_nodes"],
        _keys([(job_id, key) for job_id, key, _ in rows])
        | {
            "statuses": [s.status for s in states],
            "attempts": [s.attempt for s in states],
            "spents": [s.spent for s in states],
            "not_befores": [s.not_before for s in states],
            "started_ats": [s.started_at for s in states],
            "finished_ats": [s.finished_at for s in states],
            "errors": [dumps_or_none(s.error) for s in states],
        },
    )


async def _write_tasks(
    conn: Connection, decisions: Iterable[Decision], tasks: Sequence[TaskRow], now: datetime, lease: timedelta
) -> None:
    dropped = [(d.job_id, key) for d in decisions for key in d.dropped]
    if dropped:
        for name in ("delete_tasks", "revoke_effects", "drop_progress"):
            await conn.execute(SQL[name], _keys(dropped))
    effects = [
        (d.shard, d.job_id, key, attempt, position, effect)
        for d in decisions
        for key, attempt, wanted in d.effects
        for position, effect in enumerate(wanted)
    ]
    if effects:
        await conn.execute(
            SQL["write_effects"],
            _keys([(job_id, key) for _, job_id, key, *_ in effects])
            | {
                "now": now,
                "shards": [shard for shard, *_ in effects],
                "attempts": [attempt for *_, attempt, _, _ in effects],
                "positions": [position for *_, position, _ in effects],
                "kinds": [effect["kind"] for *_, effect in effects],
                "bodies": [dumps(effect["body"]) for *_, effect in effects],
            },
        )
    if tasks:
        new = [row.task for row in tasks]
        await conn.execute(
            SQL["write_tasks"],
            _keys([(task.job_id, task.key) for task in new])
            | {
                "now": now,
                "lease": lease,
                "attempts": [task.attempt for task in new],
                "shards": [task.shard for task in new],
                "queues": [task.queue for task in new],
                "priorities": [task.priority for task in new],
                "handlers": [task.handler for task in new],
                "node_ids": [task.node_id for task in new],
                "params": [dumps(task.params) for task in new],
                "timeouts": [task.timeout_seconds for task in new],
                "claimants": [row.claimed_by for row in tasks],
            },
        )


async def _write_history(conn: Connection, decisions: Sequence[Decision], seqs: Sequence[int], now: datetime) -> None:
    ended = [(d.job_id, record) for d in decisions for record in d.attempts]
    if ended:
        records = [record for _, record in ended]
        await conn.execute(
            SQL["write_attempts"],
            _keys([(job_id, record.key) for job_id, record in ended])
            | {
                "attempts": [r.attempt for r in records],
                "outcomes": [r.outcome for r in records],
                "workers": [r.worker for r in records],
                "started_ats": [r.started_at for r in records],
                "finished_ats": [r.finished_at for r in records],
                "outputs": [dumps(r.output) if r.outcome == "COMPLETED" else None for r in records],
                "errors": [dumps_or_none(r.error) for r in records],
            },
        )
    events = [
        (d.job_id, seq + number, event)
        for d, seq in zip(decisions, seqs, strict=True)
        for number, event in enumerate(d.events, start=1)
    ]
    if events:
        lines = [event for *_, event in events]
        await conn.execute(
            SQL["write_events"],
            {
                "now": now,
                "job_ids": [job_id for job_id, *_ in events],
                "seqs": [seq for _, seq, _ in events],
                "kinds": [e.kind for e in lines],
                "ordinals": [e.key.ordinal if e.key else None for e in lines],
                "items": [e.key.item if e.key else None for e in lines],
                "attempts": [e.attempt for e in lines],
                "befores": [e.before for e in lines],
                "afters": [e.to for e in lines],
                "data": [dumps_or_none(e.data) for e in lines],
            },
        )


async def _write_jobs(conn: Connection, decisions: Iterable[Decision], now: datetime) -> None:
    moved = [d for d in decisions if d.status != d.status_before]
    if moved:
        await conn.execute(
            SQL["write_jobs"],
            {
                "now": now,
                "job_ids": [d.job_id for d in moved],
                "statuses": [d.status for d in moved],
                "errors": [dumps_or_none(d.error) for d in moved],
                "finished": [d.finished for d in moved],
            },
        )


async def _consume(conn: Connection, consumed: Sequence[InboxRow], quarantined: Sequence[tuple[InboxRow, str]]) -> None:
    if quarantined:
        await conn.execute(
            SQL["quarantine_messages"],
            {
                "job_ids": [row.job_id for row, _ in quarantined],
                "kinds": [row.kind for row, _ in quarantined],
                "bodies": [dumps(row.body) for row, _ in quarantined],
                "reasons": [reason for _, reason in quarantined],
            },
        )
    if consumed:
        await conn.execute(
            SQL["delete_messages"], {"shards": [row.shard for row in consumed], "ids": [row.id for row in consumed]}
        )


def _keys(keys: Sequence[tuple[str, Key]]) -> dict[str, Any]:
    return {
        "job_ids": [job_id for job_id, _ in keys],
        "ordinals": [key.ordinal for _, key in keys],
        "items": [key.item for _, key in keys],
    }
