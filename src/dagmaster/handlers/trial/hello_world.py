"""Says hello."""

from __future__ import annotations

from dagmaster.handlers.base import Context, Output, Params, handler


class HelloParams(Params):
    """Whom to greet, or the whole message."""

    name: str = "World"
    message: str | None = None


class HelloOutput(Output):
    """The greeting."""

    message: str


@handler("hello_world", isolation="inline")
def run(params: HelloParams, ctx: Context) -> HelloOutput:
    """Return a greeting."""
    return HelloOutput(message=params.message or f"Hello, {params.name}!")
