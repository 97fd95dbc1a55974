"""Expressions: what they yield, what they refuse, and that they cannot blow up."""

from __future__ import annotations

import resource
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagmaster.dag.conditions import compile_comparison, compile_condition
from dagmaster.dag.expressions import compile_expression, compile_template
from dagmaster.dag.scope import DictScope
from dagmaster.errors import ExpressionFailed, ExpressionInvalid

SCOPE = DictScope(
    {"a": 3, "text": "abc", "empty": None, "list": [3, 1, 2], "on": True},
    {"n": {"items": [1, 2], "size_mb": 5, "deep": {"x-y": [{"k": "v"}]}}, "skipped": None, "a-b": {"v": 1}},
    item={"items": "the key", "row": 4},
    index=7,
    job_id="J1",
)


def value_of(template: Any) -> Any:
    return compile_template(template)(SCOPE)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("50 % { of } it", "50 % { of } it"),
        ("{{ inputs.a }}", 3),
        ("{{inputs['a']}}", 3),
        ("{{ inputs.list }}", [3, 1, 2]),
        ("{{ inputs.empty }}", None),
        ("{{ inputs.empty | default('', true) }}", ""),
        ("{{ inputs.gone | default(5) }}", 5),
        ("{{ inputs.gone is defined }}", False),
        ("{{ inputs.empty is none }}", True),
        ("{{ inputs.empty is not none and inputs.on }}", False),
        ("{{ item.items }}", "the key"),
        ("{{ item.row }}/{{ index }}", "4/7"),
        ("{{ job.id }}", "J1"),
        ("{{ nodes.n.output.items }}", [1, 2]),
        ("{{ nodes.n.output.items[-1] }}", 2),
        ("{{ nodes.n.output.deep['x-y'][0].k }}", "v"),
        ("{{ nodes['a-b'].output.v }}", 1),
        ("{{ nodes.skipped.output }}", None),
        ("{{ nodes.skipped.output.x.y | d('none') }}", "none"),
        ("{{ inputs.list[1:] }}", [1, 2]),
        ("{{ inputs.text[:2] }}", "ab"),
        ("{{ inputs.list[inputs.a - 1] }}", 2),
        ("v{{ inputs.a }}", "v3"),
        ("{{ inputs.a }}{{ inputs.empty }}", "3"),
        ("{{ inputs.on }} {{ [1, 'x'] }}", 'true [1, "x"]'),
        ("{{ 'a' ~ 1 ~ none ~ true }}", "a1true"),
        ("{{ 'a' if inputs.a > 2 else 'b' }}", "a"),
        ("{{ (1, 2) }}", [1, 2]),
        ("{{ {'k': [1, {'m': inputs.a}]} }}", {"k": [1, {"m": 3}]}),
        ("{{ 1 < inputs.a <= 3 }}", True),
        ("{{ 1 in inputs.list and 9 not in inputs.list }}", True),
        ("{{ inputs.text contains 'b' }}", True),
        ("{{ inputs.list not contains 9 }}", True),
        ("{{ not inputs.empty }}", True),
        ("{{ -inputs.a ** 2 }}", 9),
        ("{{ 7 // 2 + 7 % 2 - 1 / 2 }}", 3.5),
        ("{{ [1, 2] + [3] }}", [1, 2, 3]),
        ("{{ 'a' + 'b' }}", "ab"),
        ("{{ inputs.list | length }}{{ inputs.text | count }}", "33"),
        ("{{ '12' | int + '1.5' | float }}", 13.5),
        ("{{ 'x' | int(0) }}", 0),
        ("{{ 5 | string }}", "5"),
        ("{{ ' Ab ' | trim | lower }}{{ 'b' | upper }}", "abB"),
        ("{{ 2.567 | round(1) }}", 2.6),
        ("{{ 2.1 | round(0, 'ceil') }}", 3.0),
        ("{{ -3 | abs }}", 3),
        ("{{ (-3) | abs }}", 3),
        ("{{ inputs.list | first }}{{ inputs.list | last }}", "32"),
        ("{{ inputs.list | join('-') }}", "3-1-2"),
        ("{{ inputs.list | min }}{{ inputs.list | max }}{{ inputs.list | sum }}", "136"),
        ("{{ inputs.list | sort }}", [1, 2, 3]),
        ("{{ inputs.text | replace('b', 'x') }}", "axc"),
        ("{{ nodes.n.output.deep | tojson }}", '{"x-y": [{"k": "v"}]}'),
        ("{{ '}}' }}", "}}"),
        ("{{ '{{ inputs.a }}' }}", "{{ inputs.a }}"),
        ("line\n", "line\n"),
        ("{{ inputs.a }}\n", "3\n"),
    ],
)
def test_a_template_yields(text: str, value: Any) -> None:
    found = value_of(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["1e5", "None", "0x10", "[1,2]", "007", "true", "{{ inputs.a }}", "{% raw %}"])
