"""What expressions compute with: JSON values, an explicit nothing, and the bounds on what may be built."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, NoReturn

TEXT_LENGTH_MAX = 256 * 1024
"""Characters of any text that an expression builds. What it merely passes on is not built."""
ITEMS_MAX = 100_000
"""Items of any list that an expression builds or sorts."""
INTEGER_BITS_MAX = 1_024
PARAMS_SIZE_MAX = 16 * 1024 * 1024
"""Rough size in bytes of one resolved params object."""


class Fault(Exception):
    """An expression cannot be evaluated; the compiled expression turns it into `ExpressionFailed`."""


@dataclass(frozen=True, slots=True)
class Undefined:
    """The result of reading what is not there: only `default` and `is defined` may look at it."""

    what: str


def fail(problem: str) -> NoReturn:
    raise Fault(problem)


def defined(value: Any) -> Any:
    """The value itself; reading what is not there ends here."""
    if isinstance(value, Undefined):
        fail(f"{value.what} is not there")
    return value


def kind_of(value: Any) -> str:
    """The kind of a value in the words of the language."""
    if value is None:
        return "null"
    for kind, name in ((bool, "a boolean"), (int | float, "a number"), (str, "text"), (dict, "an object")):
        if isinstance(value, kind):
            return name
    return "a list" if isinstance(value, list) else type(value).__name__


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def number(value: Any, use: str) -> Any:
    """The value if it is a number; booleans are not."""
    if not is_number(value):
        fail(f"{use} needs numbers, not {kind_of(value)}")
    return value


def sound_number(value: Any) -> Any:
    """A result that JSON can carry and that cannot grow without bound."""
    if isinstance(value, complex) or (isinstance(value, float) and not math.isfinite(value)):
        fail("the result is not a finite number")
    if isinstance(value, int) and value.bit_length() > INTEGER_BITS_MAX:
        fail("the number is too large")
    return value


def short_text(length: int) -> None:
    """Refuse a text before it is built."""
    if length > TEXT_LENGTH_MAX:
        fail(f"the text would have {length} characters; at most {TEXT_LENGTH_MAX} may be built")


def short_list(length: int) -> None:
    if length > ITEMS_MAX:
        fail(f"the list has {length} items; at most {ITEMS_MAX} may be built or sorted")


def text_of(value: Any) -> str:
    """How a value reads inside a text: null is empty, truth values and structures read as in JSON."""
    value = defined(value)
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json_text(value)


def json_text(value: Any) -> str:
    if weight(value, TEXT_LENGTH_MAX) > TEXT_LENGTH_MAX:
        fail(f"the value is too large to be written as text of {TEXT_LENGTH_MAX} characters")
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    short_text(len(text))
    return text


def joined(pieces: list[str]) -> str:
    short_text(sum(len(piece) for piece in pieces))
    return "".join(pieces)


def weight(value: Any, enough: int) -> int:
    """Roughly the bytes of the value as JSON; the count stops once it is over `enough`."""
    total = 0
    waiting = [value]
    while waiting and total <= enough:
        here = waiting.pop()
        total += 8
        if isinstance(here, str):
            total += len(here)
        elif isinstance(here, dict):
            total += sum(len(key) for key in here if isinstance(key, str)) + 8 * len(here)
            waiting.extend(here.values())
        elif isinstance(here, list):
            total += len(here)
            waiting.extend(here)
    return total
