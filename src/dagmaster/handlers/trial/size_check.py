"""Routes by size."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dagmaster.handlers.base import Context, Output, Params, handler

LIGHT_BYTES_MAX = 100 * 1024 * 1024
MEDIUM_BYTES_MAX = 1024 * 1024 * 1024


class SizeParams(Params):
    """The size to judge, in bytes."""

    size_bytes: int = Field(ge=0)


class SizeOutput(Output):
    """The route that fits the size."""

    size_bytes: int
    route: Literal["light", "medium", "heavy"]
    recommended_queue: Literal["light", "heavy"]


@handler("size_check", isolation="inline")
def run(params: SizeParams, ctx: Context) -> SizeOutput:
    """Say light below 100 MiB, medium below 1 GiB, else heavy."""
    if params.size_bytes < LIGHT_BYTES_MAX:
        return SizeOutput(size_bytes=params.size_bytes, route="light", recommended_queue="light")
    route: Literal["medium", "heavy"] = "medium" if params.size_bytes < MEDIUM_BYTES_MAX else "heavy"
    return SizeOutput(size_bytes=params.size_bytes, route=route, recommended_queue="heavy")
