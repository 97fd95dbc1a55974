"""Writes a cloud-optimised GeoTIFF: tiled, compressed and with overviews by GDAL's COG driver.

A raster that lies in another coordinate system, or not north-up, is first laid onto its new grid strip by strip, in a
file beside the target: the driver reads its source twice, and a warp is dearer than a read. Settings and their
measurements: docs/adr/0005-default-cog-codec.md.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
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
from rasterio.enums import ColorInterp, Resampling
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate

from dagmaster.errors import CogInvalid, CorruptedFile, DiskFull, InvalidFormat, ReprojectionFailed, means_disk_full
from dagmaster.geo.raster.crs import horizontal, lonlat_bounds, same, short
from dagmaster.geo.raster.detect import resampling
from dagmaster.geo.raster.grid import Grid, is_north_up, target_grid
from dagmaster.geo.raster.inspect import open_raster, words_of
from dagmaster.geo.raster.scan import scan

BLOCK_PIXELS = 512
STRIP_PIXELS = 512
CACHE_BYTES = 256 * 1024 * 1024
WARP_BYTES = 16 * 1024 * 1024
"""Samples that are warped at a time."""
WARP_SHARE = 0.5
"""How much of the progress laying a raster onto its grid counts for."""
POLL_SECONDS = 0.25
JPEG_QUALITY = 85
FULL_BYTES = 1024 * 1024
"""A disk with less than this is full, for what we write."""
NEEDED_SHARE = 2
"""Pixels and masks, and overviews twice, when packing makes none of them smaller, as a share of the pixels."""
FAILURES = (RasterioError, CPLE_BaseError, ValueError, OverflowError, OSError)
CODECS = {"visualization": {"jpeg"}, "analysis": {"deflate"}, "archive": {"zstd"}}
"""The codecs that each tier is content with."""


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
    with bounded_gdal(), open_raster(source) as raster:
        applied = applied_tier(raster, tier)
        copied = is_wanted_cog(raster, source, crs, target_crs, applied)
        options = creation_options(raster, applied, raster_type)
        if copied:
            shutil.copyfile(source, target)
        else:
            with in_place(raster, target, crs, target_crs, raster_type, on_progress) as (ready, begun):
                _convert(ready, target, options, source.name, lambda share: on_progress(begun + share * (0.97 - begun)))
        faults = faults_of(target)
    if faults:
        raise CogInvalid(problem="; ".join(faults))
    on_progress(1.0)
    return describe(target, applied, copied=copied)


@contextmanager
def bounded_gdal() -> Iterator[None]:
    """GDAL with a bounded cache, all cores, masks inside the file and nothing beside it."""
    with rasterio.Env(
        GDAL_CACHEMAX=CACHE_BYTES,
        GDAL_NUM_THREADS="ALL_CPUS",
        GDAL_TIFF_INTERNAL_MASK=True,
        GDAL_PAM_ENABLED=False,
        GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR",
    ):
        yield


def applied_tier(raster: DatasetReader, tier: str) -> str:
    """`visualization` is for 8-bit pictures of three bands; anything else falls back to `analysis`."""
    if tier == "visualization" and (raster.count != 3 or set(raster.dtypes) != {"uint8"}):
        return "analysis"
    return tier


def is_wanted_cog(raster: DatasetReader, source: Path, crs: CRS, target_crs: CRS, tier: str) -> bool:
    """The file already is what would be written: a valid COG, in place, with the codec of the tier."""
    codec = raster.compression.name.lower() if raster.compression else ""
    in_its_place = bool(raster.crs) and same(raster.crs, target_crs) and same(crs, target_crs)
    if not in_its_place or not is_north_up(raster.transform) or codec not in CODECS[tier]:
        return False
    small = max(raster.width, raster.height) <= BLOCK_PIXELS
    return (small or bool(raster.overviews(1))) and bool(cog_validate(source, strict=True, quiet=True)[0])


@contextmanager
def in_place(
    raster: DatasetReader,
    target: Path,
    crs: CRS,
    target_crs: CRS,
    raster_type: str,
    on_progress: Callable[[float], None],
) -> Iterator[tuple[Path, float]]:
    """The file whose pixels lie as they should, and the share of the work that it took; errors as of `write_cog`."""
    if raster.crs and same(raster.crs, target_crs) and is_north_up(raster.transform):
        yield Path(raster.name), 0.0
        return
    name = Path(raster.name).name
    laid = target.with_name(f"{target.name}.laid")
    try:
        try:
            grid = target_grid(raster, crs, target_crs)
            lay(raster, laid, grid, crs, target_crs, raster_type, lambda share: on_progress(share * WARP_SHARE))
        except FAILURES as problem:
            raise_if_full(problem, target.parent)
            raise ReprojectionFailed(
                path=name, target_crs=short(target_crs), problem=words_of(problem, name)
            ) from problem
        yield laid, WARP_SHARE
    finally:
        laid.unlink(missing_ok=True)


def lay(
    raster: DatasetReader,
    laid: Path,
    grid: Grid,
    crs: CRS,
    target_crs: CRS,
    raster_type: str,
    on_progress: Callable[[float], None],
) -> None:
    """Write the raster onto the grid. What it does not cover is nodata, transparent or masked; no value is invented."""
    if grid.exact:
        target_crs = crs  # the same system; it keeps its own words, heights and all
    else:
        crs = horizontal(crs)
    method = Resampling.nearest if grid.exact else Resampling[resampling(raster_type)[1]]
    masks = raster.nodata is None and ColorInterp.alpha not in raster.colorinterp
    # One thread: with more, libtiff now and then complains of the extra samples of a file that is still open.
    profile = {
        "driver": "GTiff", "width": grid.width, "height": grid.height, "count": raster.count, "dtype": raster.dtypes[0],
        "crs": target_crs, "transform": grid.transform, "nodata": raster.nodata, "tiled": True,
        "blockxsize": BLOCK_PIXELS, "blockysize": BLOCK_PIXELS, "compress": "zstd", "zstd_level": 1,
        "predictor": _predictor(raster.dtypes[0]), "bigtiff": "if_safer", "num_threads": 1,
        "interleave": "pixel",
    }  # fmt: skip
    if ColorInterp.red in raster.colorinterp[:1] and raster.count >= 3:
        profile["photometric"] = "rgb"
    if ColorInterp.alpha in raster.colorinterp:
        profile["alpha"] = "yes"
    with (
        WarpedVRT(
            raster, src_crs=crs, crs=target_crs, transform=grid.transform, width=grid.width, height=grid.height,
            resampling=method, add_alpha=masks, warp_mem_limit=128,
        ) as view,
        rasterio.open(laid, "w", **profile) as made,
    ):  # fmt: skip
        _take_over(raster, made)
        windows = _strips(grid, raster.count + 1, np.dtype(raster.dtypes[0]).itemsize)
        bands = list(range(1, raster.count + 1))
        for number, window in enumerate(windows, start=1):
            made.write(view.read(bands, window=window), bands, window=window)
            if masks:
                made.write_mask(view.read(raster.count + 1, window=window) > 0, window=window)
            on_progress(number / len(windows))


def _take_over(raster: DatasetReader, made: Any) -> None:
    """What the bands mean: names, units, colours, scales and notes. Statistics of other pixels are left behind."""
    made.colorinterp = raster.colorinterp
    made.descriptions = raster.descriptions
    made.units = tuple(unit or "" for unit in raster.units)
    made.scales, made.offsets = raster.scales, raster.offsets
    made.update_tags(**raster.tags())
    for band in raster.indexes:
        tags = raster.tags(band)
        made.update_tags(band, **{key: tags[key] for key in tags if not key.startswith("STATISTICS_")})
        if raster.colorinterp[band - 1] == ColorInterp.palette:
            made.write_colormap(band, raster.colormap(band))


def _strips(grid: Grid, layers: int, itemsize: int) -> list[Window]:
    """Windows of whole blocks that cover the grid, of a bounded size."""
    pixels = max(BLOCK_PIXELS * BLOCK_PIXELS, WARP_BYTES // (layers * itemsize))
    wide = min(grid.width, pixels // BLOCK_PIXELS // BLOCK_PIXELS * BLOCK_PIXELS)
    high = max(1, pixels // wide // BLOCK_PIXELS) * BLOCK_PIXELS
    return [
        Window(left, top, min(wide, grid.width - left), min(high, grid.height - top))
        for top in range(0, grid.height, high)
        for left in range(0, grid.width, wide)
    ]


def creation_options(raster: DatasetReader, tier: str, raster_type: str) -> dict[str, Any]:
    """What the COG driver is told, by tier and sample type."""
    dtype = raster.dtypes[0]
    overview = resampling(raster_type)[0]
    if ColorInterp.palette in raster.colorinterp:
        overview = "mode"
    options: dict[str, Any] = {
        "num_threads": "ALL_CPUS", "bigtiff": "IF_SAFER", "overview_resampling": overview,
        # Those of the source may be lossy, or resampled as suits another type.
        "overviews": "IGNORE_EXISTING",
    }  # fmt: skip
    if int(raster.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", "8")) < 8:
        options["nbits"] = 8  # predictors and JPEG want whole bytes
    if tier == "visualization":
        return options | {"compress": "JPEG", "quality": JPEG_QUALITY}
    level = {"compress": "ZSTD", "level": 9} if tier == "archive" else {"compress": "DEFLATE", "level": 1}
    return options | level | {"predictor": _predictor(dtype)}


def block_pixels(width: int, height: int) -> int:
    """The side of a block, such that validators take no level for strips, where that can be had.

    rio-cogeo does so with any level that is exactly one block wide and higher than STRIP_PIXELS.
    """
    for side in (BLOCK_PIXELS, BLOCK_PIXELS // 2):
        wide, high = width, height
        while max(wide, high) > side and (wide != side or high <= STRIP_PIXELS):
            wide, high = wide // 2, high // 2
        if wide != side or high <= STRIP_PIXELS:
            return side
    return BLOCK_PIXELS


def faults_of(path: Path) -> list[str]:
    """What rio-cogeo has against the file, but for what it only takes for strips."""
    _, faults, _ = cog_validate(path, quiet=True)
    return [fault for fault in faults if "not tiled" not in fault or not _is_tiled(path)]


def _is_tiled(path: Path) -> bool:
    """Whether every level has square blocks of a tile's size."""
    with open_raster(path) as raster:
        levels = [{}, *({"overview_level": level} for level in range(len(raster.overviews(1))))]
    for level in levels:
        with rasterio.open(path, driver="GTiff", **level) as raster:
            if not {(BLOCK_PIXELS, BLOCK_PIXELS)}.issuperset(raster.block_shapes):
                return False
    return True


