"""Turns pydantic's account of a bad part into what an author needs: the place, the fact, and the near miss."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dagmaster.dag.findings import listing, near_miss
from dagmaster.dag.model import NODE_MODELS, NodeBase
from dagmaster.dag.yaml_source import Path

KINDS = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a part; `path` is relative to it."""

    path: Path
    code: str
    message: str
    why: str | None = None
    fix: str | None = None
    on_key: bool = False
    guess: str | None = None
    """The key that was probably meant."""


def explained(
    problem: ValidationError, model: type[BaseModel], data: Any, extra_keys: tuple[str, ...] = ()
) -> Iterator[Fault]:
    """Every fault of a failed validation, once; a misspelt key is not reported as missing too."""
    found: dict[Path, Fault] = {}
    for detail in problem.errors(include_url=False, include_context=True):
        path = _path_in(data, detail["loc"])
        if path not in found:
            found[path] = _fault(path, detail, model, extra_keys)
    meant = {(*fault.path[:-1], fault.guess) for fault in found.values() if fault.guess is not None}
    yield from (fault for fault in found.values() if fault.code != "KEY_MISSING" or fault.path not in meant)


def _path_in(data: Any, loc: tuple[int | str, ...]) -> Path:
    """The part of pydantic's location that exists in the data: the names of union members do not."""
    found: list[str | int] = []
    here = data
    for number, step in enumerate(loc):
        last = number == len(loc) - 1
        if isinstance(here, dict) and (step in here or (last and isinstance(step, str) and "[" not in step)):
            here = here.get(step)
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
        else:
            continue
        found.append(step)
    return tuple(found)


def _fault(path: Path, detail: ErrorDetails, model: type[BaseModel], extra_keys: tuple[str, ...]) -> Fault:
    kind, context = detail["type"], detail.get("ctx", {})
    name = ".".join(str(step) for step in path) or "it"
    if kind == "extra_forbidden":
        return _unknown_key(path, model, extra_keys)
    if kind == "missing":
        return Fault(path, "KEY_MISSING", f"`{name}` is missing", fix=f"add `{path[-1]}`" if path else None)
    if kind == "literal_error":
        expected = str(context.get("expected", ""))
        words = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
        guess = near_miss(str(detail["input"]), words)
        why, fix = "allowed: " + ", ".join(words), f"write `{guess}`" if guess else None
        return Fault(path, "VALUE_INVALID", f"`{name}` cannot be {_shown(detail['input'])}", why, fix)
    if kind in KINDS:
        return Fault(path, "VALUE_INVALID", f"`{name}` must be {KINDS[kind]}, not {_shown(detail['input'])}")
    words_of = detail["msg"][0].lower() + detail["msg"][1:]
    return Fault(path, "VALUE_INVALID", f"`{name}` is not allowed: {words_of}", why=f"it is {_shown(detail['input'])}")


def _unknown_key(path: Path, model: type[BaseModel], extra_keys: tuple[str, ...]) -> Fault:
    key = str(path[-1])
    holder = _model_at(model, path[:-1])
    known = sorted({*(holder.model_fields if holder else {}), *(extra_keys if len(path) == 1 else ())})
    owners = [kind for kind, node in NODE_MODELS.items() if key in node.model_fields]
    why = "known: " + listing(known, 20)
    if holder is not None and issubclass(holder, NodeBase) and owners:
        message = f"`{key}` does not belong to a node of this type; it belongs to {', '.join(owners)}"
        return Fault(path, "KEY_UNKNOWN", message, why, f"remove `{key}`, or correct the type", on_key=True)
    guess = near_miss(key, known)
    fix = f"write `{guess}`" if guess else f"remove `{key}`"
    return Fault(path, "KEY_UNKNOWN", f"there is no key `{key}` here", why, fix, True, guess)


def _model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """The model of the value at `path`, as far as the annotations tell."""
    here: type[BaseModel] | None = model
    for step in path:
        if isinstance(step, int):
            continue
        known = here.model_fields.get(step) if here is not None else None
        here = _model_in(known.annotation) if known is not None else None
    return here


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if typing.get_origin(annotation) is None and inspect.isclass(annotation):
        return annotation if issubclass(annotation, BaseModel) else None
    return next((found for part in typing.get_args(annotation) if (found := _model_in(part)) is not None), None)


def _shown(value: Any) -> str:
    text = "null" if value is None else f'"{value}"' if isinstance(value, str) else str(value)
    text = text.lower() if isinstance(value, bool) else text
    return text if len(text) <= 60 else text[:57] + "…"
