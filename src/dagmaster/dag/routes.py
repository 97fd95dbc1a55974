"""What branches allow: which nodes can run at all, and which combinations skip every end."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dagmaster.dag.conditions import compile_comparison, compile_condition
from dagmaster.dag.definition import Definition
from dagmaster.dag.edges import Edges, topological
from dagmaster.dag.model import ConditionalNode, TaskNode
from dagmaster.dag.scope import DictScope
from dagmaster.errors import DagmasterError

STEPS_MAX = 200_000
"""Nodes walked over in all combinations together; beyond it choices are varied one at a time, then no more."""

Choice = Mapping[str, int | bool]


@dataclass(slots=True)
class Routes:
    """What some combination runs, and one combination, if one was found, that completes no end node."""

    live: set[str] = field(default_factory=set)
    endless: dict[str, str] | None = None


def never_taken(definition: Definition, edges: Edges) -> list[tuple[str, int, str]]:
    """Branches that cannot win: their condition is constant and false, or an earlier branch always wins before."""
    found: list[tuple[str, int, str]] = []
    for name, node in sorted(definition.nodes.items()):
        if not isinstance(node, ConditionalNode):
            continue
        seen: dict[str, str] = {}
        winner: str | None = None
        ways = edges.ways[name]
        for number, way in sorted(enumerate(ways), key=lambda pair: pair[1].test is None):
            constant = True if way.test is None else _constant(node, way.test)
            if winner is not None:
                found.append((name, number, f"the branch `{winner}` always wins"))
            elif constant is False:
                found.append((name, number, "its condition is always false"))
            elif way.test is not None and " ".join(way.test.split()) in seen:
                found.append((name, number, f"`{seen[' '.join(way.test.split())]}` has the same condition"))
            if constant is True and winner is None:
                winner = way.name
            if way.test is not None:
                seen.setdefault(" ".join(way.test.split()), way.name)
    return found


def _constant(node: ConditionalNode, test: str) -> bool | None:
    """The truth of a test that reads nothing; None for one that depends on the job."""
    try:
        field_text = node.condition_field
        made = compile_condition(test) if field_text is None else compile_comparison(field_text, test)
        return bool(made(DictScope())) if not made.references else None
    except DagmasterError:
        return None


def routes(definition: Definition, edges: Edges, dead: set[tuple[str, int]]) -> Routes:
    """What can run at all, and a route that skips every end."""
    order = topological(edges)
    options: dict[str, list[int | bool]] = {}
    for name in order:
        node = definition.nodes[name]
        if edges.ways[name]:
            options[name] = [number for number in range(len(edges.ways[name])) if (name, number) not in dead]
        elif isinstance(node, TaskNode) and node.when is not None:
            options[name] = [True, False]
    ends = [name for name in order if definition.nodes[name].type == "end"]
    found = Routes(_possible(order, edges, options))
    for choice in _combinations(options, STEPS_MAX // len(order)):
        live = _run(order, edges, choice)
        if not live.intersection(ends):
            told = [name for name in options if name in live or not edges.ways[name]]
            found.endless = {name: _named(edges, name, choice[name]) for name in told}
            break
    return found


def _possible(order: list[str], edges: Edges, options: Mapping[str, list[int | bool]]) -> set[str]:
    """Nodes that run under some combination. Choices are independent, so one pass finds exactly these."""
    live: set[str] = set()
    for name in order:
        before = edges.any_of[name] or edges.all_of[name]
        if not before or any(
            other in live
            and (not edges.ways[other] or any(name in edges.ways[other][int(pick)].targets for pick in options[other]))
            for other in before
        ):
            live.add(name)
    return live


def _combinations(options: dict[str, list[int | bool]], most: int) -> Iterator[Choice]:
    total = 1
    for choices in options.values():
        total *= max(1, len(choices))
    if total <= most:
        for picked in itertools.product(*options.values()):
            yield dict(zip(options, picked, strict=True))
        return
    usual = {name: choices[0] for name, choices in options.items()}
    yield from itertools.islice((usual | {name: pick} for name, picks in options.items() for pick in picks), most)


def _run(order: list[str], edges: Edges, choice: Choice) -> set[str]:
    """The nodes that run under one combination, by the truth table of joins without failures."""
    live: set[str] = set()
    for name in order:
        if choice.get(name) is False:
            continue
        needed = [_done(other, name, edges, choice, live) for other in edges.all_of[name]]
        either = [_done(other, name, edges, choice, live) for other in edges.any_of[name]]
        if (either and not any(either)) or (needed and not either and not any(needed)):
            continue
        live.add(name)
    return live


def _done(before: str, name: str, edges: Edges, choice: Choice, live: set[str]) -> bool:
    if before not in live or not edges.ways[before]:
        return before in live
    return name in edges.ways[before][int(choice[before])].targets


def _named(edges: Edges, name: str, choice: int | bool) -> str:
    return edges.ways[name][choice].name if edges.ways[name] else str(choice).lower()
