"""Does nothing for a while."""

from __future__ import annotations

import time

from pydantic import Field

from dagmaster.handlers.base import Context, Output, Params, handler

SLICE_SECONDS = 0.1


class SleepParams(Params):
    """How long."""

    duration_seconds: float = Field(default=1.0, ge=0, le=86_400)


class SleepOutput(Output):
    """How long it really was, in seconds."""

    slept_for: float


@handler("sleep")
def run(params: SleepParams, ctx: Context) -> SleepOutput:
    """Sleep in small slices, so that cancelling ends it at once."""
    began = time.monotonic()
    while (slept := time.monotonic() - began) < params.duration_seconds:
        ctx.progress(100 * slept / params.duration_seconds)
        time.sleep(min(SLICE_SECONDS, params.duration_seconds - slept))
    return SleepOutput(slept_for=round(time.monotonic() - began, 3))
