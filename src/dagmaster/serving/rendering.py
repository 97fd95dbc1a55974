"""How an item is drawn: its own default rendering, or what the caller says instead. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from dagmaster.errors import Refused

BANDS_OF_A_PICTURE = (1, 3)
COLORMAP = re.compile(r"[a-z0-9_]{1,64}")
BANDS_MAX = 100
DEVIATIONS = 2
"""Bands without a default are stretched over so many standard deviations around their mean."""
Query = list[tuple[str, str]]


class RenderingInvalid(Refused):
    """`{name}` cannot be drawn: {problem}."""

    code = "RENDERING_INVALID"
    explanation = (
        "A picture has one band or three (bidx), a low and a high value for each (rescale=0,255), "
        "and one band may have a colour ramp (colormap_name)."
    )


def rendering(
    item: dict[str, Any], *, bidx: Sequence[int] = (), rescale: Sequence[str] = (), colormap_name: str | None = None
) -> Query:
    """The parameters of titiler. Errors: RenderingInvalid."""
    default = (item["properties"].get("renders") or {}).get("default") or {}
    entries = item["assets"]["data"].get("raster:bands") or []
    usual = list(default.get("bidx") or [1])
    bands = list(bidx) or usual
    if len(bands) not in BANDS_OF_A_PICTURE:
        raise RenderingInvalid(name="bidx", problem=f"a picture has one band or three, not {len(bands)}")
    if wrong := [band for band in bands if not 1 <= band <= (len(entries) or BANDS_MAX)]:
        raise RenderingInvalid(name="bidx", problem=f"there is no band {wrong[0]}")
    if colormap_name is not None and not COLORMAP.fullmatch(colormap_name):
        raise RenderingInvalid(name="colormap_name", problem="a colour ramp has a name such as viridis")
    if colormap_name is not None and len(bands) != 1:
        raise RenderingInvalid(name="colormap_name", problem="a colour ramp is for one band", remedy="Give one bidx.")

    if rescale:
        spans = [_span(text) for text in rescale]
        if len(spans) not in (1, len(bands)):
            raise RenderingInvalid(name="rescale", problem=f"{len(spans)} ranges for {len(bands)} band(s)")
    elif bands == usual and default.get("rescale"):
        spans = [(float(low), float(high)) for low, high in default["rescale"]]
    elif bands == usual and "rescale" not in default and _are_bytes(entries, bands):
        spans = []
    else:
        spans = [_spread(entries[band - 1]) for band in bands] if _have_statistics(entries, bands) else []
    ramp = colormap_name or (default.get("colormap_name") if len(bands) == 1 else None)

    query = [("bidx", str(band)) for band in bands]
    query += [("rescale", f"{low!r},{_above(low, high)!r}") for low, high in spans]
    return query + ([("colormap_name", ramp)] if ramp else [])


def _span(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as problem:
        raise RenderingInvalid(name="rescale", problem="write it as LOW,HIGH") from problem
    if not (math.isfinite(low) and math.isfinite(high) and low < high and math.isfinite(high - low)):
        raise RenderingInvalid(name="rescale", problem="LOW must be below HIGH, and both finite")
    return low, high


def _above(low: float, high: float) -> float:
    """A raster of one value is drawn in the lowest colour instead of being divided by nothing."""
    return high if high > low else math.nextafter(low + 1.0, math.inf)


def _are_bytes(entries: list[dict[str, Any]], bands: list[int]) -> bool:
    return len(entries) >= max(bands) and all(entries[band - 1].get("data_type") == "uint8" for band in bands)


def _have_statistics(entries: list[dict[str, Any]], bands: list[int]) -> bool:
    return len(entries) >= max(bands) and all(entries[band - 1].get("statistics") for band in bands)


def _spread(entry: dict[str, Any]) -> tuple[float, float]:
    known = entry["statistics"]
    reach = DEVIATIONS * known["stddev"]
    return float(max(known["minimum"], known["mean"] - reach)), float(min(known["maximum"], known["mean"] + reach))
