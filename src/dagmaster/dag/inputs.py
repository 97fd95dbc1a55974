"""What a submission gives against what the workflow declares: defaults, conversion, and every refusal at once."""

from __future__ import annotations

from typing import Any

from dagmaster.dag.definition import Definition
from dagmaster.dag.findings import listing, near_miss
from dagmaster.dag.input_values import DoesNotFit, fitted
from dagmaster.dag.model import Input, Items
from dagmaster.errors import InputInvalid, InputMissing, InputsInvalid, InputUnknown, Refused


def resolve_inputs(definition: Definition, given: dict[str, Any]) -> dict[str, Any]:
    """Every declared input with its value; an optional one that was not given is null.

    Raises one `Refused` for all problems together; `facts["problems"]` lists them.
    """
    strangers = sorted(set(given) - set(definition.inputs), key=str)
    refused: list[Refused] = [_unknown(name, definition) for name in strangers]
    found: dict[str, Any] = {}
    for name, declared in definition.inputs.items():
        value = given.get(name)
        if value is None and declared.has_default:
            value = declared.default
        if value is None and declared.is_required:
            refused.append(_missing(name, definition, declared))
        elif value is None:
            found[name] = None
        else:
            try:
                found[name] = fitted(value, declared)
            except DoesNotFit as problem:
                remedy = problem.remedy or _list_inputs(definition)
                refused.append(InputInvalid(name=name, problem=problem.problem, remedy=remedy))
    if refused:
        raise _together(refused, definition)
    return found


def input_schema(definition: Definition) -> dict[str, Any]:
    """The JSON Schema of a submission's inputs, for forms, the API and OGC process descriptions."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": definition.name,
        "type": "object",
        "properties": {name: _property(declared) for name, declared in definition.inputs.items()},
        "required": sorted(
            name for name, declared in definition.inputs.items() if declared.is_required and not declared.has_default
        ),
        "additionalProperties": False,
    }


def _property(declared: Input) -> dict[str, Any]:
    schema = _schema(declared)
    if declared.has_default:
        schema["default"] = declared.default
    elif not declared.is_required:
        schema["type"] = [declared.type, "null"]
        if "enum" in schema:
            schema["enum"] = [*schema["enum"], None]
    return schema


def _schema(declared: Items) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": declared.type}
    if declared.description:
        schema["description"] = declared.description
    for key in ("enum", "minimum", "maximum", "pattern", "format"):
        if (value := getattr(declared, key)) is not None:
            schema[key] = value
    if declared.items is not None:
        schema["items"] = _schema(declared.items)
    return schema


def _unknown(name: str, definition: Definition) -> InputUnknown:
    guess = near_miss(str(name), definition.inputs)
    remedy = f"Did you mean `{guess}`?" if guess else f"Its inputs are: {listing(definition.inputs)}."
    return InputUnknown(name=name, remedy=remedy)


def _missing(name: str, definition: Definition, declared: Input) -> InputMissing:
    what = f" ({declared.description})" if declared.description else ""
    return InputMissing(name=name, remedy=f"Give it: -i {name}=VALUE{what}")


def _list_inputs(definition: Definition) -> str:
    return f"dagmaster workflow show {definition.workflow_id} lists the inputs with their types."


def _together(refused: list[Refused], definition: Definition) -> Refused:
    """One error for all; a single problem keeps its own class."""
    problems = [
        {"name": error.facts["name"], "code": error.code, "message": error.message, "remedy": error.remedy}
        for error in refused
    ]
    if len(refused) == 1:
        refused[0].facts["problems"] = problems
        return refused[0]
    summary = " ".join(error.message for error in refused).rstrip(".")
    return InputsInvalid(count=len(refused), summary=summary, problems=problems, remedy=_list_inputs(definition))
