"""Builds a job's state from what its tables hold."""

from __future__ import annotations

from dagmaster.contract.decisions import FanState, JobSnapshot
from dagmaster.contract.messages import Key
from dagmaster.dag.graph import Graph
from dagmaster.dag.job_scope import JobScope
from dagmaster.dag.state import JobState


def restore(snapshot: JobSnapshot, graph: Graph) -> JobState:
    """The state that the tables hold; how wide a fan-out is follows from its source, which is read again."""
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
        ended=sum(node.terminal for key, node in snapshot.nodes.items() if key.item < 0),
    )
    for ordinal, (created, completed, failed) in snapshot.children.items():
        state.fans[ordinal] = FanState(created, created, completed, failed)
    for node in graph.nodes:
        if node.type == "fan_out" and state.node(Key(node.ordinal)).status != "PENDING":
            created, completed, failed = snapshot.children.get(node.ordinal, (0, 0, 0))
            state.fans[node.ordinal] = FanState(_width(state, node.ordinal, created), created, completed, failed)
    return state


def _width(state: JobState, ordinal: int, created: int) -> int:
    """How many items the fan-out has; one that ended before all were created needs no more than those."""
    if state.node(Key(ordinal)).status not in ("RUNNING", "COMPLETED"):
        return created
    return len(JobScope(state, {}).fan_items(state.graph.nodes[ordinal]))
