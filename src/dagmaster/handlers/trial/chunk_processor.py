"""Counts what is in a chunk."""

from __future__ import annotations

from typing import Any

from dagmaster.handlers.base import Context, Output, Params, handler


class ChunkParams(Params):
    """One chunk of a larger list."""

    chunk_id: int | str
    chunk_data: list[Any] | dict[str, Any] | str | None = None


class ChunkOutput(Output):
    """How many items the chunk had."""

    chunk_id: int | str
    processed: bool
    item_count: int


@handler("chunk_processor", isolation="inline")
def run(params: ChunkParams, ctx: Context) -> ChunkOutput:
    """Count the items of the chunk."""
    count = len(params.chunk_data) if params.chunk_data is not None else 0
    return ChunkOutput(chunk_id=params.chunk_id, processed=True, item_count=count)
