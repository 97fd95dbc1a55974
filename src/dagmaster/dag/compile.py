"""From a checked definition to the compact graph that decisions run on."""

from __future__ import annotations

from typing import Any

from dagmaster.dag.conditions import compile_comparison, compile_condition
from dagmaster.dag.definition import Definition
from dagmaster.dag.edges import Edges, edges_of, fan_ins, gathered, topological
from dagmaster.dag.expressions import compile_expression, compile_template
from dagmaster.dag.findings import refuse
from dagmaster.dag.graph import Branch, Evaluable, FailurePolicy, Graph, Node, RetryPolicy, TaskSpec
from dagmaster.dag.model import (
    AnyNode,
    ConditionalNode,
    Defaults,
    FanInNode,
    FanOutNode,
    Policy,
    Retry,
    TaskNode,
    Threshold,
    Work,
)


def compile_graph(definition: Definition) -> Graph:
    """The graph of a definition that `check` found sound. It depends on the content only, not on any order of keys."""
    edges = edges_of(definition)
    order = topological(edges)
    if len(order) < len(definition.nodes):
        refuse([definition.finding("CYCLE", "the nodes wait for each other in a circle")])
    ordinals = {name: number for number, name in enumerate(order)}
    links = _fan_links(definition, edges)
    nodes = tuple(_node(name, definition, edges, ordinals, links) for name in order)
    return Graph(definition.workflow_id, definition.version, definition.digest, nodes, ordinals)


def _fan_links(definition: Definition, edges: Edges) -> dict[str, str]:
    """fan_in → its fan_out."""
    links: dict[str, str] = {}
    for name in fan_ins(definition):
        sources = gathered(definition, edges, name)
        if len(sources) != 1:
            message = f"`{name}` does not stand behind exactly one fan_out"
            refuse([definition.finding("FAN_IN_WITHOUT_FAN_OUT", message, ("nodes", name), on_key=True, node=name)])
        links[name] = sources[0]
    return links


def _node(name: str, definition: Definition, edges: Edges, ordinals: dict[str, int], links: dict[str, str]) -> Node:
    node = definition.nodes[name]
    fan_in = next((inner for inner, outer in sorted(links.items()) if outer == name), None)

    def numbers(names: list[str]) -> tuple[int, ...]:
        return tuple(sorted(ordinals[other] for other in names))

    return Node(
        ordinal=ordinals[name],
        id=name,
        type=node.type,
        all_of=numbers(edges.all_of[name]),
        any_of=numbers(edges.any_of[name]),
        successors=numbers(edges.successors[name]),
        in_result=node.result,
        fan_out=ordinals[links[name]] if name in links else None,
        fan_in=ordinals[fan_in] if fan_in is not None else None,
        **_work(name, node, definition, edges, ordinals, fan_in),
    )


def _work(
    name: str, node: AnyNode, definition: Definition, edges: Edges, ordinals: dict[str, int], fan_in: str | None
) -> dict[str, Any]:
    """What only nodes of one type have."""
    if isinstance(node, TaskNode):
        when = compile_condition(node.when) if node.when is not None else None
        return {"task": task_spec(node, None, definition.defaults), "when": when}
    if isinstance(node, ConditionalNode):
        return {"branches": _branches(name, node, edges, ordinals)}
    if isinstance(node, FanOutNode):
        gatherer = definition.nodes[fan_in] if fan_in is not None else None
        inherited = gatherer.failure_policy if isinstance(gatherer, FanInNode) else None
        return {
            "task": task_spec(node.task, node.retry, definition.defaults),
            "source": compile_source(node.source),
            "max_parallel": node.max_parallel,
            "failure_policy": failure_policy(node.failure_policy or inherited),
        }
    if isinstance(node, FanInNode):
        return {"aggregation": node.aggregation}
    return {}


def compile_source(source: str | list[Any]) -> Evaluable:
    """The items of a fan_out: one expression, or a list written out."""
    return compile_expression(source) if isinstance(source, str) else compile_template(source)


def task_spec(work: Work, outer: Retry | None, defaults: Defaults) -> TaskSpec:
    """What is run, with the defaults applied: the node's own word, its fan_out's, the workflow's, the engine's."""
    return TaskSpec(
        handler=work.handler,
        queue=work.queue or defaults.queue,
        params=compile_template(work.params),
        timeout_seconds=work.timeout_seconds or defaults.timeout_seconds,
        queue_timeout_seconds=work.queue_timeout_seconds or defaults.queue_timeout_seconds,
        retry=retry_policy(work.retry, outer, defaults.retry),
    )


def retry_policy(*layers: Retry | None) -> RetryPolicy:
    """The first layer that says something about a field decides it."""
    said: dict[str, Any] = {}
    for layer in reversed(layers):
        said |= layer.model_dump(exclude_none=True) if layer is not None else {}
    if "max_attempts" in said:
        said["retries_max"] = said.pop("max_attempts")
    if "on" in said:
        said["on"] = frozenset(said["on"])
    return RetryPolicy(**said)


def failure_policy(policy: Policy | None) -> FailurePolicy:
    if policy is None:
        return FailurePolicy()
    if not isinstance(policy, Threshold):
        return FailurePolicy(policy)
    if isinstance(policy.threshold, int):
        return FailurePolicy("threshold", count_max=policy.threshold)
    return FailurePolicy("threshold", share_max=float(policy.threshold.rstrip("% ")) / 100)


def _branches(name: str, node: ConditionalNode, edges: Edges, ordinals: dict[str, int]) -> tuple[Branch, ...]:
    return tuple(
        Branch(way.name, compile_test(node, way.test), tuple(sorted(ordinals[target] for target in way.targets)))
        for way in edges.ways[name]
    )


def compile_test(node: ConditionalNode, test: str | None) -> Evaluable | None:
    """The test of one branch, in whichever form it was written; None for the default."""
    if test is None:
        return None
    return compile_condition(test) if node.condition_field is None else compile_comparison(node.condition_field, test)
