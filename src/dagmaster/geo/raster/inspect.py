"""Opens a raster the one safe way and says what its header holds. No pixel is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.transform import Affine

from dagmaster.errors import FileEmpty, FileNotFound, FileTooSmall, InvalidFormat

SIZE_BYTES_MIN = 100
DRIVER = "GTiff"


@dataclass(frozen=True)
class RasterFacts:
    """The header of a raster. `bounds` is (west, south, east, north) in its own coordinate system."""

    path: str
    size_bytes: int
    width: int
    height: int
    count: int
    dtypes: tuple[str, ...]
    nodata: float | None
    crs: CRS | None
    transform: Affine
    bounds: tuple[float, float, float, float]
    color_interpretation: tuple[str, ...]
    has_palette: bool
    block_shape: tuple[int, int]
    overviews: tuple[int, ...]
    has_mask: bool
    """A mask band or alpha, apart from nodata."""
    has_gcps: bool
    has_rpcs: bool

    @property
    def dtype(self) -> str:
        return self.dtypes[0]

    @property
    def declared_bytes(self) -> int:
        """Size of all pixels in memory: width, height, bands and bytes per sample."""
        return self.width * self.height * sum(np.dtype(name).itemsize for name in self.dtypes)

    @property
    def is_north_up(self) -> bool:
        return self.transform.b == 0 and self.transform.d == 0 and self.transform.e < 0 < self.transform.a


@contextmanager
def open_raster(path: Path | str) -> Iterator[DatasetReader]:
    """Open with the GeoTIFF driver and no other, whatever the file is called. Errors: InvalidFormat."""
    try:
        opened = rasterio.open(path, driver=DRIVER)
    except (RasterioError, ValueError, UnicodeError) as problem:
        raise InvalidFormat(path=Path(path).name, why=_first_line(problem)) from problem
    with opened:
        yield opened


def inspect(path: Path) -> RasterFacts:
    """Facts of the file. Errors: FileNotFound, FileEmpty, FileTooSmall, InvalidFormat."""
    if not path.is_file():
        raise FileNotFound(path=path.name)
    size = path.stat().st_size
    if size == 0:
        raise FileEmpty(path=path.name)
    if size < SIZE_BYTES_MIN:
        raise FileTooSmall(path=path.name, size_bytes=size)
    with open_raster(path) as raster:
        return facts_of(raster, path, size)


def facts_of(raster: DatasetReader, path: Path, size_bytes: int) -> RasterFacts:
    """Facts of an open raster."""
    gcps, _ = raster.gcps
    palette = ColorInterp.palette in raster.colorinterp
    return RasterFacts(
        path=str(path),
        size_bytes=size_bytes,
        width=raster.width,
        height=raster.height,
        count=raster.count,
        dtypes=tuple(raster.dtypes),
        nodata=raster.nodata,
        crs=raster.crs,
        transform=raster.transform,
        bounds=_bounds(raster),
        color_interpretation=tuple(interp.name for interp in raster.colorinterp),
        has_palette=palette,
        block_shape=tuple(raster.block_shapes[0]) if raster.count else (0, 0),
        overviews=tuple(raster.overviews(1)) if raster.count else (),
        has_mask=any(
            flag in flags for flags in raster.mask_flag_enums for flag in (MaskFlags.per_dataset, MaskFlags.alpha)
        ),
        has_gcps=bool(gcps),
        has_rpcs=raster.rpcs is not None,
    )


def _bounds(raster: DatasetReader) -> tuple[float, float, float, float]:
    """The box around all four corners: a rotated or south-up raster has one too."""
    corners: list[Any] = [raster.transform * corner for corner in _corners(raster.width, raster.height)]
    easts, norths = [x for x, _ in corners], [y for _, y in corners]
    return min(easts), min(norths), max(easts), max(norths)


def _corners(width: int, height: int) -> list[tuple[int, int]]:
    return [(0, 0), (width, 0), (0, height), (width, height)]


def _first_line(problem: Exception) -> str:
    return str(problem).strip().split("\n", 1)[0]
