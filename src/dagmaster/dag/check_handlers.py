"""Handlers and their literal params against what the handlers announce."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dagmaster.contract.handlers import HandlerSpec
from dagmaster.dag.definition import Definition
from dagmaster.dag.findings import Finding, listing, near_miss
from dagmaster.dag.model import FanOutNode, TaskNode, Work
from dagmaster.dag.schema_paths import DYNAMIC, misfit, variants
from dagmaster.dag.syntax import has_braces
from dagmaster.dag.yaml_source import Path


def handler_findings(definition: Definition, handlers: Mapping[str, HandlerSpec] | None) -> Iterator[Finding]:
    """Unknown handlers, and params that are unknown, missing or of the wrong type."""
    if handlers is None:
        return
    for name, node in definition.nodes.items():
        path: Path = ("nodes", name)
        if isinstance(node, TaskNode):
            yield from _work(definition, name, path, node, handlers)
        elif isinstance(node, FanOutNode):
            yield from _work(definition, name, (*path, "task"), node.task, handlers)


def _work(
    definition: Definition, name: str, path: Path, work: Work, handlers: Mapping[str, HandlerSpec]
) -> Iterator[Finding]:
    spec = handlers.get(work.handler)
    if spec is not None:
        yield from _params(definition, name, path, work, spec)
        return
    guess = near_miss(work.handler, handlers)
    yield definition.finding(
        "HANDLER_UNKNOWN",
        f"node `{name}` names the handler `{work.handler}`, which does not exist",
        (*path, "handler"),
        node=name,
        why="known: " + listing(sorted(handlers)),
        fix=f"write `{guess}`" if guess else "dagmaster handlers",
    )


def _params(definition: Definition, name: str, path: Path, work: Work, spec: HandlerSpec) -> Iterator[Finding]:
    schema = variants(spec.params_schema, spec.params_schema)[0]
    properties = schema.get("properties", {})
    more = schema.get("additionalProperties", not properties)
    place: Path = (*path, "params")
    for key, value in work.params.items():
        if key not in properties and more is False:
            guess = near_miss(key, properties)
            yield definition.finding(
                "PARAM_UNKNOWN",
                f"the handler `{spec.name}` takes no parameter `{key}`",
                (*place, key),
                on_key=True,
                node=name,
                why="declared: " + listing(properties),
                fix=f"write `{guess}`" if guess else f"remove `{key}`",
            )
            continue
        declared = properties.get(key, more if isinstance(more, dict) else {})
        if (problem := misfit(_literal(value), declared, spec.params_schema)) is not None:
            yield definition.finding(
                "PARAM_INVALID",
                f"the parameter `{key}` of `{spec.name}` does not fit: {problem}",
                (*place, key),
                node=name,
                fix=f"correct the value of `{key}`",
            )
    for key in schema.get("required", []):
        if key not in work.params:
            yield definition.finding(
                "PARAM_MISSING",
                f"node `{name}` does not give `{key}`, which the handler `{spec.name}` needs",
                place,
                on_key=True,
                node=name,
                fix=f"add `{key}` to params",
            )


def _literal(value: Any) -> Any:
    """The value with everything that is known only at run time replaced."""
    if isinstance(value, str):
        return DYNAMIC if has_braces(value) else value
    if isinstance(value, dict):
        return {key: _literal(item) for key, item in value.items()}
    return [_literal(item) for item in value] if isinstance(value, list) else value
