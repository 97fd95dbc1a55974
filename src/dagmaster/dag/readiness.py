"""The truth table of joins: when a node runs, waits, or is skipped (docs/reference/workflow-language)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from dagmaster.contract.decisions import NodeState
from dagmaster.contract.messages import Key
from dagmaster.dag.graph import Graph, Node


class Readiness(Enum):
    """What the predecessors allow."""

    WAIT = "wait"
    RUN = "run"
    SKIP = "skip"
    SKIP_FAILED = "skip because of a failure upstream"


class _Edge(Enum):
    OPEN = 0
    DONE = 1
    SKIPPED = 2
    FAILED = 3


def readiness(
    node: Node,
    graph: Graph,
    state_of: Callable[[Key], NodeState],
    chosen: Callable[[int], tuple[int, ...]],
) -> tuple[Readiness, int]:
    """Whether `node` may run now, and the ordinal of the failed predecessor when it may never (else -1)."""

    def edge(ordinal: int) -> _Edge:
        state = state_of(Key(ordinal))
        if not state.terminal:
            return _Edge.OPEN
        if state.failed:
            return _Edge.FAILED
        if state.status == "SKIPPED":
            return _Edge.SKIPPED
        if graph.nodes[ordinal].type == "conditional" and node.ordinal not in chosen(ordinal):
            return _Edge.SKIPPED
        return _Edge.DONE

    needed = [(edge(ordinal), ordinal) for ordinal in node.all_of]
    either = [(edge(ordinal), ordinal) for ordinal in node.any_of]
    for kind, ordinal in needed:
        if kind is _Edge.FAILED:
            return Readiness.SKIP_FAILED, ordinal
    kinds = {kind for kind, _ in needed}
    choices = {kind for kind, _ in either}
    if either and not choices & {_Edge.DONE, _Edge.OPEN}:
        culprit = next((ordinal for kind, ordinal in either if kind is _Edge.FAILED), -1)
        return (Readiness.SKIP_FAILED, culprit) if culprit >= 0 else (Readiness.SKIP, -1)
    if _Edge.OPEN in kinds or (either and _Edge.DONE not in choices):
        return Readiness.WAIT, -1
    if needed and not either and kinds == {_Edge.SKIPPED}:
        return Readiness.SKIP, -1
    return Readiness.RUN, -1
