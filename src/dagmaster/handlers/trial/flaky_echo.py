"""Fails now and then."""

from __future__ import annotations

import random
from typing import Any

from pydantic import ConfigDict, Field

from dagmaster.errors import HandlerError
from dagmaster.handlers.base import Context, Output, Params, handler


class FlakyParams(Params):
    """Anything, with how often to fail; a seed makes each attempt's luck repeatable."""

    model_config = ConfigDict(extra="allow", frozen=True)

    failure_rate: float = Field(default=0.2, ge=0, le=1)
    seed: int | None = None


class FlakyOutput(Output):
    """What came in, and how many attempts had failed before."""

    echoed_params: dict[str, Any]
    handler: str
    task_id: str
    retry_count: int


@handler("flaky_echo", isolation="inline")
def run(params: FlakyParams, ctx: Context) -> FlakyOutput:
    """Fail with the given probability, per attempt; else echo."""
    luck = random.Random(f"{params.seed}/{ctx.node_id}/{ctx.attempt}") if params.seed is not None else random.Random()  # noqa: S311  # a die, not a secret
    if luck.random() < params.failure_rate:
        raise HandlerError(f"Bad luck at attempt {ctx.attempt}.", code="FLAKY", retryable=True)
    return FlakyOutput(
        echoed_params=params.model_dump(exclude_unset=True),
        handler="flaky_echo",
        task_id=ctx.attempt_token,
        retry_count=ctx.attempt - 1,
    )
