"""Declarations of inputs that contradict themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dagmaster.dag.definition import Definition
from dagmaster.dag.findings import Finding
from dagmaster.dag.input_values import DoesNotFit, fitted, pattern_problem
from dagmaster.dag.model import Input, Items
from dagmaster.dag.yaml_source import Path

NUMERIC = ("integer", "number")


def input_findings(definition: Definition) -> Iterator[Finding]:
    """Patterns that cannot be used, bounds on what has none, and defaults that do not fit."""
    for name, declared in definition.inputs.items():
        path: Path = ("inputs", name)
        sound = True
        for key, problem in _faults(declared):
            sound = False
            yield _finding(definition, name, (*path, *key), problem)
        if not sound:
            continue
        if declared.has_default:
            yield from _misfits(definition, name, (*path, "default"), declared.default, declared)
        if declared.has_default and declared.required:
            message = f"input `{name}` is required, so its default is used where it is left out"
            yield definition.finding(
                "INPUT_DECLARATION_INVALID",
                message,
                (*path, "required"),
                severity="warning",
                fix="remove `required: true`",
            )


def _faults(declared: Items) -> Iterator[tuple[Path, str]]:
    if declared.pattern is not None and declared.type != "string":
        yield ("pattern",), f"a pattern needs type string, not {declared.type}"
    elif declared.pattern is not None and (problem := pattern_problem(declared.pattern)) is not None:
        yield ("pattern",), f"the pattern cannot be used: {problem}"
    for key in ("minimum", "maximum"):
        if getattr(declared, key) is not None and declared.type not in NUMERIC:
            yield (key,), f"`{key}` needs type integer or number, not {declared.type}"
    if declared.minimum is not None and declared.maximum is not None and declared.minimum > declared.maximum:
        yield ("minimum",), "the minimum is above the maximum"
    if declared.items is not None and declared.type != "array":
        yield ("items",), f"`items` needs type array, not {declared.type}"
    for number, choice in enumerate(declared.enum or ()):
        try:
            fitted(choice, declared.model_copy(update={"enum": None}))
        except DoesNotFit as problem:
            yield ("enum", number), f"a choice does not fit: {problem.problem}"
    if declared.items is not None:
        yield from ((("items", *path), problem) for path, problem in _faults(declared.items))


def _misfits(definition: Definition, name: str, path: Path, value: Any, declared: Input) -> Iterator[Finding]:
    try:
        fitted(value, declared)
    except DoesNotFit as problem:
        yield _finding(definition, name, path, f"the default does not fit: {problem.problem}")


def _finding(definition: Definition, name: str, path: Path, problem: str) -> Finding:
    fix = f"correct `{path[-1]}`"
    return definition.finding("INPUT_DECLARATION_INVALID", f"input `{name}`: {problem}", path, fix=fix)
