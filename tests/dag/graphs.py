"""Factories of graphs and messages for tests of decisions: a test names only what it is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from dagmaster.contract.decisions import Decision, NodeState
from dagmaster.contract.messages import Key, Message, Published, Report, Started, Submitted
from dagmaster.dag.aggregate import LISTS, Gathering
from dagmaster.dag.decide import decide
from dagmaster.dag.graph import Graph, Node, RetryPolicy, Scope, TaskSpec
from dagmaster.dag.state import JobState
from dagmaster.errors import AggregationFailed

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Value:
    """An expression that yields what a function makes of the scope."""

    make: Callable[[Scope], Any] = lambda scope: {}
    source: str = "value"
    node_references: frozenset[str] = frozenset()

    def __call__(self, scope: Scope) -> Any:
        return self.make(scope)


def constant(value: Any) -> Value:
    return Value(lambda scope: value)


def work(retries: int = 0, **more: Any) -> TaskSpec:
    """A task of the handler `echo`."""
    policy = RetryPolicy(retries_max=retries, backoff="fixed", initial_delay_seconds=5)
    given = {"queue": None, "params": Value(), "timeout_seconds": None, "queue_timeout_seconds": None, "retry": policy}
    return TaskSpec(handler="echo", **given | more)


@dataclass
class Sketch:
    """A graph under construction; nodes are named, edges follow from `after` and `any_of`."""

    nodes: list[Node] = field(default_factory=list)

    def add(self, name: str, kind: str = "task", *, after: str = "", any_of: str = "", **more: Any) -> Sketch:
        ordinals = {node.id: node.ordinal for node in self.nodes}
        if kind in ("task", "fan_out"):
            more.setdefault("task", work())
        self.nodes.append(
            Node(
                ordinal=len(self.nodes),
                id=name,
                type=kind,  # type: ignore[arg-type]  # tests use the words
                all_of=tuple(ordinals[other] for other in after.split()),
                any_of=tuple(ordinals[other] for other in any_of.split()),
                **more,
            )
        )
        return self

    def graph(self) -> Graph:
        behind: dict[int, list[int]] = {}
        for node in self.nodes:
            for before in (*node.all_of, *node.any_of):
                behind.setdefault(before, []).append(node.ordinal)
        nodes = tuple(replace(node, successors=tuple(behind.get(node.ordinal, ()))) for node in self.nodes)
        return Graph("test", 1, "0" * 64, nodes, {node.id: node.ordinal for node in nodes})


def chain(*names: str, retries: int = 0) -> Graph:
    """start → each name as a task → end."""
    sketch = Sketch().add("start", "start")
    before = "start"
    for name in names:
        sketch.add(name, after=before, task=work(retries))
        before = name
    return sketch.add("end", "end", after=before).graph()


class Job:
    """A job driven by hand: every message is one decision, and the time moves only when told."""

    def __init__(self, graph: Graph, inputs: dict[str, Any] | None = None) -> None:
        self.state = JobState("job", 0, graph, inputs or {})
        self.now = NOW
        self.decisions: list[Decision] = []
        self.history: list[Any] = []
        self.children: dict[Key, NodeState] = {}
        """Every child there has been, as it stands or ended: the engine forgets those that ended."""
        self.results: dict[Key, Any] = {}

    def hear(self, *messages: Message) -> Decision:
        decision = decide(self.state, messages, self.now)
        self.history.extend(decision.events)
        self.children |= {key: change.state for key, change in decision.nodes.items() if key.item >= 0}
        self.results |= decision.outputs
        self.state = self.state.after(decision)
        self.decisions.append(decision)
        for key, attempt, effects in decision.effects:
            if effects[0]["kind"] == "gather":
                self.hear(self.gathered(key, attempt, effects[0]["body"]))
        return decision

    def gathered(self, key: Key, attempt: int, body: dict[str, Any]) -> Published:
        """What the publisher would answer."""
        folded = Gathering(body["aggregation"])
        items: list[Any] = []
        try:
            for child, node in sorted(self.children.items()):
                if child.ordinal == body["ordinal"] and node.status == "COMPLETED":
                    items += folded.add(self.results[child])
                elif child.ordinal == body["ordinal"]:
                    folded.add_error(child.item, node.error)
        except ValueError as problem:
            error = AggregationFailed(aggregation=body["aggregation"], problem=problem).as_dict()
            return Published(key, attempt, error)
        output = ({"results": items} if body["aggregation"] in LISTS else {}) | folded.result()
        return Published(key, attempt, output=output)

    def begin(self) -> Job:
        self.hear(Submitted())
        return self

    def wait(self, seconds: float) -> Job:
        self.now += timedelta(seconds=seconds)
        return self

    def key(self, name: str) -> Key:
        parent, _, index = name.partition("__")
        return Key(self.state.graph.by_id[parent], int(index) if index else -1)

    def status(self, name: str) -> str:
        key = self.key(name)
        return self.children[key].status if key in self.children else self.state.node(key).status

    def statuses(self) -> dict[str, str]:
        return {node.id: self.status(node.id) for node in self.state.graph.nodes}

    def attempt(self, name: str) -> int:
        return self.state.node(self.key(name)).attempt

    def started(self, name: str, timeout_seconds: float = 60) -> Decision:
        return self.hear(Started(self.key(name), self.attempt(name), "w", self.now, timeout_seconds))

    def completed(self, name: str, output: Any = None, **more: Any) -> Decision:
        given = {"attempt": self.attempt(name)} | more
        return self.hear(Report(self.key(name), worker="w", outcome="COMPLETED", output=output or {}, **given))

    def failed(self, name: str, *, retryable: bool = True, code: str = "BROKEN", **more: Any) -> Decision:
        error = {"code": code, "message": "broken", "retryable": retryable}
        given = {"attempt": self.attempt(name)} | more
        return self.hear(Report(self.key(name), worker="w", outcome="FAILED", error=error, **given))
