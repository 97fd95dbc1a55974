"""What a fan-in makes of its children's outputs, taken one by one in the order of the items."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

LISTS = ("collect", "concat", "manifest")
"""Aggregations whose result is a list of items."""
INTEGER_MAX = 2**63 - 1
"""The largest integer that a result may hold, so that every reader of JSON can hold it too."""

PICKS: dict[str, Callable[[float, float], float]] = {
    "sum": lambda one, other: one + other,
    "min": min,
    "max": max,
}


@dataclass(slots=True)
class Gathering:
    """A fold over the children's outputs; what a list would hold is handed back, so that memory stays the caller's."""

    mode: str
    count: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    _value: Any = None

    def add(self, output: Any) -> list[Any]:
        """Take the next output; returns the items it adds to the list. Errors: ValueError when it does not fit."""
        self.count += 1
        match self.mode:
            case "collect" | "manifest":
                return [output]
            case "concat":
                return _list_of(output)
            case "sum" | "min" | "max":
                number = _number_of(output)
                self._value = number if self.count == 1 else PICKS[self.mode](self._value, number)
            case "first":
                self._value = output if self.count == 1 else self._value
            case "last":
                self._value = output
        return []

    def add_error(self, index: int, error: Any) -> None:
        """A child that the failure policy let fail."""
        self.errors.append({"index": index, "error": error})

    def result(self) -> dict[str, Any]:
        """The fan-in's output but for its list. Errors: ValueError for a number too large."""
        made: dict[str, Any] = {"count": self.count}
        match self.mode:
            case "sum":
                made["total"] = _storable(self._value or 0)
            case "first" | "last" | "min" | "max":
                made["result"] = self._value
        return made | ({"errors": self.errors} if self.errors else {})


def _storable(number: float) -> float:
    if math.isfinite(number) and abs(number) <= INTEGER_MAX:
        return number
    raise ValueError("the sum is too large for a number of 64 bits")


def _list_of(output: Any) -> list[Any]:
    if isinstance(output, dict) and len(lists := [value for value in output.values() if isinstance(value, list)]) == 1:
        return list(lists[0])
    if not isinstance(output, list):
        raise ValueError("concat needs lists, or objects with exactly one list")
    return output


def _number_of(output: Any) -> float:
    if isinstance(output, dict):
        numbers = [value for value in output.values() if isinstance(value, int | float) and not isinstance(value, bool)]
        if len(numbers) == 1:
            return numbers[0]
    if isinstance(output, bool) or not isinstance(output, int | float):
        raise ValueError("a number is needed, or an object with exactly one number")
    return output
