"""The bodies of the HTTP surfaces: strict, closed models. Times are UTC, durations seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Body(BaseModel):
    """Base of all bodies: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class ErrorBody(Body):
    """What went wrong, where, why, and what to do."""

    code: str
    message: str
    where: str | None = None
    why: str | None = None
    remedy: str | None = None
    retryable: bool = False
    node: str | None = None


class Problem(ErrorBody):
    """An error as application/problem+json (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    problems: list[dict[str, Any]] = Field(
        default_factory=list, description="All faults found, when there are several."
    )


class SubmitJob(Body):
    """A job to run: a known workflow, or a definition as YAML text."""

    workflow_id: str | None = Field(default=None, max_length=64)
    definition: str | None = Field(
        default=None, max_length=256 * 1024, description="A workflow definition as YAML text."
    )
    file_name: str | None = Field(default=None, max_length=512, description="What to call the definition in messages.")
    inputs: dict[str, Any] = Field(default_factory=dict)
    idempotency_key: str | None = Field(default=None, min_length=1, max_length=255)
    correlation_id: str | None = Field(default=None, max_length=255)
    priority: int = Field(default=0, ge=-100, le=100)


class JobAccepted(Body):
    """The job that a submission made, or had made before."""

    job_id: str
    created: bool
    status_url: str


class Progress(Body):
    """How far a running attempt is."""

    percent: float = Field(ge=0, le=100)
    message: str = ""


class NodeBody(Body):
    """One node of a job."""

    status: str
    type: str
    handler: str | None = None
    attempt: int = 0
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    not_before: datetime | None = Field(default=None, description="When a waiting retry may start.")
    duration_seconds: float | None = None
    progress: Progress | None = None
    children: dict[str, int] | None = Field(default=None, description="Fan-outs: children by status.")
    output: Any = None
    error: ErrorBody | None = None


JobStatus = Literal["PENDING", "RUNNING", "PAUSED", "COMPLETED", "FAILED", "CANCELLED"]


class JobBody(Body):
    """One job with its nodes, in the order of the definition."""

    job_id: str
    workflow_id: str
    workflow_version: int
    workflow_digest: str
    status: JobStatus
    failing: bool = Field(default=False, description="Something failed and other nodes still run.")
    percent: float = Field(ge=0, le=100)
    inputs: dict[str, Any]
    correlation_id: str | None = None
    rerun_of: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_seconds: float | None = None
    nodes: dict[str, NodeBody]
    result: dict[str, Any] | None = None
    error: ErrorBody | None = None


class JobLine(Body):
    """One line of a list of jobs."""

    job_id: str
    workflow_id: str
    workflow_version: int
    status: JobStatus
    correlation_id: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: ErrorBody | None = None


class JobPage(Body):
    """Jobs, newest first; `next` is the cursor of the following page."""

    items: list[JobLine]
    next: str | None = None


class EventBody(Body):
    """One line of a job's history."""

    seq: int
    at: datetime
    kind: str
    node: str | None = None
    attempt: int | None = None
    before: str | None = None
    to: str | None = None
    data: dict[str, Any] | None = None


class EventPage(Body):
    """History in order; `next` is the sequence number to go on after."""

    items: list[EventBody]
    next: int | None = None


class DifferenceOfReplay(Body):
    """A fact on which the events of a job and its tables do not agree."""

    node: str | None = Field(default=None, description="The node; none for a fact of the job itself.")
    what: str
    by_events: Any = None
    by_tables: Any = None


class ReplayBody(Body):
    """What the events of a job lead to, beside what its tables say."""

    job_id: str
    status: JobStatus
    events: int
    nodes: int = Field(description="Nodes that have moved, children of fan-outs among them.")
    equal: bool
    differences: list[DifferenceOfReplay] = Field(default_factory=list)
    more: bool = Field(default=False, description="There are more differences than are told.")


class WorkflowLine(Body):
    """One known workflow."""

    workflow_id: str
    name: str
    version: int
    description: str
    digest: str


class WorkflowPage(Body):
    """All known workflows."""

    items: list[WorkflowLine]


class WorkflowBody(WorkflowLine):
    """A workflow with its normalised definition and the JSON Schema of its inputs."""

    definition: dict[str, Any]
    input_schema: dict[str, Any]


class VersionLine(Body):
    """One stored version of a workflow."""

    digest: str
    version: int
    created_at: datetime


