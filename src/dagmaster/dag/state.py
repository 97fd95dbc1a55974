"""A job as the engine knows it between decisions.

A node without a record is PENDING, and so reads a child of a fan-out that has ended: the fan-out counts it, and
no attempt of it is expected any more. The graph and the inputs never change; everything else only moves by `after`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from dagmaster.contract.decisions import PENDING, Decision, FanState, NodeState
from dagmaster.contract.messages import Key
from dagmaster.dag.graph import Graph


@dataclass(frozen=True, slots=True)
class JobState:
    """One job."""

    job_id: str
    shard: int
    graph: Graph
    inputs: dict[str, Any]
    status: str = "PENDING"
    priority: int = 0
    seq: int = 0
    """Number of the last event."""
    nodes: dict[Key, NodeState] = field(default_factory=dict)
    """Static nodes that have moved, and children that live."""
    outputs: dict[Key, Any] = field(default_factory=dict)
    """Outputs that an expression or a publication may still need."""
    fans: dict[int, FanState] = field(default_factory=dict)
    ended: int = 0
    """How many static nodes are terminal."""
    items: dict[int, Any] = field(default_factory=dict, compare=False)
    """The items of each fan-out, once they have been needed: what its source yields never changes."""

    def node(self, key: Key) -> NodeState:
        return self.nodes.get(key, PENDING)

    def after(self, decision: Decision) -> JobState:
        """The state once `decision` is written. The dicts are taken over: the old state must not be used again."""
        ended = self.ended
        for key, change in decision.nodes.items():
            if not change.state.terminal:
                self.nodes[key] = change.state
            elif key.item < 0:
                self.nodes[key] = change.state
                ended += not change.before.terminal
            else:
                self.nodes.pop(key, None)
        self.outputs.update(decision.outputs)
        for key in decision.nodes:
            if key.item >= 0 and key not in self.nodes:
                self.outputs.pop(key, None)
        self.fans.update(decision.fans)
        return replace(self, status=decision.status, seq=self.seq + len(decision.events), ended=ended)
