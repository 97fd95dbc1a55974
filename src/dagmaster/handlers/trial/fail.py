"""Always fails."""

from __future__ import annotations

from dagmaster.errors import HandlerError
from dagmaster.handlers.base import Context, Output, Params, handler


class FailParams(Params):
    """How to fail."""

    error_message: str = "This handler always fails."
    code: str = "HANDLER_FAILED"
    retryable: bool = True


class FailOutput(Output):
    """Never returned."""


@handler("fail", isolation="inline")
def run(params: FailParams, ctx: Context) -> FailOutput:
    """Raise the error that was asked for."""
    raise HandlerError(params.error_message, code=params.code, retryable=params.retryable)
