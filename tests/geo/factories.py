"""Rasters made from what a test is about; everything else has a sensible value."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.transform import Affine, from_bounds

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


def sparse(path: Path, side: int) -> None:
    """A square raster without a single block."""
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=1, dtype="uint8", crs="EPSG:4326", tiled=True,
        transform=Affine(1e-5, 0, 10, 0, -1e-5, 51), sparse_ok=True, nodata=0, blockxsize=4096, blockysize=4096,
        bigtiff="yes",
    ):  # fmt: skip
        pass


def bomb(path: Path, side: int) -> None:
    """A square raster whose tiles all lie at one place in the file."""
    block = 4096
    side = side // block * block
    profile = {"driver": "GTiff", "count": 1, "dtype": "uint8", "crs": "EPSG:4326", "tiled": True, "compress": "deflate",
               "transform": Affine(1e-5, 0, 10, 0, -1e-5, 51), "blockxsize": block, "blockysize": block}  # fmt: skip
    with rasterio.open(path, "w", width=side, height=side, sparse_ok=True, **profile) as made:
        made.write(np.full((1, block, block), 7, "uint8"), window=((0, block), (0, block)))
    content = bytearray(path.read_bytes())
    start = struct.unpack_from("<I", content, 4)[0]
    entries = struct.unpack_from("<H", content, start)[0]
    for entry in range(start + 2, start + 2 + 12 * entries, 12):
        tag, kind, count, place = struct.unpack_from("<HHII", content, entry)
        if tag in (324, 325) and count > 1:
            code = "<H" if kind == 3 else "<I"
            size = struct.calcsize(code)
            first = struct.unpack_from(code, content, place)[0]
            for number in range(count):
                struct.pack_into(code, content, place + number * size, first)
    path.write_bytes(content)


def declaring(path: Path, side: int) -> Path:
    """The header of a square raster of that many pixels a side, in one strip, and no pixel behind it."""
    entries = [
        (256, 4, side), (257, 4, side), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, side),
        (279, 4, 0),
    ]  # fmt: skip
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(100))
    return path
