"""Inputs: defaults, conversion of text, and every refusal at once."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagmaster.dag.definition import Definition, load
from dagmaster.dag.inputs import input_schema, resolve_inputs
from dagmaster.errors import InputInvalid, InputMissing, InputsInvalid, InputUnknown, Refused

NODES = "\nnodes: {s: {type: start, next: e}, e: {type: end}}"


def workflow(inputs: str) -> Definition:
    return load(f"workflow_id: w\ninputs: {inputs}{NODES}", "w.yaml")


def resolved(declared: str, value: Any) -> Any:
    return resolve_inputs(workflow(f"{{x: {declared}}}"), {"x": value})["x"]


@pytest.mark.parametrize(
    ("kind", "given_value", "value"),
    [
        ("string", "7", "7"), ("string", "None", "None"), ("string", "", ""), ("integer", 7, 7), ("integer", " 7 ", 7),
        ("integer", "-007", -7), ("integer", 7.0, 7), ("number", "1e3", 1000.0), ("number", "7", 7), ("number", 1.5, 1.5),
        ("boolean", "true", True), ("boolean", "1", True), ("boolean", "Off", False), ("boolean", False, False),
        ("array", "[1, 2]", [1, 2]), ("array", [], []), ("object", '{"a": 1}', {"a": 1}),
    ],
)  # fmt: skip
def test_text_is_converted_to_the_declared_type(kind: str, given_value: Any, value: Any) -> None:
    found = resolved(f"{{type: {kind}}}", given_value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        ("{type: string}", 7), ("{type: integer}", "7.5"), ("{type: integer}", "seven"), ("{type: integer}", True),
        ("{type: integer}", 7.5), ("{type: integer}", ""), ("{type: number}", "nan"), ("{type: number}", "1e999"),
        ("{type: number}", float("inf")), ("{type: boolean}", "maybe"), ("{type: boolean}", 2), ("{type: array}", "a,b"),
        ("{type: array}", "{}"), ("{type: array}", "[" * 100_000), ("{type: array}", "[NaN]"), ("{type: object}", "[]"),
        ("{type: string}", "a\0b"), ("{type: string}", "\ud800"), ("{type: array}", "[" * 70 + "]" * 70),
        ("{type: string, enum: [a, b]}", "c"), ("{type: integer, minimum: 3}", 2), ("{type: number, maximum: 3}", "3.1"),
        ("{type: string, pattern: '^[a-z]+$'}", "A"), ("{type: array, items: {type: integer}}", [1, "x"]),
        ("{type: integer, enum: [1]}", True),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(declared: str, value: Any) -> None:
    with pytest.raises(InputInvalid):
        resolved(declared, value)


def test_items_are_converted_too() -> None:
    assert resolved("{type: array, items: {type: integer}}", ["1", 2]) == [1, 2]


def test_a_pattern_cannot_be_made_to_run_for_ever() -> None:
    with pytest.raises(InputInvalid):
        resolved("{type: string, pattern: '^(a+)+$'}", "a" * 50_000 + "b")


def test_defaults_apply_and_optional_inputs_are_null() -> None:
    found = workflow("{a: {type: integer, default: 3}, b: {required: false}, c: {type: string}}")
    assert resolve_inputs(found, {"c": "x"}) == {"a": 3, "b": None, "c": "x"}
    assert resolve_inputs(found, {"c": "x", "a": None, "b": "y"}) == {"a": 3, "b": "y", "c": "x"}


@pytest.mark.parametrize(
    ("sent", "error"), [({}, InputMissing), ({"x": "a", "y": 1}, InputUnknown), ({"x": 1}, InputInvalid)]
)
def test_a_single_problem_keeps_its_own_class(sent: dict[str, Any], error: type[Refused]) -> None:
    with pytest.raises(error) as caught:
        resolve_inputs(workflow("{x: {type: string}}"), sent)
    assert len(caught.value.facts["problems"]) == 1


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(InputsInvalid) as caught:
        resolve_inputs(workflow("{blob_name: {type: string}, count: {type: integer}}"), {"blob_nam": "x", "count": "x"})
    problems = caught.value.facts["problems"]
    assert [(one["name"], one["code"]) for one in problems] == [
        ("blob_nam", "INPUT_UNKNOWN"), ("blob_name", "INPUT_MISSING"), ("count", "INPUT_INVALID"),
    ]  # fmt: skip
    assert problems[0]["remedy"] == "Did you mean `blob_name`?"
    assert all(one["name"] in caught.value.message for one in problems)


def test_the_schema_says_what_is_resolved() -> None:
    found = workflow("{a: {type: integer, default: 3, minimum: 1}, b: {required: false, enum: [x]}, c: {type: array}}")
    schema = input_schema(found)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(resolve_inputs(found, {"c": "[1]"}), schema)
    assert schema["required"] == ["c"]
    assert schema["additionalProperties"] is False


@given(value=st.integers(-(10**12), 10**12) | st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_the_way_through_text(value: float) -> None:
    assert resolved("{type: number}", json.dumps(value)) == value


@given(
    value=st.lists(
        st.integers() | st.booleans() | st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"))
    )
)
def test_lists_survive_the_way_through_text(value: list[Any]) -> None:
    assert resolved("{type: array}", json.dumps(value)) == value
