"""From text to syntax tree: Jinja's own lexer and parser, with the bounds they lack and `contains` added.

Text outside of braces is literal; statements and comments are refused. In a condition the braces are operands
of ONE expression: each is parsed on its own first, so that what stands in them cannot reach around them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.parser import Parser

from dagmaster.errors import ExpressionInvalid

EXPRESSION_LENGTH_MAX = 4_096
TOKENS_MAX = 500
NESTING_MAX = 16
TEMPLATE_EXPRESSIONS_MAX = 200
SHOWN_MAX = 200

_ENVIRONMENT = Environment(keep_trailing_newline=True, autoescape=False)  # noqa: S701  # it only reads; nothing is rendered
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_COMPARISONS = frozenset({"eq", "ne", "lt", "lteq", "gt", "gteq"})
_OPENING, _CLOSING = frozenset("([{"), frozenset(")]}")


@dataclass(frozen=True, slots=True)
class Braced:
    """The text between `{{` and `}}`."""

    text: str


def shown(text: str) -> str:
    """An expression as it stands in a message."""
    text = " ".join(text.split())
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + "…"


def invalid(source: str, problem: str, *, remedy: str | None = None) -> ExpressionInvalid:
    return ExpressionInvalid(expression=shown(source), problem=problem, remedy=remedy)


def has_braces(text: str) -> bool:
    """Whether a text is more than literal."""
    return "{{" in text or "{%" in text or "{#" in text


def pieces(text: str) -> list[str | Braced]:
    """A template as literal texts and braced expressions."""
    found: list[str | Braced] = []
    inside: list[str] | None = None
    for _, kind, value in _tokens(text, None):
        if kind == "variable_begin":
            inside = []
        elif kind == "variable_end":
            found.append(Braced("".join(inside or []).strip()))
            inside = None
        elif inside is not None:
            inside.append(value)
        elif kind == "data":
            found.append(value)
        else:
            raise invalid(text, "only `{{ expression }}` is known, no statements and no comments")
    if inside is not None:
        raise invalid(text, "the braces are not closed", remedy="End the expression with `}}`.")
    if len(found) > TEMPLATE_EXPRESSIONS_MAX:
        raise invalid(text, f"a text holds at most {TEMPLATE_EXPRESSIONS_MAX} expressions")
    return found


def parse(text: str) -> nodes.Expr:
    """One expression without braces around it."""
    if not text.strip():
        raise invalid(text, "it is empty")
    if len(text) > EXPRESSION_LENGTH_MAX:
        raise invalid(text, f"it is longer than {EXPRESSION_LENGTH_MAX} characters")
    _bounded(text)
    try:
        parser = _Parser(_ENVIRONMENT, text, state="variable")
        found = parser.parse_tuple()
        if not parser.stream.eos:
            raise invalid(text, f"`{parser.stream.current.value}` was not expected after the expression")
    except TemplateSyntaxError as problem:
        raise invalid(text, str(problem.message)) from None
    except (RecursionError, ValueError) as problem:
        words = "it is nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise invalid(text, words) from None
    if not isinstance(found, nodes.Expr):
        raise invalid(text, "it is not an expression")
    return found


def parse_condition(text: str) -> nodes.Expr:
    """One expression in which braces, if there are any, are operands."""
    if not has_braces(text):
        return parse(text)
    found = pieces(text)
    for piece in found:
        if isinstance(piece, Braced):
            parse(piece.text)
        elif re.search(r"['\"]", _QUOTED.sub("", piece)):
            raise invalid(
                text, "braces stand in quotes, which would compare their text and not their value",
                remedy="Remove the quotes around the braces.",
            )  # fmt: skip
    return parse("".join(f"({piece.text})" if isinstance(piece, Braced) else piece for piece in found))


def _bounded(text: str) -> None:
    """Jinja's parser is recursive: how deep it can go is settled here, token by token."""
    count = depth = 0
    for _, kind, value in _tokens(text, "variable"):
        if kind == "whitespace":
            continue
        count += 1
        if kind == "operator":
            depth += (value in _OPENING) - (value in _CLOSING)
        if depth > NESTING_MAX:
            raise invalid(text, f"it is nested deeper than {NESTING_MAX} brackets")
        if count > TOKENS_MAX:
            raise invalid(text, f"it has more than {TOKENS_MAX} words and signs")


def _tokens(text: str, state: str | None) -> list[tuple[int, str, str]]:
    try:
        return list(_ENVIRONMENT.lexer.tokeniter(text, None, None, state))
    except TemplateSyntaxError as problem:
        raise invalid(text, str(problem.message)) from None


class _Parser(Parser):
    """Jinja's parser with the comparisons `contains` and `not contains`."""

    def parse_compare(self) -> nodes.Expr:
        lineno = self.stream.current.lineno
        left = self.parse_math1()
        operands: list[nodes.Operand] = []
        while (sign := self._comparison()) is not None:
            operands.append(nodes.Operand(sign, self.parse_math1()))
        return nodes.Compare(left, operands, lineno=lineno) if operands else left

    def _comparison(self) -> str | None:
        """Take the next comparison sign, if one follows."""
        current = self.stream.current
        if current.type in _COMPARISONS:
            next(self.stream)
            return current.type
        for word in ("in", "contains"):
            if self.stream.skip_if(f"name:{word}"):
                return word
            if current.test("name:not") and self.stream.look().test(f"name:{word}"):
                self.stream.skip(2)
                return f"not{word}"
        return None
