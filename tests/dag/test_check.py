"""The static check: one broken definition per fault, with its code and line, and sound ones without findings."""

from __future__ import annotations

from typing import Any

import pytest

from dagmaster.contract.handlers import HandlerSpec
from dagmaster.dag.check import check, require_sound
from dagmaster.dag.definition import from_document, load
from dagmaster.dag.findings import CODES, Finding, render
from dagmaster.errors import WorkflowInvalid

WINDOW = {"type": "object", "properties": {"row": {"type": "integer"}}, "additionalProperties": False}
SPECS = {
    "raster.inspect": HandlerSpec(
        name="raster.inspect",
        params_schema={
            "type": "object",
            "properties": {
                "path": {"type": "string"},
                "size": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
                "tier": {"$ref": "#/$defs/Tier"},
                "flags": {"type": "array", "items": {"type": "boolean"}},
            },
            "required": ["path"],
            "additionalProperties": False,
            "$defs": {"Tier": {"enum": ["analysis", "archive"]}},
        },
        output_schema={
            "type": "object",
            "properties": {
                "windows": {"type": "array", "items": {"$ref": "#/$defs/Window"}},
                "size_class": {"type": "string"},
                "extra": {"type": "object", "additionalProperties": True},
                "maybe": {"anyOf": [{"$ref": "#/$defs/Window"}, {"type": "null"}]},
            },
            "additionalProperties": False,
            "$defs": {"Window": WINDOW},
        },
    ),
    "echo": HandlerSpec(name="echo", params_schema={"type": "object", "additionalProperties": True}, output_schema={}),
}
HEAD = "workflow_id: w\ninputs: {x: {type: integer, default: 1}, items: {type: array}}\nnodes:\n  start: {type: start, next: a}\n"
END = "  end: {type: end}\n"
A = "  a: {handler: raster.inspect, params: {path: p}, next: b}\n"


def found_in(nodes: str, specs: Any = SPECS) -> list[Finding]:
    return check(load(HEAD + nodes + END, "w.yaml"), specs)


def b(params: str) -> str:
    return f"{A}  b: {{handler: echo, params: {{v: {params}}}, next: end}}\n"


def a(params: str) -> str:
    return f"  a:\n    handler: raster.inspect\n    params: {params}\n    next: end\n"


