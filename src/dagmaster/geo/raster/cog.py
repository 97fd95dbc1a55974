"""Writes a cloud-optimised GeoTIFF in one pass: warp, tile, compress and overview by GDAL's COG driver.

Settings and their measurements: docs/adr/0005-default-cog-codec.md.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.transform import Affine
from rasterio.vrt import WarpedVRT
from rasterio.warp import calculate_default_transform, transform_bounds
from rio_cogeo.cogeo import cog_validate

from dagmaster.errors import CogInvalid, CorruptedFile, ReprojectionFailed
from dagmaster.geo.raster.detect import resampling
from dagmaster.geo.raster.inspect import open_raster
from dagmaster.geo.raster.scan import scan
from dagmaster.geo.raster.validate import crs_text

BLOCK_PIXELS = 512
CACHE_BYTES = 256 * 1024 * 1024
JPEG_QUALITY = 85
GROWTH_MAX = 16
"""A warped raster with more than so many times the pixels of its source has gone round the world, or worse."""
WORLD = (-180.0, -90.0, 180.0, 90.0)


@dataclass(frozen=True)
class Cog:
    """The written file. `compression` is what GDAL calls it; `tier` is the one that was applied."""

    path: Path
    size_bytes: int
    sha256: str
    compression: str
    tier: str
    overview_levels: list[int]
    copied: bool
    """The source was such a COG already and was taken as it is."""


def write_cog(
    source: Path,
    target: Path,
    *,
    crs: CRS,
    target_crs: CRS,
    raster_type: str,
    tier: str,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Cog:
    """Convert `source`, whose coordinate system is `crs`, into a COG at `target`.

    `on_progress` hears shares from 0 to 1. Errors: ReprojectionFailed, CorruptedFile, CogInvalid.
    """
    with open_raster(source) as raster:
        applied = applied_tier(raster, tier)
        copied = is_wanted_cog(raster, source, crs, target_crs, applied)
        if not copied:
            with warped(raster, source.name, crs, target_crs, raster_type) as ready:
                _convert(ready, target, creation_options(ready, applied, raster_type), source.name, on_progress)
    if copied:
        shutil.copyfile(source, target)
    valid, errors, _ = cog_validate(target, quiet=True)
    if not valid:
        raise CogInvalid(problem="; ".join(errors))
    on_progress(1.0)
    return describe(target, applied, copied=copied)


def applied_tier(raster: DatasetReader, tier: str) -> str:
    """`visualization` is for 8-bit pictures of three bands; anything else falls back to `analysis`."""
    if tier == "visualization" and (raster.count != 3 or set(raster.dtypes) != {"uint8"}):
        return "analysis"
    return tier


def is_wanted_cog(raster: DatasetReader, source: Path, crs: CRS, target_crs: CRS, tier: str) -> bool:
    """The file already is what would be written: a valid COG, in place, with a codec of the tier."""
    codecs = {"visualization": {"jpeg"}, "analysis": {"deflate", "zstd", "lzw"}, "archive": {"zstd"}}
    codec = raster.compression.name.lower() if raster.compression else ""
    right = raster.crs == crs == target_crs and codec in codecs.get(tier, set()) and bool(raster.overviews(1))
    return right and bool(cog_validate(source, strict=True, quiet=True)[0])


@contextmanager
def warped(raster: DatasetReader, name: str, crs: CRS, target_crs: CRS, raster_type: str) -> Iterator[Any]:
    """The raster as it should lie: itself, or a warped view of it when its system or orientation differs."""
    matrix = raster.transform
    north_up = matrix.b == 0 and matrix.d == 0 and matrix.e < 0 < matrix.a
    if raster.crs == target_crs and north_up:
        yield raster
        return
    try:
        if crs == target_crs and north_up:  # only the name of the system was missing: every pixel stays where it is
            grid, method, empty = (matrix, raster.width, raster.height), Resampling.nearest, Empty(raster.nodata)
        else:
            grid, method = warped_grid(raster, crs, target_crs), Resampling[resampling(raster_type)[1]]
            empty = empty_pixels(raster, Path(raster.name))
        transform, width, height = grid
        view = WarpedVRT(
            raster,
            src_crs=crs,
            crs=target_crs,
            transform=transform,
            width=width,
            height=height,
            resampling=method,
            nodata=empty.nodata,
            src_nodata=raster.nodata,
            add_alpha=empty.alpha,
        )
    except (RasterioError, CPLE_BaseError, ValueError, OverflowError) as problem:
        why = str(problem).split("\n", 1)[0][:300]
        raise ReprojectionFailed(path=name, target_crs=crs_text(target_crs), problem=why) from problem
    with view:
        yield view


def warped_grid(raster: DatasetReader, crs: CRS, target_crs: CRS) -> tuple[Affine, int, int]:
    """Transform, width and height of the warped raster; raises ValueError when the result is not of this world.

    A raster that crosses the antimeridian keeps its own extent: degrees go on past 180 instead of round the world.
    """
    grid_crs = target_crs
    if target_crs.is_geographic and not crs.is_geographic:
        west, _, east, _ = transform_bounds(crs, target_crs, *_box(raster), densify_pts=21)
        if np.isfinite(west) and np.isfinite(east) and west > east:
            grid_crs = CRS.from_string("+proj=longlat +datum=WGS84 +lon_wrap=180 +no_defs")
    transform, width, height = calculate_default_transform(crs, grid_crs, raster.width, raster.height, *_box(raster))
    if width is None or height is None or not all(np.isfinite(value) for value in transform[:6]):
        raise ValueError("the corners have no place in the target system")
    if width * height > GROWTH_MAX * max(raster.width * raster.height, BLOCK_PIXELS * BLOCK_PIXELS):
        raise ValueError(f"{raster.width} x {raster.height} pixels would become {width} x {height}")
    return transform, width, height


def _box(raster: DatasetReader) -> tuple[float, float, float, float]:
    """West, south, east, north around all corners, whatever the orientation."""
    corners = [
        raster.transform * place
        for place in ((0, 0), (raster.width, 0), (0, raster.height), (raster.width, raster.height))
    ]
    easts, norths = [x for x, _ in corners], [y for _, y in corners]
    return min(easts), min(norths), max(easts), max(norths)


@dataclass(frozen=True)
class Empty:
    """How pixels that a warp leaves empty are told from data: by a value, or by an added alpha band."""

    nodata: float | None = None
    alpha: bool = False


def empty_pixels(raster: DatasetReader, path: Path) -> Empty:
    """Its own nodata or alpha; else NaN, or an end of the integer range that no pixel uses; else an added alpha band."""
    if raster.nodata is not None:
        return Empty(raster.nodata)
    flags = [flag for flags in raster.mask_flag_enums for flag in flags]
    if MaskFlags.alpha in flags:
        return Empty()
    if MaskFlags.per_dataset in flags:
        return Empty(alpha=True)
    kind = np.dtype(raster.dtypes[0])
    if kind.kind == "f":
        return Empty(float("nan"))
    bands = scan(raster, path).bands
    limits = np.iinfo(kind)
    if all(band.minimum > limits.min for band in bands):
        return Empty(float(limits.min))
    if all(band.maximum < limits.max for band in bands):
        return Empty(float(limits.max))
    return Empty(alpha=True)


def creation_options(ready: Any, tier: str, raster_type: str) -> dict[str, Any]:
    """What the COG driver is told, by tier and sample type."""
    floats = np.dtype(ready.dtypes[0]).kind == "f"
    overview = resampling(raster_type)[0]
    if overview == "mode" and ready.dtypes[0] not in ("uint8", "int8", "uint16", "int16"):
        overview = "nearest"
    options: dict[str, Any] = {
        "blocksize": BLOCK_PIXELS, "num_threads": "ALL_CPUS", "bigtiff": "IF_SAFER", "overview_resampling": overview,
    }  # fmt: skip
    if tier == "visualization":
        return options | {"compress": "JPEG", "quality": JPEG_QUALITY}
    predictor = "FLOATING_POINT" if floats else "STANDARD"
    if tier == "archive":
        return options | {"compress": "ZSTD", "level": 9, "predictor": predictor}
    return options | {"compress": "DEFLATE", "level": 1, "predictor": predictor}


def _convert(
    ready: Any, target: Path, options: dict[str, Any], name: str, on_progress: Callable[[float], None]
) -> None:
    """One pass of the driver; what it meets in the source is the source's damage."""
    on_progress(0.0)
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, GDAL_NUM_THREADS="ALL_CPUS"):
            rasterio.shutil.copy(ready, target, driver="COG", strict=False, **options)
    except (RasterioError, ValueError) as problem:
        why = str(problem).split("\n", 1)[0]
        raise CorruptedFile(path=name, problem="it could not be converted", why=why) from problem
    on_progress(0.95)


def describe(path: Path, tier: str, *, copied: bool) -> Cog:
    """Facts of a written COG."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1024 * 1024):
            digest.update(piece)
    with open_raster(path) as raster:
        compression = raster.compression.name.upper() if raster.compression else "NONE"
        levels = list(raster.overviews(1))
    return Cog(path, path.stat().st_size, digest.hexdigest(), compression, tier, levels, copied)


def bounds_4326(raster: DatasetReader) -> tuple[float, float, float, float] | None:
    """West, south, east, north in degrees; west > east when it crosses the antimeridian; None without such bounds."""
    try:
        west, south, east, north = transform_bounds(raster.crs, CRS.from_epsg(4326), *raster.bounds, densify_pts=21)
    except (RasterioError, CPLE_BaseError, ValueError):
        return None
    if not all(np.isfinite(value) for value in (west, south, east, north)):
        return None
    if east - west >= 360:
        west, east = -180.0, 180.0
    elif west < -180:
        west += 360
    elif east > 180:
        east -= 360
    return west, max(south, -90.0), east, min(north, 90.0)
