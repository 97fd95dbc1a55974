"""Rasters made from what a test is about; everything else has a sensible value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.transform import from_bounds

BOUNDS = (10.0, 50.0, 11.0, 51.0)
SHAPE = (120, 160)


def noise(count: int = 1, dtype: str = "uint8", shape: tuple[int, int] = SHAPE) -> NDArray[Any]:
    """Values from 1 to 199, the same ones every time."""
    values: NDArray[Any] = np.random.default_rng(7).integers(1, 200, (count, *shape)).astype(dtype)
    return values


def terrain(shape: tuple[int, int] = SHAPE, dtype: str = "float32") -> NDArray[Any]:
    """One band of gentle hills between about 100 and 500, seldom whole numbers."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]]
    hills = 300 + 120 * np.sin(rows / 31.7) * np.cos(columns / 23.3) + rows * 0.137
    values: NDArray[Any] = hills.astype(dtype)[np.newaxis]
    return values


def make_raster(
    path: Path,
    data: NDArray[Any] | None = None,
    *,
    crs: str | None = "EPSG:4326",
    bounds: tuple[float, float, float, float] = BOUNDS,
    transform: Any = None,
    nodata: float | None = None,
    mask: NDArray[np.bool_] | None = None,
    colors: tuple[ColorInterp, ...] | None = None,
    colormap: dict[int, tuple[int, int, int, int]] | None = None,
    placed: bool = True,
    **options: Any,
) -> Path:
    """A GeoTIFF, striped unless `options` say otherwise."""
    data = noise() if data is None else data
    count, height, width = data.shape
    if placed:
        options["transform"] = transform or from_bounds(*bounds, width, height)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", width=width, height=height, count=count, dtype=data.dtype, crs=crs,
            nodata=nodata, **options,
        ) as made,
    ):  # fmt: skip
        if colors is not None:
            made.colorinterp = colors
        if colormap is not None:
            made.write_colormap(1, colormap)
        made.write(data)
        if mask is not None:
            made.write_mask(mask)
    return path
