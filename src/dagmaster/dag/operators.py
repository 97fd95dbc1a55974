"""The operators of expressions. Every one checks its operands and the size of its result before it computes.

Only numbers multiply and only numbers have remainders, so text can neither be repeated nor formatted into a bomb.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from dagmaster.dag.values import (
    INTEGER_BITS_MAX,
    Undefined,
    defined,
    fail,
    joined,
    kind_of,
    number,
    short_list,
    sound_number,
)

Binary = Callable[[Any, Any], Any]


def get(value: Any, key: Any, what: str) -> Any:
    """The item of an object or a list; never an attribute. What is not there is Undefined."""
    if isinstance(value, Undefined):
        return value
    if isinstance(value, dict) and isinstance(key, str):
        return value[key] if key in value else Undefined(what)
    if isinstance(value, list | str) and isinstance(key, int) and not isinstance(key, bool):
        return value[key] if -len(value) <= key < len(value) else Undefined(what)
    return Undefined(f"{what} (read from {kind_of(value)})")


def cut(value: Any, start: Any, stop: Any, step: Any) -> Any:
    """A slice of a list or a text."""
    value = defined(value)
    if not isinstance(value, list | str):
        fail(f"only a list or a text can be cut, not {kind_of(value)}")
    for bound in (start, stop, step):
        if bound is not None and (not isinstance(bound, int) or isinstance(bound, bool)):
            fail(f"a slice needs whole numbers, not {kind_of(bound)}")
    return value[start:stop:step]


def add(left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str):
        return joined([left, right])
    if isinstance(left, list) and isinstance(right, list):
        short_list(len(left) + len(right))
        return left + right
    if isinstance(left, str) or isinstance(right, str):
        fail(f"`+` cannot add {kind_of(left)} and {kind_of(right)}; join texts with `~`")
    return sound_number(number(left, "`+`") + number(right, "`+`"))


def power(left: Any, right: Any) -> Any:
    base, exponent = number(left, "`**`"), number(right, "`**`")
    if isinstance(base, int) and isinstance(exponent, int) and base.bit_length() * abs(exponent) > INTEGER_BITS_MAX:
        fail("the number is too large")
    return sound_number(base**exponent)


def arithmetic(sign: str, function: Binary) -> Binary:
    """A binary operator on two numbers."""

    def compute(left: Any, right: Any) -> Any:
        return sound_number(function(number(left, f"`{sign}`"), number(right, f"`{sign}`")))

    return compute


def ordering(sign: str, function: Binary) -> Binary:
    """A comparison of two numbers or two texts; there is no order between kinds."""

    def compare(left: Any, right: Any) -> Any:
        if not (isinstance(left, str) and isinstance(right, str)):
            if isinstance(left, str) or isinstance(right, str):
                fail(f"`{sign}` cannot compare {kind_of(left)} with {kind_of(right)}; convert with `| float`")
            number(left, f"`{sign}`")
            number(right, f"`{sign}`")
        return function(left, right)

    return compare


def within(left: Any, right: Any) -> bool:
    """`in`: an item of a list, a key of an object, a piece of a text."""
    if isinstance(right, str):
        if not isinstance(left, str):
            fail(f"`in` and `contains` look for text in a text, not for {kind_of(left)}")
        return left in right
    if isinstance(right, dict):
        return isinstance(left, str) and left in right
    if not isinstance(right, list):
        fail(f"`in` and `contains` look into a list, an object or a text, not into {kind_of(right)}")
    return left in right


ARITHMETIC: dict[str, Binary] = {
    "Add": add,
    "Sub": arithmetic("-", operator.sub),
    "Mul": arithmetic("*", operator.mul),
    "Div": arithmetic("/", operator.truediv),
    "FloorDiv": arithmetic("//", operator.floordiv),
    "Mod": arithmetic("%", operator.mod),
    "Pow": power,
}

COMPARISONS: dict[str, Binary] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": ordering("<", operator.lt),
    "lteq": ordering("<=", operator.le),
    "gt": ordering(">", operator.gt),
    "gteq": ordering(">=", operator.ge),
    "in": within,
    "notin": lambda left, right: not within(left, right),
    "contains": lambda left, right: within(right, left),
    "notcontains": lambda left, right: not within(right, left),
}
