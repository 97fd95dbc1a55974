"""The Python client of the API: async methods, errors as the same classes that the server raised."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel

from dagmaster.contract.api import (
    Acknowledged,
    DifferenceBody,
    EventPage,
    HealthBody,
    JobAccepted,
    JobBody,
    JobPage,
    LogPage,
    SubmitJob,
    TaskPage,
    VersionPage,
    WorkflowBody,
    WorkflowPage,
)
from dagmaster.errors import DagmasterError, ServiceUnreachable, by_code

Answer = TypeVar("Answer", bound=BaseModel)

TIMEOUT_SECONDS = 30.0
POLL_SECONDS = 0.2
FINISHED = ("COMPLETED", "FAILED", "CANCELLED")


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

    async def cancel(self, job_id: str, reason: str = "") -> Acknowledged:
        """Stop a job. Errors: NotFound, StaleState."""
        return await self._call(Acknowledged, "POST", f"/api/v1/jobs/{job_id}/cancel", {"reason": reason})

    async def timeline(self, job_id: str, after: int = 0) -> EventPage:
        """What happened in a job after an event number."""
        return await self._call(EventPage, "GET", f"/api/v1/jobs/{job_id}/timeline", query={"after": after})

    async def logs(self, job_id: str, node: str | None = None, after: int = 0) -> LogPage:
        """What the job's attempts said, after a line's id."""
        return await self._call(LogPage, "GET", f"/api/v1/jobs/{job_id}/logs", query={"node": node, "after": after})

    async def rerun(self, job_id: str, version: str = "pinned") -> JobAccepted:
        """Run the job's inputs again, with the definition it had (`pinned`) or with the `newest` one."""
        return await self._call(JobAccepted, "POST", f"/api/v1/jobs/{job_id}/rerun", {"version": version})

    async def tasks(self, queue: str | None = None) -> TaskPage:
        """Live tasks, waiting ones first, each with why it waits."""
        return await self._call(TaskPage, "GET", "/api/v1/tasks", query={"queue": queue})

    async def difference(self, workflow_id: str, before: str, after: str | None = None) -> DifferenceBody:
        """How two versions of a workflow differ."""
        return await self._call(
            DifferenceBody, "GET", f"/api/v1/workflows/{workflow_id}/diff", query={"before": before, "after": after}
        )

    async def versions(self, workflow_id: str) -> VersionPage:
        """Versions of a workflow that jobs have used, newest first."""
        return await self._call(VersionPage, "GET", f"/api/v1/workflows/{workflow_id}/versions")

    async def workflows(self) -> WorkflowPage:
        return await self._call(WorkflowPage, "GET", "/api/v1/workflows")

    async def workflow(self, workflow_id: str) -> WorkflowBody:
        """One workflow. Errors: WorkflowUnknown."""
        return await self._call(WorkflowBody, "GET", f"/api/v1/workflows/{workflow_id}")

    async def health(self) -> HealthBody:
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
