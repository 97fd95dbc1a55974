"""The texts that a conditional compares with: signs, words, and bare words as text.

`condition_field` gives the left side; a branch says `< 100`, `in ['a', 'b']`, `contains x`, `not_empty` and so on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from jinja2 import nodes

from dagmaster.dag.expressions import ROOTS, Compiled, Compiler, compile_expression
from dagmaster.dag.findings import near_miss
from dagmaster.dag.graph import Scope
from dagmaster.dag.operators import COMPARISONS
from dagmaster.dag.syntax import has_braces, invalid, parse_condition
from dagmaster.dag.values import defined

compile_condition = compile_expression

WORDS: dict[str, Callable[[Any], bool]] = {
    "truthy": bool,
    "is_true": lambda value: value is True,
    "not_empty": lambda value: not _is_empty(value),
    "falsy": lambda value: not value,
    "is_false": lambda value: value is False,
    "is_empty": lambda value: _is_empty(value),
}
"""Comparisons that stand alone."""

SIGNS: dict[str, str] = {
    "<": "lt", "<=": "lteq", ">": "gt", ">=": "gteq", "==": "eq", "!=": "ne",
    "lt": "lt", "lte": "lteq", "gt": "gt", "gte": "gteq", "eq": "eq", "ne": "ne",
    "in": "in", "not in": "notin", "not_in": "notin",
    "contains": "contains", "not contains": "notcontains", "not_contains": "notcontains",
}  # fmt: skip
"""Comparisons with a right side, and the operator each stands for."""

_SIGN = re.compile(r"\s*(<=|>=|==|!=|<|>|not\s+in\b|not\s+contains\b|[a-z_]+\b)\s*(.*)", re.DOTALL)
_BARE = re.compile(r"[^\s'\"()\[\]{},|~]+")
_NUMBER = re.compile(r"[-+]?[0-9][0-9_.eE+-]*")
_CONSTANTS = frozenset({"true", "false", "none", "null", "True", "False", "None"})


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, str | list | dict) and not value)


def compile_comparison(field: str, comparison: str) -> Compiled:
    """The test of one branch: the value of `field` against the text of the branch."""
    source = f"{field} {comparison}"
    match = _SIGN.fullmatch(comparison)
    word = " ".join(match.group(1).split()) if match else comparison.strip()
    right_text = match.group(2).strip() if match else ""
    if word in WORDS and not right_text:
        return _worded(source, field, word)
    if word not in SIGNS:
        guess = near_miss(word, [*WORDS, *SIGNS])
        raise invalid(
            comparison, f"`{word}` is not a comparison",
            remedy=f"Write `{guess}`." if guess else "Start with one of " + " ".join([*SIGNS, *WORDS]) + ".",
        )  # fmt: skip
    if not right_text:
        raise invalid(comparison, f"`{word}` needs a value behind it")
    compiler = Compiler(source)
    left = compiler.expression(parse_condition(field))
    right = compiler.expression(_operand(right_text))
    compare = COMPARISONS[SIGNS[word]]
    return _made(source, compiler, lambda scope: compare(defined(left(scope)), defined(right(scope))))


def _worded(source: str, field: str, word: str) -> Compiled:
    compiler = Compiler(source)
    value = compiler.expression(parse_condition(field))
    test = WORDS[word]
    return _made(source, compiler, lambda scope: test(defined(value(scope))))


def _operand(text: str) -> nodes.Expr:
    """The right side: an expression; a bare word that names nothing is text."""
    if text == "null":
        return nodes.Const(None)
    if has_braces(text) or not _BARE.fullmatch(text) or text in _CONSTANTS or _NUMBER.fullmatch(text):
        return parse_condition(text)
    return parse_condition(text) if re.split(r"[.\[]", text)[0] in ROOTS else nodes.Const(text)


def _made(source: str, compiler: Compiler, evaluate: Callable[[Scope], Any]) -> Compiled:
    references = tuple(compiler.references)
    return Compiled(source, frozenset(ref.node for ref in references if ref.node is not None), references, evaluate)
