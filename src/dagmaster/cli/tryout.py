"""`dagmaster handler run`: one handler in this process, without a database, as a child would run it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from pydantic import ValidationError

from dagmaster import handlers
from dagmaster.cli.refusals import ParamsRefused
from dagmaster.cli.talk import say
from dagmaster.contract.messages import Key, Task
from dagmaster.errors import HandlerUnknown
from dagmaster.executors.attempt import AttemptContext, run_attempt
from dagmaster.executors.base import Outcome
from dagmaster.executors.gdal import gdal_environment, registered_drivers
from dagmaster.handlers import outside
from dagmaster.handlers.base import Handler
from dagmaster.handlers.manifest import bundled_specs
from dagmaster.storages import open_storage

NODE = "tryout"


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of it."""

    handler: Handler[Any, Any]
    outcome: Outcome
    seconds: float

    def document(self, kept: Path | None) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "handler": self.handler.name,
            "version": self.handler.version,
            "status": "COMPLETED" if self.outcome.completed else "FAILED",
            "duration_seconds": round(self.seconds, 3),
            "output": self.outcome.output,
            "effects": list(self.outcome.effects),
            "error": self.outcome.error,
            "scratch": str(kept) if kept else None,
        }


def find(name: str, found: outside.Outside) -> Handler[Any, Any]:
    """Import the handler of this name, and no other. Errors: HandlerUnknown, HandlersBroken."""
    if name in found.homes:
        return outside.load(name, found.homes[name])
    if name in handlers.BUNDLED:
        if bundled_specs()[name].isolation == "process":
            os.environ.update(gdal_environment(registered_drivers()))  # GDAL reads it once, at its import
        return handlers.load(name)
    found.refuse_faults()
    raise HandlerUnknown(handler=name)


def typed(handler: Handler[Any, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs with lists, objects and null, which a command line can only write as JSON, read as such."""
    properties = handler.params.model_json_schema().get("properties", {})
    return {
        key: _read(value, properties.get(key, {})) if isinstance(value, str) else value for key, value in given.items()
    }


def check(handler: Handler[Any, Any], given: Mapping[str, Any]) -> None:
    """All that is wrong with the params, at once. Errors: ParamsRefused."""
    try:
        handler.params.model_validate(given)
    except ValidationError as problem:
        faults = problem.errors(include_url=False)
        said = [f"`{'.'.join(str(part) for part in fault['loc'])}`: {fault['msg']}" for fault in faults]
        takes = ", ".join(handler.params.model_json_schema().get("properties", {})) or "nothing"
        raise ParamsRefused(
            handler=handler.name,
            problem="; ".join(said),
            why=f"It takes: {takes}.",
            problems=[{"message": text} for text in said] if said[1:] else [],
        ) from problem


def attempt(handler: Handler[Any, Any], given: dict[str, Any], folder: Path, *, quiet: bool) -> Tried:
    """Run it below the folder; what it prints and how it gets on goes to stderr. Ctrl-C: KeyboardInterrupt."""
    scratch, shared = folder / "scratch", folder / "shared"
    scratch.mkdir()
    shared.mkdir()
    saved: dict[str, Any] = {}
    task = Task(
        job_id=NODE,
        key=Key(0),
        attempt=1,
        shard=0,
        node_id=NODE,
        handler=handler.name,
        queue=handler.queue,
        priority=0,
        params=given,
        timeout_seconds=handler.timeout_seconds,
        queued_at=datetime.now(UTC),
    )
    context = AttemptContext(
        task=task,
        scratch=scratch,
        job_scratch=shared,
        storage=open_storage(f"file:{folder / 'storage'}"),
        on_progress=lambda percent, message: None if quiet else say(f"{percent:5.1f} %  {message}".rstrip()),
        on_log=lambda message, fields: say(" ".join([message, *(f"{k}={v}" for k, v in fields.items())])),
        on_checkpoint=lambda phase, data: saved.update({str(phase): data}),
        is_cancelled=lambda: False,
    )
    interrupted = False

    def interrupt(*_: object) -> None:
        nonlocal interrupted
        interrupted = True  # an attempt turns whatever is raised into its error
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    began = monotonic()
    with contextlib.redirect_stdout(sys.stderr):
        outcome = run_attempt(handler, task, context)
    if interrupted:
        raise KeyboardInterrupt
    if saved:
        (folder / "checkpoints.json").write_text(json.dumps(saved, indent=1, default=str), "utf-8")
    return Tried(handler, outcome, monotonic() - began)


def _read(text: str, schema: Mapping[str, Any]) -> Any:
    """Text stays text where nothing but text is taken."""
    variants = schema.get("anyOf", [schema])
    types = {variant.get("type") for variant in variants} - {"null"}
    if types != {"string"} and (text == "null" or text[:1] in ("[", "{")):
        with contextlib.suppress(ValueError):
            return json.loads(text)
    return text
