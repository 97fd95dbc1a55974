"""Endpoints that look inside one job, and across all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from dagmaster.api.authority import Authority
from dagmaster.contract.api import (
    ChildLine,
    ErrorBody,
    EventPage,
    HandlerPage,
    JobBody,
    JobProgress,
    LogLine,
    LogPage,
    NodeLine,
    NodePage,
    NodeProgress,
    NodesBody,
    OrchestratorLine,
    OrchestratorPage,
    QueueLine,
    QueuePage,
    ReplayBody,
    TaskLine,
    TaskPage,
    WorkerLine,
    WorkerPage,
)
from dagmaster.db import looks, shards
from dagmaster.db import worker as worker_store
from dagmaster.db.engine import PostgresStore
from dagmaster.engine.replay import replay
from dagmaster.engine.status import share_of
from dagmaster.errors import NotFound

ETA_PERCENT_MIN = 5.0
STREAM_POLL_SECONDS = 0.25
STREAM_BATCH = 500
FINISHED = ("COMPLETED", "FAILED", "CANCELLED")
NodeStatus = Literal["READY", "DISPATCHED", "RUNNING", "WAITING", "COMPLETED", "FAILED", "SKIPPED", "CANCELLED"]
Limit = Annotated[int, Query(ge=1, le=1000)]
NodeName = Annotated[str, Query(max_length=128)]


def job_look_routes(authority: Authority) -> APIRouter:
    """The routes below /api/v1/jobs/{job_id} that only look."""
    routes = APIRouter(prefix="/jobs/{job_id}", tags=["jobs"])

    @routes.get("/nodes", summary="The nodes of a job, or the children of a fan-out")
    async def nodes(
        job_id: UUID,
        parent: Annotated[str | None, Query(max_length=128, description="A fan-out whose children are wanted.")] = None,
        status: NodeStatus | None = None,
        after: Annotated[int, Query(ge=-1, le=2**31 - 1)] = -1,
        limit: Limit = 100,
    ) -> NodesBody:
        job = await authority.reader.job(str(job_id))
        if parent is None:
            return NodesBody(nodes={name: node for name, node in job.nodes.items() if status in (None, node.status)})
        key = await authority.reader.key(str(job_id), parent)
        async with authority.pool.connection() as conn:
            rows = await looks.get_children(conn, str(job_id), key.ordinal, after, status, limit)
        lines = [
            ChildLine(
                node=f"{parent}__{row.item}",
                index=row.item,
                status=row.status,
                attempt=row.attempt,
                started_at=row.started_at,
                finished_at=row.finished_at,
                error=_error(row.error),
            )
            for row in rows
        ]
        return NodesBody(children=lines, next=rows[-1].item if len(rows) == limit else None)

    @routes.get("/nodes/{node}/events", summary="What happened to one node")
    async def node_events(job_id: UUID, node: str, limit: Limit = 1000) -> EventPage:
        return await authority.reader.node_events(str(job_id), node, limit)

    @routes.get("/replay", summary="Whether the events of a job lead to its tables")
    async def replay_of(job_id: UUID) -> ReplayBody:
        return await replay(authority.pool, authority.reader, str(job_id))

    @routes.get("/progress", summary="How far a job is")
    async def progress(job_id: UUID) -> JobProgress:
        return progress_of(await authority.reader.job(str(job_id)))

    @routes.get("/nodes/{node}/progress", summary="How far a node is")
    async def node_progress(job_id: UUID, node: str) -> NodeProgress:
        job = await authority.reader.job(str(job_id))
        if node not in job.nodes:
            raise NotFound(noun="node", id=node)
        body = job.nodes[node]
        said = body.progress.message if body.progress else ""
        return NodeProgress(
            node=node,
            status=body.status,
            attempt=body.attempt,
            percent=share_of(body),
            message=said,
            children=body.children,
        )

    @routes.get("/logs", summary="What the attempts of a job said")
    async def logs(
        job_id: UUID,
        node: Annotated[str | None, Query(max_length=128)] = None,
        after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
        limit: Limit = 500,
    ) -> LogPage:
        key = await authority.reader.key(str(job_id), node) if node else None
        names = await authority.reader.names(str(job_id))
        async with authority.pool.connection() as conn:
            rows = await looks.get_logs(conn, str(job_id), key, after, limit)
        lines = [
            LogLine(
                id=row.id,
                node=names.of(row.ordinal, row.item),
                attempt=row.attempt,
                at=row.at,
                message=row.message,
                fields=row.fields,
            )
            for row in rows
        ]
        return LogPage(items=lines, next=rows[-1].id if len(rows) == limit else None)

    @routes.get("/stream", response_class=EventSourceResponse, summary="The job as it moves, as server-sent events")
    async def stream(
        job_id: UUID, last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=20)] = None
    ) -> AsyncIterable[ServerSentEvent]:
        """Every line of the history with its number as id, and progress in between; it ends with the job."""
        seen = int(last_event_id) if last_event_id and last_event_id.isdigit() else 0
        last: JobProgress | None = None
        while True:
            job = await authority.reader.job(str(job_id))
            while page := (await authority.reader.events(str(job_id), seen, STREAM_BATCH)).items:
                for event in page:
                    seen = event.seq
                    yield ServerSentEvent(event=event.kind, id=str(event.seq), data=event.model_dump(mode="json"))
            now = progress_of(job)
            if now != last:
                last = now
                yield ServerSentEvent(event="progress", data=now.model_dump(mode="json"))
            if job.status in FINISHED:
                yield ServerSentEvent(event="end", data={"status": job.status})
                return
            await asyncio.sleep(STREAM_POLL_SECONDS)

    return routes


def look_routes(authority: Authority) -> APIRouter:
    """The routes below /api/v1 that look across jobs."""
    routes = APIRouter(tags=["look"])

    @routes.get("/nodes", summary="Nodes across jobs, by status")
    async def nodes(status: NodeStatus = "RUNNING", limit: Limit = 100) -> NodePage:
        async with authority.pool.connection() as conn:
            rows = await looks.list_nodes(conn, status, limit)
            graphs = await authority.reader.definitions.graphs(PostgresStore(conn), {row.digest for row in rows})
        lines = []
        for row in rows:
            graph = graphs.get(row.digest)
            name = graph.nodes[row.ordinal].id if graph else str(row.ordinal)
            lines.append(
                NodeLine(
                    job_id=row.job_id,
                    workflow_id=row.workflow_id,
                    node=name if row.item < 0 else f"{name}__{row.item}",
                    status=row.status,
                    attempt=row.attempt,
                    started_at=row.started_at,
                    finished_at=row.finished_at,
                    error=_error(row.error),
                )
            )
        return NodePage(items=lines)

    @routes.get("/tasks", summary="Live tasks, waiting ones first")
    async def tasks(queue: Annotated[str | None, Query(max_length=64)] = None, limit: Limit = 100) -> TaskPage:
        async with authority.pool.connection() as conn:
            rows = await looks.list_tasks(conn, queue, limit)
            workers = await worker_store.live_workers(conn)
        return TaskPage(items=[_task(row, workers) for row in rows])

    @routes.get("/queues/status", summary="Depth and age of the queues")
    async def queues() -> QueuePage:
        async with authority.pool.connection() as conn:
            depths = {depth.queue: depth for depth in await looks.queue_depths(conn)}
            workers = await worker_store.live_workers(conn)
        names = sorted(set(depths) | {queue for worker in workers for queue in worker.queues})
        empty = looks.QueueDepth("", 0, 0, None)
        return QueuePage(
            items=[
                QueueLine(
                    queue=name,
                    waiting=(depth := depths.get(name, empty)).waiting,
                    running=depth.running,
                    oldest_seconds=depth.oldest_seconds,
                    workers=sum(name in worker.queues for worker in workers),
                )
                for name in names
            ]
        )

    @routes.get("/workers", summary="Live workers")
    async def workers() -> WorkerPage:
        async with authority.pool.connection() as conn:
            rows = await worker_store.live_workers(conn)
        return WorkerPage(
            items=[
                WorkerLine(
                    worker_id=row.worker_id,
                    started_at=row.started_at,
                    lease_until=row.lease_until,
                    slots=row.slots,
                    queues=row.queues,
                    handlers=sorted(row.handlers),
                )
                for row in rows
            ]
        )

    @routes.get("/orchestrators", summary="Orchestrators and their shards")
    async def orchestrators() -> OrchestratorPage:
        async with authority.pool.connection() as conn:
            rows = await shards.orchestrators(conn)
        return OrchestratorPage(
            items=[
                OrchestratorLine(
                    orchestrator_id=row.orchestrator_id,
                    started_at=row.started_at,
                    lease_until=row.lease_until,
                    shards=row.shards,
                )
                for row in rows
            ]
        )

    @routes.get("/handlers", summary="Known handlers")
    async def handlers() -> HandlerPage:
        return HandlerPage(items=[spec.model_dump(mode="json") for spec in authority.handlers.values()])

    return routes


def progress_of(job: JobBody) -> JobProgress:
    """One sentence of truth about a job."""
    running = [name for name, node in job.nodes.items() if node.status in ("RUNNING", "WAITING", "DISPATCHED", "READY")]
    said = next((node.progress.message for node in job.nodes.values() if node.progress and node.progress.message), "")
    eta = None
    if job.status == "RUNNING" and job.percent >= ETA_PERCENT_MIN and job.duration_seconds:
        eta = round(job.duration_seconds * (100 - job.percent) / job.percent, 1)
    message = f"{', '.join(running[:3])}{': ' + said if said else ''}" if running else job.status.lower()
    return JobProgress(
        job_id=job.job_id,
        status=job.status,
        failing=job.failing,
        percent=round(job.percent, 1),
        message=message,
        eta_seconds=eta,
        nodes={name: node.status for name, node in job.nodes.items()},
    )


def _task(row: looks.TaskLine, workers: list[worker_store.WorkerRow]) -> TaskLine:
    able = [worker for worker in workers if row.queue in worker.queues and row.handler in worker.handlers]
    if row.claimed_by:
        why = f"Runs on {row.claimed_by}."
    elif able:
        why = f"Waits for a free slot; {len(able)} worker(s) serve the queue `{row.queue}`."
    else:
        lacking = f"No live worker serves the queue `{row.queue}` with the handler `{row.handler}`"
        why = f"{lacking}; start one: dagmaster worker"
    waited = None if row.claimed_by else (row.now - row.queued_at).total_seconds()
    return TaskLine(
        job_id=row.job_id,
        node=row.node_id,
        attempt=row.attempt,
        handler=row.handler,
        queue=row.queue,
        priority=row.priority,
        queued_at=row.queued_at,
        claimed_by=row.claimed_by,
        claimed_at=row.claimed_at,
        waiting_seconds=waited,
        why=why,
    )


def _error(error: dict[str, Any] | None) -> ErrorBody | None:
    return ErrorBody(**error) if error else None
