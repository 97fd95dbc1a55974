"""Endpoints of jobs: submit, look, cancel, run again."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query

from dagmaster.api.authority import Authority
from dagmaster.contract.api import (
    Acknowledged,
    CancelJob,
    ErrorBody,
    EventPage,
    JobAccepted,
    JobBody,
    JobLine,
    JobPage,
    JobStatus,
    Rerun,
    SubmitJob,
)
from dagmaster.dag.definition import Definition, from_document, load
from dagmaster.dag.library import find
from dagmaster.db import inbox, jobs
from dagmaster.engine.submit import Submission, submit
from dagmaster.errors import NotFound, Refused, StaleState


def job_routes(authority: Authority) -> APIRouter:
    """The routes below /api/v1/jobs."""
    routes = APIRouter(prefix="/jobs", tags=["jobs"])

    @routes.post("", status_code=202, summary="Submit a job")
    async def submit_job(body: SubmitJob) -> JobAccepted:
        made = await submit(
            authority.pool,
            Submission(
                _definition(authority, body), body.inputs, body.idempotency_key, body.correlation_id, body.priority
            ),
            authority.handlers,
        )
        authority.ring_inbox()
        return JobAccepted(job_id=made.job_id, created=made.created, status_url=f"/api/v1/jobs/{made.job_id}")

    @routes.get("", summary="List jobs, newest first")
    async def list_jobs(
        status: JobStatus | None = None,
        workflow_id: Annotated[str | None, Query(max_length=64)] = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
    ) -> JobPage:
        async with authority.pool.connection() as conn:
            found = await jobs.list_jobs(
                conn, status=status, workflow_id=workflow_id, before=_unpack(cursor) if cursor else None, limit=limit
            )
        lines = [_line(job) for job in found]
        return JobPage(items=lines, next=_pack(found[-1]) if len(found) == limit else None)

    @routes.get("/{job_id}", summary="One job with its nodes")
    async def get_job(job_id: UUID) -> JobBody:
        return await authority.reader.job(str(job_id))

    @routes.get("/{job_id}/timeline", summary="What happened, in order")
    async def timeline(
        job_id: UUID,
        after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
        limit: Annotated[int, Query(ge=1, le=5000)] = 1000,
    ) -> EventPage:
        return await authority.reader.events(str(job_id), after, limit)

    @routes.post("/{job_id}/cancel", status_code=202, summary="Stop a job")
    async def cancel(job_id: UUID, body: CancelJob) -> Acknowledged:
        async with authority.pool.connection() as conn:
            row = await jobs.get_job(conn, str(job_id))
            if row is None:
                raise NotFound(noun="job", id=job_id)
            if row.finished_at is not None:
                raise StaleState(noun="Job", id=job_id, why=f"It ended as {row.status}.")
            await inbox.send(conn, row.job_id, "cancel", {"reason": body.reason})
        authority.ring_inbox()
        return Acknowledged(job_id=str(job_id))

    @routes.post("/{job_id}/rerun", status_code=202, summary="Run a job's inputs again")
    async def rerun(job_id: UUID, body: Rerun) -> JobAccepted:
        async with authority.pool.connection() as conn:
            row = await jobs.get_job(conn, str(job_id))
            if row is None:
                raise NotFound(noun="job", id=job_id)
            documents = await jobs.load_definitions(conn, [row.digest])
        if body.version == "pinned":
            definition = from_document(documents[row.digest])
        else:
            definition = find(row.workflow_id, authority.workflow_folders, paths=False)
        again = Submission(
            definition, row.inputs, correlation_id=row.correlation_id, priority=row.priority, rerun_of=row.job_id
        )
        made = await submit(authority.pool, again, authority.handlers)
        authority.ring_inbox()
        return JobAccepted(job_id=made.job_id, created=True, status_url=f"/api/v1/jobs/{made.job_id}")

    return routes


def _definition(authority: Authority, body: SubmitJob) -> Definition:
    if (body.workflow_id is None) == (body.definition is None):
        raise Refused("Give either workflow_id or definition.", where="the body", remedy="Send exactly one of the two.")
    if body.workflow_id is not None:
        return find(body.workflow_id, authority.workflow_folders, paths=False)
    assert body.definition is not None, "one of the two was just seen"
    return load(body.definition, body.file_name or "definition.yaml")


def _line(job: jobs.JobSummary) -> JobLine:
    given: dict[str, Any] = {name: getattr(job, name) for name in job.__slots__}
    return JobLine(**given | {"error": ErrorBody(**job.error) if job.error else None})


def _pack(job: jobs.JobSummary) -> str:
    return base64.urlsafe_b64encode(f"{job.created_at.isoformat()} {job.job_id}".encode()).decode()


def _unpack(cursor: str) -> tuple[datetime, str]:
    try:
        at, job_id = base64.urlsafe_b64decode(cursor.encode()).decode().split(" ")
        return datetime.fromisoformat(at), str(UUID(job_id))
    except (ValueError, binascii.Error) as problem:
        raise Refused("The cursor is not one that a page gave out.", where="query parameter `cursor`") from problem
