"""The edges of a definition, merged from `next`, branches and `depends_on`, with the order of the nodes.

Everything here follows from the content alone, not from the order of keys in a file: the database does not
keep that order, and the ordinals of a running job must come out the same after every reload.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from dagmaster.dag.definition import Definition
from dagmaster.dag.model import AnyNode, ConditionalNode, EndNode, FanInNode, FanOutNode
from dagmaster.dag.yaml_source import Path


@dataclass(frozen=True, slots=True)
class Way:
    """One way out of a conditional; `test` is what a branch says, None for the default."""

    name: str
    test: str | None
    targets: tuple[str, ...]
    path: Path


@dataclass(slots=True)
class Edges:
    """Who waits for whom, by node id."""

    all_of: dict[str, list[str]] = field(default_factory=dict)
    any_of: dict[str, list[str]] = field(default_factory=dict)
    successors: dict[str, list[str]] = field(default_factory=dict)
    ways: dict[str, list[Way]] = field(default_factory=dict)
    written: list[tuple[str, str, Path]] = field(default_factory=list)
    """(node that says it, id it names, where), for every edge, also those that lead nowhere."""

    def predecessors(self, node_id: str) -> list[str]:
        return list(dict.fromkeys([*self.all_of[node_id], *self.any_of[node_id]]))


def edges_of(definition: Definition) -> Edges:
    """All edges. Names of nodes that do not exist are only in `written`."""
    edges = Edges({name: [] for name in definition.nodes}, {name: [] for name in definition.nodes})
    for name, node in sorted(definition.nodes.items()):
        edges.ways[name] = list(ways(name, node))
        edges.written.extend(_written(name, node, edges.ways[name]))
        edges.any_of[name] = [other for other in node.depends_on.any_of if other in definition.nodes]
    for name, node in sorted(definition.nodes.items()):
        for other in node.depends_on.all_of:
            if other in definition.nodes:
                _add(edges.all_of[name], other)
    for speaker, other, path in edges.written:
        if other in definition.nodes and "depends_on" not in path and speaker not in edges.any_of[other]:
            _add(edges.all_of[other], speaker)
    for name in definition.nodes:
        edges.all_of[name].sort()
        edges.successors[name] = []
    for name in sorted(definition.nodes):
        for other in edges.predecessors(name):
            edges.successors[other].append(name)
    _lead_on(edges)
    return edges


def ways(name: str, node: AnyNode) -> Iterator[Way]:
    """The branches of a conditional in the order in which they are tried."""
    path: Path = ("nodes", name)
    if not isinstance(node, ConditionalNode):
        return
    if node.branches is not None:
        for number, branch in enumerate(node.branches):
            yield Way(branch.name, branch.condition, tuple(branch.next), (*path, "branches", number))
        return
    yield Way("true", node.condition, tuple(node.on_true or ()), (*path, "on_true"))
    yield Way("false", None, tuple(node.on_false or ()), (*path, "on_false"))


def topological(edges: Edges) -> list[str]:
    """Every node after all it waits for, ties by id; shorter than the graph if there is a cycle."""
    open_edges = {name: len(edges.predecessors(name)) for name in edges.all_of}
    ready = sorted(name for name, count in open_edges.items() if count == 0)
    order: list[str] = []
    while ready:
        name = heapq.heappop(ready)
        order.append(name)
        for other in edges.successors[name]:
            open_edges[other] -= 1
            if open_edges[other] == 0:
                heapq.heappush(ready, other)
    return order


def gathered(definition: Definition, edges: Edges, fan_in: str) -> list[str]:
    """The fan_outs right before a fan_in; a sound one has exactly one."""
    return [other for other in edges.predecessors(fan_in) if isinstance(definition.nodes[other], FanOutNode)]


def fan_ins(definition: Definition) -> list[str]:
    return sorted(name for name, node in definition.nodes.items() if isinstance(node, FanInNode))


def _written(name: str, node: AnyNode, branches: list[Way]) -> Iterator[tuple[str, str, Path]]:
    path: Path = ("nodes", name)
    if not isinstance(node, EndNode):
        yield from ((name, other, (*path, "next")) for other in node.next)
    for way in branches:
        place = (*way.path, "next") if way.path[-2] == "branches" else way.path
        yield from ((name, other, place) for other in way.targets)
    for kind in ("all_of", "any_of"):
        yield from ((name, other, (*path, "depends_on", kind)) for other in getattr(node.depends_on, kind))


def _lead_on(edges: Edges) -> None:
    """Who waits for a conditional without standing in one of its branches goes on whichever branch is taken."""
    for name, branches in edges.ways.items():
        if not branches:
            continue
        named = {target for way in branches for target in way.targets}
        always = tuple(other for other in edges.successors[name] if other not in named)
        edges.ways[name] = [Way(way.name, way.test, way.targets + always, way.path) for way in branches]


def _add(names: list[str], name: str) -> None:
    if name not in names:
        names.append(name)
