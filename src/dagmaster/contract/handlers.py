"""What a worker announces about a handler, and what the orchestrator checks workflows against."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Isolation = Literal["process", "inline"]


class HandlerSpec(BaseModel):
    """One handler as announced: its name, version, queue and the JSON Schemas of its Params and Output."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: int = 1
    summary: str = ""
    queue: str = "light"
    isolation: Isolation = "process"
    timeout_seconds: float = Field(default=3600.0, ge=1, le=86400)
    params_schema: dict[str, Any]
    output_schema: dict[str, Any]


class Effect(BaseModel):
    """A publication that a handler asks for; applied from the outbox once its attempt is accepted.

    `artifact`: body {container, path, staged}: the file at the staged key becomes visible at container/path.
    `stac_collection`, `stac_item`: body {collection_id, document}.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["artifact", "stac_collection", "stac_item"]
    body: dict[str, Any]
