"""Expressions compiled to closures over an allow-list of syntax.

Values are data: they are never parsed and never rendered, a dot reads a key and never an attribute, nothing can
be called, and there are no loops, so the work of an evaluation is bounded by the text of the expression and the
size of what it reads.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jinja2 import nodes

from dagmaster.dag.filters import FILTERS, SEE_UNDEFINED, TESTS
from dagmaster.dag.findings import listing, near_miss
from dagmaster.dag.graph import Scope
from dagmaster.dag.operators import ARITHMETIC, COMPARISONS, cut, get
from dagmaster.dag.syntax import Braced, has_braces, invalid, parse, parse_condition, pieces, shown
from dagmaster.dag.values import (
    PARAMS_SIZE_MAX,
    Fault,
    Undefined,
    defined,
    fail,
    joined,
    number,
    sound_number,
    text_of,
    weight,
)
from dagmaster.errors import ExpressionFailed

Evaluate = Callable[[Scope], Any]

ROOTS = ("inputs", "nodes", "item", "index", "job")
DEPTH_MAX = 60
"""Of the syntax tree: closures call each other as deep as this."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One name that an expression reads, with the keys behind it as far as they are written out."""

    root: str
    node: str | None
    path: tuple[str | int, ...]

    @property
    def text(self) -> str:
        """As an author would write it."""
        head = f"nodes.{self.node}.output" if self.node is not None else self.root
        return head + "".join(f".{step}" for step in self.path)


@dataclass(slots=True, eq=False)
class Compiled:
    """A compiled expression or template. Calling it raises `ExpressionFailed` for every fault."""

    source: str
    node_references: frozenset[str]
    references: tuple[Reference, ...]
    evaluate: Evaluate
    literal: bool = False
    """It reads nothing and yields the value as written."""

    @property
    def input_references(self) -> frozenset[str]:
        """Names of the inputs it reads."""
        return frozenset(str(found.path[0]) for found in self.references if found.root == "inputs" and found.path)

    def __call__(self, scope: Scope) -> Any:
        try:
            return defined(self.evaluate(scope))
        except Fault as problem:
            raise ExpressionFailed(expression=shown(self.source), problem=str(problem)) from None
        except (ArithmeticError, RecursionError, TypeError, ValueError) as problem:
            words = "division by zero" if isinstance(problem, ZeroDivisionError) else type(problem).__name__
            raise ExpressionFailed(expression=shown(self.source), problem=words) from None


def compile_expression(text: str) -> Compiled:
    """One expression, with or without braces around it."""
    return _compiled(text, parse_condition(text))


def compile_template(value: Any) -> Compiled:
    """A params value: texts are templates, objects and lists are resolved item by item, all else is literal."""
    evaluate, references, literal = _template(value)

    def bounded(scope: Scope) -> Any:
        found = evaluate(scope)
        if weight(found, PARAMS_SIZE_MAX) > PARAMS_SIZE_MAX:
            fail(f"the params are larger than {PARAMS_SIZE_MAX // 2**20} MiB; hand large data on by reference")
        return found

    source = value if isinstance(value, str) else shown(str(value))
    return _made(source, references, bounded if isinstance(value, dict | list) else evaluate, literal)


def compile_text(text: str) -> Compiled:
    """A text: exactly one expression keeps its native type, a mix becomes text, no braces means literal."""
    if not has_braces(text):
        return _made(text, (), lambda scope: text, literal=True)
    found = pieces(text)
    if len(found) == 1 and isinstance(found[0], Braced):
        return _compiled(text, parse(found[0].text))
    parts = [_compiled(text, parse(piece.text)) if isinstance(piece, Braced) else piece for piece in found]

    def mixed(scope: Scope) -> str:
        return joined([part if isinstance(part, str) else text_of(part.evaluate(scope)) for part in parts])

    references = tuple(found for part in parts if isinstance(part, Compiled) for found in part.references)
    return _made(text, references, mixed)


