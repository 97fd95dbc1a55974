"""Builds a job's state from what its tables hold."""

from __future__ import annotations

from dagmaster.contract.decisions import FanState, JobSnapshot
from dagmaster.contract.messages import Key
from dagmaster.dag.graph import Graph
from dagmaster.dag.job_scope import JobScope
from dagmaster.dag.state import JobState


def restore(snapshot: JobSnapshot, graph: Graph) -> JobState:
    """The state that the tables hold; the numbers of a fan-out follow from its children."""
    state = JobState(
        job_id=snapshot.job_id,
        shard=snapshot.shard,
        graph=graph,
        inputs=snapshot.inputs,
        status=snapshot.status,
        priority=snapshot.priority,
        seq=snapshot.seq,
        nodes=snapshot.nodes,
        outputs=snapshot.outputs,
    )
    counts: dict[int, list[int]] = {}
    for key, node in snapshot.nodes.items():
        if key.item >= 0:
            cursor, completed, failed = counts.get(key.ordinal, [0, 0, 0])
            ended = node.terminal
            done = node.status == "COMPLETED"
            counts[key.ordinal] = [max(cursor, key.item + 1), completed + done, failed + (ended and not done)]
    for node_def in graph.nodes:
        if node_def.type == "fan_out" and state.node(Key(node_def.ordinal)).status != "PENDING":
            cursor, completed, failed = counts.get(node_def.ordinal, [0, 0, 0])
            state.fans[node_def.ordinal] = FanState(_width(state, node_def.ordinal, cursor), cursor, completed, failed)
    return state


def _width(state: JobState, ordinal: int, cursor: int) -> int:
    """How many items the fan-out has: its source is pure, so it is read again."""
    node = state.graph.nodes[ordinal]
    if state.node(Key(ordinal)).status not in ("RUNNING", "COMPLETED"):
        return cursor
    items = JobScope(state, {}).fan_items(node)
    return len(items)
