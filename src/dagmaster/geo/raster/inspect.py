"""Opens a raster the one safe way and says what its header holds. No pixel is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.transform import Affine

from dagmaster.errors import FileEmpty, FileNotFound, FileTooSmall, InvalidFormat
from dagmaster.geo.raster.grid import box, is_north_up

SIZE_BYTES_MIN = 100
DRIVER = "GTiff"
COMPLEX_INTEGERS = {"complex_int16": 4, "complex_int32": 8}
"""Sample types of GDAL that numpy does not know, with their bytes."""


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
    mask_flags: tuple[frozenset[str], ...]
    compression: str | None
    interleave: str | None
    gcp_count: int
    has_rpcs: bool

    @property
    def dtype(self) -> str:
        return self.dtypes[0]

    @property
    def declared_bytes(self) -> int:
        """Size of all pixels in memory: width, height, bands and bytes per sample."""
        return self.width * self.height * sum(sample_bytes(name) for name in self.dtypes)

    @property
    def block_bytes(self) -> int:
        """Size of one unpacked block, which GDAL holds as a whole."""
        bands = self.dtypes if self.interleave == "pixel" else self.dtypes[:1]
        return self.block_shape[0] * self.block_shape[1] * sum(sample_bytes(name) for name in bands)

    @property
    def has_mask(self) -> bool:
        """A mask band or alpha, apart from nodata."""
        return any("per_dataset" in flags for flags in self.mask_flags)

    @property
    def is_north_up(self) -> bool:
        return is_north_up(self.transform)


def sample_bytes(dtype: str) -> int:
    """Bytes of one sample."""
    return COMPLEX_INTEGERS.get(dtype) or np.dtype(dtype).itemsize


@contextmanager
def open_raster(path: Path | str) -> Iterator[DatasetReader]:
    """Open with the GeoTIFF driver and no other, whatever the file is called. Errors: InvalidFormat."""
    try:
        opened = rasterio.open(path, driver=DRIVER)
    except (RasterioError, ValueError, UnicodeError) as problem:
        raise InvalidFormat(path=Path(path).name, why=words_of(problem, path)) from problem
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
    return RasterFacts(
        path=str(path),
        size_bytes=size_bytes,
        width=raster.width,
        height=raster.height,
        count=raster.count,
        dtypes=tuple(raster.dtypes),
        nodata=raster.nodata,
        crs=raster.crs or None,
        transform=raster.transform,
        bounds=box(raster),
        color_interpretation=tuple(interp.name for interp in raster.colorinterp),
        has_palette=ColorInterp.palette in raster.colorinterp,
        block_shape=tuple(raster.block_shapes[0]) if raster.count else (0, 0),
        overviews=tuple(raster.overviews(1)) if raster.count else (),
        mask_flags=tuple(frozenset(flag.name for flag in flags) for flags in raster.mask_flag_enums),
        compression=raster.compression.name.lower() if raster.compression else None,
        interleave=raster.interleaving.name.lower() if raster.interleaving else None,
        gcp_count=len(gcps),
        has_rpcs=raster.rpcs is not None,
    )


def words_of(problem: BaseException, path: Path | str) -> str:
    """GDAL's own words, the innermost ones, without the folder that the file happens to lie in."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    words = str(problem).strip().split("\n", 1)[0].replace(f"{Path(path).parent}/", "")
    return words.split(" from '{", 1)[0][:300]
