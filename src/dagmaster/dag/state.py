"""A job as the engine knows it between decisions.

A node without a record is PENDING. The graph and the inputs never change; everything else only moves by `after`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from dagmaster.contract.decisions import PENDING, Decision, FanState, NodeState
from dagmaster.contract.messages import Key
from dagmaster.dag.graph import Graph


@dataclass(frozen=True, slots=True)
class JobState:
    """One job. `job_status` PAUSED keeps new attempts from starting."""

    job_id: str
    shard: int
    graph: Graph
    inputs: dict[str, Any]
    status: str = "PENDING"
    priority: int = 0
    seq: int = 0
    """Number of the last event."""
    nodes: dict[Key, NodeState] = field(default_factory=dict)
    outputs: dict[Key, Any] = field(default_factory=dict)
    """Outputs of completed nodes."""
    fans: dict[int, FanState] = field(default_factory=dict)

    def node(self, key: Key) -> NodeState:
        return self.nodes.get(key, PENDING)

    def after(self, decision: Decision) -> JobState:
        """The state once `decision` is written. The dicts are taken over: the old state must not be used again."""
        self.nodes.update({key: change.state for key, change in decision.nodes.items()})
        self.outputs.update(decision.outputs)
        self.fans.update(decision.fans)
        return replace(self, status=decision.status, seq=self.seq + len(decision.events))
