"""The Python client of the API: async methods, errors as the same classes that the server raised."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from dagmaster.contract.api import (
    Acknowledged,
    CheckedWorkflow,
    DifferenceBody,
    EventBody,
    EventPage,
    HandlerPage,
    HealthBody,
    JobAccepted,
    JobBody,
    JobLine,
    JobPage,
    JobProgress,
    LogLine,
    LogPage,
    NodePage,
    NodeProgress,
    NodesBody,
    OrchestratorPage,
    QueuePage,
    ReplayBody,
    SubmitJob,
    TaskPage,
    VersionPage,
    WorkerPage,
    WorkflowBody,
    WorkflowPage,
)
from dagmaster.errors import DagmasterError, ServiceUnreachable, by_code

Answer = TypeVar("Answer", bound=BaseModel)

TIMEOUT_SECONDS = 30.0
STREAM_TIMEOUT_SECONDS = 60.0
"""A stream says at least that it is still there well within this time."""
POLL_SECONDS = 0.2
FINISHED = ("COMPLETED", "FAILED", "CANCELLED")


@dataclass(frozen=True, slots=True)
class StreamedEvent:
    """One event of a job's stream; lines of the history carry their number."""

    kind: str
    data: dict[str, Any]
    seq: int | None = None


class RemoteError(DagmasterError):
    """The service answered with an error that this release does not know."""

    code = "REMOTE_ERROR"


