"""What a command prints: data to stdout, talk to stderr; JSON as one document, or one per line."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TextIO

GAP = "  "
NOTE_WIDTH_MIN = 16
"""Where less is left for the last column of a table, its rows take two lines each."""
RIGHT = ("time", "attempt", "waiting", "running", "oldest", "workers", "slots")
"""Columns of numbers."""
COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "magenta": "35", "cyan": "36"}
STATUS_COLOURS = {
    "COMPLETED": "green",
    "RUNNING": "cyan",
    "WAITING": "cyan",
    "FAILED": "red",
    "CANCELLED": "magenta",
    "DISPATCHED": "yellow",
    "READY": "yellow",
    "PAUSED": "yellow",
    "SKIPPED": "dim",
    "PENDING": "dim",
}


class Cell(NamedTuple):
    """A cell of a table with its colour."""

    text: str
    colour: str = ""


def say(text: str = "") -> None:
    """One line of talk, to stderr."""
    print(text, file=sys.stderr, flush=True)


def tell(document: Any) -> None:
    """One JSON document on a line of its own, to stdout."""
    print(json.dumps(document, ensure_ascii=False, default=str), flush=True)


def tell_page(items: Sequence[Any], *, as_lines: bool, following: Any = None, **more: Any) -> None:
    """A list: one object with `items` and `next`, or an item per line."""
    if as_lines:
        for item in items:
            tell(item)
    else:
        tell({"items": items, "next": following, **more})


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str | Cell]]) -> None:
    """A table for people, to stdout: on a terminal within its width, elsewhere a line per row; without rows nothing."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    if cells:
        for line in _lines(columns, cells, width):
            print(line)


def status_cell(status: str) -> Cell:
    return Cell(status, STATUS_COLOURS.get(status, ""))


def paint(colour: str, text: str, stream: TextIO | None = None) -> str:
    """Colour on a terminal that wants it; the stream is stderr if none is named."""
    plain = not (stream or sys.stderr).isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain or not colour else f"\x1b[{COLOURS[colour]}m{text}\x1b[0m"


def _lines(columns: Sequence[str], rows: list[list[Cell]], width: int | None) -> Iterator[str]:
    widths = [max(len(name), *(len(row[number].text) for row in rows)) for number, name in enumerate(columns)]
    before_last = sum(widths[:-1]) + len(GAP) * (len(columns) - 1)
    if width is not None and before_last + min(NOTE_WIDTH_MIN, widths[-1]) > width:
        for first, *rest in rows:
            yield _cut(first, width)
            yield GAP + _cut(Cell(GAP.join(cell.text for cell in rest if cell.text)), width - len(GAP))
        return
    for row in [[Cell(name, "bold") for name in columns], *rows]:
        placed = [_placed(*each) for each in zip(columns[:-1], row[:-1], widths[:-1], strict=True)]
        last = _cut(row[-1], None if width is None else width - before_last)
        yield GAP.join([*placed, last]).rstrip()


def _placed(column: str, cell: Cell, width: int) -> str:
    fill = " " * (width - len(cell.text))
    text = paint(cell.colour, cell.text, sys.stdout)
    return fill + text if column in RIGHT else text + fill


def _cut(cell: Cell, width: int | None) -> str:
    text = cell.text
    if width is not None and len(text) > width:
        text = text[: max(width - 1, 0)] + "…"
    return paint(cell.colour, text, sys.stdout)