BROKEN = {
    "cycle": (A + "  b: {handler: echo, next: [c, end]}\n  c: {handler: echo, next: b}\n", "CYCLE", 6),
    "cycle to itself": (A + "  b: {handler: echo, next: [b, end]}\n", "CYCLE", 6),
    "unreachable": (A + "  b: {handler: echo, next: end}\n  c: {handler: echo, next: end}\n", "UNREACHABLE", 7),
    "dead end": (A + "  b: {handler: echo, next: end}\n  c: {handler: echo, depends_on: a}\n", "DEAD_END", 7),
    "unknown target": (A.replace("next: b", "next: edn"), "NODE_UNKNOWN", 5),
    "unknown predecessor": (A + "  b: {handler: echo, depends_on: {any_of: [aa]}, next: end}\n", "NODE_UNKNOWN", 6),
    "unknown handler": (a("{path: p}").replace("raster.inspect", "raster.inspct"), "HANDLER_UNKNOWN", 6),
    "unknown param": (a("{path: p, siz: 1}"), "PARAM_UNKNOWN", 7),
    "missing param": (a("{size: 1}"), "PARAM_MISSING", 7),
    "wrong type": (a("{path: 5}"), "PARAM_INVALID", 7),
    "out of bounds": (a("{path: p, size: '0'}"), "PARAM_INVALID", 7),
    "not a number": (a("{path: p, size: many}"), "PARAM_INVALID", 7),
    "not in enum": (a("{path: p, tier: analisys}"), "PARAM_INVALID", 7),
    "wrong item": (a("{path: p, flags: [true, 3]}"), "PARAM_INVALID", 7),
    "unknown node": (b("'{{ nodes.aa.output.windows }}'"), "REFERENCE_UNKNOWN", 6),
    "not upstream": (b("'{{ nodes.end.output }}'"), "REFERENCE_NOT_UPSTREAM", 6),
    "itself": (b("'{{ nodes.b.output }}'"), "REFERENCE_NOT_UPSTREAM", 6),
    "undeclared output": (b("'{{ nodes.a.output.window }}'"), "REFERENCE_UNKNOWN", 6),
    "undeclared deep": (b("'{{ nodes.a.output.windows[0].col }}'"), "REFERENCE_UNKNOWN", 6),
    "undeclared in a union": (b("'{{ nodes.a.output.maybe.col }}'"), "REFERENCE_UNKNOWN", 6),
    "key of a text": (b("'{{ nodes.a.output.size_class.x }}'"), "REFERENCE_UNKNOWN", 6),
    "output of start": (b("'{{ nodes.start.output.x }}'"), "REFERENCE_UNKNOWN", 6),
    "unknown input": (b("'{{ inputs.xx }}'"), "REFERENCE_UNKNOWN", 6),
    "item outside": (b("'{{ item }}'"), "ITEM_OUTSIDE_FAN_OUT", 6),
    "index outside": (b("{deep: ['{{ index }}']}"), "ITEM_OUTSIDE_FAN_OUT", 6),
    "syntax": (b("'{{ inputs.x + }}'"), "EXPRESSION_INVALID", 6),
    "call": (b("'{{ inputs.items() }}'"), "EXPRESSION_INVALID", 6),
    "statement": (b("'{% if 1 %}{% endif %}'"), "EXPRESSION_INVALID", 6),
    "bad when": (A + "  b: {handler: echo, when: 'x y', next: end}\n", "EXPRESSION_INVALID", 6),
    "fan_in alone": (A + "  b: {type: fan_in, next: end}\n", "FAN_IN_WITHOUT_FAN_OUT", 6),
    "source is no list": (
        A + "  b: {type: fan_out, source: '{{ nodes.a.output.size_class }}', task: {handler: echo}, next: end}\n",
        "SOURCE_INVALID", 6,
    ),
    "source is an integer": (
        A + "  b: {type: fan_out, source: '{{ inputs.x }}', task: {handler: echo}, next: end}\n", "SOURCE_INVALID", 6,
    ),
    "gathered twice": (
        A + "  b: {type: fan_out, source: '{{ inputs.items }}', task: {handler: echo}, next: [c, d]}\n"
        "  c: {type: fan_in, next: end}\n  d: {type: fan_in, next: end}\n", "FAN_IN_TWICE", 8,
    ),
    "child's name": (
        A + "  b: {type: fan_out, source: '{{ inputs.items }}', task: {handler: echo}, next: [b__0, end]}\n"
        "  b__0: {handler: echo, next: end}\n", "VALUE_INVALID", 7,
    ),
    "no default": (
        A + "  b: {type: conditional, condition_field: inputs.x, branches: [{condition: '< 1', next: end}, "
        "{condition: '> 1', next: end}]}\n", "BRANCH_INVALID", 6,
    ),
    "one branch": (
        A + "  b: {type: conditional, condition_field: inputs.x, branches: [{default: true, next: end}]}\n", "BRANCH_INVALID", 6,
    ),
    "same names": (
        A + "  b: {type: conditional, condition_field: inputs.x, branches: [{name: q, condition: '< 1', next: end}, "
        "{name: q, default: true, next: end}]}\n", "BRANCH_INVALID", 6,
    ),
    "no condition": (A + "  b: {type: conditional, on_true: end}\n", "BRANCH_INVALID", 6),
    "mixed forms": (
        A + "  b: {type: conditional, condition: inputs.x, branches: [{default: true, next: end}]}\n", "BRANCH_INVALID", 6,
    ),
    "bad comparison": (
        A + "  b: {type: conditional, condition_field: inputs.x, branches: [{condition: '=> 1', next: end}, "
        "{default: true, next: end}]}\n", "EXPRESSION_INVALID", 6,
    ),
    "branch never taken": (
        A + "  b: {type: conditional, condition: '1 > 2', on_true: c, on_false: end}\n  c: {handler: echo, next: end}\n",
        "BRANCH_UNREACHABLE", 7,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "code", "line"), BROKEN.values(), ids=BROKEN)
def test_a_broken_definition_is_named_with_its_line(nodes: str, code: str, line: int) -> None:
    errors = [finding for finding in found_in(nodes) if finding.severity == "error"]
    assert (code, line) in [(finding.code, finding.line) for finding in errors]
    assert all(finding.fix and finding.code in CODES and finding.file == "w.yaml" for finding in errors)


def test_only_the_fault_itself_is_reported() -> None:
    for name in ("undeclared output", "unknown handler", "missing param", "call", "fan_in alone"):
        nodes, code, _ = BROKEN[name]
        assert [finding.code for finding in found_in(nodes)] == [code]