def test_text_that_arrives_as_data_stays_text(text: str) -> None:
    assert compile_template("{{ inputs.x }}")(DictScope({"x": text})) == text


def test_objects_and_lists_are_resolved_item_by_item() -> None:
    given_params = {"a": "{{ inputs.a }}", "b": [{"c": "x{{ index }}"}, 1, None], "{{ k }}": True}
    assert value_of(given_params) == {"a": 3, "b": [{"c": "x7"}, 1, None], "{{ k }}": True}


@pytest.mark.parametrize(
    "text",
    [
        "{{ inputs.gone }}", "x{{ inputs.gone }}", "{{ inputs.a.b }}", "{{ inputs.gone + 1 }}", "{{ 'a' + 1 }}",
        "{{ 1 + true }}", "{{ 1 / 0 }}", "{{ 1 < 'a' }}", "{{ none < 1 }}", "{{ 'abc' | int }}", "{{ [] | first }}",
        "{{ 1 in 5 }}", "{{ 'x' if false }}", "{{ (-1) ** 0.5 }}", "{{ 1e308 * 10 }}", "{{ [1, 'a'] | sort }}",
        "{{ {1: 2} }}", "{{ nodes.skipped.output.x }}", "{{ inputs.list[9] }}", "{{ inputs.list[::0] }}",
    ],
)  # fmt: skip
def test_a_fault_at_run_time_is_a_failed_expression(text: str) -> None:
    with pytest.raises(ExpressionFailed):
        value_of(text)


BOMBS = [
    "'a' * 10**8", "'a' * 100000000", "[0] * 10**9", "'%200000000d' % 1", "'%200000000d' | format(1)",
    "9 ** 9 ** 9 ** 9", "10 ** 100000000", "2 ** 1000 * 2 ** 1000", "1e308 ** 10", "range(10 ** 7)",
    "'a'.ljust(10**9)", "'a'.__mul__(10**9)", "'{:>99999999}'.format(1)", "inputs.big ~ inputs.big", "inputs.big + inputs.big",
    "inputs.big | replace('a', 'aaaaaaaa')", "[inputs.big, inputs.big] | join(inputs.big)", "inputs.wide | join('')",
    "inputs.wide | tojson", "inputs.wide + inputs.wide", "inputs.wide | sort",
    "(" * 1000 + "1" + ")" * 1000, "[" * 300 + "]" * 300, "not " * 1000 + "1", "-" * 1000 + "1", "1" + " + 1" * 1000,
    "1 if 1 else " * 300 + "1", "inputs" + ".a" * 2000, "9" * 4000, "'x'" + " ~ 'x'" * 2000, "1e999",
    "{% for x in range(10**9) %}{% endfor %}", "inputs.big * 2", "99 | round(-100000000)", "inputs.deep == inputs.deep2",
]  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS, ids=range(len(BOMBS)))
def test_a_bomb_is_refused_quickly_and_without_memory(bomb: str) -> None:
    deep: Any = []
    deep2: Any = []
    for _ in range(5000):
        deep, deep2 = [deep], [deep2]
    scope = DictScope({"big": "a" * 250_000, "wide": list(range(100_001)), "deep": deep, "deep2": deep2})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    with pytest.raises((ExpressionFailed, ExpressionInvalid)):
        compile_template("{{ " + bomb + " }}")(scope)
    assert time.process_time() - start < 1, "a bomb costs hours or gigabytes, a refusal next to nothing"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024


def test_params_that_repeat_a_large_input_are_bounded() -> None:
    scope = DictScope({"big": "a" * 1_000_000})
    with pytest.raises(ExpressionFailed):
        compile_template({f"p{n}": "{{ inputs.big }}" for n in range(100)})(scope)


numbers = st.one_of(st.integers(-(10**6), 10**6), st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 3)))


@given(left=numbers, right=numbers, sign=st.sampled_from(["+", "-", "*", "/", "//", "%"]))
def test_arithmetic_is_that_of_python(left: float, right: float, sign: str) -> None:
    made = compile_expression(f"inputs.l {sign} inputs.r")
    scope = DictScope({"l": left, "r": right})
    if right == 0 and sign in ("/", "//", "%"):
        with pytest.raises(ExpressionFailed):
            made(scope)
        return
    expected = eval(f"l {sign} r", {}, {"l": left, "r": right})
    assert made(scope) == expected
    assert type(made(scope)) is type(expected)


@given(
    first=numbers, second=numbers, third=numbers, signs=st.lists(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
                                                                 min_size=2, max_size=2),
)  # fmt: skip
def test_chained_comparisons_are_those_of_python(first: float, second: float, third: float, signs: list[str]) -> None:
    text = f"inputs.a {signs[0]} inputs.b {signs[1]} inputs.c"
    values = {"a": first, "b": second, "c": third}
    expected = eval(text.replace("inputs.", ""), {}, values)
    assert compile_expression(text)(DictScope(values)) is expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(value=json_values)
