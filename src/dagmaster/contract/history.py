"""What happened to a job, as records that a replay reads."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple


class Move(NamedTuple):
    """An event that moves a job or a node. `data` holds what the state is made of beside the status."""

    seq: int
    at: datetime
    attempt: int | None
    before: str
    to: str
    data: Mapping[str, Any]


class JobEnd(NamedTuple):
    """Where a job stands."""

    status: str = "PENDING"
    error: dict[str, Any] | None = None
    finished_at: datetime | None = None