def _template(value: Any) -> tuple[Evaluate, tuple[Reference, ...], bool]:
    if isinstance(value, str):
        made = compile_text(value)
        return made.evaluate, made.references, made.literal
    if not isinstance(value, dict | list):
        return (lambda scope: value), (), True
    keys = list(value) if isinstance(value, dict) else range(len(value))
    below = [(key, *_template(value[key])) for key in keys]
    if all(literal for _, _, _, literal in below):
        return (lambda scope: value), (), True
    references = tuple(found for _, _, more, _ in below for found in more)
    parts = [(key, evaluate) for key, evaluate, _, _ in below]
    if isinstance(value, dict):
        return (lambda scope: {key: defined(evaluate(scope)) for key, evaluate in parts}), references, False
    return (lambda scope: [defined(evaluate(scope)) for _, evaluate in parts]), references, False


def _compiled(source: str, tree: nodes.Expr) -> Compiled:
    compiler = Compiler(source)
    return _made(source, (), compiler.expression(tree), references_of=compiler)


def _made(
    source: str,
    references: tuple[Reference, ...],
    evaluate: Evaluate,
    literal: bool = False,
    references_of: Compiler | None = None,
) -> Compiled:
    found = tuple(references_of.references) if references_of is not None else references
    return Compiled(source, frozenset(ref.node for ref in found if ref.node is not None), found, evaluate, literal)


