"""Reading definitions: every form of the language, and the stored document."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from dagmaster.dag.compile import compile_graph
from dagmaster.dag.definition import Definition, from_document, load
from dagmaster.dag.findings import Finding
from dagmaster.dag.graph import FailurePolicy, Graph, RetryPolicy
from dagmaster.dag.scope import DictScope
from dagmaster.errors import WorkflowInvalid

HEAD = "workflow_id: w\nnodes:\n  start: {type: start, next: a}\n  end: {type: end}\n"


def read(nodes: str, head: str = "") -> Definition:
    return load(f"{HEAD}{nodes}\n{head}", "w.yaml")


def graph(nodes: str, head: str = "") -> Graph:
    return compile_graph(read(nodes, head))


def refused(text: str) -> list[Finding]:
    with pytest.raises(WorkflowInvalid) as caught:
        load(text, "w.yaml")
    findings: list[Finding] = caught.value.facts["findings"]
    return findings


@pytest.mark.parametrize(("text", "number"), [("3", 3), ('"1.0"', 1), ("2.0", 2), ('"v4"', 4), ('"7"', 7)])
def test_versions_become_whole_numbers(text: str, number: int) -> None:
    found = load(f"{HEAD}  a: {{handler: echo, next: end}}\nversion: {text}", "w.yaml")
    assert found.version == number
    assert [warning.code for warning in found.warnings] == ([] if text == "3" else ["VERSION_NORMALISED"])


@pytest.mark.parametrize(
    ("form", "all_of", "any_of"),
    [
        ("depends_on: b", ["b"], []),
        ("depends_on: [b, c]", ["b", "c"], []),
        ("depends_on: {all_of: b}", ["b"], []),
        ("depends_on: {all_of: [b], any_of: c}", ["b"], ["c"]),
        ("depends_on: {any_of: [b, c]}", [], ["b", "c"]),
    ],
)
def test_depends_on_has_many_forms(form: str, all_of: list[str], any_of: list[str]) -> None:
    node = read(f"  a: {{handler: echo, next: end, {form}}}\n  b: {{handler: echo}}\n  c: {{handler: echo}}").nodes["a"]
    assert (node.depends_on.all_of, node.depends_on.any_of) == (all_of, any_of)


def test_edges_of_next_and_depends_on_add_up() -> None:
    made = graph(
        "  a: {handler: echo, next: [b, c, d]}\n  b: {handler: echo, next: d}\n  c: {handler: echo}\n"
        "  d: {handler: echo, depends_on: {all_of: [c], any_of: [b]}, next: end}"
    )
    node = made.nodes[made.by_id["d"]]
    assert [made.nodes[ordinal].id for ordinal in node.all_of] == ["a", "c"]
    assert [made.nodes[ordinal].id for ordinal in node.any_of] == ["b"], "an edge named in any_of is not also in all_of"


ROUTES = {
    "on_true and on_false": 'condition: "{{ inputs.x }} > 1", on_true: b, on_false: [c]',
    "mapping of booleans": 'condition: "{{ inputs.x > 1 }}", branches: {true: b, false: c}',
    "mapping of words": 'condition: "inputs.x > 1", branches: {"true": [b], "false": [c]}',
    "comparisons": 'condition_field: "{{ inputs.x }}", branches: [{condition: "> 1", next: b}, {default: true, next: c}]',
}


@pytest.mark.parametrize("form", ROUTES.values(), ids=ROUTES)
def test_a_conditional_has_three_forms(form: str) -> None:
    made = graph(
        f"  a: {{type: conditional, {form}}}\n  b: {{handler: echo, next: end}}\n  c: {{handler: echo, next: end}}",
        "inputs: {x: {type: integer}}",
    )
    node = made.nodes[made.by_id["a"]]
    assert [[made.nodes[target].id for target in branch.targets] for branch in node.branches] == [["b"], ["c"]]
    assert node.branches[1].test is None
    test = node.branches[0].test
    assert test is not None
    assert [bool(test(DictScope({"x": x}))) for x in (1, 2)] == [False, True]
    assert node.successors == (made.by_id["b"], made.by_id["c"])


def test_who_waits_for_a_conditional_outside_of_its_branches_always_goes_on() -> None:
    made = graph(
        "  a: {type: conditional, condition: inputs.x, on_true: b, on_false: c, next: d}\n  b: {handler: echo, next: end}\n"
        "  c: {handler: echo, next: end}\n  d: {handler: echo, next: end}\n  e: {handler: echo, depends_on: a, next: end}",
        "inputs: {x: {type: boolean}}",
    )
    for branch in made.nodes[made.by_id["a"]].branches:
        assert {made.nodes[target].id for target in branch.targets} > {"d", "e"}


def test_a_fan_out_gives_its_retries_to_its_children_and_its_children_to_the_fan_in() -> None:
    made = graph(
        '  a: {type: fan_out, source: "{{ inputs.x }}", retry: {max_attempts: 7, backoff: fixed}, max_parallel: 4,'
        " task: {handler: echo, retry: {backoff: linear}}, next: b}\n"
        '  b: {type: fan_in, aggregation: sum, failure_policy: {threshold: "5%"}, next: end}',
        "inputs: {x: {type: array}}\ndefaults: {retry: {max_attempts: 1, jitter: 0.5}, queue: q, timeout: 60}",
    )
    fan_out, fan_in = made.nodes[made.by_id["a"]], made.nodes[made.by_id["b"]]
    assert fan_out.task is not None
    assert fan_out.task.retry == RetryPolicy(retries_max=7, backoff="linear", jitter=0.5)
    assert (fan_out.task.queue, fan_out.task.timeout_seconds, fan_out.max_parallel) == ("q", 60, 4)
    assert (fan_out.fan_in, fan_in.fan_out, fan_in.aggregation) == (fan_in.ordinal, fan_out.ordinal, "sum")
    assert fan_out.failure_policy == FailurePolicy("threshold", share_max=0.05)


def test_retries_are_three_unless_something_else_is_said() -> None:
    made = graph("  a: {handler: echo, next: end}")
    task = made.nodes[made.by_id["a"]].task
    assert task is not None
    assert task.retry == RetryPolicy(3, "exponential", 5.0, 300.0)
    assert (task.queue, task.timeout_seconds, task.queue_timeout_seconds) == (None, None, None)


def test_when_and_condition_are_two_names_of_one_key_of_a_task() -> None:
    for key in ("when", "condition"):
        made = graph(
            f"  a: {{handler: echo, {key}: inputs.x, result: false, next: end}}", "inputs: {x: {type: boolean}}"
        )
        node = made.nodes[made.by_id["a"]]
        assert node.when is not None
        assert node.when(DictScope({"x": True})) is True
        assert node.in_result is False


def test_ordinals_put_every_node_behind_what_it_waits_for() -> None:
    made = graph("  a: {handler: echo, next: [z, b]}\n  z: {handler: echo, next: b}\n  b: {handler: echo, next: end}")
    assert [node.id for node in made.nodes] == ["start", "a", "z", "b", "end"]
    assert all(before < node.ordinal for node in made.nodes for before in node.all_of + node.any_of)
    assert made.by_id == {node.id: node.ordinal for node in made.nodes}


def test_the_digest_is_that_of_the_content_and_not_of_the_layout() -> None:
    one = read(
        "  a: {handler: echo, params: {x: 1, y: {b: [1.0], c: 2}}, next: end}",
        "inputs: {p: {default: 1, type: number}}",
    )
    two = load(
        "inputs:\n  p:\n    type: number\n    default: 1\nnodes:\n  end:\n    type: end\n  a:\n    next: [end]\n"
        "    type: task\n    # a comment\n    params: {y: {c: 2, b: [1]}, x: 1}\n    handler: 'echo'\n"
        "  start: {next: [a], type: start}\nversion: 1\nworkflow_id: w\n",
        "other.yaml",
    )
    assert one.digest == two.digest
    assert len(one.digest) == 64
    assert one.digest != read("  a: {handler: echo, params: {x: 2, y: {b: [1], c: 2}}, next: end}").digest


def test_the_stored_document_gives_the_same_definition_whatever_order_the_database_keeps() -> None:
    nodes = (
        "  b: {handler: echo, params: {n: null, t: '{{ inputs.x }}'}, next: d}\n  c: {handler: echo, next: end}\n"
        "  d: {type: fan_out, source: [1, 2], task: {handler: echo}, next: f}\n  f: {type: fan_in, next: end}\n"
        "inputs: {x: {type: integer, default: 3}, y: {required: false}}\nversion: '2.0'\n"
    )
    text = f"{HEAD}  a: {{type: conditional, {ROUTES['comparisons']}}}\n{nodes}"
    read_first = load(text, "w.yaml")
    for seed in range(5):
        again = from_document(shuffled(json.loads(json.dumps(read_first.document)), random.Random(seed)))
        assert again.document == read_first.document
        assert again.digest == read_first.digest
        assert [node.id for node in compile_graph(again).nodes] == [node.id for node in compile_graph(read_first).nodes]


def shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        keys = list(value)
        chance.shuffle(keys)
        return {key: shuffled(value[key], chance) for key in keys}
    return [shuffled(item, chance) for item in value] if isinstance(value, list) else value


def test_a_params_value_of_null_is_kept() -> None:
    node = read("  a: {handler: echo, params: {n: null}, next: end}").document["nodes"]["a"]
    assert node["params"] == {"n": None}


BROKEN = [
    ("workflow_id: w\nnods: {}", 2, "KEY_UNKNOWN", "write `nodes`"),
    ("workflow_id: w\nnodes: {a: {handlr: echo}}", 2, "KEY_UNKNOWN", "write `handler`"),
    ("workflow_id: w\nnodes:\n  a:\n    params: {}", 3, "KEY_MISSING", "add `handler`"),
    ("workflow_id: w\nnodes:\n  a: {type: tsak}", 3, "VALUE_INVALID", "write `task`"),
    ("workflow_id: w\nnodes:\n  _a: {type: start}", 3, "VALUE_INVALID", None),
    ("workflow_id: w\nnodes:\n  a: {type: gate}", 3, "NOT_YET_SUPPORTED", None),
    ("workflow_id: w\nnodes:\n  a: {type: workflow}", 3, "NOT_YET_SUPPORTED", None),
    ("workflow_id: w\nnodes: {a: {type: start}}\nschedule: x", 3, "NOT_YET_SUPPORTED", "remove `schedule`"),
    ("workflow_id: w\nnodes: {a: {type: start}}\nfinally: {}", 3, "NOT_YET_SUPPORTED", "remove `finally`"),
    ("workflow_id: w\nnodes: {a: {type: start}}\non_failure: {}", 3, "NOT_YET_SUPPORTED", "remove `on_failure`"),
    ("workflow_id: w\nnodes:\n  a:\n    handler: echo\n    retry: {max_attempts: 11}", 5, "VALUE_INVALID", None),
    ("workflow_id: w\nnodes:\n  a:\n    handler: echo\n    retry: {backof: fixed}", 5, "KEY_UNKNOWN", "write `backoff`"),
    ("workflow_id: w\nnodes:\n  a:\n    handler: echo\n    retry: {backoff: expo}", 5, "VALUE_INVALID", None),
    ("workflow_id: w\nnodes:\n  a:\n    handler: echo\n    timeout_seconds: 0", 5, "VALUE_INVALID", None),
    ("workflow_id: w\nnodes:\n  a:\n    handler: echo\n    timeout_seconds: '60'", 5, "VALUE_INVALID", None),
    ("workflow_id: w\nnodes:\n  a:\n    handler: echo\n    source: x", 5, "KEY_UNKNOWN", "remove `source`, or correct the type"),
    ("workflow_id: w\nnodes:\n  a:\n    type: end\n    next: b", 5, "KEY_UNKNOWN", "remove `next`, or correct the type"),
    ("workflow_id: w\nnodes:\n  a:\n    handler: '{{ inputs.x }}'", 4, "VALUE_INVALID", None),
    ("workflow_id: w\nnodes:\n  a:\n    handler: echo\n    next: [1]", 5, "VALUE_INVALID", None),
    ("workflow_id: w\ninputs: {a: {type: text}}\nnodes: {a: {type: start}}", 2, "VALUE_INVALID", None),
    ("workflow_id: w\ninputs: {a: {requird: true}}\nnodes: {a: {type: start}}", 2, "KEY_UNKNOWN", "write `required`"),
    ("workflow_id: w w\nnodes: {a: {type: start}}", 1, "VALUE_INVALID", None),
    ("workflow_id: " + "w" * 65 + "\nnodes: {a: {type: start}}", 1, "VALUE_INVALID", None),
    ("workflow_id: w\nversion: 0\nnodes: {a: {type: start}}", 2, "VALUE_INVALID", None),
    ("workflow_id: w\nis_active: yes\nnodes: {a: {type: start}}", 2, "VALUE_INVALID", None),
    ("workflow_id: w\nnodes: [a]", 2, "VALUE_INVALID", None),
    ("nodes: {a: {type: start}}", 1, "KEY_MISSING", "add `workflow_id`"),
    ("[a, b]", 1, "VALUE_INVALID", None),
    (
        "workflow_id: w\nnodes:\n  a:\n    type: conditional\n    condition_field: x\n    branches:\n      - {nxt: b, condition: '< 1'}",
        7, "KEY_UNKNOWN", "write `next`",
    ),
    (
        "workflow_id: w\nnodes:\n  a:\n    type: conditional\n    condition_field: x\n    branches:\n      - {next: b}",
        7, "BRANCH_INVALID", 'add condition: "< 100"',
    ),
    ("workflow_id: w\nnodes:\n  a:\n    type: fan_in\n    aggregation: colect", 5, "VALUE_INVALID", "write `collect`"),
    ("workflow_id: w\nnodes:\n  a:\n    type: fan_in\n    failure_policy: {threshold: '101%'}", 5, "VALUE_INVALID", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "code", "fix"), BROKEN)
def test_a_broken_form_names_its_line_and_its_mend(text: str, line: int, code: str, fix: str | None) -> None:
    found = [(finding.line, finding.code, finding.fix) for finding in refused(text)]
    assert (line, code, fix) in [(at, what, mend if fix is not None else None) for at, what, mend in found]


def test_all_faults_of_a_file_are_reported_together() -> None:
    found = refused("workflow_id: w\nnods: 1\nnodes:\n  a: {type: tsak}\n  b: {handlr: x}\n  c: {type: gate}\n")
    assert sorted(finding.line or 0 for finding in found) == [2, 4, 5, 6]


def test_bytes_that_are_not_utf_8_are_refused() -> None:
    with pytest.raises(WorkflowInvalid):
        load(b"workflow_id: \xff", "w.yaml")


def test_the_node_cache_is_announced_as_not_yet_there() -> None:
    found = read("  a: {handler: echo, cache: true, next: end}")
    assert [(warning.code, warning.severity) for warning in found.warnings] == [("NOT_YET_SUPPORTED", "warning")]
