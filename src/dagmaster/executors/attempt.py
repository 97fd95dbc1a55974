"""Runs a handler for one attempt: params in, Output out, every fault an error object. Children and threads use it."""

from __future__ import annotations

import math
import resource
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from dagmaster.contract.handlers import Effect
from dagmaster.contract.messages import Task
from dagmaster.errors import (
    Cancelled,
    DagmasterError,
    DiskFull,
    HandlerError,
    HandlerOutputInvalid,
    OutOfMemory,
    ParamsInvalid,
    means_disk_full,
)
from dagmaster.executors.base import Outcome
from dagmaster.executors.limits import MIB
from dagmaster.handlers.base import Handler
from dagmaster.storages.base import Storage

OUTPUT_BYTES_MAX = 16 * 1024 * 1024


@dataclass
class AttemptContext:
    """The handler's view of the world (`handlers.base.Context`) around one attempt."""

    task: Task
    scratch: Path
    job_scratch: Path
    storage: Storage
    on_progress: Callable[[float, str], None]
    on_log: Callable[[str, dict[str, Any]], None]
    on_checkpoint: Callable[[int, dict[str, Any]], None]
    is_cancelled: Callable[[], bool]
    effects: list[Effect] = field(default_factory=list)

    @property
    def job_id(self) -> str:
        return self.task.job_id

    @property
    def node_id(self) -> str:
        return self.task.node_id

    @property
    def attempt(self) -> int:
        return self.task.attempt

    @property
    def attempt_token(self) -> str:
        return self.task.token

    def progress(self, percent: float, message: str = "") -> None:
        if self.is_cancelled():
            raise Cancelled
        self.on_progress(min(100.0, max(0.0, percent)), storable(message))

    def cancelled(self) -> bool:
        return self.is_cancelled()

    def log(self, message: str, **fields: Any) -> None:
        self.on_log(storable(message), storable(fields))

    def publish(self, effect: Effect) -> None:
        self.effects.append(effect)

    def checkpoint(self, phase: int, data: dict[str, Any]) -> None:
        _json_size(data)
        self.on_checkpoint(phase, data)

    def resume(self) -> tuple[int, dict[str, Any]]:
        saved = self.task.checkpoint
        return (int(saved["phase"]), dict(saved["data"])) if saved else (0, {})


def run_attempt(handler: Handler[Any, Any], task: Task, context: AttemptContext) -> Outcome:
    """Validate the params, call the handler, validate what it returns. Never raises."""
    try:
        output = handler(_params(handler, task), context)  # type: ignore[arg-type]  # a structural Context
        document = _output(handler, output)
        effects = tuple(effect.model_dump() for effect in context.effects)
        _json_size(effects)
        return Outcome(True, document, effects=effects)
    except BaseException as problem:  # noqa: BLE001  # a handler may raise anything, SystemExit too: it is the attempt's error
        return Outcome(False, error=storable(_error_of(problem)))


def _error_of(problem: BaseException) -> dict[str, Any]:
    if isinstance(problem, DagmasterError):
        return problem.as_dict()
    if isinstance(problem, MemoryError):
        return _out_of_memory().as_dict()
    if means_disk_full(problem):
        return DiskFull(where_full="the worker's disk", why=str(problem)).as_dict()
    # An error of no class of ours: said with its type, retried by default.
    return HandlerError(f"{type(problem).__name__}: {problem}", why=_raised_at(problem), retryable=True).as_dict()


def _raised_at(problem: BaseException) -> str | None:
    """The line of code that gave up."""
    frames = traceback.extract_tb(problem.__traceback__)
    return f"raised at {frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name}" if frames else None


def _out_of_memory() -> OutOfMemory:
    """With the limit that this process was born with; a thread of the worker has none of its own."""
    limit, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if limit == resource.RLIM_INFINITY:
        return OutOfMemory("The attempt needed more memory than there is.")
    return OutOfMemory(limit_mib=limit // MIB)


def _params(handler: Handler[Any, Any], task: Task) -> Any:
    try:
        return handler.params.model_validate(task.params)
    except ValidationError as problem:
        raise ParamsInvalid(problem=_first(problem), where=f"node `{task.node_id}`") from problem


def _output(handler: Handler[Any, Any], output: Any) -> Any:
    """The output as strict JSON: no NaN, no NUL, no more than the limit."""
    if not isinstance(output, BaseModel) or not isinstance(output, handler.output):
        raise HandlerOutputInvalid(problem=f"{type(output).__name__} instead of {handler.output.__name__}")
    _refuse_unstorable(output.model_dump())  # as Python values: a JSON dump would turn NaN into null without a word
    try:
        document = output.model_dump(mode="json")
    except ValueError as problem:
        raise HandlerOutputInvalid(problem=str(problem)) from problem
    size = _json_size(document)
    if size > OUTPUT_BYTES_MAX:
        raise HandlerOutputInvalid(problem=f"{size} bytes, more than {OUTPUT_BYTES_MAX}")
    return document


def _json_size(value: Any) -> int:
    """The bytes of a value as strict JSON. Errors: HandlerOutputInvalid for what JSON or Postgres cannot hold."""
    _refuse_unstorable(value)
    try:
        return len(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))
    except TypeError as problem:
        raise HandlerOutputInvalid(problem=str(problem)) from problem


def storable(value: Any) -> Any:
    """The same for people to read: whatever JSON or Postgres cannot hold is replaced."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd").encode(errors="replace").decode()
    if isinstance(value, dict):
        return {storable(str(key)): storable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [storable(each) for each in value]
    try:
        orjson.dumps(value)
    except TypeError:
        return storable(str(value))
    return value


def _refuse_unstorable(value: Any) -> None:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, float) and not math.isfinite(item):
            raise HandlerOutputInvalid(problem=f"{item} is not a JSON number")
        if isinstance(item, str) and "\x00" in item:
            raise HandlerOutputInvalid(problem="a text holds a NUL character")
        if isinstance(item, dict):
            waiting.extend(item.values())
            waiting.extend(item.keys())
        elif isinstance(item, list | tuple | set):
            waiting.extend(item)


def _first(problem: ValidationError) -> str:
    faults = problem.errors(include_url=False)
    texts = [f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in faults[:3]]
    return "; ".join(texts) + (f" (and {len(faults) - 3} more)" if len(faults) > 3 else "")


def job_folder(scratch: Path, job_id: str) -> Path:
    """Where the attempts of a job keep what they hand to each other."""
    return scratch / job_id


def make_scratch(scratch: Path, task: Task) -> tuple[Path, Path]:
    """A new empty folder for the attempt, and the job's shared one."""
    shared = job_folder(scratch, task.job_id) / "shared"
    shared.mkdir(parents=True, exist_ok=True)
    own = tempfile.mkdtemp(prefix=f"{task.node_id}-{task.attempt}-", dir=shared.parent)
    return Path(own), shared
