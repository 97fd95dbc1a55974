"""The JSON Schema of workflow files, for completion and checking in editors.

It describes the forms as they may be written; the models describe the one normal form. Where both say the same,
the models' own schema is taken over, so that a new key appears in editors by itself.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from dagmaster.dag.model import (
    BRANCHES_MAX,
    NODE_MODELS,
    ConditionalNode,
    Defaults,
    DependsOn,
    EndNode,
    FanInNode,
    FanOutNode,
    Head,
    Input,
    StartNode,
    TaskNode,
    Way,
    Work,
)

Schema = dict[str, Any]

TARGETS: Schema = {
    "description": "One node id or a list of them.",
    "anyOf": [{"$ref": "#/$defs/NodeId"}, {"type": "array", "items": {"$ref": "#/$defs/NodeId"}}],
}
NODE_ID: Schema = {"type": "string", "pattern": "^[A-Za-z0-9-][A-Za-z0-9_-]*$", "maxLength": 128}
CONDITION: Schema = {"type": ["string", "boolean"], "description": 'An expression, such as "{{ inputs.size }} > 100".'}
DEFINED: tuple[type[BaseModel], ...] = (
    StartNode, EndNode, TaskNode, ConditionalNode, FanOutNode, FanInNode, Way, Work, DependsOn, Defaults, Input,
)  # fmt: skip


def workflow_schema() -> dict[str, Any]:
    """The schema of a workflow file (JSON Schema 2020-12)."""
    definitions: Schema = {"NodeId": NODE_ID, "Targets": TARGETS}
    for model in DEFINED:
        made = model.model_json_schema()
        definitions |= made.pop("$defs", {})
        definitions[model.__name__] = made
    _written_forms(definitions)
    head = Head.model_json_schema()
    definitions |= {key: value for key, value in head.pop("$defs", {}).items() if key not in definitions}
    head["properties"]["version"] = {"anyOf": [head["properties"]["version"], {"type": ["string", "number"]}]}
    head["properties"]["inputs"] = _mapping("Input")
    head["properties"]["nodes"] = {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"$ref": "#/$defs/NodeId"},
        "additionalProperties": {"$ref": "#/$defs/Node"},
    }
    head["required"] = ["workflow_id", "nodes"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://dagmaster.invalid/schemas/workflow.json",
        **head,
        "title": "dagmaster workflow",
        "$defs": dict(sorted(definitions.items())),
    }


def _mapping(name: str) -> Schema:
    return {"type": ["object", "null"], "additionalProperties": {"$ref": f"#/$defs/{name}"}}


def _written_forms(definitions: Schema) -> None:
    """Open the normal form up to everything that is brought to it."""
    for model in NODE_MODELS.values():
        _node(definitions[model.__name__])
    definitions["TaskNode"]["required"] = ["handler"]
    definitions["TaskNode"]["properties"]["when"] = CONDITION
    definitions["TaskNode"]["properties"]["condition"] = CONDITION
    definitions["Defaults"]["properties"]["timeout"] = definitions["Defaults"]["properties"]["timeout_seconds"]
    for name in ("TaskNode", "Work"):
        definitions[name]["properties"]["params"] = {"type": ["object", "null"]}
    for key in ("all_of", "any_of"):
        definitions["DependsOn"]["properties"][key] = {"$ref": "#/$defs/Targets"}
    _conditional(definitions)
    definitions["Node"] = _by_type()


def _node(schema: Schema) -> None:
    properties = schema["properties"]
    for key in ("next", "on_true", "on_false"):
        if key in properties:
            properties[key] = {"$ref": "#/$defs/Targets"}
    depends = [{"$ref": "#/$defs/DependsOn"}, {"$ref": "#/$defs/Targets"}]
    properties["depends_on"] = {"anyOf": depends, "description": "Edges that this node declares from its own side."}


def _conditional(definitions: Schema) -> None:
    way = definitions["Way"]
    way["properties"]["next"] = {"$ref": "#/$defs/Targets"}
    way["properties"]["condition"] = {"type": ["string", "number", "boolean"], "description": 'Such as "< 100".'}
    way["required"] = ["next"]
    sides = {"true": {"$ref": "#/$defs/Targets"}, "false": {"$ref": "#/$defs/Targets"}}
    properties = definitions["ConditionalNode"]["properties"]
    properties["condition"] = CONDITION
    properties["branches"] = {
        "anyOf": [
            {"type": "array", "minItems": 2, "maxItems": BRANCHES_MAX, "items": {"$ref": "#/$defs/Way"}},
            {"type": "object", "properties": sides, "additionalProperties": False},
        ]
    }


def _by_type() -> Schema:
    """A node is of the kind its `type` says; without one it is a task."""
    rules = [
        {
            "if": {"properties": {"type": {"const": kind}}, "required": ["type"]},
            "then": {"$ref": f"#/$defs/{model.__name__}"},
        }
        for kind, model in NODE_MODELS.items()
    ]
    untyped = {"if": {"not": {"required": ["type"]}}, "then": {"$ref": "#/$defs/TaskNode"}}
    return {"type": "object", "properties": {"type": {"enum": list(NODE_MODELS)}}, "allOf": [*rules, untyped]}