@pytest.mark.parametrize(
    "nodes",
    [
        b("'{{ nodes.a.output.windows[0].row }}'"),
        b("'{{ nodes.a.output.extra.anything.goes[3] }}'"),
        b("'{{ nodes.a.output.maybe.row | default(0) }}'"),
        a("{path: '{{ inputs.x }}', size: '3', tier: archive, flags: ['true', false]}"),
        a("{path: p, size: null}"),
        A + "  b: {type: fan_out, source: '{{ nodes.a.output.windows }}', task: {handler: raster.inspect, params: "
        "{path: '{{ item.row }}{{ index }}'}}, next: c}\n  c: {type: fan_in, next: d}\n"
        "  d: {handler: echo, params: {v: '{{ nodes.c.output.results[0].windows }}', n: '{{ nodes.b.output.fan_out_count }}'}, "
        "next: end}\n",
        A + "  b: {type: conditional, condition: '{{ nodes.a.output.size_class }} == big', on_true: c, on_false: d}\n".replace(
            "big", '"big"'
        ) + "  c: {handler: echo, next: e}\n  d: {handler: echo, next: e}\n"
        "  e: {handler: echo, params: {v: '{{ nodes.b.output.branch }}'}, depends_on: {any_of: [c, d]}, next: end}\n",
    ],
    ids=range(7),
)  # fmt: skip
def test_a_sound_definition_has_no_findings(nodes: str) -> None:
    assert [render(finding) for finding in found_in(nodes)] == []


def test_handlers_are_not_checked_without_their_announcements() -> None:
    assert found_in(BROKEN["unknown handler"][0], None) == []


def test_start_and_end_are_needed() -> None:
    found = check(load("workflow_id: w\nnodes: {a: {handler: echo}}", "w.yaml"))
    assert [finding.code for finding in found] == ["END_MISSING", "START_MISSING"]


def test_a_cycle_is_named_as_a_path() -> None:
    found = found_in(BROKEN["cycle"][0])
    assert [finding.message for finding in found] == ["the nodes wait for each other in a circle: b → c → b"]


def test_a_route_that_reaches_no_end_is_warned_of() -> None:
    nodes = A + "  b: {type: conditional, condition: inputs.x > 1, on_true: end}\n"
    assert [(one.code, one.severity, one.why) for one in found_in(nodes)] == [("END_UNCERTAIN", "warning", "b = false")]


def test_a_finding_reads_as_people_read_it() -> None:
    nodes = (
        A
        + '  b:\n    type: fan_out\n    source: "{{ nodes.a.output.window }}"\n    task: {handler: echo}\n    next: end\n'
    )
    assert render(found_in(nodes)[0]) == (
        "error[REFERENCE_UNKNOWN]: node `b` reads an output that `a` does not have\n"
        "  --> w.yaml:8:32\n"
        '   |  source: "{{ nodes.a.output.window }}"\n'
        "   |                             ^^^^^^ declared: extra, maybe, size_class, windows\n"
        "  fix: write `windows`                                             retry: does not help"
    )


def test_a_stored_definition_is_checked_without_its_file() -> None:
    stored = load(HEAD + BROKEN["undeclared output"][0] + END, "w.yaml").document
    found = check(from_document(stored), SPECS)
    assert [(one.code, one.line, one.where) for one in found] == [("REFERENCE_UNKNOWN", None, "node b")]
    assert "  where: node b" in render(found[0])


def test_what_is_not_sound_is_refused_with_all_findings() -> None:
    with pytest.raises(WorkflowInvalid) as caught:
        require_sound(load(HEAD + BROKEN["wrong type"][0] + END, "w.yaml"), SPECS)
    assert [finding.code for finding in caught.value.facts["findings"]] == ["PARAM_INVALID"]
    assert caught.value.where == "w.yaml:7:20"


@pytest.mark.parametrize(
    ("declared", "severity"),
    [
        ("{type: integer, default: x}", "error"), ("{type: string, pattern: '('}", "error"),
        ("{type: string, pattern: '(?=a)'}", "error"), ("{type: string, minimum: 3}", "error"),
        ("{type: integer, minimum: 3, maximum: 1}", "error"), ("{type: integer, enum: [a]}", "error"),
        ("{type: string, items: {type: string}}", "error"), ("{type: string, enum: [a], default: b}", "error"),
        ("{type: string, required: true, default: b}", "warning"),
    ],
)  # fmt: skip
def test_a_declaration_that_contradicts_itself_is_found(declared: str, severity: str) -> None:
    text = f"workflow_id: w\ninputs:\n  x: {declared}\nnodes: {{s: {{type: start, next: e}}, e: {{type: end}}}}"
    found = check(load(text, "w.yaml"))
    assert [(one.code, one.severity, one.line) for one in found] == [("INPUT_DECLARATION_INVALID", severity, 3)]


def test_many_conditionals_are_checked_in_bounded_time() -> None:
    chain = "".join(
        f"  c{n}: {{type: conditional, condition: inputs.x > {n}, on_true: c{n + 1}, on_false: [c{n + 1}, t{n}]}}\n"
        f"  t{n}: {{handler: echo, next: end}}\n" for n in range(150)
    )  # fmt: skip
    nodes = HEAD.replace("next: a", "next: c0") + chain + "  c150: {handler: echo, next: end}\n" + END
    assert check(load(nodes, "w.yaml")) == []
