"""One input value against its declaration: converted if it came as text, refused if it does not fit."""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from typing import Annotated, Any

from pydantic import StringConstraints, TypeAdapter, ValidationError
from pydantic_core import SchemaError

from dagmaster.dag.findings import listing, near_miss
from dagmaster.dag.model import Items
from dagmaster.dag.values import is_number, kind_of

TEXT_LENGTH_MAX = 1024 * 1024
DEPTH_MAX = 64
TRUE_WORDS = frozenset({"true", "1", "yes", "on"})
FALSE_WORDS = frozenset({"false", "0", "no", "off"})
ARTICLES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
}
_INTEGER = re.compile(r"[+-]?[0-9]{1,300}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,300}(\.[0-9]{0,300})?|\.[0-9]{1,300})([eE][+-]?[0-9]{1,4})?")


class DoesNotFit(ValueError):
    """The value was refused; the text says why in the author's words."""

    def __init__(self, problem: str, remedy: str | None = None) -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(problem)


def fitted(value: Any, declared: Items) -> Any:
    """The value in its declared type, within its declared bounds."""
    found = _converted(value, declared.type)
    _storable(found, 1)
    if declared.enum is not None and not any(same(found, allowed) for allowed in declared.enum):
        guess = near_miss(str(found), [str(allowed) for allowed in declared.enum])
        allowed = listing(json.dumps(choice, ensure_ascii=False) for choice in declared.enum)
        raise DoesNotFit(f"it is not one of {allowed}", f"Did you mean {guess}?" if guess else None)
    _bounded(found, declared)
    if declared.items is not None and isinstance(found, list):
        found = [_item(item, number, declared.items) for number, item in enumerate(found)]
    return found


def same(left: Any, right: Any) -> bool:
    """Equality as in JSON, where true is not 1."""
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def pattern_problem(pattern: str) -> str | None:
    """Why a pattern cannot be used, if so. The engine is linear in the text, so it has no look-around."""
    try:
        _matcher(pattern)
    except SchemaError as problem:
        return str(problem).splitlines()[-1].strip().removeprefix("error: ")
    return None


def _item(value: Any, number: int, declared: Items) -> Any:
    try:
        return fitted(value, declared)
    except DoesNotFit as problem:
        raise DoesNotFit(f"item {number}: {problem.problem}", problem.remedy) from None


def _bounded(value: Any, declared: Items) -> None:
    if is_number(value):
        if declared.minimum is not None and value < declared.minimum:
            raise DoesNotFit(f"it is below {declared.minimum:g}")
        if declared.maximum is not None and value > declared.maximum:
            raise DoesNotFit(f"it is above {declared.maximum:g}")
    if isinstance(value, str) and declared.pattern is not None and not _matches(declared.pattern, value):
        raise DoesNotFit(f"it does not match the pattern {declared.pattern}")


def _matches(pattern: str, value: str) -> bool:
    try:
        _matcher(pattern).validate_python(value)
    except ValidationError:
        return False
    return True


@lru_cache(maxsize=256)
def _matcher(pattern: str) -> TypeAdapter[str]:
    return TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)])


def _converted(value: Any, wanted: str) -> Any:
    match wanted, value:
        case "string", str():
            return value
        case "integer", bool():
            pass
        case "integer", int():
            return value
        case "integer", float() if value.is_integer():
            return int(value)
        case "number", int() | float() if is_number(value):
            return value
        case "boolean", bool():
            return value
        case ("array", list()) | ("object", dict()):
            return value
        case _, str():
            return _from_text(value, wanted)
    raise DoesNotFit(f"it is {kind_of(value)}, not {ARTICLES[wanted]}")


def _from_text(text: str, wanted: str) -> Any:
    """What a command line or a form gave."""
    word = text.strip()
    if wanted == "integer" and _INTEGER.fullmatch(word):
        return int(word)
    if wanted == "number" and _NUMBER.fullmatch(word):
        return int(word) if _INTEGER.fullmatch(word) else float(word)
    if wanted == "boolean" and word.lower() in TRUE_WORDS | FALSE_WORDS:
        return word.lower() in TRUE_WORDS
    if wanted in ("array", "object"):
        return _from_json(text, wanted)
    raise DoesNotFit(f'the text "{text[:40]}" is not {ARTICLES[wanted]}')


def _from_json(text: str, wanted: str) -> Any:
    if len(text) > TEXT_LENGTH_MAX:
        raise DoesNotFit(f"the text is longer than {TEXT_LENGTH_MAX} characters")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise DoesNotFit(f"the text is not {ARTICLES[wanted]}", "Write it as JSON, for example [1, 2].") from None
    if not isinstance(found, list if wanted == "array" else dict):
        raise DoesNotFit(f"it is {kind_of(found)}, not {ARTICLES[wanted]}")
    return found


def _storable(value: Any, depth: int) -> None:
    """Strict JSON that Postgres can hold: finite numbers, no NUL, no half characters, bounded depth."""
    if depth > DEPTH_MAX:
        raise DoesNotFit(f"it is nested deeper than {DEPTH_MAX} levels")
    if isinstance(value, float) and not math.isfinite(value):
        raise DoesNotFit("it holds a number that is not finite")
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value)):
        raise DoesNotFit("it holds a character that cannot be stored")
    if isinstance(value, dict):
        for key, item in value.items():
            _storable(key, depth + 1)
            _storable(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _storable(item, depth + 1)
