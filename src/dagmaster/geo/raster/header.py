"""What the first directory of a TIFF declares, for files that GDAL refuses to open."""

from __future__ import annotations

import struct
from pathlib import Path

WIDTH, HEIGHT = 256, 257
ORDERS = {b"II": "<", b"MM": ">"}
BIG_TIFF = 43
DIRECTORY_BYTES = 4096
"""The tags come in order of their numbers, and the size is among the first."""
VALUES = {3: "H", 4: "I", 16: "Q"}
"""How a whole number of each type is packed."""


def declared_size(path: Path) -> tuple[int, int] | None:
    """Width and height; None for what is no TIFF, or holds no such tags."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
            order = ORDERS[start[:2]]
            is_big = struct.unpack_from(f"{order}H", start, 2)[0] == BIG_TIFF
            file.seek(struct.unpack_from(order + ("8xQ" if is_big else "4xI"), start)[0])
            found = dict(_numbers(file.read(DIRECTORY_BYTES), order, is_big=is_big))
        return found[WIDTH], found[HEIGHT]
    except (KeyError, struct.error, OSError, OverflowError, ValueError):  # a place beyond all files too
        return None


def _numbers(directory: bytes, order: str, *, is_big: bool) -> list[tuple[int, int]]:
    """Each tag that is one whole number, with that number."""
    count, head, step, value_at = ("Q", 8, 20, 12) if is_big else ("H", 2, 12, 8)
    entries = min(struct.unpack_from(order + count, directory)[0], (len(directory) - head) // step)
    found = []
    for place in range(head, head + entries * step, step):
        tag, kind = struct.unpack_from(f"{order}HH", directory, place)
        if kind in VALUES:
            found.append((tag, struct.unpack_from(order + VALUES[kind], directory, place + value_at)[0]))
    return found