class Client:
    """Talks to one dagmaster at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.AsyncClient(base_url=self.url, timeout=TIMEOUT_SECONDS, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def submit(self, body: SubmitJob) -> JobAccepted:
        """Create a job. Errors: every Refused."""
        return await self._call(JobAccepted, "POST", "/api/v1/jobs", body)

    async def job(self, job_id: str) -> JobBody:
        """One job. Errors: NotFound."""
        return await self._call(JobBody, "GET", f"/api/v1/jobs/{job_id}")

    async def jobs(self, **filters: Any) -> JobPage:
        """Jobs, newest first."""
        return await self._call(JobPage, "GET", "/api/v1/jobs", query=filters)

    async def every_job(self, **filters: Any) -> AsyncIterator[JobLine]:
        """All jobs, newest first, page by page; `limit` is the size of a page."""
        page = await self.jobs(**filters)
        while True:
            for line in page.items:
                yield line
            if page.next is None:
                return
            page = await self.jobs(**filters, cursor=page.next)

    async def nodes(
        self, job_id: str, parent: str | None = None, status: str | None = None, *, after: int = -1, limit: int = 100
    ) -> NodesBody:
        """The nodes of a job, or a page of the children of the fan-out `parent`. Errors: NotFound."""
        query = {"parent": parent, "status": status, "after": after, "limit": limit}
        return await self._call(NodesBody, "GET", f"/api/v1/jobs/{job_id}/nodes", query=query)

    async def node_events(self, job_id: str, node: str) -> EventPage:
        """What happened to one node. Errors: NotFound."""
        return await self._call(EventPage, "GET", f"/api/v1/jobs/{job_id}/nodes/{quote(node)}/events")

    async def replay(self, job_id: str) -> ReplayBody:
        """Whether the events of a job lead to what its tables say. Errors: NotFound."""
        return await self._call(ReplayBody, "GET", f"/api/v1/jobs/{job_id}/replay")

    async def progress(self, job_id: str) -> JobProgress:
        """How far a job is. Errors: NotFound."""
        return await self._call(JobProgress, "GET", f"/api/v1/jobs/{job_id}/progress")

    async def node_progress(self, job_id: str, node: str) -> NodeProgress:
        """How far a node is. Errors: NotFound."""
        return await self._call(NodeProgress, "GET", f"/api/v1/jobs/{job_id}/nodes/{quote(node)}/progress")

    async def cancel(self, job_id: str, reason: str = "") -> Acknowledged:
        """Stop a job. Errors: NotFound, StaleState."""
        return await self._call(Acknowledged, "POST", f"/api/v1/jobs/{job_id}/cancel", {"reason": reason})

    async def timeline(self, job_id: str, after: int = 0) -> EventPage:
        """What happened in a job after an event number."""
        return await self._call(EventPage, "GET", f"/api/v1/jobs/{job_id}/timeline", query={"after": after})

    async def every_event(self, job_id: str) -> AsyncIterator[EventBody]:
        """All that happened in a job, in order. Errors: NotFound."""
        after: int | None = 0
        while after is not None:
            page = await self.timeline(job_id, after)
            for event in page.items:
                yield event
            after = page.next

    async def stream(self, job_id: str, after: int = 0) -> AsyncIterator[StreamedEvent]:
        """The job as it moves: history after an event number, and progress, until it has ended. Errors: NotFound."""
        path, headers = f"/api/v1/jobs/{job_id}/stream", {"Last-Event-ID": str(after)}
        try:
            async with self._http.stream("GET", path, headers=headers, timeout=STREAM_TIMEOUT_SECONDS) as response:
                if response.is_error:
                    await response.aread()
                    raise error_of(response)
                async for event in streamed(response.aiter_lines()):
                    yield event
        except httpx.TransportError as problem:
            raise ServiceUnreachable(url=self.url, why=str(problem) or type(problem).__name__) from problem

    async def logs(self, job_id: str, node: str | None = None, after: int = 0) -> LogPage:
        """What the job's attempts said, after a line's id."""
        return await self._call(LogPage, "GET", f"/api/v1/jobs/{job_id}/logs", query={"node": node, "after": after})

    async def every_log(self, job_id: str, node: str | None = None) -> AsyncIterator[LogLine]:
        """All that the job's attempts said, in order. Errors: NotFound."""
        after: int | None = 0
        while after is not None:
            page = await self.logs(job_id, node, after)
            for line in page.items:
                yield line
            after = page.next

    async def rerun(self, job_id: str, version: str = "pinned") -> JobAccepted:
        """Run the job's inputs again, with the definition it had (`pinned`) or with the `newest` one."""
        return await self._call(JobAccepted, "POST", f"/api/v1/jobs/{job_id}/rerun", {"version": version})

    async def tasks(self, queue: str | None = None) -> TaskPage:
        """Live tasks, waiting ones first, each with why it waits."""
        return await self._call(TaskPage, "GET", "/api/v1/tasks", query={"queue": queue})

    async def live_nodes(self, status: str = "RUNNING", limit: int = 100) -> NodePage:
        """Nodes of all jobs that are in one state."""
        return await self._call(NodePage, "GET", "/api/v1/nodes", query={"status": status, "limit": limit})

    async def queues(self) -> QueuePage:
        """Depth and age of the queues."""
        return await self._call(QueuePage, "GET", "/api/v1/queues/status")

    async def workers(self) -> WorkerPage:
        """Live workers."""
        return await self._call(WorkerPage, "GET", "/api/v1/workers")

    async def orchestrators(self) -> OrchestratorPage:
        """Orchestrators and their shards."""
        return await self._call(OrchestratorPage, "GET", "/api/v1/orchestrators")

    async def handlers(self) -> HandlerPage:
        """Known handlers with the schemas of what they take and return."""
        return await self._call(HandlerPage, "GET", "/api/v1/handlers")

    async def check_workflow(self, definition: str, file_name: str = "definition.yaml") -> CheckedWorkflow:
        """What the static check finds in a definition."""
        body = {"definition": definition, "file_name": file_name}
        return await self._call(CheckedWorkflow, "POST", "/api/v1/workflows/check", body)

    async def difference(self, workflow_id: str, before: str, after: str | None = None) -> DifferenceBody:
        """How two versions of a workflow differ."""
        return await self._call(
            DifferenceBody, "GET", f"/api/v1/workflows/{workflow_id}/diff", query={"before": before, "after": after}
        )

    async def versions(self, workflow_id: str) -> VersionPage:
        """Versions of a workflow that jobs have used, newest first."""
        return await self._call(VersionPage, "GET", f"/api/v1/workflows/{workflow_id}/versions")

    async def workflows(self) -> WorkflowPage:
        """All known workflows."""
        return await self._call(WorkflowPage, "GET", "/api/v1/workflows")

    async def workflow(self, workflow_id: str) -> WorkflowBody:
        """One workflow. Errors: WorkflowUnknown."""
        return await self._call(WorkflowBody, "GET", f"/api/v1/workflows/{workflow_id}")

    async def health(self) -> HealthBody:
        """The service and its parts, also when it is not well."""
        return await self._call(HealthBody, "GET", "/health")

    async def watch(self, job_id: str) -> AsyncIterator[JobBody]:
        """The job again and again, until it has ended."""
        while True:
            job = await self.job(job_id)
            yield job
            if job.status in FINISHED:
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _call(
        self,
        answer: type[Answer],
        method: str,
        path: str,
        body: BaseModel | dict[str, Any] | None = None,
        query: dict[str, Any] | None = None,
    ) -> Answer:
        document = body.model_dump(mode="json", exclude_none=True) if isinstance(body, BaseModel) else body
        params = {name: value for name, value in (query or {}).items() if value is not None}
        try:
            response = await self._http.request(method, path, json=document, params=params)
        except httpx.TransportError as problem:
            raise ServiceUnreachable(url=self.url, why=str(problem) or type(problem).__name__) from problem
        if response.is_error and not (path == "/health" and response.status_code == 503):
            raise error_of(response)
        return answer.model_validate_json(response.content)


async def streamed(lines: AsyncIterator[str]) -> AsyncIterator[StreamedEvent]:
    """Server-sent events from their lines; each ends with an empty one."""
    fields: dict[str, str] = {}
    async for line in lines:
        name, _, value = line.partition(":")
        if name:
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            number = fields.get("id")
            yield StreamedEvent(
                fields.get("event", "message"), json.loads(fields["data"]), int(number) if number else None
            )
            fields = {}


def error_of(response: httpx.Response) -> DagmasterError:
    """The server's problem document as the error class that it came from."""
    try:
        body = response.json()
        code = body["code"]
    except (ValueError, KeyError, TypeError):
        return RemoteError(f"The service answered {response.status_code}.", why=response.text[:500])
    cls = by_code().get(code, RemoteError)
    error = cls(
        body["message"], where=body.get("where"), why=body.get("why"), remedy=body.get("remedy"), node=body.get("node")
    )
    error.code = code  # type: ignore[misc]  # a handler from outside may have brought its own
    error.facts = {"problems": body.get("problems", [])}
    return error
