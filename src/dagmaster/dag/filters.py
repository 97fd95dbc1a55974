"""The filters and tests of expressions: a short list, each with its bound. Nothing else can be applied.

A filter is a plain function whose parameters are those of the language; `inspect.signature` checks a use of it
when the expression is compiled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from dagmaster.dag.values import (
    TEXT_LENGTH_MAX,
    Undefined,
    defined,
    fail,
    is_number,
    json_text,
    kind_of,
    number,
    short_list,
    short_text,
    sound_number,
    text_of,
)

NUMBER_LENGTH_MAX = 400
DIGITS_MAX = 30


def default(value: Any, default_value: Any = "", boolean: Any = False) -> Any:
    """The value, or another where there is none; with `true`, also where it is empty, zero or null."""
    if isinstance(value, Undefined) or (boolean and not value):
        return default_value
    return value


def length(value: Any) -> int:
    if not isinstance(value, str | list | dict):
        fail(f"`length` counts a list, an object or a text, not {kind_of(value)}")
    return len(value)


_REQUIRED = Undefined("a default")


def integer(value: Any, default: Any = _REQUIRED) -> Any:
    """A whole number; unlike Jinja's, what does not convert is an error unless a default is given."""
    found = _number(value)
    if found is None:
        return _or(default, value, "a whole number")
    return sound_number(int(found))


def floating(value: Any, default: Any = _REQUIRED) -> Any:
    found = _number(value)
    return sound_number(float(found)) if found is not None else _or(default, value, "a number")


def _number(value: Any) -> int | float | None:
    if isinstance(value, bool) or is_number(value):
        return int(value) if isinstance(value, bool) else value
    if not isinstance(value, str) or len(value) > NUMBER_LENGTH_MAX or "_" in value:
        return None
    for convert in (int, float):
        try:
            found = convert(value.strip())
        except ValueError:
            continue
        return found if math.isfinite(found) else None
    return None


def _or(default: Any, value: Any, wanted: str) -> Any:
    if default is _REQUIRED:
        fail(f"{kind_of(value)} does not convert to {wanted}")
    return default


def lower(value: Any) -> str:
    return _text(value, "lower").lower()


def upper(value: Any) -> str:
    return _text(value, "upper").upper()


def trim(value: Any, chars: Any = None) -> str:
    return _text(value, "trim").strip(None if chars is None else _text(chars, "trim"))


def _text(value: Any, use: str) -> str:
    if not isinstance(value, str):
        fail(f"`{use}` needs text, not {kind_of(value)}")
    short_text(len(value))
    return value


def rounded(value: Any, precision: Any = 0, method: Any = "common") -> Any:
    found = number(value, "`round`")
    if not isinstance(precision, int) or abs(precision) > DIGITS_MAX:
        fail(f"`round` takes a whole precision of at most {DIGITS_MAX}")
    if method == "common":
        return sound_number(round(found, precision))
    if method not in ("floor", "ceil"):
        fail("`round` knows the methods common, floor and ceil")
    scale = 10.0**precision
    return sound_number((math.floor if method == "floor" else math.ceil)(found * scale) / scale)


def absolute(value: Any) -> Any:
    return abs(number(value, "`abs`"))


def first(value: Any) -> Any:
    return _items(value, "first", texts=True)[0] if value else Undefined("the first item of an empty list")


def last(value: Any) -> Any:
    return _items(value, "last", texts=True)[-1] if value else Undefined("the last item of an empty list")


def _items(value: Any, use: str, *, texts: bool = False) -> Any:
    if not isinstance(value, list) and not (texts and isinstance(value, str)):
        fail(f"`{use}` needs a list, not {kind_of(value)}")
    return value


def _comparable(value: Any, use: str) -> list[Any]:
    """Items of one kind, so that there is an order between them."""
    items: list[Any] = _items(value, use)
    if not all(is_number(item) for item in items) and not all(isinstance(item, str) for item in items):
        fail(f"`{use}` needs a list of numbers or a list of texts")
    return items


def minimum(value: Any) -> Any:
    return min(_comparable(value, "min")) if value else Undefined("the least of no items")


def maximum(value: Any) -> Any:
    return max(_comparable(value, "max")) if value else Undefined("the greatest of no items")


def total(value: Any) -> Any:
    return sound_number(sum(number(item, "`sum`") for item in _items(value, "sum")))


def ordered(value: Any, reverse: Any = False) -> list[Any]:
    short_list(length(_items(value, "sort")))
    return sorted(_comparable(value, "sort"), reverse=bool(reverse))


def join(value: Any, d: Any = "") -> str:
    between = _text(d, "join")
    pieces: list[str] = []
    room = TEXT_LENGTH_MAX
    for item in _items(value, "join"):
        pieces.append(text_of(item))
        room -= len(pieces[-1]) + len(between)
        if room + len(between) < 0:
            fail(f"the text would be longer than {TEXT_LENGTH_MAX} characters")
    return between.join(pieces)


def replace(s: Any, old: Any, new: Any) -> str:
    text, before, after = _text(s, "replace"), _text(old, "replace"), _text(new, "replace")
    if not before:
        fail("`replace` needs a text to look for")
    short_text(len(text) + text.count(before) * (len(after) - len(before)))
    return text.replace(before, after)


FILTERS: dict[str, Callable[..., Any]] = {
    "abs": absolute,
    "count": length,
    "d": default,
    "default": default,
    "first": first,
    "float": floating,
    "int": integer,
    "join": join,
    "last": last,
    "length": length,
    "lower": lower,
    "max": maximum,
    "min": minimum,
    "replace": replace,
    "round": rounded,
    "sort": ordered,
    "string": text_of,
    "sum": total,
    "tojson": json_text,
    "trim": trim,
    "upper": upper,
}

SEE_UNDEFINED = frozenset({"default", "d"})
"""Filters that may look at what is not there."""

TESTS: dict[str, Callable[[Any], bool]] = {
    "boolean": lambda value: isinstance(value, bool),
    "defined": lambda value: not isinstance(value, Undefined),
    "false": lambda value: defined(value) is False,
    "float": lambda value: isinstance(value, float),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "mapping": lambda value: isinstance(value, dict),
    "none": lambda value: defined(value) is None,
    "number": lambda value: is_number(value),
    "sequence": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "true": lambda value: defined(value) is True,
    "undefined": lambda value: isinstance(value, Undefined),
}
