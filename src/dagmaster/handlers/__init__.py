"""SHELF: one file per task kind. Members are loaded by name, when asked; listing them imports none."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from dagmaster.errors import HandlerUnknown
from dagmaster.handlers.base import Handler

BUNDLED = {
    "chunk_processor": "dagmaster.handlers.trial.chunk_processor",
    "echo": "dagmaster.handlers.trial.echo",
    "fail": "dagmaster.handlers.trial.fail",
    "flaky_echo": "dagmaster.handlers.trial.flaky_echo",
    "hello_world": "dagmaster.handlers.trial.hello_world",
    "multi_phase": "dagmaster.handlers.trial.multi_phase",
    "raster.blob_to_mount": "dagmaster.handlers.raster.blob_to_mount",
    "raster.create_cog": "dagmaster.handlers.raster.create_cog",
    "raster.stac_ensure_collection": "dagmaster.handlers.raster.stac_ensure_collection",
    "raster.stac_register_item": "dagmaster.handlers.raster.stac_register_item",
    "raster.stac_register_items": "dagmaster.handlers.raster.stac_register_items",
    "raster.validate": "dagmaster.handlers.raster.validate",
    "size_check": "dagmaster.handlers.trial.size_check",
    "sleep": "dagmaster.handlers.trial.sleep",
}
"""Where each bundled handler lives; its module holds it as `run`."""


def load(name: str) -> Handler[Any, Any]:
    """The handler of this name; imports its module and nothing else. Errors: HandlerUnknown."""
    module = BUNDLED.get(name)
    if module is None:
        raise HandlerUnknown(handler=name)
    found = import_module(module).run
    assert isinstance(found, Handler), f"{module}.run is not a handler"
    return found