class Compiler:
    """Turns a syntax tree into a closure and remembers every name it reads."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.references: list[Reference] = []
        self.depth = 0

    def expression(self, node: nodes.Node | None) -> Evaluate:
        """The closure of one node; syntax without a method here is not part of the language."""
        if node is None:
            return lambda scope: None
        kind = type(node).__name__
        method: Callable[[Any], Evaluate] | None = getattr(self, f"on_{kind.lower()}", None)
        if method is None and kind in ARITHMETIC:
            method = self.binary
        if method is None:
            raise invalid(self.source, _not_known(kind))
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise invalid(self.source, f"it is nested deeper than {DEPTH_MAX} levels")
        made = method(node)
        self.depth -= 1
        return made

    # --- literals ----------------------------------------------------------------------------------

    def on_const(self, node: nodes.Const) -> Evaluate:
        value = node.value
        if isinstance(value, float) and not math.isfinite(value):
            raise invalid(self.source, "the number is too large")
        if isinstance(value, int) and value.bit_length() > 1_024:
            raise invalid(self.source, "the number is too large")
        if isinstance(value, str) and any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in value):
            raise invalid(self.source, "the text holds a character that JSON and Postgres cannot store")
        return lambda scope: value

    def on_list(self, node: nodes.List | nodes.Tuple) -> Evaluate:
        items = [self.expression(item) for item in node.items]
        return lambda scope: [defined(item(scope)) for item in items]

    on_tuple = on_list

    def on_dict(self, node: nodes.Dict) -> Evaluate:
        pairs = [(self.expression(pair.key), self.expression(pair.value)) for pair in node.items]

        def build(scope: Scope) -> dict[str, Any]:
            return {_key(key(scope)): defined(value(scope)) for key, value in pairs}

        return build

    # --- names and keys ----------------------------------------------------------------------------

    def on_name(self, node: nodes.Name) -> Evaluate:
        return self.path(node, ())

    def on_getattr(self, node: nodes.Getattr) -> Evaluate:
        return self.step(node, node.node, node.attr)

    def on_getitem(self, node: nodes.Getitem) -> Evaluate:
        if isinstance(node.arg, nodes.Slice):
            return self.slice(node.node, node.arg)
        if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str | int):
            return self.step(node, node.node, node.arg.value)
        if _root(node.node) == "nodes" and _length(node.node) < 2:
            raise invalid(self.source, "the id of a node must be written out", remedy="Write nodes.ID.output.")
        value, key = self.expression(node.node), self.expression(node.arg)
        return lambda scope: get(value(scope), defined(key(scope)), "the computed key")

    def slice(self, of: nodes.Expr, bounds: nodes.Slice) -> Evaluate:
        value = self.expression(of)
        start, stop, step = (self.expression(bound) for bound in (bounds.start, bounds.stop, bounds.step))
        return lambda scope: cut(value(scope), start(scope), stop(scope), step(scope))

    def step(self, node: nodes.Expr, below: nodes.Expr, key: str | int) -> Evaluate:
        """A key written out: part of a known path if it starts at a name, else read from what stands before it."""
        steps: list[str | int] = [key]
        while isinstance(below, nodes.Getattr | nodes.Getitem):
            if isinstance(below, nodes.Getattr):
                steps.append(below.attr)
            elif isinstance(below.arg, nodes.Const) and isinstance(below.arg.value, str | int):
                steps.append(below.arg.value)
            else:
                break
            below = below.node
        if isinstance(below, nodes.Name):
            return self.path(below, tuple(reversed(steps)))
        value = self.expression(below)
        return _walk(value, tuple(reversed(steps)), "")

    def path(self, name: nodes.Name, steps: tuple[str | int, ...]) -> Evaluate:
        root = name.name
        if root not in ROOTS:
            guess = near_miss(root, ROOTS)
            raise invalid(
                self.source, f"there is no name `{root}`; known are {', '.join(ROOTS)}",
                remedy=f"Write `{guess}`." if guess else f"Put quotes around it if it is text: '{root}'.",
            )  # fmt: skip
        if root == "nodes":
            return self.node_path(steps)
        if root == "job" and steps != ("id",):
            raise invalid(self.source, "of the job only `job.id` can be read")
        self.references.append(Reference(root, None, steps))
        return _walk(_READERS[root], () if root == "job" else steps, root)

    def node_path(self, steps: tuple[str | int, ...]) -> Evaluate:
        if len(steps) < 2 or not isinstance(steps[0], str) or steps[1] != "output":
            raise invalid(self.source, "a node is read by its output", remedy="Write nodes.ID.output.KEY.")
        node_id = steps[0]
        self.references.append(Reference("nodes", node_id, steps[2:]))
        return _walk(lambda scope: scope.node_output(node_id), steps[2:], f"nodes.{node_id}.output")

    # --- operators ---------------------------------------------------------------------------------

    def binary(self, node: nodes.BinExpr) -> Evaluate:
        compute = ARITHMETIC[type(node).__name__]
        left, right = self.expression(node.left), self.expression(node.right)
        return lambda scope: compute(defined(left(scope)), defined(right(scope)))

    def on_neg(self, node: nodes.Neg) -> Evaluate:
        value = self.expression(node.node)
        return lambda scope: sound_number(-number(defined(value(scope)), "`-`"))

    def on_pos(self, node: nodes.Pos) -> Evaluate:
        value = self.expression(node.node)
        return lambda scope: number(defined(value(scope)), "`+`")

    def on_not(self, node: nodes.Not) -> Evaluate:
        value = self.expression(node.node)
        return lambda scope: not defined(value(scope))

    def on_and(self, node: nodes.And) -> Evaluate:
        left, right = self.expression(node.left), self.expression(node.right)
        return lambda scope: defined(left(scope)) and right(scope)

    def on_or(self, node: nodes.Or) -> Evaluate:
        left, right = self.expression(node.left), self.expression(node.right)
        return lambda scope: defined(left(scope)) or right(scope)

    def on_compare(self, node: nodes.Compare) -> Evaluate:
        first = self.expression(node.expr)
        rest = [(COMPARISONS[operand.op], self.expression(operand.expr)) for operand in node.ops]

        def compare(scope: Scope) -> bool:
            left = defined(first(scope))
            for test, operand in rest:
                right = defined(operand(scope))
                if not test(left, right):
                    return False
                left = right
            return True

        return compare

    def on_concat(self, node: nodes.Concat) -> Evaluate:
        parts = [self.expression(part) for part in node.nodes]
        return lambda scope: joined([text_of(part(scope)) for part in parts])

    def on_condexpr(self, node: nodes.CondExpr) -> Evaluate:
        test, then = self.expression(node.test), self.expression(node.expr1)
        if node.expr2 is None:
            nothing = Undefined("an `else`")
            return lambda scope: then(scope) if defined(test(scope)) else nothing
        other = self.expression(node.expr2)
        return lambda scope: then(scope) if defined(test(scope)) else other(scope)

    # --- filters and tests -------------------------------------------------------------------------

    def on_filter(self, node: nodes.Filter) -> Evaluate:
        function = FILTERS.get(node.name)
        if function is None:
            raise self.unknown("filter", node.name, FILTERS)
        if node.node is None or node.dyn_args is not None or node.dyn_kwargs is not None:
            raise invalid(self.source, f"the filter `{node.name}` is not used as a filter")
        value = self.expression(node.node)
        args = [self.expression(arg) for arg in node.args]
        named = {str(pair.key): self.expression(pair.value) for pair in node.kwargs}
        try:
            inspect.signature(function).bind(None, *args, **named)
        except TypeError as problem:
            raise invalid(self.source, f"the filter `{node.name}`: {problem}") from None
        ready: Callable[[Any], Any] = (lambda found: found) if node.name in SEE_UNDEFINED else defined

        def apply(scope: Scope) -> Any:
            more: dict[str, Any] = {key: defined(arg(scope)) for key, arg in named.items()}
            return function(ready(value(scope)), *[defined(arg(scope)) for arg in args], **more)

        return apply

    def on_test(self, node: nodes.Test) -> Evaluate:
        test = TESTS.get(node.name)
        if test is None:
            raise self.unknown("test", node.name, TESTS)
        if node.args or node.kwargs or node.dyn_args is not None or node.dyn_kwargs is not None:
            raise invalid(self.source, f"the test `is {node.name}` takes nothing behind it")
        value = self.expression(node.node)
        return lambda scope: test(value(scope))

    def unknown(self, noun: str, name: str, known: dict[str, Any]) -> Exception:
        guess = near_miss(name, known)
        remedy = f"Write `{guess}`." if guess else f"Known are {listing(sorted(known), 30)}."
        return invalid(self.source, f"there is no {noun} `{name}`", remedy=remedy)


_READERS: dict[str, Evaluate] = {
    "inputs": lambda scope: scope.inputs(),
    "item": lambda scope: scope.item(),
    "index": lambda scope: scope.index(),
    "job": lambda scope: scope.job_id,
}


def _walk(value: Evaluate, steps: tuple[str | int, ...], head: str) -> Evaluate:
    if not steps:
        return value
    texts = [head + "".join(f".{step}" for step in steps[: number + 1]) for number in range(len(steps))]
    pairs = list(zip(steps, texts, strict=True))

    def walk(scope: Scope) -> Any:
        found = value(scope)
        for step, text in pairs:
            found = get(found, step, text.lstrip("."))
        return found

    return walk


def _root(node: nodes.Node) -> str | None:
    while isinstance(node, nodes.Getattr | nodes.Getitem):
        node = node.node
    return node.name if isinstance(node, nodes.Name) else None


def _length(node: nodes.Node) -> int:
    count = 0
    while isinstance(node, nodes.Getattr | nodes.Getitem):
        node, count = node.node, count + 1
    return count


def _key(value: Any) -> str:
    if not isinstance(value, str):
        fail("the keys of an object are texts")
    return str(value)


def _not_known(kind: str) -> str:
    if kind == "Call":
        return "nothing can be called; a filter such as `| length` may do what you want"
    return f"{kind} is not part of the language"
