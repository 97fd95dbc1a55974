"""Where a raster will lie: its own grid, the same turned north-up, or a grid in another coordinate system."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform as transform_points

from dagmaster.geo.raster.crs import horizontal, same

GROWTH_MAX = 16
"""A warped raster with more than so many times the pixels of its source has gone round the world, or worse."""
PIXELS_FREE = 512 * 512
PROBES = 41
"""Points a side at which a raster is looked at to learn where it lies."""
WEB_MERCATOR_PERIOD = 2 * math.pi * 6378137.0


@dataclass(frozen=True)
class Grid:
    """North-up pixels; `exact` when each is one of the source's."""

    transform: Affine
    width: int
    height: int
    exact: bool


def place(transform: Affine, column: float, row: float) -> tuple[float, float]:
    """The coordinates of a pixel corner; written out, because the operator differs between releases of affine."""
    return (
        transform.a * column + transform.b * row + transform.c,
        transform.d * column + transform.e * row + transform.f,
    )


def box(raster: Any) -> tuple[float, float, float, float]:
    """West, south, east, north around all four corners: a rotated or south-up raster has them too."""
    corners = [(0, 0), (raster.width, 0), (0, raster.height), (raster.width, raster.height)]
    xs, ys = zip(*(place(raster.transform, *corner) for corner in corners), strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def is_north_up(transform: Affine) -> bool:
    """Rows run south and columns run east, without rotation."""
    return bool(transform.b == 0 and transform.d == 0 and transform.e < 0 < transform.a)


def target_grid(raster: Any, crs: CRS, target_crs: CRS) -> Grid:
    """The grid of the result. Raises ValueError or a rasterio error when the result is not of this world."""
    if same(crs, target_crs) and raster.transform.b == raster.transform.d == 0:
        west, _, _, north = box(raster)
        step_x, step_y = abs(raster.transform.a), abs(raster.transform.e)
        return Grid(Affine(step_x, 0, west, 0, -step_y, north), raster.width, raster.height, exact=True)
    grid = _across_the_seam(raster, crs, target_crs) or _suggested(raster, crs, target_crs)
    if not all(math.isfinite(value) for value in grid.transform[:6]):
        raise ValueError("the corners have no place in the target system")
    if grid.width * grid.height > GROWTH_MAX * max(raster.width * raster.height, PIXELS_FREE):
        raise ValueError(f"{raster.width} x {raster.height} pixels would become {grid.width} x {grid.height}")
    return grid


def _suggested(raster: Any, crs: CRS, target_crs: CRS) -> Grid:
    with WarpedVRT(raster, src_crs=horizontal(crs), crs=target_crs) as view:
        return Grid(view.transform, view.width, view.height, exact=False)


def _across_the_seam(raster: Any, crs: CRS, target_crs: CRS) -> Grid | None:
    """For a raster that crosses the antimeridian: its own extent, running on past 180° instead of round the world."""
    period = _period(target_crs)
    if period is None or crs.is_geographic:
        return None
    columns, rows = np.meshgrid(np.linspace(0, raster.width, PROBES), np.linspace(0, raster.height, PROBES))
    xs, ys = place(raster.transform, columns.ravel(), rows.ravel())  # type: ignore[arg-type]  # arrays add up too
    try:
        found = np.array(transform_points(horizontal(crs), target_crs, xs, ys)[:2])
    except (RasterioError, CPLE_BaseError):
        return None  # partly off the Earth: the driver knows what to do with the rest
    if not np.isfinite(found).all():
        return None
    if np.ptp(found[0]) < period / 2:
        return None
    turned = np.where(found[0] < 0, found[0] + period, found[0])
    if np.ptp(turned) >= period / 2:
        return None  # it holds a pole, or really is that wide
    west, east, south, north = turned.min(), turned.max(), found[1].min(), found[1].max()
    step = math.hypot(east - west, north - south) / math.hypot(raster.width, raster.height)
    transform = Affine(step, 0, float(west), 0, -step, float(north))
    return Grid(transform, math.ceil((east - west) / step), math.ceil((north - south) / step), exact=False)


def _period(crs: CRS) -> float | None:
    """How far it is once round the world, for systems whose first axis ends at the antimeridian."""
    if crs.is_geographic:
        return 360.0
    return WEB_MERCATOR_PERIOD if crs.to_epsg() == 3857 else None
