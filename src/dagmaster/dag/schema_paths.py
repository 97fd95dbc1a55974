"""Reads the JSON Schemas that handlers announce: what lies at a path, and whether a literal value fits."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from dagmaster.dag.findings import listing, near_miss
from dagmaster.dag.input_values import FALSE_WORDS, TRUE_WORDS, same
from dagmaster.dag.values import is_number, kind_of

Schema = dict[str, Any]
REFS_MAX = 32
"""References followed one after another; more is a circle."""
BOUNDS: tuple[tuple[str, str, Callable[[float, float], bool]], ...] = (
    ("minimum", "below", operator.ge),
    ("maximum", "above", operator.le),
    ("exclusiveMinimum", "not above", operator.gt),
    ("exclusiveMaximum", "not below", operator.lt),
)
_NUMERIC = re.compile(r"\s*[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?\s*")


class Dynamic:
    """Stands in a value for what is known only when the job runs; it fits everything."""


DYNAMIC = Dynamic()


@dataclass(frozen=True, slots=True)
class Gap:
    """A path ends where nothing is declared: `number` steps of it were found."""

    number: int
    declared: tuple[str, ...]
    what: str


def variants(schema: Any, root: Schema, depth: int = 0) -> list[Schema]:
    """The alternatives behind references, `anyOf` and `oneOf`; `allOf` is read as one object."""
    if not isinstance(schema, dict) or depth > REFS_MAX:
        return [{}]
    if isinstance(reference := schema.get("$ref"), str):
        return variants(_follow(reference, root), root, depth + 1)
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list):
            return [found for part in schema[key] for found in variants(part, root, depth + 1)]
    if isinstance(schema.get("allOf"), list):
        merged: Schema = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            for found in variants(part, root, depth + 1):
                properties = {**merged.get("properties", {}), **found.get("properties", {})}
                merged = found | merged | ({"properties": properties} if properties else {})
        return [merged]
    return [schema]


def _follow(reference: str, root: Schema) -> Any:
    here: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        here = here.get(step.replace("~1", "/").replace("~0", "~"), {}) if isinstance(here, dict) else {}
    return here


def gap(schema: Schema, path: tuple[str | int, ...]) -> Gap | None:
    """Where `path` leaves what the schema declares, if it does."""
    here = variants(schema, schema)
    for number, step in enumerate(path):
        below = [found for variant in here for found in _below(variant, step)]
        if not below:
            names = tuple(sorted({name for variant in here for name in variant.get("properties", {})}))
            kinds = sorted({str(variant.get("type", "value")) for variant in here} - {"null"})
            return Gap(number, names, " or ".join(kinds) or "null")
        here = [found for part in below for found in variants(part, schema)]
    return None


def _below(schema: Schema, step: str | int) -> Iterator[Any]:
    """The schemas of one step down; none if nothing can be there."""
    kinds = _types(schema)
    if isinstance(step, int):
        if kinds is None or "array" in kinds:
            prefix = schema.get("prefixItems", [])
            yield prefix[step] if 0 <= step < len(prefix) else schema.get("items", {})
        elif "string" in kinds:
            yield {"type": "string"}
        return
    if kinds is not None and "object" not in kinds:
        return
    properties = schema.get("properties", {})
    more = schema.get("additionalProperties", not properties)
    if step in properties:
        yield properties[step]
    elif more is not False:
        yield more if isinstance(more, dict) else {}


def _types(schema: Schema) -> set[str] | None:
    kind = schema.get("type")
    if kind is None:
        return {"object"} if "properties" in schema else None
    return set(kind) if isinstance(kind, list) else {str(kind)}


def kinds_at(schema: Schema, path: tuple[str | int, ...]) -> set[str] | None:
    """The JSON types that a value at `path` may have; None when anything may be there."""
    here = variants(schema, schema)
    for step in path:
        here = [found for variant in here for part in _below(variant, step) for found in variants(part, schema)]
    found: set[str] = set()
    for variant in here:
        kinds = _types(variant)
        if kinds is None:
            return None
        found |= kinds
    return found


def misfit(value: Any, schema: Any, root: Schema) -> str | None:
    """Why a literal cannot be what the schema declares; text that reads as a number or a truth value is converted."""
    options = variants(schema, root)
    problems = [_misfit(value, option, root) for option in options]
    if any(problem is None for problem in problems):
        return None
    if len(options) > 1:
        kinds = sorted({kind for option in options for kind in (_types(option) or ())} - {"null"})
        return problems[0] if len(kinds) < 2 else f"it is {kind_of(value)}, not {' or '.join(kinds)}"
    return problems[0]


def _misfit(value: Any, schema: Schema, root: Schema) -> str | None:
    if isinstance(value, Dynamic):
        return None
    value = _converted(value, _types(schema))
    if (kinds := _types(schema)) is not None and not any(_is(value, kind) for kind in kinds):
        return f"it is {kind_of(value)}, not {' or '.join(sorted(kinds))}"
    choices = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if choices is not None and not any(same(value, choice) for choice in choices):
        guess = near_miss(str(value), [str(choice) for choice in choices])
        return f"it is not one of {listing(str(choice) for choice in choices)}" + (f"; write {guess}" if guess else "")
    if is_number(value):
        return _outside(value, schema)
    if isinstance(value, list):
        found = (misfit(item, schema.get("items", {}), root) for item in value)
        return next((problem for problem in found if problem is not None), None)
    return _object_misfit(value, schema, root) if isinstance(value, dict) else None


def _converted(value: Any, kinds: set[str] | None) -> Any:
    if not isinstance(value, str) or kinds is None or "string" in kinds:
        return value
    if kinds & {"integer", "number"} and len(value) < 100 and _NUMERIC.fullmatch(value):
        number = float(value)
        return int(number) if number.is_integer() and abs(number) < 1e15 else number
    if "boolean" in kinds and value.strip().lower() in TRUE_WORDS | FALSE_WORDS:
        return value.strip().lower() in TRUE_WORDS
    return value


def _is(value: Any, kind: str) -> bool:
    match kind:
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return is_number(value) and float(value).is_integer()
        case "number":
            return is_number(value)
        case "string":
            return isinstance(value, str)
        case "array":
            return isinstance(value, list)
    return isinstance(value, dict)


def _outside(value: float, schema: Schema) -> str | None:
    for key, words, holds in BOUNDS:
        if key in schema and not holds(value, schema[key]):
            return f"it is {words} {schema[key]}"
    return None


def _object_misfit(value: dict[str, Any], schema: Schema, root: Schema) -> str | None:
    properties = schema.get("properties", {})
    for name in schema.get("required", []):
        if name not in value:
            return f"`{name}` is missing in it"
    for name, item in value.items():
        below = properties.get(name, schema.get("additionalProperties", {}))
        if below is False:
            return f"there is no `{name}` in it"
        if (problem := misfit(item, below, root)) is not None:
            return f"`{name}`: {problem}"
    return None
