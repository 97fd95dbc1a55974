"""Expressions of a workflow: that they are of the language, and that what they read is there when they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dagmaster.contract.handlers import HandlerSpec
from dagmaster.dag.conditions import compile_comparison, compile_condition
from dagmaster.dag.definition import Definition
from dagmaster.dag.edges import Edges, gathered
from dagmaster.dag.expressions import Compiled, Reference, compile_expression, compile_text
from dagmaster.dag.findings import Finding, listing, near_miss
from dagmaster.dag.model import ConditionalNode, FanInNode, FanOutNode, TaskNode, Work
from dagmaster.dag.schema_paths import Schema, gap, kinds_at
from dagmaster.dag.yaml_source import Path
from dagmaster.errors import ExpressionInvalid

FAN_OUT_OUTPUT: Schema = {
    "type": "object",
    "properties": {"fan_out_count": {"type": "integer"}, "child_node_ids": {}},
    "additionalProperties": False,
}
BRANCH_OUTPUT: Schema = {
    "type": "object",
    "properties": {"branch": {"type": "string"}},
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Written:
    """One expression as it stands in the workflow."""

    node: str
    path: Path
    compile: Callable[[], Compiled]
    in_task: bool = False
    """It belongs to the task of a fan_out, where `item` and `index` exist."""
    is_source: bool = False


def expression_findings(
    definition: Definition, edges: Edges, handlers: Mapping[str, HandlerSpec] | None
) -> Iterator[Finding]:
    """Every expression that is not of the language or reads what it cannot."""
    reader = _Reader(definition, edges, handlers)
    for written in _expressions(definition):
        try:
            made = written.compile()
        except ExpressionInvalid as problem:
            yield definition.finding(
                "EXPRESSION_INVALID",
                f"node `{written.node}`: {problem.facts['problem']}",
                written.path,
                node=written.node,
                why=f"in `{problem.facts['expression']}`",
                fix=problem.remedy,
            )
            continue
        yield from reader.references(written, made)


def _expressions(definition: Definition) -> Iterator[Written]:
    for name, node in definition.nodes.items():
        path: Path = ("nodes", name)
        if isinstance(node, TaskNode):
            yield from _params(name, path, node, in_task=False)
            if node.when is not None:
                yield Written(name, (*path, "when"), _later(compile_condition, node.when))
        elif isinstance(node, ConditionalNode):
            yield from _tests(name, path, node)
        elif isinstance(node, FanOutNode):
            yield from _params(name, (*path, "task"), node.task, in_task=True)
            if isinstance(node.source, str):
                yield Written(name, (*path, "source"), _later(compile_expression, node.source), is_source=True)
            else:
                yield from _texts(name, (*path, "source"), node.source, in_task=False)


def _params(name: str, path: Path, work: Work, *, in_task: bool) -> Iterator[Written]:
    yield from _texts(name, (*path, "params"), work.params, in_task=in_task)


def _texts(name: str, path: Path, value: Any, *, in_task: bool) -> Iterator[Written]:
    """Every text within a value."""
    if isinstance(value, str):
        yield Written(name, path, _later(compile_text, value), in_task)
    elif isinstance(value, dict | list):
        keys = value if isinstance(value, dict) else range(len(value))
        for key in keys:
            yield from _texts(name, (*path, key), value[key], in_task=in_task)


def _tests(name: str, path: Path, node: ConditionalNode) -> Iterator[Written]:
    if node.condition is not None:
        yield Written(name, (*path, "condition"), _later(compile_condition, node.condition))
    if node.condition_field is None:
        return
    field = node.condition_field
    yield Written(name, (*path, "condition_field"), _later(compile_condition, field))
    for number, branch in enumerate(node.branches or ()):
        if branch.condition is not None:
            place = (*path, "branches", number, "condition")
            yield Written(name, place, _comparison(field, branch.condition))


def _later(compiler: Callable[[str], Compiled], text: str) -> Callable[[], Compiled]:
    return lambda: compiler(text)


def _comparison(field: str, text: str) -> Callable[[], Compiled]:
    """The right side alone is looked at here; the field has its own turn."""

    def compile_it() -> Compiled:
        made = compile_comparison("0", text)
        compile_comparison(field, text)
        return made

    return compile_it


class _Reader:
    """What may be read where."""

    def __init__(self, definition: Definition, edges: Edges, handlers: Mapping[str, HandlerSpec] | None) -> None:
        self.definition = definition
        self.edges = edges
        self.handlers = handlers
        self._before: dict[str, set[str]] = {}

    def references(self, written: Written, made: Compiled) -> Iterator[Finding]:
        for reference in dict.fromkeys(made.references):
            if reference.root in ("item", "index"):
                if not written.in_task:
                    yield self.item_outside(written, reference)
            elif reference.root == "inputs":
                yield from self.input(written, reference)
            elif reference.node is not None:
                yield from self.node(written, reference, reference.node)
        if written.is_source:
            yield from self.source(written, made)

    def item_outside(self, written: Written, reference: Reference) -> Finding:
        return self.definition.finding(
            "ITEM_OUTSIDE_FAN_OUT",
            f"node `{written.node}` reads `{reference.root}` outside of a fan_out's task",
            written.path,
            needle=reference.root,
            node=written.node,
            fix="read it in the task of a fan_out only",
        )

    def input(self, written: Written, reference: Reference) -> Iterator[Finding]:
        name = reference.path[0] if reference.path else None
        if name is None or name in self.definition.inputs:
            return
        guess = near_miss(str(name), self.definition.inputs)
        yield self.unknown(
            written,
            f"inputs.{name}",
            str(name),
            f"node `{written.node}` reads an input that is not declared: `{name}`",
            f"declared: {listing(self.definition.inputs)}",
            f"write `{guess}`" if guess else f"declare `{name}` under inputs",
        )

    def node(self, written: Written, reference: Reference, other: str) -> Iterator[Finding]:
        if other not in self.definition.nodes:
            guess = near_miss(other, self.definition.nodes)
            yield self.unknown(
                written,
                f"nodes.{other}",
                other,
                f"node `{written.node}` reads the node `{other}`, which does not exist",
                f"nodes: {listing(self.definition.nodes)}",
                f"write `{guess}`" if guess else "name an existing node",
            )
        elif other not in self.before(written.node):
            message = f"node `{written.node}` reads `{other}`, which need not have finished by then"
            why = "it reads itself" if other == written.node else f"no route leads from `{other}` to `{written.node}`"
            yield self.definition.finding(
                "REFERENCE_NOT_UPSTREAM",
                message,
                written.path,
                needle=f"nodes.{other}",
                node=written.node,
                why=why,
                fix=f"add depends_on: {other}" if other != written.node else "read another node",
            )
        elif (schema := self.output_schema(other)) is not None and (lost := gap(schema, reference.path)) is not None:
            yield self.undeclared(written, reference, other, lost.number, lost.declared, lost.what)

    def undeclared(
        self, written: Written, reference: Reference, other: str, number: int, declared: tuple[str, ...], what: str
    ) -> Finding:
        step = str(reference.path[number])
        needle = Reference("nodes", other, reference.path[: number + 1]).text
        guess = near_miss(step, declared)
        holder = f"`{other}`" if number == 0 else f"`{reference.path[number - 1]}` of `{other}`"
        return self.unknown(
            written,
            needle,
            step,
            f"node `{written.node}` reads an output that {holder} does not have",
            f"declared: {listing(declared)}" if declared else f"it is {what}",
            f"write `{guess}`" if guess else "read one of the declared outputs",
        )

    def unknown(self, written: Written, needle: str, tail: str, message: str, why: str, fix: str) -> Finding:
        return self.definition.finding(
            "REFERENCE_UNKNOWN",
            message,
            written.path,
            needle=needle,
            tail=len(tail),
            node=written.node,
            why=why,
            fix=fix,
        )

    def source(self, written: Written, made: Compiled) -> Iterator[Finding]:
        """A source that is certain not to be a list."""
        problem = None
        if not made.references:
            problem = "it reads nothing"
        elif len(made.references) == 1 and made.source.strip("{} ") == made.references[0].text:
            kinds = self.kinds(made.references[0])
            if kinds and "array" not in kinds:
                problem = f"it is {' or '.join(sorted(kinds))}"
        node = self.definition.nodes[written.node]
        if problem is not None and isinstance(node, FanOutNode) and not str(node.source).strip("{ ").startswith("["):
            message = f"the source of fan_out `{written.node}` does not yield a list"
            yield self.definition.finding(
                "SOURCE_INVALID",
                message,
                written.path,
                node=written.node,
                why=problem,
                fix="name an output that is a list",
            )

    def kinds(self, reference: Reference) -> set[str] | None:
        if reference.root == "inputs" and len(reference.path) == 1:
            declared = self.definition.inputs.get(str(reference.path[0]))
            return {declared.type} if declared is not None else None
        schema = self.output_schema(reference.node) if reference.node in self.definition.nodes else None
        return kinds_at(schema, reference.path) if schema is not None else None

    def before(self, name: str) -> set[str]:
        """Every node that has finished, or was skipped, when `name` starts."""
        if name not in self._before:
            found: set[str] = set()
            waiting = list(self.edges.predecessors(name))
            while waiting:
                if (other := waiting.pop()) not in found:
                    found.add(other)
                    waiting.extend(self.edges.predecessors(other))
            self._before[name] = found - {name}
        return self._before[name]

    def output_schema(self, name: str | None) -> Schema | None:
        """What a node is known to put out; None when anything may come."""
        node = self.definition.nodes[name] if name is not None else None
        if isinstance(node, TaskNode):
            return self.handler_output(node.handler)
        if isinstance(node, ConditionalNode):
            return BRANCH_OUTPUT
        if isinstance(node, FanOutNode):
            return FAN_OUT_OUTPUT
        if isinstance(node, FanInNode) and name is not None:
            return self.fan_in_output(name, node)
        return {"type": "null"}

    def handler_output(self, handler: str) -> Schema | None:
        spec = (self.handlers or {}).get(handler)
        return spec.output_schema if spec is not None else None

    def fan_in_output(self, name: str, node: FanInNode) -> Schema:
        sources = gathered(self.definition, self.edges, name)
        child: Schema = {}
        if sources and isinstance(fan_out := self.definition.nodes[sources[0]], FanOutNode):
            child = self.handler_output(fan_out.task.handler) or {}
        kept = {key: value for key, value in child.items() if key != "$defs"}
        results = {"results": {"type": "array", "items": kept if node.aggregation == "collect" else {}}}
        by_mode: dict[str, Schema] = {
            "collect": results,
            "concat": results,
            "sum": {"total": {"type": "number"}},
            "first": {"result": kept},
            "last": {"result": kept},
            "min": {"result": {"type": ["number", "null"]}},
            "max": {"result": {"type": ["number", "null"]}},
        }
        properties = by_mode.get(node.aggregation, {}) | {"count": {"type": "integer"}, "errors": {"type": "array"}}
        return {
            "type": "object",
            "properties": properties,
            "additionalProperties": node.aggregation == "manifest",
            "$defs": child.get("$defs", {}),
        }
