"""The compact graph that decisions run on: integer ordinals, compiled expressions, edges both ways.

`compile_graph` turns a checked definition into a `Graph` once per digest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

NodeType = Literal["start", "end", "task", "conditional", "fan_out", "fan_in"]


class Scope(Protocol):
    """What an expression may read: `inputs.x`, `nodes.y.output.z`, `item`, `index`, `job.id`."""

    job_id: str

    def inputs(self) -> dict[str, Any]: ...

    def node_output(self, node_id: str) -> Any:
        """The output of a COMPLETED node; None for one that was skipped."""

    def item(self) -> Any: ...

    def index(self) -> int | None: ...


class Evaluable(Protocol):
    """A compiled expression or params template: pure, bounded, raises ExpressionFailed."""

    @property
    def source(self) -> str:
        """The text as written, for messages."""

    @property
    def node_references(self) -> frozenset[str]:
        """Ids of the nodes whose outputs it reads."""

    def __call__(self, scope: Scope) -> Any: ...


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retries of a node; `retries_max` 5 means at most 6 attempts. Delays in seconds."""

    retries_max: int = 3
    backoff: Literal["fixed", "linear", "exponential"] = "exponential"
    initial_delay_seconds: float = 5.0
    max_delay_seconds: float = 300.0
    jitter: float = 0.0
    """Share of the delay added at random, 0 to 1."""
    on: frozenset[str] = frozenset()
    """Error codes that are retried; empty = every retryable error."""


@dataclass(frozen=True, slots=True)
class Branch:
    """One way out of a conditional; `test` None = the default branch."""

    name: str
    test: Evaluable | None
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What a task node, or each child of a fan-out, runs."""

    handler: str
    queue: str | None
    params: Evaluable
    timeout_seconds: float | None
    queue_timeout_seconds: float | None
    retry: RetryPolicy


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """How many failed children a fan-in bears: `fail_fast`, `collect_errors`, or a threshold."""

    mode: Literal["fail_fast", "collect_errors", "threshold"] = "fail_fast"
    count_max: int | None = None
    share_max: float | None = None
    """0 to 1."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node; all references to other nodes are ordinals into `Graph.nodes`."""

    ordinal: int
    id: str
    type: NodeType
    all_of: tuple[int, ...] = ()
    """Predecessors that must all be satisfied: plain edges and `depends_on.all_of`."""
    any_of: tuple[int, ...] = ()
    """Predecessors of which one is enough (with all of `all_of`)."""
    successors: tuple[int, ...] = ()
    """Every node that has this one among its predecessors."""
    task: TaskSpec | None = None
    """task: its work; fan_out: the work of each child."""
    when: Evaluable | None = None
    branches: tuple[Branch, ...] = ()
    source: Evaluable | None = None
    max_parallel: int | None = None
    failure_policy: FailurePolicy = FailurePolicy()
    """fan_out: how many failed children it bears."""
    aggregation: Literal["collect", "concat", "sum", "first", "last", "count", "min", "max", "manifest"] | None = None
    fan_out: int | None = None
    """fan_in: the fan_out whose children it gathers."""
    fan_in: int | None = None
    """fan_out: the fan_in that gathers its children, if any."""
    in_result: bool = True


@dataclass(frozen=True, slots=True)
class Graph:
    """A compiled workflow. `nodes[i].ordinal == i`; starts come before what they lead to."""

    workflow_id: str
    version: int
    digest: str
    nodes: tuple[Node, ...]
    by_id: dict[str, int] = field(default_factory=dict)
