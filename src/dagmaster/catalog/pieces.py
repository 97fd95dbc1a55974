"""Puts statements together from named pieces of SQL, whose values are always parameters."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from psycopg.sql import SQL, Composable, Composed, Placeholder

from dagmaster.db.statements import statements

FOLDER = Path(__file__).parent / "sql"


@cache
def _text(name: str) -> SQL:
    lines = statements(FOLDER)[name].decode().splitlines()
    return SQL("\n".join(line for line in lines if not line.startswith("--")))


def piece(name: str, **parts: Composable) -> Composed:
    """A piece of SQL with other pieces in its braces."""
    return _text(name).format(**parts)


def joined(name: str, parts: list[Composed]) -> Composed:
    """Pieces joined by another that has a left and a right."""
    made = parts[0]
    for part in parts[1:]:
        made = piece(name, left=made, right=part)
    return made


def listed(parts: list[Composed]) -> Composed:
    """Pieces with commas between them."""
    return SQL(", ").join(parts)


class Values:
    """The parameters of a statement, named as they come."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}
        self._names: dict[tuple[type, str], str] = {}

    def add(self, value: Any) -> Placeholder:
        """A placeholder for the value; equal ones share it."""
        key = (type(value), repr(value))
        if key not in self._names:
            self._names[key] = f"v{len(self.given)}"
            self.given[self._names[key]] = value
        return Placeholder(self._names[key])
