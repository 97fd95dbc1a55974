"""Exact geometry for searches, with shapely. Loads numpy and GEOS: imported by the first search that needs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import shapely
from shapely.errors import GEOSException

from dagmaster.catalog.base import QueryInvalid

Box = tuple[float, float, float, float]
POINTS_MAX = 20_000
PARTS_MAX = 16
"""So many parts of a geometry have boxes of their own in the first, coarse look; more are boxed together."""
LONGITUDE_MAX = 540.0
TYPES = frozenset({
    "Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon", "GeometryCollection",
})  # fmt: skip


class Shape:
    """A geometry to search by, ready to be compared with many others."""

    def __init__(self, geometry: shapely.Geometry) -> None:
        self.geometry = geometry
        shapely.prepare(geometry)

    @property
    def boxes(self) -> list[Box]:
        """Boxes that together hold it."""
        parts = list(shapely.get_parts(self.geometry))
        found = shapely.bounds(parts if 0 < len(parts) <= PARTS_MAX else [self.geometry])
        return [(float(west), float(south), float(east), float(north)) for west, south, east, north in found]

    def intersects(self, documents: Sequence[str | None]) -> list[bool]:
        """Which of these GeoJSON geometries share at least a point with it; what is no geometry shares none."""
        texts = np.array([text or "" for text in documents], dtype=object)
        found = shapely.intersects(self.geometry, shapely.from_geojson(texts, on_invalid="ignore"))
        return [bool(each) for each in found]


def shape_of(name: str, given: Any) -> Shape:
    """A GeoJSON geometry, or `{"bbox": […]}`, to search by. Errors: QueryInvalid."""
    if not isinstance(given, dict):
        raise QueryInvalid(name=name, problem="it must be a GeoJSON geometry")
    if set(given) == {"bbox"}:
        return Shape(_boxed(name, given["bbox"]))
    if given.get("type") not in TYPES:
        raise QueryInvalid(name=name, problem=f"{str(given.get('type'))[:40]!r} is no type of GeoJSON geometry")
    try:
        made = shapely.force_2d(shapely.from_geojson(orjson.dumps(given).decode()))
    except (GEOSException, TypeError, ValueError, orjson.JSONEncodeError) as problem:
        raise QueryInvalid(name=name, problem="it is no GeoJSON geometry that can be read") from problem
    return Shape(_checked(name, made))


def _checked(name: str, made: shapely.Geometry) -> shapely.Geometry:
    """The geometry within the usual longitudes; what goes on beyond 180 is also looked for at the other side."""
    if made is None or made.is_empty:
        raise QueryInvalid(name=name, problem="it is empty")
    if shapely.get_num_coordinates(made) > POINTS_MAX:
        raise QueryInvalid(name=name, problem=f"it has more than {POINTS_MAX} points", remedy="Simplify it.")
    bounds = made.bounds
    if not np.isfinite(bounds).all() or bounds[0] < -LONGITUDE_MAX or bounds[2] > LONGITUDE_MAX:
        raise QueryInvalid(name=name, problem="its coordinates are no longitudes and latitudes in degrees")
    if bounds[1] < -90 or bounds[3] > 90:
        raise QueryInvalid(name=name, problem="its latitudes lie beyond 90 degrees")
    if not made.is_valid:
        made = shapely.make_valid(made)
    shifted = [made] if bounds[0] >= -180 and bounds[2] <= 180 else [made, _moved(made, 360), _moved(made, -360)]
    return shifted[0] if len(shifted) == 1 else shapely.geometrycollections(_flat(shifted))


def _moved(geometry: shapely.Geometry, degrees: float) -> shapely.Geometry:
    return shapely.transform(geometry, lambda points: points + np.array([degrees, 0]))


def _flat(geometries: list[shapely.Geometry]) -> list[shapely.Geometry]:
    return list(shapely.get_parts(geometries))


def _boxed(name: str, bbox: Any) -> shapely.Geometry:
    numbers = [value for value in bbox if isinstance(value, (int, float))] if isinstance(bbox, list) else []
    if len(numbers) not in (4, 6) or len(numbers) != len(bbox) or not np.isfinite(numbers).all():
        raise QueryInvalid(name=name, problem="a bbox has 4 or 6 finite numbers")
    half = len(numbers) // 2
    west, south, east, north = numbers[0], numbers[1], numbers[half], numbers[half + 1]
    if south > north:
        raise QueryInvalid(name=name, problem="the bbox's south lies north of its north")
    if west <= east:
        return _checked(name, shapely.box(west, south, east, north))
    return _checked(
        name, shapely.multipolygons([shapely.box(west, south, 180, north), shapely.box(-180, south, east, north)])
    )