class VersionPage(Body):
    """Stored versions, newest first."""

    items: list[VersionLine]


class DifferenceLine(Body):
    """One place where two versions differ."""

    path: str
    before: Any = None
    after: Any = None


class DifferenceBody(Body):
    """How two versions of a workflow differ."""

    before: str
    after: str
    differences: list[DifferenceLine]


class Rerun(Body):
    """Run a job's inputs again, with the definition it had or with the newest one."""

    version: Literal["pinned", "newest"] = "pinned"


class CancelJob(Body):
    """Why a job is stopped."""

    reason: str = Field(default="", max_length=1000)


class Acknowledged(Body):
    """A command was put into the job's inbox."""

    job_id: str
    accepted: bool = True


class Component(Body):
    """One part of the service."""

    status: Literal["ok", "degraded", "down"]
    detail: str = ""


class HealthBody(Body):
    """The service and its parts."""

    status: Literal["ok", "degraded", "down"]
    version: str
    build_date: str
    uptime_seconds: float
    components: dict[str, Component]


class Alive(Body):
    """The process answers."""

    status: Literal["ok"] = "ok"
    version: str
    build_date: str


class JobProgress(Body):
    """How far a job is; `eta_seconds` only when there is enough to say it honestly."""

    job_id: str
    status: JobStatus
    failing: bool
    percent: float
    message: str
    eta_seconds: float | None
    nodes: dict[str, str] = Field(description="Status of each node.")


class NodeProgress(Body):
    """How far a node is."""

    node: str
    status: str
    attempt: int
    percent: float
    message: str
    children: dict[str, int] | None = None


class ChildLine(Body):
    """One child of a fan-out."""

    node: str
    index: int
    status: str
    attempt: int
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: ErrorBody | None = None


class NodesBody(Body):
    """The nodes of a job; with `parent`, the children of that fan-out by pages."""

    nodes: dict[str, NodeBody] = Field(default_factory=dict)
    children: list[ChildLine] = Field(default_factory=list)
    next: int | None = Field(default=None, description="Index to go on after.")


class LogLine(Body):
    """One line that an attempt said."""

    id: int
    node: str
    attempt: int
    at: datetime
    message: str
    fields: dict[str, Any] | None = None


class LogPage(Body):
    """Log lines in order; `next` is the id to go on after."""

    items: list[LogLine]
    next: int | None = None


class NodeLine(Body):
    """A node of some job."""

    job_id: str
    workflow_id: str
    node: str
    status: str
    attempt: int
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: ErrorBody | None = None


class NodePage(Body):
    """Nodes across jobs."""

    items: list[NodeLine]
    next: str | None = None


class TaskLine(Body):
    """A live task, and one sentence on why it waits."""

    job_id: str
    node: str
    attempt: int
    handler: str
    queue: str
    priority: int
    queued_at: datetime
    claimed_by: str | None = None
    claimed_at: datetime | None = None
    waiting_seconds: float | None = None
    why: str


class TaskPage(Body):
    """Live tasks, waiting ones first."""

    items: list[TaskLine]
    next: str | None = None


class QueueLine(Body):
    """One queue."""

    queue: str
    waiting: int
    running: int
    oldest_seconds: float | None = None
    workers: int


class QueuePage(Body):
    """All queues that have tasks or workers."""

    items: list[QueueLine]


class WorkerLine(Body):
    """A live worker."""

    worker_id: str
    started_at: datetime
    lease_until: datetime
    slots: int
    queues: list[str]
    handlers: list[str]


class WorkerPage(Body):
    """Live workers."""

    items: list[WorkerLine]


class OrchestratorLine(Body):
    """A registered orchestrator."""

    orchestrator_id: str
    started_at: datetime
    lease_until: datetime
    shards: int


class OrchestratorPage(Body):
    """Registered orchestrators and how the shards are shared."""

    items: list[OrchestratorLine]


class HandlerPage(Body):
    """Known handlers with the schemas of what they take and return."""

    items: list[dict[str, Any]]


class CheckWorkflow(Body):
    """A definition to check."""

    definition: str = Field(max_length=256 * 1024)
    file_name: str = Field(default="definition.yaml", max_length=512)


class CheckedWorkflow(Body):
    """What the static check found."""

    valid: bool
    findings: list[dict[str, Any]]
