"""Returns what it was given."""

from __future__ import annotations

import time
from typing import Any

from pydantic import ConfigDict, Field

from dagmaster.handlers.base import Context, Output, Params, handler


class EchoParams(Params):
    """Anything; with `steps` above 1 the echo takes its time and saves a checkpoint after each step."""

    model_config = ConfigDict(extra="allow", frozen=True)

    steps: int = Field(default=1, ge=1, le=10_000)
    step_delay: float = Field(default=0.0, ge=0, le=3600, description="Seconds per step.")


class EchoOutput(Output):
    """What came in, as it came in."""

    echoed_params: dict[str, Any]
    handler: str
    task_id: str


@handler("echo", isolation="inline")
def run(params: EchoParams, ctx: Context) -> EchoOutput:
    """Return the params as given, after as many slow steps as asked for."""
    done, _ = ctx.resume()
    for step in range(done + 1, params.steps + 1 if params.steps > 1 else 1):
        time.sleep(params.step_delay)
        ctx.progress(100 * step / params.steps, f"step {step} of {params.steps}")
        ctx.checkpoint(step, {"step": step})
    return EchoOutput(echoed_params=given_params(params), handler="echo", task_id=ctx.attempt_token)


def given_params(params: EchoParams) -> dict[str, Any]:
    """The params without defaults that nobody gave."""
    return params.model_dump(exclude_unset=True)
