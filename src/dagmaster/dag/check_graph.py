"""The shape of a workflow: where it begins and ends, circles, dead ends, and what the branches leave out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from dagmaster.dag.definition import Definition
from dagmaster.dag.edges import Edges, fan_ins, gathered, topological
from dagmaster.dag.findings import Finding, listing, near_miss
from dagmaster.dag.model import ConditionalNode
from dagmaster.dag.routes import never_taken, routes
from dagmaster.dag.yaml_source import Path


def graph_findings(definition: Definition, edges: Edges) -> Iterator[Finding]:
    """Every fault of the shape; those of routes only where the shape itself is sound."""
    faults = [
        *_ends(definition),
        *_strangers(definition, edges),
        *_child_names(definition),
        *_conditionals(definition, edges),
        *_fans(definition, edges),
        *_cycle(definition, edges),
    ]
    reach = list(_reach(definition, edges)) if not any(fault.code == "CYCLE" for fault in faults) else []
    yield from faults
    yield from reach
    if not any(fault.severity == "error" for fault in (*faults, *reach)):
        yield from _routes(definition, edges)


def _ends(definition: Definition) -> Iterator[Finding]:
    types = {node.type for node in definition.nodes.values()}
    for kind, code in (("start", "START_MISSING"), ("end", "END_MISSING")):
        if kind not in types:
            fix = f"add a node: {kind}: {{type: {kind}}}"
            yield definition.finding(code, f"there is no node of type {kind}", ("nodes",), on_key=True, fix=fix)


def _strangers(definition: Definition, edges: Edges) -> Iterator[Finding]:
    for speaker, other, path in edges.written:
        if other not in definition.nodes:
            guess = near_miss(other, definition.nodes)
            yield definition.finding(
                "NODE_UNKNOWN",
                f"node `{speaker}` names `{other}`, which does not exist",
                path,
                needle=other,
                node=speaker,
                why="nodes: " + listing(definition.nodes),
                fix=f"write `{guess}`" if guess else "add the node",
            )


def _child_names(definition: Definition) -> Iterator[Finding]:
    """Children are called after their fan_out and index; no node may take such a name."""
    for name in definition.nodes:
        parent, _, index = name.rpartition("__")
        if index.isdigit() and parent in definition.nodes and definition.nodes[parent].type == "fan_out":
            message = f"`{name}` is what a child of the fan_out `{parent}` is called"
            yield definition.finding(
                "VALUE_INVALID", message, ("nodes", name), on_key=True, node=name, fix="rename the node"
            )


def _conditionals(definition: Definition, edges: Edges) -> Iterator[Finding]:
    for name, node in definition.nodes.items():
        if isinstance(node, ConditionalNode):
            for message, path, fix in _branch_faults(name, node, edges):
                yield definition.finding("BRANCH_INVALID", message, path, on_key=True, node=name, fix=fix)


def _branch_faults(name: str, node: ConditionalNode, edges: Edges) -> Iterator[tuple[str, Path, str]]:
    path: Path = ("nodes", name)
    if node.condition is None and node.condition_field is None:
        yield f"conditional `{name}` has neither `condition` nor `condition_field`", path, "add one of them"
    elif node.condition is not None and (node.condition_field is not None or node.branches is not None):
        message = f"conditional `{name}` mixes `condition` with the form of `condition_field`"
        yield message, (*path, "condition"), "keep one form: condition with on_true and on_false, or condition_field"
    elif node.condition is not None and node.on_true is None:
        yield f"conditional `{name}` does not say where true leads", (*path, "condition"), "add `on_true`"
    elif node.condition_field is not None and (node.on_true is not None or node.on_false is not None):
        yield f"conditional `{name}` has `condition_field` with on_true or on_false", path, "write `condition`"
    elif node.condition_field is not None:
        yield from _list_faults(name, node, edges)


def _list_faults(name: str, node: ConditionalNode, edges: Edges) -> Iterator[tuple[str, Path, str]]:
    path: Path = ("nodes", name, "branches")
    branches = node.branches or []
    if len(branches) < 2:
        yield f"conditional `{name}` has {len(branches)} branches; at least 2 are needed", path, "add a branch"
    defaults = sum(branch.default for branch in branches)
    if defaults != 1:
        fix = "add {default: true, next: …}" if not defaults else "leave one default"
        yield f"conditional `{name}` has {defaults} default branches; exactly one is needed", path, fix
    seen: set[str] = set()
    for number, branch in enumerate(branches):
        if branch.name in seen:
            yield f"two branches of `{name}` are called `{branch.name}`", (*path, number, "name"), "rename one"
        seen.add(branch.name)


def _fans(definition: Definition, edges: Edges) -> Iterator[Finding]:
    takers: dict[str, str] = {}
    for name in fan_ins(definition):
        path: Path = ("nodes", name)
        sources = gathered(definition, edges, name)
        if len(sources) != 1:
            yield definition.finding(
                "FAN_IN_WITHOUT_FAN_OUT",
                f"fan_in `{name}` stands behind {len(sources)} fan_outs, not behind one",
                path,
                on_key=True,
                node=name,
                why="it gathers the children of the fan_out right before it",
                fix=f"let one fan_out have next: {name}",
            )
        elif (other := takers.setdefault(sources[0], name)) != name:
            message = f"`{other}` and `{name}` both gather the children of `{sources[0]}`"
            yield definition.finding("FAN_IN_TWICE", message, path, on_key=True, node=name, fix="keep one of them")


def _cycle(definition: Definition, edges: Edges) -> Iterator[Finding]:
    """One circle, named as a path; others may show once it is mended."""
    stuck = set(definition.nodes) - set(topological(edges))
    if not stuck:
        return
    trail: list[str] = []
    here = min(stuck)
    while here not in trail:
        trail.append(here)
        here = min(other for other in edges.predecessors(here) if other in stuck)
    circle = [*trail[trail.index(here) :], here][::-1]
    first = min(circle)
    at = circle.index(first)
    turned = [*circle[at:-1], *circle[:at], first]
    speaker, path = next(
        (speaker, path)
        for speaker, other, path in edges.written
        if (speaker, other) == (turned[0], turned[1])
        or ((other, speaker) == (turned[0], turned[1]) and "depends_on" in path)
    )
    yield definition.finding(
        "CYCLE",
        "the nodes wait for each other in a circle: " + " → ".join(turned),
        path,
        on_key=True,
        node=speaker,
        fix="take out one of these edges",
    )


def _reach(definition: Definition, edges: Edges) -> Iterator[Finding]:
    starts = [name for name, node in definition.nodes.items() if node.type == "start"]
    ends = [name for name, node in definition.nodes.items() if node.type == "end"]
    forward = _closure(starts, edges.successors)
    back = _closure(ends, {name: edges.predecessors(name) for name in definition.nodes})
    for name, node in definition.nodes.items():
        place: Path = ("nodes", name)
        if node.type == "start" and (before := edges.predecessors(name)):
            message = f"start node `{name}` waits for {listing(before)}"
            yield definition.finding(
                "UNREACHABLE", message, place, on_key=True, node=name, fix="let nothing lead to it"
            )
        if starts and name not in forward:
            yield definition.finding(
                "UNREACHABLE",
                f"no start leads to node `{name}`",
                place,
                on_key=True,
                node=name,
                fix=f"add it to the `next` of a node, or remove `{name}`",
            )
        if ends and name not in back:
            yield definition.finding(
                "DEAD_END",
                f"no route leads from node `{name}` to an end",
                place,
                on_key=True,
                node=name,
                fix=f"add next: {min(ends)}",
            )


def _closure(roots: Iterable[str], steps: dict[str, list[str]]) -> set[str]:
    found = set(roots)
    waiting = list(found)
    while waiting:
        for other in steps[waiting.pop()]:
            if other not in found:
                found.add(other)
                waiting.append(other)
    return found


def _routes(definition: Definition, edges: Edges) -> Iterator[Finding]:
    """What the branches leave out, found by walking through their combinations."""
    dead = never_taken(definition, edges)
    for name, number, why in dead:
        way = edges.ways[name][number]
        yield definition.finding(
            "BRANCH_UNREACHABLE",
            f"the branch `{way.name}` of `{name}` is never taken",
            way.path,
            node=name,
            why=why,
            severity="warning",
            fix="remove the branch, or correct its condition",
        )
    found = routes(definition, edges, {(name, number) for name, number, _ in dead})
    for name in definition.nodes:
        if name not in found.live:
            yield definition.finding(
                "BRANCH_UNREACHABLE",
                f"no combination of branches leads to node `{name}`",
                ("nodes", name),
                on_key=True,
                node=name,
                fix="correct the conditions before it, or remove it",
            )
    if found.endless is not None:
        choices = ", ".join(f"{name} = {choice}" for name, choice in sorted(found.endless.items())) or "always"
        yield definition.finding(
            "END_UNCERTAIN",
            "a route through the workflow completes without any end node",
            ("nodes",),
            on_key=True,
            severity="warning",
            why=choices,
            fix="let that branch lead to an end node",
        )