def test_any_value_passes_through_one_expression_unchanged(value: Any) -> None:
    assert compile_template({"p": "{{ item }}"})(DictScope(item=value))["p"] is value


@given(text=st.text())
def test_any_text_as_a_template_is_literal_or_refused_by_its_own_error(text: str) -> None:
    try:
        found = compile_template(text)(DictScope())
    except (ExpressionInvalid, ExpressionFailed):
        assert "{" in text
        return
    assert "{{" in text or found == text


@pytest.mark.parametrize(
    ("field", "comparison", "truth"),
    [
        ("{{ inputs.a }}", "< 100", True), ("{{ inputs.a }}", "> 100", False), ("{{ inputs.a }}", "<= 3", True),
        ("{{ inputs.a }}", ">= 4", False), ("{{ inputs.a }}", "== 3", True), ("{{ inputs.a }}", "!= 3", False),
        ("{{ inputs.text }}", "== 'abc'", True), ("{{ inputs.text }}", "== abc", True), ("inputs.text", "!= x", True),
        ("{{ inputs.text }}", "in ['abc', 'b']", True), ("{{ inputs.text }}", "not in ['abc']", False),
        ("{{ inputs.text }}", "contains b", True), ("{{ inputs.list }}", "contains 2", True),
        ("{{ inputs.list }}", "not contains 2", False), ("{{ inputs.a }}", "> {{ nodes.n.output.size_mb }}", False),
        ("{{ inputs.a }}", "< nodes.n.output.size_mb", True), ("{{ inputs.a }}", "== -3", False),
        ("{{ inputs.a }}", "truthy", True), ("{{ inputs.a }}", "is_true", False), ("{{ inputs.on }}", "is_true", True),
        ("{{ inputs.empty }}", "not_empty", False), ("{{ inputs.empty }}", "falsy", True),
        ("{{ inputs.empty }}", "is_false", False), ("{{ inputs.empty }}", "is_empty", True),
        ("{{ inputs.a }}", "eq 3", True), ("{{ inputs.a }}", "ne 3", False), ("{{ inputs.a }}", "lt 4", True),
        ("{{ inputs.a }}", "lte 3", True), ("{{ inputs.a }}", "gt 3", False), ("{{ inputs.a }}", "gte 3", True),
        ("{{ inputs.a }}", "in [1, 3]", True), ("{{ inputs.a }}", "not_in [1, 3]", False),
        ("{{ inputs.text }}", "contains 'z'", False), ("{{ inputs.text }}", "not_contains z", True),
        ("{{ inputs.on }}", "== true", True), ("{{ inputs.empty }}", "== null", True), ("x: {{ 1 }}", "== 1", None),
        ("{{ inputs.a }}", "=> 3", None), ("{{ inputs.a }}", "<", None), ("{{ inputs.a }}", "truthy 3", None),
        ("{{ inputs.text }}", "== EPSG:4326", False),
    ],
)  # fmt: skip
def test_a_branch_compares_its_field(field: str, comparison: str, truth: bool | None) -> None:
    if truth is None:
        with pytest.raises(ExpressionInvalid):
            compile_comparison(field, comparison)
    else:
        assert compile_comparison(field, comparison)(SCOPE) is truth


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        ("{{ nodes.n.output.size_mb }} > 100", False), ("{{ nodes.n.output.size_mb > inputs.a }}", True),
        ("{{ inputs.a }} + 1 == 4 and not {{ inputs.empty }}", True), ("inputs.a == 3", True), ("true", True),
        ("({{ inputs.a }} > 1) and ({{ inputs.text }} == 'abc')", True), ("{{ 1 if inputs.on else 0 }} == 1", True),
    ],
)  # fmt: skip
def test_text_around_braces_is_one_expression(text: str, truth: bool) -> None:
    assert compile_condition(text)(SCOPE) is truth


@pytest.mark.parametrize(
    "text",
    ["'{{ inputs.text }}' == 'abc'", "{{ 1) or (1 }}", "{{ 1 }} {{ 2 }}", "{{ }} > 1", "{{ 1 }} >", "a {{ 1", ""],
)
def test_a_condition_cannot_be_pasted_together(text: str) -> None:
    with pytest.raises(ExpressionInvalid):
        compile_condition(text)


def test_data_in_a_condition_is_an_operand_and_never_text_of_it() -> None:
    made = compile_condition("{{ inputs.x }} == 'a'")
    assert made(DictScope({"x": "1 == 1 or 'a'"})) is False


def test_references_are_listed_for_the_check() -> None:
    made = compile_template({"a": "{{ nodes.n.output.x[0].y }}", "b": "{{ inputs.q }}-{{ item.z }}"})
    assert made.node_references == {"n"}
    assert made.input_references == {"q"}
    assert [found.text for found in made.references] == ["nodes.n.output.x.0.y", "inputs.q", "item.z"]
