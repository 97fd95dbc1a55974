"""A scope made of plain values: for tests, previews, and anything that evaluates outside of a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class DictScope:
    """What an expression reads, given as it is. A node that is not in `outputs` was skipped."""

    def __init__(
        self,
        inputs: dict[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
        item: Any = None,
        index: int | None = None,
        job_id: str = "",
    ) -> None:
        self.job_id = job_id
        self._inputs = inputs or {}
        self._outputs = outputs or {}
        self._item = item
        self._index = index

    def inputs(self) -> dict[str, Any]:
        return self._inputs

    def node_output(self, node_id: str) -> Any:
        return self._outputs.get(node_id)

    def item(self) -> Any:
        return self._item

    def index(self) -> int | None:
        return self._index
