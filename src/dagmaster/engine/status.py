"""A job as people read it: rows joined with the graph that names them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from dagmaster.contract.api import ErrorBody, EventBody, EventPage, JobBody, NodeBody, Progress
from dagmaster.contract.messages import Key
from dagmaster.dag.graph import Graph, Node
from dagmaster.db import jobs, looks
from dagmaster.db.connect import Pool
from dagmaster.db.engine import PostgresStore
from dagmaster.engine.definitions import Definitions
from dagmaster.errors import NotFound

SHARES = {"COMPLETED": 100.0, "SKIPPED": 100.0, "FAILED": 100.0, "CANCELLED": 100.0, "WAITING": 99.0}


class JobReader:
    """Reads jobs; keeps compiled graphs so that a look costs a few indexed reads."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.definitions = Definitions()

    async def job(self, job_id: str) -> JobBody:
        """One job with its nodes. Errors: NotFound."""
        async with self.pool.connection() as conn:
            row = await jobs.get_job(conn, job_id)
            if row is None:
                raise NotFound(noun="job", id=job_id)
            nodes = await jobs.get_nodes(conn, job_id, children=False)
            children = await jobs.count_children(conn, job_id)
            graphs = await self.definitions.graphs(PostgresStore(conn), [row.digest])
        graph = graphs.get(row.digest) or Graph(row.workflow_id, row.workflow_version, row.digest, ())
        return _job_body(row, graph, {node.ordinal: node for node in nodes}, children)

    async def names(self, job_id: str) -> Names:
        """The names of the job's nodes. Errors: NotFound."""
        async with self.pool.connection() as conn:
            row = await jobs.get_job(conn, job_id)
            if row is None:
                raise NotFound(noun="job", id=job_id)
            graphs = await self.definitions.graphs(PostgresStore(conn), [row.digest])
        return Names(graphs.get(row.digest))

    async def key(self, job_id: str, node: str) -> Key:
        """The node of that name; `parent__3` is the child of index 3. Errors: NotFound."""
        key = (await self.names(job_id)).key(node)
        if key is None:
            raise NotFound(noun="node", id=node)
        return key

    async def node_events(self, job_id: str, node: str, limit: int) -> EventPage:
        """The history of one node. Errors: NotFound."""
        names = await self.names(job_id)
        key = names.key(node)
        if key is None:
            raise NotFound(noun="node", id=node)
        async with self.pool.connection() as conn:
            lines = await looks.node_events(conn, job_id, key, limit)
        return EventPage(items=[_event_body(line, names) for line in lines])

    async def events(self, job_id: str, after: int, limit: int) -> EventPage:
        """The job's history after an event number. Errors: NotFound."""
        async with self.pool.connection() as conn:
            row = await jobs.get_job(conn, job_id)
            if row is None:
                raise NotFound(noun="job", id=job_id)
            lines = await jobs.get_events(conn, job_id, after=after, limit=limit)
            graphs = await self.definitions.graphs(PostgresStore(conn), [row.digest])
        names = Names(graphs.get(row.digest))
        items = [_event_body(line, names) for line in lines]
        return EventPage(items=items, next=lines[-1].seq if len(lines) == limit else None)


class Names:
    """Ordinals and items as the names that people know."""

    def __init__(self, graph: Graph | None) -> None:
        self.graph = graph

    def of(self, ordinal: int, item: int) -> str:
        name = self.graph.nodes[ordinal].id if self.graph else str(ordinal)
        return name if item < 0 else f"{name}__{item}"

    def key(self, name: str) -> Key | None:
        known = self.graph.by_id if self.graph else {}
        if name in known:
            return Key(known[name])
        parent, found, index = name.rpartition("__")
        return Key(known[parent], int(index)) if found and parent in known and index.isdigit() else None


def _job_body(
    row: jobs.JobRow, graph: Graph, rows: dict[int, jobs.NodeRow], children: dict[int, dict[str, int]]
) -> JobBody:
    nodes = {
        node.id: _node_body(node, rows.get(node.ordinal), children.get(node.ordinal), row.now) for node in graph.nodes
    }
    over = row.finished_at is not None
    counted = [body for name, body in nodes.items() if body.type not in ("start", "end")] or list(nodes.values())
    percent = sum(share_of(body) for body in counted) / len(counted) if counted else 0.0
    return JobBody(
        job_id=row.job_id,
        workflow_id=row.workflow_id,
        workflow_version=row.workflow_version,
        workflow_digest=row.digest,
        status=row.status,
        failing=not over and any(body.status == "FAILED" for body in nodes.values()),
        percent=100.0 if over else min(percent, 99.9),
        inputs=row.inputs,
        correlation_id=row.correlation_id,
        rerun_of=row.rerun_of,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        duration_seconds=_seconds(row.started_at, row.finished_at or row.now),
        nodes=nodes,
        result=_result(row, graph, rows) if row.status == "COMPLETED" else None,
        error=ErrorBody(**row.error) if row.error else None,
    )


def _node_body(node: Node, row: jobs.NodeRow | None, children: dict[str, int] | None, now: datetime) -> NodeBody:
    handler = node.task.handler if node.task else None
    if row is None:
        return NodeBody(status="PENDING", type=node.type, handler=handler)
    progress = None
    if row.percent is not None and row.finished_at is None:
        progress = Progress(percent=row.percent, message=row.message or "")
    return NodeBody(
        status=row.status,
        type=node.type,
        handler=handler,
        attempt=row.attempt,
        queued_at=row.queued_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        not_before=row.not_before,
        duration_seconds=_seconds(row.started_at, row.finished_at or now),
        progress=progress,
        children=children,
        output=row.output if row.status == "COMPLETED" else None,
        error=ErrorBody(**row.error) if row.error else None,
    )


def share_of(node: NodeBody) -> float:
    """How much of a node is done, 0 to 100."""
    if node.children and node.status not in SHARES:
        total = sum(node.children.values())
        return sum(SHARES.get(status, 0.0) * count for status, count in node.children.items()) / total
    return SHARES.get(node.status, node.progress.percent if node.progress else 0.0)


def _result(row: jobs.JobRow, graph: Graph, rows: dict[int, jobs.NodeRow]) -> dict[str, Any]:
    """The outputs of completed nodes by id, and where they come from."""
    outputs = {
        node.id: found.output
        for node in graph.nodes
        if node.in_result
        and node.type in ("task", "fan_in")
        and (found := rows.get(node.ordinal))
        and found.status == "COMPLETED"
    }
    return outputs | {
        "_provenance": {
            "workflow_id": row.workflow_id,
            "workflow_version": row.workflow_version,
            "workflow_digest": row.digest,
            "job_id": row.job_id,
            "completed_at": row.finished_at.isoformat() if row.finished_at else None,
        }
    }


def _event_body(row: jobs.EventRow, names: Names) -> EventBody:
    name = None
    if row.ordinal is not None:
        name = names.of(row.ordinal, -1 if row.item is None else row.item)
    return EventBody(
        seq=row.seq,
        at=row.at,
        kind=row.kind,
        node=name,
        attempt=row.attempt,
        before=row.before,
        to=row.to,
        data=row.data,
    )


def _seconds(since: datetime | None, until: datetime | None) -> float | None:
    return round((until - since).total_seconds(), 3) if since and until else None
