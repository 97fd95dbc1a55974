"""The shelf's promise: a handler is a plain function `run(params: Params, ctx: Context) -> Output`.

    @handler("raster.create_cog", queue="heavy")
    def run(params: Params, ctx: Context) -> Output: ...

The decorated name stays callable, so a handler can be used and tested without any engine.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from dagmaster.contract.handlers import Effect, HandlerSpec, Isolation
from dagmaster.storages.base import Storage

P = TypeVar("P", bound=BaseModel)
O = TypeVar("O", bound=BaseModel)  # noqa: E741  # the pair reads Params -> Output


class Params(BaseModel):
    """Base of all Params models: unknown keys are refused; numbers and booleans given as text are converted."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Output(BaseModel):
    """Base of all Output models: what the next nodes can read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Context(Protocol):
    """All that a handler can reach besides its params."""

    job_id: str
    node_id: str
    attempt: int
    attempt_token: str
    """Names this attempt and no other; use it wherever a side effect needs a name of its own."""
    scratch: Path
    """An empty folder of this attempt's own; removed afterwards."""
    job_scratch: Path
    """A folder that lives as long as the job: what one node stages for the next ones."""
    storage: Storage

    def progress(self, percent: float, message: str = "") -> None:
        """Report how far the work is, 0 to 100; raises Cancelled when the attempt was cancelled."""

    def cancelled(self) -> bool:
        """True once somebody cancelled the attempt; a long loop asks now and then."""

    def log(self, message: str, **fields: Any) -> None:
        """One structured line into the attempt's log."""

    def publish(self, effect: Effect) -> None:
        """Ask for a publication; it happens only if this attempt is accepted."""

    def checkpoint(self, phase: int, data: dict[str, Any]) -> None:
        """Save that `phase` (1, 2, …) is done, with what a resumed attempt needs."""

    def resume(self) -> tuple[int, dict[str, Any]]:
        """The last saved phase (0 = none) and its data."""


@dataclass(frozen=True)
class Handler(Generic[P, O]):
    """A registered handler: its function, models and how it wants to be run."""

    name: str
    function: Callable[[P, Context], O]
    params: type[P]
    output: type[O]
    queue: str = "light"
    version: int = 1
    isolation: Isolation = "process"
    timeout_seconds: float = 3600.0
    summary: str = field(default="")

    def __call__(self, params: P, ctx: Context) -> O:
        return self.function(params, ctx)

    def spec(self) -> HandlerSpec:
        """What a worker announces about this handler."""
        return HandlerSpec(
            name=self.name,
            version=self.version,
            summary=self.summary,
            queue=self.queue,
            isolation=self.isolation,
            timeout_seconds=self.timeout_seconds,
            params_schema=self.params.model_json_schema(),
            output_schema=self.output.model_json_schema(mode="serialization"),
        )


def handler(
    name: str,
    *,
    queue: str = "light",
    version: int = 1,
    isolation: Isolation = "process",
    timeout_seconds: float = 3600.0,
) -> Callable[[Callable[[P, Context], O]], Handler[P, O]]:
    """Register the decorated function as handler `name`; its annotations name the Params and Output models.

    Errors: TypeError when it does not take `(params, ctx)`, or an annotation is no such model.
    """

    def register(function: Callable[[P, Context], O]) -> Handler[P, O]:
        hints = typing.get_type_hints(function)
        names = list(inspect.signature(function).parameters)
        models = [hints.get(name) for name in (*names[:1], "return")]
        if len(names) != 2 or not all(inspect.isclass(each) and issubclass(each, BaseModel) for each in models):
            raise TypeError(
                f"{name}: write it as `def {function.__name__}(params: YourParams, ctx: Context) -> YourOutput`"
            )
        first = names[0]
        summary = inspect.cleandoc(function.__doc__ or "").split("\n", 1)[0]
        return Handler(
            name=name,
            function=function,
            params=hints[first],
            output=hints["return"],
            queue=queue,
            version=version,
            isolation=isolation,
            timeout_seconds=timeout_seconds,
            summary=summary,
        )

    return register
