"""The document model: every key of the language once, in the one form that the normalised document has.

`normal_form` brings all written forms here. The models are strict: text is not a number, a number is not a boolean.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

INPUTS_MAX = 200
NODES_MAX = 1_000
BRANCHES_MAX = 50
TARGETS_MAX = 1_000
LABELS_MAX = 32
TIMEOUT_SECONDS_MAX = 86_400
QUEUE_TIMEOUT_SECONDS_MAX = 30 * 86_400
RETRIES_MAX = 10
MAX_PARALLEL_MAX = 100_000

InputType = Literal["string", "integer", "number", "boolean", "array", "object"]
Aggregation = Literal["collect", "concat", "sum", "first", "last", "count", "min", "max", "manifest"]

NodeId = Annotated[str, Field(pattern=r"^[A-Za-z0-9-][A-Za-z0-9_-]*$", max_length=128)]
Targets = Annotated[list[NodeId], Field(max_length=TARGETS_MAX)]
Text = Annotated[str, Field(max_length=10_000)]
QueueName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)]
HandlerName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$", max_length=128)]
TimeoutSeconds = Annotated[float, Field(ge=1, le=TIMEOUT_SECONDS_MAX)]
QueueTimeoutSeconds = Annotated[float, Field(ge=1, le=QUEUE_TIMEOUT_SECONDS_MAX)]
ErrorCode = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$", max_length=64)]
DelaySeconds = Annotated[float, Field(ge=0, le=86_400)]


class Model(BaseModel):
    """Base of the document models."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Items(Model):
    """What an input, or an item of one, may be."""

    type: InputType = "string"
    description: Text = ""
    enum: Annotated[list[Any], Field(min_length=1, max_length=1_000)] | None = None
    minimum: float | None = None
    maximum: float | None = None
    pattern: Annotated[str, Field(max_length=1_000)] | None = None
    format: Annotated[str, Field(max_length=64)] | None = None
    items: Items | None = None


class Input(Items):
    """One declared input. `required` None means: required unless there is a default."""

    required: bool | None = None
    default: Any = None

    @property
    def is_required(self) -> bool:
        return self.required if self.required is not None else not self.has_default

    @property
    def has_default(self) -> bool:
        return "default" in self.model_fields_set and self.default is not None


class Retry(Model):
    """What is None here comes from the fan_out, the workflow's defaults, or the engine's own."""

    max_attempts: Annotated[int, Field(ge=0, le=RETRIES_MAX)] | None = None
    """Number of RETRIES: 5 means at most 6 attempts."""
    backoff: Literal["fixed", "linear", "exponential"] | None = None
    initial_delay_seconds: DelaySeconds | None = None
    max_delay_seconds: DelaySeconds | None = None
    jitter: Annotated[float, Field(ge=0, le=1)] | None = None
    on: Annotated[list[ErrorCode], Field(max_length=50)] | None = None


class Defaults(Model):
    """What holds for all nodes that do not say otherwise."""

    retry: Retry | None = None
    queue: QueueName | None = None
    timeout_seconds: TimeoutSeconds | None = None
    queue_timeout_seconds: QueueTimeoutSeconds | None = None


class DependsOn(Model):
    """Edges that a node declares from its own side."""

    all_of: Targets = []
    any_of: Targets = []


class Work(Model):
    """What a task, or each child of a fan_out, runs."""

    handler: HandlerName
    params: dict[str, Any] = {}
    queue: QueueName | None = None
    timeout_seconds: TimeoutSeconds | None = None
    queue_timeout_seconds: QueueTimeoutSeconds | None = None
    retry: Retry | None = None


class NodeBase(Model):
    """What every node may say."""

    description: Text = ""
    depends_on: DependsOn = DependsOn()
    result: bool = True


class StartNode(NodeBase):
    type: Literal["start"]
    next: Targets = []


class EndNode(NodeBase):
    type: Literal["end"]


class TaskNode(NodeBase, Work):
    type: Literal["task"]
    next: Targets = []
    when: Text | None = None
    cache: bool = False


class Way(Model):
    """One branch of a conditional over a value: it has a condition, or is the default."""

    name: Annotated[str, Field(min_length=1, max_length=128)]
    condition: Text | None = None
    default: bool = False
    next: Targets


class ConditionalNode(NodeBase):
    """Either `condition_field` with `branches`, or `condition` with `on_true` and `on_false`."""

    type: Literal["conditional"]
    next: Targets = []
    condition_field: Text | None = None
    branches: Annotated[list[Way], Field(max_length=BRANCHES_MAX)] | None = None
    condition: Text | None = None
    on_true: Targets | None = None
    on_false: Targets | None = None


class Threshold(Model):
    """How many children may fail: a number, or a share such as "5%"."""

    threshold: Annotated[int, Field(ge=0)] | Annotated[str, Field(pattern=r"^(100|[0-9]{1,2})(\.[0-9]{1,4})? ?%$")]


Policy = Literal["fail_fast", "collect_errors"] | Threshold


class FanOutNode(NodeBase):
    type: Literal["fan_out"]
    next: Targets = []
    source: str | list[Any]
    task: Work
    max_parallel: Annotated[int, Field(ge=1, le=MAX_PARALLEL_MAX)] | None = None
    retry: Retry | None = None
    failure_policy: Policy | None = None


class FanInNode(NodeBase):
    type: Literal["fan_in"]
    next: Targets = []
    aggregation: Aggregation = "collect"
    failure_policy: Policy | None = None


AnyNode = StartNode | EndNode | TaskNode | ConditionalNode | FanOutNode | FanInNode

NODE_MODELS: dict[str, type[AnyNode]] = {
    "start": StartNode,
    "end": EndNode,
    "task": TaskNode,
    "conditional": ConditionalNode,
    "fan_out": FanOutNode,
    "fan_in": FanInNode,
}


class Head(Model):
    """The document without its inputs and nodes, which are read one by one so that every fault has its place."""

    workflow_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)]
    name: Annotated[str, Field(max_length=128)] | None = None
    version: Annotated[int, Field(ge=1, le=2_147_483_647)] = 1
    description: Text = ""
    is_active: bool = True
    labels: Annotated[dict[str, Annotated[str, Field(max_length=256)]], Field(max_length=LABELS_MAX)] = {}
    defaults: Defaults = Defaults()