def _predictor(dtype: str) -> int:
    """Differences for integers, planes of bytes for floats."""
    return 3 if np.dtype(dtype).kind == "f" else 2


def _convert(
    ready: Path, target: Path, options: dict[str, Any], name: str, on_progress: Callable[[float], None]
) -> None:
    """One run of the driver, in a thread of its own, so that this one can tell how far the file has grown.

    What the driver meets in the source is the source's damage.
    """
    failed: list[BaseException] = []
    free = shutil.disk_usage(target.parent).free
    with open_raster(ready) as raster:
        expected = raster.width * raster.height * sum(np.dtype(each).itemsize for each in raster.dtypes)
        options = options | {"blocksize": block_pixels(raster.width, raster.height)}

    def work() -> None:
        try:
            with bounded_gdal(), open_raster(ready) as source:
                rasterio.shutil.copy(source, target, driver="COG", strict=False, **options)
        except FAILURES as problem:
            failed.append(problem)

    worker = threading.Thread(target=work, name="cog", daemon=True)
    worker.start()
    while worker.is_alive():
        worker.join(POLL_SECONDS)
        if worker.is_alive():
            written = sum(file.stat().st_size for file in target.parent.glob(f"{target.name}*") if file != ready)
            on_progress(min(0.95, written / expected))
    if failed:
        raise_if_full(failed[0], target.parent)
        if free < NEEDED_SHARE * expected and reads(ready):
            raise disk_full(
                f"{free / 2**20:,.0f} MiB were free for the result of {expected / 2**20:,.0f} MiB of pixels."
            )
        why = words_of(failed[0], ready)
        raise CorruptedFile(path=name, problem="it could not be converted", why=why) from failed[0]


def raise_if_full(problem: BaseException, folder: Path) -> None:
    """GDAL seldom tells why a write failed, so the disk is asked too. Errors: DiskFull."""
    if means_disk_full(problem) or shutil.disk_usage(folder).free < FULL_BYTES:
        raise disk_full(words_of(problem, folder)) from problem


def disk_full(why: str) -> DiskFull:
    return DiskFull(where_full="the scratch folder", why=why)


def reads(path: Path) -> bool:
    """Whether every block of the file can be read, so that what failed was not its fault."""
    try:
        with open_raster(path) as raster:
            scan(raster, path)
    except (CorruptedFile, InvalidFormat):
        return False
    return True


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
    return lonlat_bounds(raster.crs, tuple(raster.bounds))
