"""What the expressions of a running job may read: its inputs and the outputs of finished nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagmaster.contract.messages import Key
from dagmaster.dag.graph import Node
from dagmaster.dag.state import JobState


class JobScope:
    """A view of the state with the outputs of the decision under way on top."""

    def __init__(self, state: JobState, fresh: Mapping[Key, Any]) -> None:
        self.state = state
        self.fresh = fresh
        self.job_id = state.job_id

    def inputs(self) -> dict[str, Any]:
        return self.state.inputs

    def output(self, key: Key) -> Any:
        found = self.fresh.get(key)
        return found if found is not None else self.state.outputs.get(key)

    def node_output(self, node_id: str) -> Any:
        return self.output(Key(self.state.graph.by_id[node_id]))

    def item(self) -> Any:
        return None

    def index(self) -> int | None:
        return None

    def fan_items(self, node: Node) -> Any:
        """The items of a fan-out: its source is pure, so it is evaluated after a restart rather than stored."""
        if node.ordinal not in self.state.items:
            assert node.source is not None, f"fan-out {node.id} has no source"
            self.state.items[node.ordinal] = node.source(self)
        return self.state.items[node.ordinal]

    def for_item(self, key: Key) -> JobScope | ItemScope:
        if key.item < 0:
            return self
        items = self.fan_items(self.state.graph.nodes[key.ordinal])
        return ItemScope(self, items[key.item], key.item)


class ItemScope:
    """The scope of one child of a fan-out."""

    def __init__(self, job: JobScope, item: Any, index: int) -> None:
        self._job = job
        self._item = item
        self._index = index
        self.job_id = job.job_id

    def inputs(self) -> dict[str, Any]:
        return self._job.inputs()

    def node_output(self, node_id: str) -> Any:
        return self._job.node_output(node_id)

    def item(self) -> Any:
        return self._item

    def index(self) -> int | None:
        return self._index
