"""Loads the named SQL statements of a room's `sql/` folder.

A file holds statements, each opened by `-- name: the_name` and a line that says what it is for.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


class Statements:
    """The statements of one folder, by name."""

    def __init__(self, folder: Path) -> None:
        self._texts: dict[str, bytes] = {}
        for file in sorted(folder.glob("*.sql")):
            parts = NAME.split(file.read_text("utf-8"))[1:]
            for name, text in zip(parts[::2], parts[1::2], strict=True):
                if name in self._texts:
                    raise ValueError(f"two statements are named {name}")
                self._texts[name] = text.strip().rstrip(";").encode()

    def __getitem__(self, name: str) -> bytes:
        return self._texts[name]

    def names(self) -> list[str]:
        """Every statement, for tests that look at all of them."""
        return sorted(self._texts)


@cache
def statements(folder: Path) -> Statements:
    """The statements below `folder`, read once."""
    return Statements(folder)


SQL = statements(Path(__file__).parent / "sql")
